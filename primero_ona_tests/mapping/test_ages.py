"""Ages on the days that count, and that nothing is left of the date of birth."""

from __future__ import annotations

from datetime import date

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from primero_ona.mapping.dates import with_ages
from primero_ona.primero.raw import RAW_SCHEMA
from primero_ona_tests.mapping.helpers import framewise, map_one, map_service, rows
from primero_ona_tests.raw import TODAY, pulled_frame, raw_frame

#: The children of this table were registered on this day, unless a line says otherwise; their cases created the next day.
REGISTERED, CREATED = "2024-01-10", "2024-01-11T05:00:00.000Z"


def at_registration(**fields):
    case = {"registration_date": REGISTERED, "created_at": CREATED, **fields}
    return rows(raw_frame(case))[0]["age_at_registration"]


@pytest.mark.parametrize(
    ("birth", "age"),
    [
        ("2006-01-10", 18),
        ("2006-01-11", 17),
        ("2006-01-09", 18),
        ("2012-01-01", 12),
        ("2024-01-10", 0),
        ("1894-01-10", 130),
        ("1893-01-10", None),
        ("2012-03-31T20:00:00.000Z", 11),
        (" 2012-01-01 ", 12),
        (None, None),
        ("", None),
        ("2012-02-30", None),
        ("01/01/2012", None),
        (20120101, None),
        (["2012-01-01"], None),
        ({}, None),
    ],
)
@pytest.mark.proves("unknown-birthday")
def test_an_age_is_the_completed_years_since_a_usable_date_of_birth(birth, age):
    """One day decides whether a child is counted; a date that cannot be read must not invent an age."""
    assert at_registration(date_of_birth=birth) == age


@pytest.mark.parametrize(
    ("day", "age"),
    [("2024-02-28", 3), ("2024-02-29", 4), ("2023-02-28", 2), ("2023-03-01", 3)],
)
def test_a_child_born_on_29_february_grows_older_on_1_march_in_other_years(day, age):
    """As Primero reckons it."""
    assert at_registration(date_of_birth="2020-02-29", registration_date=day) == age


@pytest.mark.parametrize(
    ("days", "age"),
    [
        ({}, 12),
        ({"registration_date": "2024-01-09T20:00:00.000Z"}, 12),
        ({"registration_date": "2024-01-09T16:00:00.000Z"}, 11),
        ({"registration_date": None}, 12),
        ({"registration_date": "rubbish"}, 12),
        ({"registration_date": TODAY.isoformat(), "created_at": "2023-05-01T05:00:00Z"}, 12),
        ({"registration_date": "2024-06-02", "created_at": "2023-05-01T05:00:00Z"}, 11),
        ({"registration_date": "2011-12-31", "created_at": "2023-05-01T05:00:00Z"}, 11),
        ({"registration_date": None, "created_at": "2024-01-09T16:59:59.999Z"}, 11),
        ({"registration_date": None, "created_at": "2024-01-09T17:00:00.000Z"}, 12),
        ({"registration_date": None, "created_at": None}, None),
        ({"registration_date": "2024-06-02", "created_at": "2024-06-01T17:00:00Z"}, None),
        ({"registration_date": "2001-01-01", "created_at": "2011-01-01T00:00:00Z"}, None),
    ],
)
@pytest.mark.proves("unknown-birthday")
def test_the_day_of_registration_is_the_date_stated_else_that_of_the_creation_in_phnom_penh(days, age):
    """A day in the future, or before the child was born, is a slip of the keyboard, and must not decide."""
    assert at_registration(date_of_birth="2012-01-10", **days) == age


def test_the_oldest_believed_age_is_judged_on_the_day_that_counts():
    """The stated day counts; that another one would do is no reason to take it."""
    assert at_registration(date_of_birth="1889-06-01", created_at="2019-01-01T00:00:00Z") is None


