"""Nothing of a child is left in Dagster's storage, nor on the disk beside it, whatever Primero sends and whatever breaks.

The sandbox puts a marker into every personal field; these tests put more of it where codes and numbers are due.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from primero_ona.sandbox.columns import CANARY, CANARY_BIRTH
from primero_ona_tests.harness import Graph, home_with_settings, small, wired

#: A text as people write it into a field for codes; with blanks, so that it can be no code.
TEXT = f"{CANARY} she lives behind the market"


@pytest.fixture
def graph(postgres: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Graph]:
    """A graph in an instance on the disk, with the project's dagster.yaml; compute logs, events and all."""
    monkeypatch.setenv("DAGSTER_HOME", home_with_settings(tmp_path / "home"))
    with dg.DagsterInstance.get() as instance, wired(postgres, "privacy", small(60), instance) as found:
        found.clock.now = found.clock.now.replace(month=2)
        visit = {"unique_id": "7d4b0f3e-0000-4000-8000-000000000001", "service_type": TEXT, "notes": TEXT}
        visit["service_implemented_day_time"] = TEXT
        for number in range(3):
            found.primero.create(
                case_id_display=f"odd-{number}", created_at=found.clock.now, age=number, sex=f"{TEXT} {number}",
                type_of_case=TEXT, type_of_placement=TEXT, disability_type=TEXT, protection_concerns=[TEXT, "refugee"],
                consent_reporting=TEXT, location_current=TEXT, registration_date=TEXT, oscar_number=TEXT, status=TEXT,
                services_section=[visit, TEXT],
            )  # fmt: skip
        found.primero.create(case_id_display="no age", created_at=found.clock.now, age=TEXT, sex="male")
        yield found


def everything(*folders: Path) -> bytes:
    """All that was written, the rows of SQLite's journals included."""
    for folder in folders:
        for path in folder.rglob("*.db"):
            with sqlite3.connect(path) as conn:
                conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return b"\n".join(path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file())


@pytest.mark.proves("logs")
def test_a_sync_of_odd_values_leaves_nothing_of_them_outside_ona(
    graph: Graph, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """The event log is read by everybody who may open the UI, and is kept for ever."""
    outcome = graph.sync()
    assert outcome.failure is None
    assert graph.sql("SELECT count(*) FROM cases WHERE sex LIKE %s", f"%{CANARY}%") == [(3,)], "the values did come"
    left = everything(Path(os.environ["DAGSTER_HOME"]), graph.folder)
    assert graph.instance.get_run_by_id(outcome.run_id) is not None
    assert outcome.run_id.encode() in left, "what was searched is Dagster's storage"
    for marker in (CANARY, CANARY_BIRTH):
        assert marker.encode() not in left
        assert marker not in caplog.text + str(capfd.readouterr()) + str(outcome.as_json())


@pytest.mark.parametrize(
    ("place", "redacted"),
    [
        pytest.param("primero_ona.pipeline.transform.map_cases", "0", marks=pytest.mark.ci, id="mapping"),
        pytest.param("primero_ona.ona.load.stage_rows", "1", id="load, with Dagster's own redaction"),
    ],
)
@pytest.mark.proves("logs")
def test_an_exception_that_quotes_a_row_leaves_nothing_of_it(
    graph: Graph,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    place: str,
    redacted: str,
) -> None:
    """Libraries quote what they stumble over, and Dagster keeps it."""
    monkeypatch.setenv("DAGSTER_REDACT_USER_CODE_ERRORS", redacted)

    def broken(*_: Any, **__: Any) -> Any:
        raise KeyError(TEXT) from ValueError(TEXT)

    monkeypatch.setattr(place, broken)
    outcome = graph.sync()
    assert outcome.kind == "unexpected"
    assert (outcome.failure or "").startswith("internal error KeyError at ")
    left = everything(Path(os.environ["DAGSTER_HOME"]), graph.folder)
    assert CANARY.encode() not in left
    assert CANARY not in caplog.text + str(capfd.readouterr()) + str(outcome.as_json())
