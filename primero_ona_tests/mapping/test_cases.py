"""Cases: column by column, and who is set aside."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from primero_ona.mapping.rows import map_cases
from primero_ona.mapping.values import parse_option_name
from primero_ona_tests.mapping.helpers import LABELS, PLACES, found, framewise, map_all, map_one, rows
from primero_ona_tests.raw import raw_frame, uuid_of

TYPES = {
    "case_id": pa.string(),
    "registration_date": pa.date32(),
    "case_source": pa.string(),
    "disabled": pa.string(),
    "type_of_case": pa.string(),
    "sex": pa.string(),
    "age": pa.int32(),
    "protection_concerns": pa.string(),
    "placement_type": pa.string(),
    "consent_for_reporting": pa.string(),
    "location_code": pa.string(),
    "province_current": pa.string(),
    "province_current_code": pa.string(),
    "district_current": pa.string(),
    "district_current_code": pa.string(),
    "province_caregiver": pa.string(),
    "province_caregiver_code": pa.string(),
    "district_caregiver": pa.string(),
    "district_caregiver_code": pa.string(),
    "primero_id": pa.string(),
    "primero_updated_at": pa.timestamp("ms", tz="UTC"),
    "consent_status": pa.string(),
    "case_status": pa.string(),
    "age_group": pa.string(),
    "care_date": pa.date32(),
    "date_of_reintegration": pa.date32(),
    "date_closure": pa.date32(),
    "age_at_registration": pa.int32(),
    "age_at_placement": pa.int32(),
    "age_at_reintegration": pa.int32(),
    "created_at": pa.timestamp("ms", tz="UTC"),
}


@pytest.mark.parametrize(
    "cases", [[], [{}], [{"case_id_display": None}], [{}] * 3], ids=["none", "one", "aside", "three"]
)
def test_mapped_cases_have_these_columns_and_types_in_this_order(cases):
    """The load copies by position and type; a batch in which all values are null must not change a type."""
    frame = map_all(*cases).frame
    assert dict(frame.dtypes) == {name: pd.ArrowDtype(kind) for name, kind in TYPES.items()}
    assert list(frame.columns) == list(TYPES)


def test_a_case_without_anything_but_its_key_is_mapped():
    """Optional fields may be absent, or withheld from the role; no value may be invented for them."""
    mapped = map_cases(raw_frame({"case_id_display": "KRT-1"}), PLACES, LABELS)
    row = rows(mapped.frame)[0]
    assert {name: value for name, value in row.items() if value is not None} == {
        "case_id": "KRT-1",
        "case_source": "primero",
        "protection_concerns": "",
        "consent_for_reporting": "false",
        "primero_id": uuid_of(0),
        "primero_updated_at": pd.Timestamp("2024-03-02T08:00:01.209Z"),
        "consent_status": "not recorded",
        "age_group": "unknown",
        "created_at": pd.Timestamp("2024-01-15T02:11:09.514Z"),
    }
    assert found(mapped) == [("age", None, 1)]


@pytest.mark.parametrize(
    ("value", "key"),
    [("KRT-41f17d6", "KRT-41f17d6"), (" KRT-1 ", "KRT-1"), ("K\x00RT", "KRT"), (1234567, "1234567"), ("ខ-1", "ខ-1")],
)
def test_the_case_id_is_the_display_id(value, key):
    """It is the key of the table, and what people at the ministry write down."""
    assert map_one(case_id_display=value)[0]["case_id"] == key


@pytest.mark.parametrize("value", [None, "", "  ", "\x00", True, {}, ["KRT-1"]])
def test_a_case_without_a_key_goes_to_quarantine(value):
    """A null key fails the whole load; a made-up one is a child nobody can find again."""
    mapped = map_all({}, {"case_id_display": value, "sex": "x_1"})
    assert list(mapped.frame["primero_id"]) == [uuid_of(0)]
    assert mapped.quarantine == [{"table": "cases", "primero_id": uuid_of(1), "reason": "case_id missing"}]
    assert found(mapped) == []


def test_cases_that_share_a_key_are_all_mapped():
    """Which of them bears the plain key is decided where all holders are known, in the load."""
    raw = raw_frame({"case_id_display": "K-1", "age": 3}, {"case_id_display": "K-1", "age": 9})
    mapped = map_cases(raw, PLACES, LABELS)
    assert [(row["case_id"], row["primero_id"]) for row in rows(mapped.frame)] == [
        ("K-1", uuid_of(0)),
        ("K-1", uuid_of(1)),
    ]
    assert mapped.quarantine == []


@pytest.mark.parametrize("value", [None, False, 0, 0.0, "", "  ", "\x00"])
def test_a_case_that_oscar_does_not_know_comes_from_primero(value):
    """OSCaR writes these instead of a number."""
    assert map_one(oscar_number=value)[0]["case_source"] == "primero"


@pytest.mark.parametrize("value", ["ABC-1", 12, "0", "false", True])
def test_a_case_with_an_oscar_number_comes_from_oscar(value):
    """The number itself would identify the child; only that there is one is kept."""
    assert map_one(oscar_number=value)[0]["case_source"] == "oscar"


OPTION_NAMES = [
    ("children_undergoing_reintegration_55427", "children undergoing reintegration"),
    ("kinship_care_12345", "kinship care"),
    ("kinship_care", "kinship care"),
    ("other", "other"),
    ("care_12_345", "care 12"),
    ("12_care", "12 care"),
    ("foster__care_1", "foster care"),
    ("_care_", "care"),
    ("care_123_", "care 123"),
    ("_49619", None),
    ("12345", None),
    (12345, None),
    ("_", None),
    ("", None),
    (" ", None),
    (None, None),
    (" kinship_care_12345 ", "kinship care"),
    ("kinship\x00_care_1", "kinship care"),
    (["kinship_care_1", "foster_care_2"], "kinship care, foster care"),
    (["_1", "foster_care_2"], "foster care"),
    (["_1"], None),
    ([], None),
]


@pytest.mark.parametrize(
    ("field", "column"), [("type_of_case", "type_of_case"), ("type_of_placement", "placement_type")]
)
@pytest.mark.parametrize(("value", "name"), OPTION_NAMES)
def test_an_option_id_becomes_its_words(field, column, value, name):
    """The old pipeline cut the last word of ids that have no numeric suffix."""
    row, findings = map_one(**{field: value})
    assert (row[column], findings) == (name, [])


@pytest.mark.parametrize("field", ["type_of_case", "type_of_placement", "status"])
def test_an_object_where_a_code_is_due_is_null_and_reported(field):
    """Its text is no code, and could be anything."""
    column = {"type_of_placement": "placement_type", "status": "case_status"}.get(field, field)
    row, findings = map_one(**{field: {"id": "x"}})
    assert (row[column], findings) == (None, [(field, None, 1)])


WORDS = st.lists(st.text(alphabet="abcdefxyz", min_size=1), min_size=1, max_size=5)


@framewise
@given(WORDS, st.integers(0, 99999))
def test_the_numeric_suffix_makes_no_difference(words, suffix):
    """Primero adds it at random; the words are what the dashboards know."""
    bare = "_".join(words)
    assert parse_option_name(bare) == parse_option_name(f"{bare}_{suffix:05d}") == (" ".join(words), ())


@pytest.mark.parametrize(
    ("value", "age", "group"),
    [
        (0, 0, "0-4"),
        (4, 4, "0-4"),
        (5, 5, "5-9"),
        (9, 9, "5-9"),
        (10, 10, "10-14"),
        (14, 14, "10-14"),
        (15, 15, "15-17"),
        (17, 17, "15-17"),
        (18, 18, "18+"),
        (130, 130, "18+"),
        ("12", 12, "10-14"),
        (" 12 ", 12, "10-14"),
        ("012", 12, "10-14"),
        (12.0, 12, "10-14"),
        ("12.0", 12, "10-14"),
    ],
)
def test_an_age_is_a_whole_number_of_years(value, age, group):
    """Imports write ages as text; a child whose age is lost is not counted in 4.11a."""
    row, findings = map_one(age=value)
    assert (row["age"], row["age_group"], findings) == (age, group, [])


@pytest.mark.parametrize(
    "value",
    [
        -1,
        131,
        12.5,
        "12.5",
        "-1",
        "131",
        "1e1",
        "twelve",
        "១២",
        True,
        False,
        [12],
        {"age": 12},
        10.0**30,
        "9" * 50,
        None,
        "",
    ],
)
def test_what_is_no_age_is_null_unknown_and_reported(value):
    """A guess would put the child into an age group, or out of the indicator; a missing age is counted too."""
    row, findings = map_one(age=value)
    assert (row["age"], row["age_group"], findings) == (None, "unknown", [("age", None, 1)])


@pytest.mark.parametrize(
    ("value", "consent", "status", "reported"),
    [
        *[(value, "true", "given", []) for value in (True, "true", "t", "yes", "1", 1, "TRUE", "Yes", "T", " true ")],
        *[(value, "false", "refused", []) for value in (False, "false", "f", "no", "0", 0, "FALSE", "No", "F")],
        *[(value, "false", "not recorded", []) for value in (None, "", " ", "\x00", [])],
        ("maybe", "false", "not recorded", ["maybe"]),
        (2, "false", "not recorded", ["2"]),
        ("if the mother agrees", "false", "not recorded", [None]),
        ({}, "false", "not recorded", [None]),
        (["true"], "false", "not recorded", [None]),
    ],
)
def test_consent_is_given_only_where_it_says_so(value, consent, status, reported):
    """Consent that nobody gave must never be recorded as given; not asked and refused are two things."""
    row, findings = map_one(consent_reporting=value)
    assert (row["consent_for_reporting"], row["consent_status"]) == (consent, status)
    assert findings == [("consent_reporting", code, 1) for code in reported]


@pytest.mark.parametrize(("value", "status"), [("open", "open"), (" closed ", "closed"), ("", None), (None, None)])
def test_the_status_of_a_case_is_kept_as_it_is(value, status):
    """Primero's own words: open, closed, transferred, duplicate."""
    assert map_one(status=value)[0]["case_status"] == status


def test_nul_characters_never_reach_ona():
    """PostgreSQL cannot hold them: one would fail the load of a whole quarter."""
    fields = ("case_id_display", "sex", "location_current", "type_of_case", "type_of_placement", "status")
    mapped = map_all(dict.fromkeys(fields, "a\x00b"))
    assert not any("\x00" in value for value in rows(mapped.frame)[0].values() if isinstance(value, str))


def test_a_mapped_frame_does_not_show_its_rows_when_printed():
    """Failures and logs print objects; rows of children must not be among them."""
    assert "KRT-0" not in repr(map_all({}))