def test_placement_reintegration_and_services_have_their_own_ages():
    """What a child of 4.8 was when it came home is not what it is today."""
    fields = {"date_of_birth": "2012-01-10", "care_date": "2020-01-09", "date_of_reintegration": "2021-02-01"}
    mapped, _ = map_one(**fields, registration_date=REGISTERED)
    assert {name: mapped[name] for name in mapped if name.startswith("age_at_")} == {
        "age_at_registration": 12,
        "age_at_placement": 7,
        "age_at_reintegration": 9,
    }
    mapped, _ = map_one(care_date="2020-01-09", date_of_birth=None)
    assert mapped["age_at_placement"] is None
    mapped, _ = map_one(care_date=None, date_of_birth="2012-01-10")
    assert mapped["age_at_placement"] is None
    mapped, _ = map_one(care_date="2012-01-09", date_of_birth="2012-01-10")
    assert mapped["age_at_placement"] is None, "before birth"


@pytest.mark.parametrize(
    ("stamp", "age"),
    [("2024-01-09T16:59:59.999Z", 11), ("2024-01-09T17:00:00.000Z", 12), ("2024-01-10", 12), ("not implemented", None)],
)
def test_the_age_at_a_service_is_that_on_its_day_in_phnom_penh(stamp, age):
    """The age must fit the date beside it in ONA."""
    section = [{"unique_id": "a", "service_implemented_day_time": stamp}, None, "x"]
    (stored,) = rows(raw_frame({"date_of_birth": "2012-01-10", "services_section": section}))
    ages = [None if element is None else element["age_at_service"] for element in stored["services_section"]]
    assert ages == [age, None, None]
    mapped, _ = map_service(service_implemented_day_time=stamp)
    assert mapped["age_at_service"] is None, "nothing is known of a child without a date of birth"


def test_the_mapped_service_has_the_age_of_its_own_child():
    """A section is taken apart; an age must not move to the child beside it."""
    from primero_ona.mapping.rows import map_services
    from primero_ona_tests.mapping.helpers import LABELS

    visit = {"service_implemented_day_time": "2024-01-10"}
    frame = raw_frame(
        {"case_id_display": "A", "date_of_birth": "2012-01-10", "services_section": [{"unique_id": "a", **visit}]},
        {"case_id_display": "B", "services_section": None},
        {"case_id_display": "C", "services_section": [{"unique_id": "c", **visit}, {"unique_id": "d"}]},
        {"case_id_display": "D", "date_of_birth": "2010-01-10", "services_section": [{"unique_id": "e", **visit}]},
    )
    mapped = rows(map_services(frame.iloc[1:].reset_index(drop=True), LABELS).frame)
    assert {row["unique_id"]: row["age_at_service"] for row in mapped} == {"c": None, "d": None, "e": 14}


@pytest.mark.proves("date-of-birth")
def test_nothing_is_left_of_the_date_of_birth_and_the_rest_stays():
    """The frame goes to the disk next."""
    pulled = pulled_frame(
        {"date_of_birth": "2012-01-10", "services_section": [{"unique_id": "a"}]}, {"services_section": []}
    ).set_axis([7, 3])
    stored = with_ages(pulled, TODAY)
    assert list(stored.index) == [7, 3]
    assert sorted(stored.columns) == sorted(RAW_SCHEMA.names)
    assert "2012-01-10" not in stored.to_csv()
    table = pa.Table.from_pandas(stored, RAW_SCHEMA, preserve_index=False)
    table.validate(full=True)
    same = [name for name in RAW_SCHEMA.names if not name.startswith("age_at_") and name != "services_section"]
    pd.testing.assert_frame_equal(stored[same], pulled[same])


def test_a_frame_without_rows_keeps_its_columns():
    """A page may bring no case."""
    assert list(raw_frame().columns) == list(raw_frame({}).columns)


@framewise
@given(st.lists(st.tuples(st.dates(date(1850, 1, 1), date(2030, 1, 1)), st.dates(date(1850, 1, 1), date(2030, 1, 1)))))
def test_ages_are_those_that_one_would_count_on_ones_fingers(days):
    """Whole columns are reckoned at once, by digits; one day after the other must give the same."""
    cases = [{"date_of_birth": str(birth), "care_date": str(day)} for birth, day in days]
    found = [row["age_at_placement"] for row in rows(raw_frame(*cases))]
    assert found == [counted(birth, day) for birth, day in days]


def counted(birth: date, day: date) -> int | None:
    years = -1
    while (birth.year + years + 1, birth.month, birth.day) <= (day.year, day.month, day.day):
        years += 1
    return years if 0 <= years <= 130 else None
