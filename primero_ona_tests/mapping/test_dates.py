"""Dates: the calendar date in Phnom Penh."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from primero_ona.mapping.dates import parse_date, parse_dates
from primero_ona.mapping.result import UnmappedCodes
from primero_ona.texts import json_text
from primero_ona_tests.mapping.helpers import framewise, map_one, map_service

CASE_DATES = ["registration_date", "care_date", "date_of_reintegration", "date_closure"]

READABLE = [
    ("2024-01-15", date(2024, 1, 15)),
    (" 2024-01-15 ", date(2024, 1, 15)),
    ("2024-01-\x0015", date(2024, 1, 15)),
    ("2024-03-31T20:00:00.000Z", date(2024, 4, 1)),
    ("2024-03-31T20:00:00Z", date(2024, 4, 1)),
    ("2024-03-31T16:59:59.999Z", date(2024, 3, 31)),
    ("2024-03-31T17:00:00.000Z", date(2024, 4, 1)),
    ("2024-02-29T22:00:00.000Z", date(2024, 3, 1)),
    ("2024-03-31T20:00:00", date(2024, 4, 1)),
    ("2024-03-31 20:00:00", date(2024, 4, 1)),
    ("2024-03-31T20:00", date(2024, 4, 1)),
    ("2024-03-31T20:00:00+07:00", date(2024, 3, 31)),
    ("2024-03-31T20:00:00+0700", date(2024, 3, 31)),
    ("2024-03-31T20:00:00-05", date(2024, 4, 1)),
    ("2024-03-31T20:00:00.1234567Z", date(2024, 4, 1)),
    ("1999-12-31T20:00:00.000Z", date(2000, 1, 1)),
    ("2099-12-31T20:00:00.000Z", date(2100, 1, 1)),
    ("2020/02/11", date(2020, 2, 11)),
    (" 2020/02/11 ", date(2020, 2, 11)),
    ("2020/09/30 00:00:00 +0000", date(2020, 9, 30)),
    ("2020/09/30 17:00:00 +0000", date(2020, 10, 1)),
    ("2020/09/30 23:30:00 +0700", date(2020, 9, 30)),
    ("2020-09-30 20:00:00 +0000", date(2020, 10, 1)),
    ("2020/09/30 20:00:00", date(2020, 10, 1)),
]
UNREADABLE = [
    "2024-02-30",
    "2024-02-30T10:00:00.000Z",
    "2024-01-15T24:00:00Z",
    "2024-01-15T10:00:60Z",
    "9999-12-31T20:00:00Z",
    "0000-01-01",
    "20240115",
    "2024-W03-1",
    "15/01/2024",
    "2024-1-5",
    "2024/1/5",
    "2024/02-11",
    "11/02/2020",
    "2020/02/30",
    "2020/13/01 00:00:00 +0000",
    "2020/09/30 00:00:00 +9900",
    "2020/09/30  00:00:00 +0000",
    "2020/09/30 +0000",
    "2024-01-15T",
    "2024-01-15 some day",
    "yesterday",
    20240115,
    True,
    ["2024-01-15"],
    {"date": "2024-01-15"},
]
EMPTY = [None, "", " ", "\x00"]


@pytest.mark.parametrize(("value", "day"), READABLE)
@pytest.mark.proves("odd-value")
def test_a_date_or_a_stamp_gives_its_date_in_phnom_penh(value, day):
    """A date in UTC moves a service of the early morning to the day before, and at the border to another quarter."""
    assert map_one(registration_date=value) == (map_one()[0] | {"registration_date": day}, [])
    row, findings = map_service(service_implemented_day_time=value)
    assert (row["service_date"], findings) == (day, [])


@pytest.mark.parametrize("value", UNREADABLE)
def test_what_is_no_date_is_null_and_reported(value):
    """A guess at a date would count a child in the wrong quarter."""
    row, findings = map_one(registration_date=value)
    assert (row["registration_date"], findings) == (None, [("registration_date", None, 1)])
    row, findings = map_service(service_implemented_day_time=value)
    assert (row["service_date"], findings) == (None, [("service_implemented_day_time", None, 1)])


@pytest.mark.parametrize("field", CASE_DATES)
def test_every_date_of_a_case_follows_the_same_rule(field):
    """Indicator 4.8 compares these dates with each other."""
    assert map_one(**{field: "2024-03-31T20:00:00.000Z"})[0][field] == date(2024, 4, 1)
    assert map_one(**{field: "2024-03-31"})[0][field] == date(2024, 3, 31)


@pytest.mark.parametrize("value", EMPTY)
def test_an_empty_date_is_null_and_nothing_to_report(value):
    """Most cases have no date of closure; a report full of them would hide the faults."""
    assert map_one(registration_date=value)[1] == []
    assert map_service(service_implemented_day_time=value)[1] == []


@pytest.mark.parametrize("value", ["not implemented", "not_implemented", " not implemented ", "Not Implemented"])
def test_a_service_that_was_not_implemented_has_no_date(value):
    """The old form wrote these words beside the date; they are no fault."""
    row, findings = map_service(service_implemented_day_time=value)
    assert (row["service_date"], findings) == (None, [])


def test_these_words_are_no_date_of_a_case():
    """Only the service's date knows them."""
    assert map_one(care_date="not implemented")[1] == [("care_date", None, 1)]


def days_of(*texts):
    findings = UnmappedCodes()
    days = parse_dates(pa.array([json_text(text) for text in texts], pa.string()), parse_date, "day", findings)
    return days.to_pylist(), findings.as_list()


#: Milliseconds from 1900 to 2200.
MOMENTS = st.integers(-2_208_988_800_000, 7_258_118_400_000)


@framewise
@given(MOMENTS, st.integers(-14 * 60, 14 * 60))
def test_a_stamp_in_any_zone_has_the_date_that_clocks_in_phnom_penh_show(milliseconds, minutes):
    """The quick way for Primero's usual stamps must never differ from the calendar."""
    utc = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)
    bare = utc.isoformat(timespec="milliseconds").removesuffix("+00:00")
    expected = utc.astimezone(ZoneInfo("Asia/Phnom_Penh")).date()
    texts = (
        bare + "Z",
        bare,
        utc.astimezone(timezone(timedelta(minutes=minutes))).isoformat(),
    )
    assert days_of(*texts) == ([expected] * 3, [])


@framewise
@given(st.lists(st.sampled_from([*(text for text, _ in READABLE), *UNREADABLE, *EMPTY])))
def test_a_date_does_not_depend_on_its_neighbours(values):
    """One impossible stamp in a batch takes the slow way for all of them; the result must be the same."""
    days, findings = days_of(*values)
    assert days == [days_of(value)[0][0] for value in values]
    assert sum(entry["count"] for entry in findings) == sum(any(value is bad for bad in UNREADABLE) for value in values)
