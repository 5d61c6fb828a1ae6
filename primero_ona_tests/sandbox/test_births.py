"""Ages in the sandbox grow as Primero's do: by a nightly job that saves cases, and from a typed age by 1 January."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from primero_ona.sandbox.columns import ABSENT
from primero_ona.sandbox.primero import SandboxPrimero
from primero_ona_tests.harness import Clock

LONG_AGO = datetime(2024, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("night", "fields", "age"),
    [
        ("2025-05-07", {"date_of_birth": "2012-05-07", "age": 12}, 13),
        ("2025-05-08", {"date_of_birth": "2012-05-07", "age": 12}, 13),
        ("2025-05-06", {"date_of_birth": "2012-05-07", "age": 12}, None),
        ("2025-05-09", {"date_of_birth": "2012-05-07", "age": 12}, None),
        ("2025-05-07", {"date_of_birth": "2012-05-07", "age": 13}, None),
        ("2025-05-07", {"date_of_birth": "2012-05-07", "age": None}, 13),
        ("2025-05-07", {"date_of_birth": "2012-05-07", "age": "12"}, 13),
        ("2025-05-07", {"date_of_birth": ABSENT, "age": 12}, None),
        ("2025-05-07", {"date_of_birth": "rubbish", "age": 12}, None),
        ("2025-05-07", {"date_of_birth": "2030-05-07", "age": 12}, None),
        ("2025-01-01", {"date_of_birth": "2007-01-01", "age": 17}, None),
        ("2025-01-01", {"date_of_birth": "2006-12-31", "age": 17}, None),
        ("2025-01-02", {"date_of_birth": "2007-01-01", "age": 17}, 18),
    ],
)
def test_the_nightly_job_raises_ages_and_saves_these_cases_only(
    night: str, fields: dict[str, Any], age: int | None
) -> None:
    """The job's span of days is empty on 1 January, so that all who were born on that day grow older on the 2nd."""
    server = SandboxPrimero(0, clock=Clock(datetime.fromisoformat(f"{night}T01:01:00Z")))
    case = server.create(**fields, created_at=LONG_AGO, last_updated_at=LONG_AGO)
    assert server.recalculate_ages() == ([] if age is None else [case])
    record = server.cases.record(0)
    if age is None:
        assert record["last_updated_at"] == "2024-03-01T00:00:00.000Z"
    else:
        assert (record["age"], record["last_updated_at"]) == (age, f"{night}T01:01:00.000Z")


def test_a_typed_age_gets_the_birthday_1_january() -> None:
    """The browser fills it in; that is why a whole country grows older in one night."""
    server = SandboxPrimero(0, clock=Clock(datetime(2024, 5, 15, tzinfo=UTC)))
    server.type_age(server.create(), 17)
    assert (server.cases.record(0)["age"], server.cases.record(0)["date_of_birth"]) == (17, "2007-01-01")


def test_a_case_that_was_deleted_is_not_saved_again() -> None:
    """What an operator's script took away must not come back."""
    server = SandboxPrimero(0, clock=Clock(datetime(2025, 1, 2, tzinfo=UTC)))
    server.delete(server.create(date_of_birth="2007-01-01", age=17))
    assert server.recalculate_ages() == []
    assert len(server.cases) == 0
