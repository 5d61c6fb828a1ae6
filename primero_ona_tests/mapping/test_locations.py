"""Places: from a location code to province and district."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from primero_ona.mapping.locations import Places, split_location
from primero_ona_tests.mapping.helpers import PLACES, framewise, map_one

KRATIE = ("Kratie", "10", "Chetr Borei", "1006")
THOM = ("Kampong Thom", "6", "Baray", "601")
NOWHERE = (None, None, None, None)

CASES = [
    ("10060802", KRATIE, []),
    ("100608", KRATIE, []),
    ("1006", KRATIE, []),
    ("6011101", THOM, []),
    ("60111", THOM, []),
    ("601", THOM, []),
    ("0601", THOM, []),
    ("01020304", ("Banteay Meanchey", "1", "Mongkol Borei", "102"), []),
    ("12", ("Phnom Penh", "12", None, None), []),
    ("6", ("Kampong Thom", "6", None, None), []),
    ("06", ("Kampong Thom", "6", None, None), []),
    (10060802, KRATIE, []),
    (601.0, THOM, []),
    (" 1006 ", KRATIE, []),
    ("00010060802", KRATIE, []),
    ("1299", ("Phnom Penh", "12", None, None), ["1299"]),
    ("12990101", ("Phnom Penh", "12", None, None), ["12990101"]),
    ("KHM", NOWHERE, ["KHM"]),
    ("NaN", NOWHERE, ["NaN"]),
    ("99", NOWHERE, ["99"]),
    ("9901", NOWHERE, ["9901"]),
    ("123456789", NOWHERE, ["123456789"]),
    ("0", NOWHERE, ["0"]),
    ("-12", NOWHERE, ["-12"]),
    ("12.5", NOWHERE, ["12.5"]),
    ("១២", NOWHERE, [None]),
    ("10 06", NOWHERE, [None]),
    ("behind the pagoda", NOWHERE, [None]),
    ({"code": "1006"}, NOWHERE, [None]),
    ("", NOWHERE, []),
    ("  ", NOWHERE, []),
    (None, NOWHERE, []),
    ([], NOWHERE, []),
    (["1006"], KRATIE, []),
    (["1006", "601"], ("Kratie, Kampong Thom", "10, 6", "Chetr Borei, Baray", "1006, 601"), []),
    (["1006", "12"], ("Kratie, Phnom Penh", "10, 12", "Chetr Borei", "1006"), []),
    (["1006", "KHM", {}], KRATIE, [None, "KHM"]),
]


@pytest.mark.parametrize(("value", "place", "reported"), CASES)
@pytest.mark.parametrize("which", ["current", "caregiver"])
def test_a_location_gives_province_and_district(which, value, place, reported):
    """The dashboards' maps colour by these codes; the old pipeline lost provinces, and districts with a padded code."""
    row, findings = map_one(**{f"location_{which}": value})
    columns = (f"province_{which}", f"province_{which}_code", f"district_{which}", f"district_{which}_code")
    assert tuple(row[column] for column in columns) == place
    assert findings == [(f"location_{which}", code, 1) for code in reported]


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("10060802", "10060802"),
        (10060802, "10060802"),
        (10060802.0, "10060802"),
        ("01020304", "01020304"),
        ("KHM", "KHM"),
        ("NaN", "NaN"),
        ("behind the pagoda", "behind the pagoda"),
        ("", None),
        (" ", None),
        (None, None),
        ({}, None),
    ],
)
def test_the_location_code_stays_as_primero_has_it(value, code):
    """The code is joined with other data of the ministry; it must not be corrected on the way."""
    assert map_one(location_current=value)[0]["location_code"] == code


def test_padded_codes_and_blanks_in_the_lookup_are_understood():
    """ONA's table was filled by hand once; the codes that go out are Primero's all the same."""
    row = ("0601 ", " Baray", "Kampong Thom", "06")
    places = Places.of(pd.DataFrame([row], columns=["code", "district", "province", "province_code"]))
    assert places.parse("6010101").value == ("6010101", "Kampong Thom", "6", "Baray", "601")


def test_a_lookup_with_numbers_and_gaps_is_understood():
    """A column of numbers with a null comes as floats; a null code is no place."""
    rows = [(601.0, "Baray", "Kampong Thom", 6.0), (None, "Nowhere", "Nowhere", None), (602.0, None, None, 6.0)]
    places = Places.of(pd.DataFrame(rows, columns=["code", "district", "province", "province_code"]))
    assert places.parse("601").value == ("601", "Kampong Thom", "6", "Baray", "601")
    assert places.parse("602") == (("602", "Kampong Thom", "6", None, "602"), ())


PADDED = st.tuples(st.integers(1, 25), st.lists(st.integers(1, 99), max_size=3))


@framewise
@given(PADDED)
def test_a_code_without_its_leading_zero_means_the_same_place(parts):
    """Primero keeps numbers, so the zero of provinces 1 to 9 is gone: both spellings must lead to one district."""
    province, deeper = parts
    official = "".join(f"{part:02d}" for part in (province, *deeper))
    expected = (str(province), f"{province}{deeper[0]:02d}" if deeper else None)
    assert split_location(official) == split_location(official.lstrip("0")) == expected


@framewise
@given(st.one_of(st.text(), st.from_regex(r"[0-9]{1,12}", fullmatch=True)))
def test_whatever_stands_for_a_location_only_known_codes_come_out(code):
    """A code that no lookup knows would be a place that no map has; what is not found is always reported."""
    place, reported = PLACES.parse(code)
    assert place.province_code is None or place.province_code in PLACES.provinces
    assert place.district_code is None or place.district_code in PLACES.districts
    assert bool(reported) == (place.location is not None and (place.province_code, place.district_code) != split(code))
    assert reported in ((), (place.location,))


def split(code):
    province, district = split_location(code.replace("\0", "").strip())
    return (province, district) if province else ("no", "location")


@framewise
@given(st.text(alphabet="0123456789", min_size=9, max_size=30).filter(lambda text: len(text.lstrip("0")) > 8))
def test_more_than_eight_digits_are_no_location(code):
    """A telephone number begins like a province as well."""
    assert split_location(code) == (None, None)
