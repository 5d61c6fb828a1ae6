"""The table contract as a check: one fault for each rule, and the reason it gives. As parts of the graph: test_checks.py."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from primero_ona.contract.column import Table
from primero_ona.contract.tables import CASES, SERVICES
from primero_ona.mapping.labels import Labels
from primero_ona.pipeline.contract import ContractCheck, KeyCheck
from primero_ona.quarters import Quarter
from primero_ona_tests.harness import table
from primero_ona_tests.ona.rows import case, service


def faults(contract: Table, *frames: pd.DataFrame) -> dict[str, int]:
    check = ContractCheck(contract, Labels.load())
    for frame in frames:
        check.add(frame)
    assert check.rows == sum(map(len, frames))
    return dict(check.faults)


def cases(*changes: dict[str, Any]) -> pd.DataFrame:
    return table([case(number, **changed) for number, changed in enumerate(changes)], CASES.arrow_schema())


def test_rows_as_the_mapping_makes_them_keep_the_contract() -> None:
    """A check that finds fault with good rows is switched off by people."""
    several = "Separated, Orphaned, Separated"
    good = cases({}, {"age": 0}, {"age": 130}, {"protection_concerns": several}, {"sex": "what Primero had"})
    assert faults(CASES, good, cases({"age": None, "disabled": None, "protection_concerns": None})) == {}
    assert faults(SERVICES, table([service(1, 1), service(2, 1, service_type=None)], SERVICES.arrow_schema())) == {}


def test_after_a_check_times_of_any_zone_are_stored_as_they_are() -> None:
    """Pandera lets Arrow ignore time zones from its import on: each quarter's start would be stored seven hours late."""
    assert faults(CASES, cases({})) == {}
    start = Quarter(2026, 4).start
    assert pa.array([start], pa.timestamp("ms", "UTC"))[0].as_py() == start


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"age": -1}, "age: from 0 to 130"),
        ({"age": 131}, "age: from 0 to 130"),
        ({"disabled": "Blind"}, "disabled: only labels of the mapping"),
        ({"protection_concerns": "Separated,Orphaned"}, "protection_concerns: only labels of the mapping"),
        ({"case_source": "paper"}, "case_source: an allowed value"),
        ({"consent_for_reporting": "True"}, "consent_for_reporting: an allowed value"),
        ({"consent_status": "yes"}, "consent_status: an allowed value"),
        ({"age_group": "0-5"}, "age_group: an allowed value"),
        ({"case_id": None}, "case_id: not_nullable"),
    ],
)
def test_one_fault_is_told_with_its_column_and_rule(changes: dict[str, Any], reason: str) -> None:
    """Who mends it must know where to look, without seeing the child's row."""
    assert faults(CASES, cases({}, changes, {}), cases(changes)) == {reason: 2}


@pytest.mark.parametrize(("column", "reason"), [("unique_id", "not_nullable"), ("case_id", "not_nullable")])
def test_a_service_needs_its_key_and_its_case(column: str, reason: str) -> None:
    """Without either it belongs to nobody."""
    frame = table([service(1, 1, **{column: None})], SERVICES.arrow_schema())
    assert faults(SERVICES, frame) == {f"{column}: {reason}": 1}


def test_a_column_of_another_type_a_missing_and_a_foreign_one_are_told() -> None:
    """A mapping that changed its frames must not be found out by the database."""
    frame = cases({}).drop(columns="sex")
    frame["age"] = frame["age"].astype(pd.ArrowDtype(pa.string()))
    frame["name"] = "x"
    found = faults(CASES, frame)
    assert found["age: dtype('int32[pyarrow]')"] == 1
    assert found["frame: column_in_dataframe"] == 1
    assert found["frame: column_in_schema"] == 1


def test_keys_are_counted_over_all_frames() -> None:
    """Two rows with one key may lie in two frames."""
    check = KeyCheck("case_id")
    check.add(cases({}, {"case_id": "a"}, {"case_id": " "}))
    check.add(cases({"case_id": "a"}, {"case_id": "a"}, {"case_id": None}))
    assert (check.missing, check.repeated) == (2, 2)
    assert (KeyCheck("case_id").missing, KeyCheck("case_id").repeated) == (0, 0)


def test_rows_without_their_parent_are_counted_over_all_frames() -> None:
    """A service of a case that is not mapped would stand in ONA without it."""
    known = KeyCheck("case_id")
    known.add(cases({"case_id": "c"}, {"case_id": "a"}))
    check = KeyCheck("case_id")
    check.add(cases({"case_id": "a"}, {"case_id": "b"}, {"case_id": "a"}))
    check.add(cases({"case_id": "c"}, {"case_id": "d"}, {"case_id": None}))
    assert check.not_in(known) == 2
    assert (check.not_in(KeyCheck("case_id")), KeyCheck("case_id").not_in(known)) == (5, 0)
