"""Editing cases while the sandbox runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from primero_ona.sandbox.cases import Wish
from primero_ona.sandbox.columns import ABSENT
from primero_ona.sandbox.primero import SandboxPrimero

NOW = datetime(2024, 5, 20, 3, tzinfo=UTC)


@pytest.fixture
def sandbox() -> SandboxPrimero:
    return SandboxPrimero(Wish(50, now=NOW), clock=lambda: NOW + timedelta(milliseconds=7))


def _all(sandbox: SandboxPrimero) -> dict[str, dict]:
    return {row["id"]: row for row in sandbox.cases.records()}


def test_an_update_moves_the_stamp_to_the_clock_and_changes_nothing_else(sandbox: SandboxPrimero) -> None:
    """As every save in Primero does."""
    before = _all(sandbox)
    case = next(iter(before))
    sandbox.update(case, sex="other", age=ABSENT)
    after = _all(sandbox)
    expected = before[case] | {"sex": "other", "last_updated_at": "2024-05-20T03:00:00.007Z"}
    expected.pop("age", None)
    assert after[case] == expected
    assert {key: row for key, row in after.items() if key != case} == {
        key: row for key, row in before.items() if key != case
    }


def test_a_disabled_case_stays_and_a_deleted_one_does_not(sandbox: SandboxPrimero) -> None:
    """The two ways in which a case leaves ONA."""
    disabled, deleted = list(_all(sandbox))[:2]
    sandbox.disable(disabled)
    sandbox.delete(deleted)
    after = _all(sandbox)
    assert (after[disabled]["record_state"], after[disabled]["enabled"]) == (False, False)
    assert deleted not in after
    assert len(sandbox.cases) == 49
    with pytest.raises(KeyError):
        sandbox.update(deleted, age=3)


def test_a_new_case_has_what_a_registration_gives_it(sandbox: SandboxPrimero) -> None:
    """Times may be given as datetimes; two new cases have two ids."""
    case = sandbox.create(age=4, last_updated_at=datetime(2024, 5, 1, tzinfo=UTC))
    other = sandbox.create()
    row = _all(sandbox)[case]
    assert case != other
    assert (row["case_id_display"], row["age"], row["last_updated_at"]) == (case[-7:], 4, "2024-05-01T00:00:00.000Z")
    sandbox.update(case, age=5)
    assert _all(sandbox)[case]["age"] == 5
