"""Membership: who counts for which indicator, and who leaves."""

from __future__ import annotations

import pytest

from primero_ona.mapping.membership import membership, quarter_cases, without_under18
from primero_ona.storage.frames import Frames
from primero_ona_tests.raw import raw_frame, uuid_of

TYPE = "children_undergoing_reintegration_55427"


def sets_of(**fields):
    case = {"record_state": True, "registration_date": "2024-01-10", **fields}
    row = membership(raw_frame(case)).iloc[0]
    return {name for name, holds in row.items() if holds}


@pytest.mark.parametrize(
    ("fields", "sets"),
    [
        ({"type_of_case": TYPE, "age": 20}, {"reintegration"}),
        ({"type_of_case": [TYPE], "age": 20}, {"reintegration"}),
        ({"type_of_case": ["x_1", f" {TYPE} "], "age": 20}, {"reintegration"}),
        ({"type_of_case": f'["{TYPE}"]', "age": 20}, {"reintegration"}),
        ({"type_of_case": f'["x_1", "{TYPE}"]', "age": 20}, {"reintegration"}),
        ({"type_of_case": "[]", "age": 20}, {"exit"}),
        ({"type_of_case": TYPE, "age": 17}, {"reintegration", "under18"}),
        ({"type_of_case": TYPE.upper(), "age": 20}, {"exit"}),
        ({"type_of_case": "children_undergoing_reintegration", "age": 20}, {"exit"}),
        ({"type_of_case": {"id": TYPE}, "age": 20}, {"exit"}),
        ({"type_of_case": None, "age": 20}, {"exit"}),
        ({"age": 0}, {"under18"}),
        ({"age": 17}, {"under18"}),
        ({"age": 18}, {"exit"}),
        ({"age": "17"}, {"under18"}),
        ({"age": " 17.0 "}, {"under18"}),
        ({"age": 17.0}, {"under18"}),
        ({"age": "18"}, {"exit"}),
        ({"age": 17.5}, {"exit", "age_missing"}),
        ({"age": -1}, {"exit", "age_missing"}),
        ({"age": None}, {"exit", "age_missing"}),
        ({"age": ""}, {"exit", "age_missing"}),
        ({"age": "young"}, {"exit", "age_missing"}),
        ({"type_of_case": TYPE}, {"reintegration", "age_missing"}),
        ({"age": 5, "record_state": False}, {"exit"}),
        ({"age": 5, "record_state": "false"}, {"exit"}),
        ({"age": 5, "record_state": {}}, {"exit"}),
        ({"age": 5, "record_state": "true"}, {"under18"}),
        ({"age": 5, "record_state": False, "enabled": True}, {"exit"}),
        ({"age": 5, "record_state": True, "enabled": False}, {"under18"}),
        ({"age": 5, "record_state": None, "enabled": True}, {"under18"}),
        ({"age": 5, "record_state": None, "enabled": False}, {"exit"}),
        ({"age": 5, "record_state": None, "enabled": None}, {"exit"}),
        ({"type_of_case": TYPE, "age": 5, "record_state": False}, {"exit"}),
        ({"age": None, "record_state": False}, {"exit"}),
        # By the date of birth those are children who were under 18 on 10 January 2024, the day of registration.
        ({"date_of_birth": "2006-01-11", "age": 18}, {"under18"}),
        ({"date_of_birth": "2006-01-10", "age": 17}, {"exit"}),
        ({"date_of_birth": "2006-01-10", "age": None}, {"exit"}),
        ({"date_of_birth": "2006-01-11", "age": None}, {"under18"}),
        ({"date_of_birth": "2006-01-11", "age": 30, "type_of_case": TYPE}, {"reintegration", "under18"}),
        ({"date_of_birth": "2006-01-11", "age": 17, "record_state": False}, {"exit"}),
        ({"date_of_birth": "1890-01-01", "age": 5}, {"under18"}),
        ({"date_of_birth": "2025-01-01", "age": 5}, {"under18"}),
        ({"date_of_birth": "2025-01-01", "age": 18}, {"exit"}),
        ({"date_of_birth": "rubbish", "age": 17}, {"under18"}),
        ({"date_of_birth": "rubbish", "age": None}, {"exit", "age_missing"}),
        ({"date_of_birth": "2012-01-01", "age": None, "registration_date": None}, {"under18"}),
        (
            {"date_of_birth": "2012-01-01", "age": None, "registration_date": None, "created_at": None},
            {"exit", "age_missing"},
        ),
        ({"date_of_birth": "2012-01-01", "age": 20, "registration_date": None, "created_at": None}, {"exit"}),
        ({"date_of_birth": "2012-01-01", "age": 20, "registration_date": "2999-01-01"}, {"under18"}),
    ],
)
@pytest.mark.proves("unknown-birthday")
def test_a_case_belongs_to_these_sets(fields, sets):
    """A child in the wrong set is counted wrongly, or stays in ONA for ever."""
    assert sets_of(**fields) == sets


def test_membership_keeps_the_index_and_takes_an_empty_frame():
    """The pull sorts its rows by these flags, whatever index they have."""
    raw = raw_frame({"age": 3}, {"age": 30}).set_axis([7, 3])
    assert membership(raw)["under18"].to_dict() == {7: True, 3: False}
    assert len(membership(raw.iloc[:0])) == 0


def test_a_case_in_both_sets_is_taken_from_under18_only():
    """It is one child; read from both streams it would be there twice, and fail the key of the table."""
    both, adult, child = ({"id": uuid_of(n), **fields} for n, fields in enumerate(BOTH_ADULT_CHILD))
    reintegration, under18 = raw_frame(both, adult), raw_frame(both, child)
    assert list(without_under18(reintegration)["id"]) == [uuid_of(1)]
    cases = quarter_cases(Frames.of(reintegration), Frames.of(under18))
    assert sorted(case for frame in cases for case in frame["id"]) == [uuid_of(n) for n in range(3)]


def test_a_case_that_is_in_both_sets_by_its_birthday_is_not_judged_again_by_its_present_age():
    """What is stored has no date of birth any more; by the present age the case would be read from both streams."""
    grown = {"type_of_case": TYPE, "age": 19, "date_of_birth": "2007-05-01", "registration_date": "2024-01-10"}
    stored = raw_frame({**grown, "record_state": True})
    assert membership(stored).iloc[0].to_dict() == {
        "reintegration": True, "under18": True, "exit": False, "age_missing": False,
    }  # fmt: skip
    assert [len(frame) for frame in quarter_cases(Frames.of(stored), Frames.of(stored))] == [1, 0]


BOTH_ADULT_CHILD = ({"type_of_case": TYPE, "age": "17"}, {"type_of_case": TYPE, "age": 18}, {"age": 3})


def test_what_decides_is_read_even_where_only_other_columns_are_wanted():
    """A stream that is read for its keys alone must leave out the same rows."""
    asked = []

    def read(columns):
        asked.append(columns)
        yield raw_frame({"age": 3})[list(columns)]

    assert [len(frame) for frame in quarter_cases(Frames(read), Frames.of()).read(["id", "age"])] == [0]
    assert asked == [("id", "age", "type_of_case", "age_at_registration", "record_state", "enabled")]
