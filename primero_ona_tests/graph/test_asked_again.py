"""Quarters that the sensor asks for again: failed, cancelled and killed runs, other versions, and cases stamped ahead."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import psycopg
import pytest

from primero_ona.graph.dead_runs import PROCESS_TAG, held_by_this_process
from primero_ona.graph.due import FOR_GOOD, TOO_SOON, WAITS
from primero_ona.pipeline.stored import current_versions
from primero_ona.quarters import Quarter, current_quarter
from primero_ona_tests import quick
from primero_ona_tests.graph.watching import NEW_YEAR, Watch, loaded, watch

__all__ = ["watch"]  # fixture

NOTHING = timedelta()


@pytest.mark.parametrize("job", quick(("sync_quarter", "__ASSET_JOB", "remap_quarter"), "sync_quarter"))
@pytest.mark.parametrize("how", ["failed", "cancelled"])
@pytest.mark.proves("due")
def test_a_sync_that_did_not_end_well_is_asked_for_again_after_an_hour_whatever_its_job_is_called(
    watch: Watch, monkeypatch: pytest.MonkeyPatch, job: str, how: str
) -> None:
    """The look has moved on when a run fails: without this its quarter would wait for the next edit."""
    (first,) = watch.look().run_requests
    run_id = watch.run(Quarter(2025, 1), job=job)
    assert watch.look().skip_message == f"Nothing is asked for now; 2025-Q1: {WAITS}"
    watch.end(run_id, how)
    assert watch.look().skip_message == f"Nothing is asked for now; 2025-Q1: {TOO_SOON}"
    monkeypatch.setattr("primero_ona.graph.due.ASK_AGAIN_AFTER", NOTHING)
    (again,) = watch.look().run_requests
    assert (again.partition_key, again.run_key != first.run_key) == ("2025-01-01", True)
    assert [request.run_key for request in watch.look().run_requests] == [again.run_key], "one failure has one key"
    for status in ("NOT_STARTED", "STARTING", "CANCELING"):
        watch.run(Quarter(2025, 1), dg.DagsterRunStatus(status))
        assert WAITS in watch.look().skip_message


@pytest.mark.proves("due")
def test_a_whole_walk_that_failed_is_asked_for_again_as_one(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repair would come back as a pull of changes, which carries over what was to be walked."""
    monkeypatch.setattr("primero_ona.graph.due.ASK_AGAIN_AFTER", NOTHING)
    watch.look()
    for wanted in (True, False):
        watch.end(watch.run(Quarter(2025, 1), tags={"whole": "yes"} if wanted else {}), "failed")
        assert [("whole" in request.tags) for request in watch.look().run_requests] == [wanted]


@pytest.mark.proves("due")
def test_a_sync_that_failed_for_good_is_asked_for_again_only_when_something_has_changed(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asking hourly for ever filled the run list, and read a quarter from Primero each time."""
    monkeypatch.setattr("primero_ona.graph.due.ASK_AGAIN_AFTER", NOTHING)
    assert watch.look().run_requests
    watch.end(watch.run(Quarter(2025, 1)), "failed for good")
    for _ in range(2):
        assert watch.look().skip_message == f"Nothing is asked for now; 2025-Q1: {FOR_GOOD}"
    watch.clock.move(minutes=20)
    watch.primero.create(case_id_display="later")
    assert watch.asked() == ["2025-01-01"]


@pytest.mark.proves("due")
def test_what_changes_while_a_quarter_is_pulled_is_asked_for_when_that_run_has_ended(watch: Watch) -> None:
    """The run may have read the case before it was edited: its number says so, and no clock could."""
    watch.look()
    run_id = watch.run(Quarter(2025, 1))
    number = watch.ona.execute("SELECT nextval('primero_sync.pulls')").fetchone()[0]
    watch.clock.move(minutes=20)
    watch.primero.create(case_id_display="meanwhile")
    assert WAITS in watch.look().skip_message
    watch.instance.handle_new_event(
        dg.EventLogEntry(
            error_info=None, level="debug", user_message="", run_id=run_id, timestamp=1.0, job_name="sync_quarter",
            dagster_event=dg.DagsterEvent(dg.DagsterEventType.RUN_SUCCESS.value, "sync_quarter"),
        )
    )  # fmt: skip
    loaded(watch.ona, "2025-Q1", *current_versions(""), run_id, number)
    assert watch.asked() == ["2025-01-01"]
    assert watch.asked() == []


@pytest.mark.proves("due")
def test_a_failed_sync_that_no_change_asked_for_is_healed_too(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backfill, or the closing of a quarter, that a broken connection ended."""
    watch.asked()
    watch.end(watch.run(Quarter(2024, 1)), "failed")
    watch.end(watch.run(Quarter(2024, 2)), "cancelled")
    assert watch.asked() == [], "the hour is not over"
    monkeypatch.setattr("primero_ona.graph.due.ASK_AGAIN_AFTER", NOTHING)
    (request,) = watch.look().run_requests
    assert request.run_key.startswith("2024-Q1:failed:")


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING])
@pytest.mark.proves("killed")
def test_a_run_whose_process_was_killed_is_ended_so_that_its_quarter_is_asked_for_again(
    watch: Watch, monkeypatch: pytest.MonkeyPatch, status: dg.DagsterRunStatus
) -> None:
    """Dagster would believe for ever that it runs; one that does run is left alone."""
    monkeypatch.setattr("primero_ona.graph.due.ASK_AGAIN_AFTER", NOTHING)
    watch.asked()
    with held_by_this_process(watch.instance) as tags:
        alive = watch.run(Quarter(2024, 2), status, tags=tags)
        (lock,) = (Path(watch.instance.root_directory) / "processes").iterdir()
        (lock.parent / "abc.lock").touch(mode=0o600)
        dead = watch.run(Quarter(2024, 1), status, tags={PROCESS_TAG: "abc"})
        assert watch.asked() == ["2024-01-01"]
        assert watch.instance.get_run_by_id(dead).status == dg.DagsterRunStatus.FAILURE
        assert watch.instance.get_run_by_id(alive).status == status
        assert list(lock.parent.iterdir()) == [lock]
    assert not list(lock.parent.iterdir())


@pytest.mark.proves("other-version")
def test_a_quarter_that_another_version_loaded_is_asked_for_once_and_after_the_others(
    watch: Watch, ona: psycopg.Connection
) -> None:
    """An update would leave the past as the old rules made it; asking each quarter of an hour would never end."""
    watch.asked()
    pull, mapping = current_versions("")
    loaded(ona, "2024-Q1", pull, mapping)
    loaded(ona, "2024-Q2", pull, "older")
    loaded(ona, "2024-Q3", None, mapping)
    loaded(ona, "2019-Q1", "older", "older")
    data = watch.look()
    assert [request.partition_key for request in data.run_requests] == ["2024-04-01", "2024-07-01"]
    assert data.run_requests[0].run_key == f"2024-Q2:version:{pull}:{mapping}:first"
    assert {request.tags["dagster/priority"] for request in data.run_requests} == {"-1"}
    assert [r.run_key for r in watch.look().run_requests] == [r.run_key for r in data.run_requests]
    for quarter in ("2024-Q2", "2024-Q3"):
        loaded(ona, quarter, pull, mapping, "another run")
    data = watch.look()
    assert not data.run_requests
    assert "left out" not in data.skip_message, "a quarter before the start is none to ask for"


AHEAD = datetime(2031, 5, 5, tzinfo=UTC)


@pytest.mark.proves("stamped-ahead")
def test_a_case_stamped_ahead_does_not_blind_the_sensor_and_asks_for_the_open_quarter(watch: Watch) -> None:
    """One case stamped 2031 was the newest for five years, and no edit was seen."""
    watch.asked()
    case = watch.primero.create(case_id_display="ahead", last_updated_at=AHEAD)
    assert watch.asked() == ["2025-01-01", current_quarter().key]
    data = watch.look()
    assert data.skip_message == "No case was created or changed since 2024-12-31T18:00:00.000Z"
    watch.primero.update(case, last_updated_at=AHEAD + timedelta(days=1))
    assert current_quarter().key in watch.asked(), "another edit under the same clock"
    watch.clock.move(hours=3)
    watch.primero.create(case_id_display="later")
    assert "2025-01-01" in watch.asked()
    assert watch.asked() == []


@pytest.mark.proves("stamped-ahead")
def test_the_turn_of_a_quarter_asks_for_the_cases_stamped_ahead(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """They belong to the open quarter, whichever that is."""
    watch.primero.create(case_id_display="ahead", last_updated_at=AHEAD)
    watch.asked()
    assert watch.asked() == []
    monkeypatch.setattr("primero_ona.primero.changes.current_quarter", lambda: Quarter(2026, 1))
    assert "2026-01-01" in watch.asked()


@pytest.mark.proves("stamped-ahead")
def test_more_cases_stamped_ahead_than_a_page_hide_no_edit(watch: Watch) -> None:
    """A server whose clock was wrong for days has stamped thousands."""
    watch.primero.switches.per_cap = 3
    for number in range(8):
        watch.primero.create(case_id_display=f"ahead {number}", last_updated_at=AHEAD + timedelta(days=number))
    watch.asked()
    assert json.loads(watch.cursor or "")["newest"] == "2024-12-31T18:00:00.000Z"
    watch.clock.move(hours=2)
    watch.primero.create(case_id_display="later")
    assert "2025-01-01" in watch.asked()


def test_where_every_case_is_stamped_ahead_the_tick_says_so(watch: Watch) -> None:
    """Then it is the clock that is wrong, and people have to look at it."""
    watch.clock.now = NEW_YEAR - timedelta(days=3_000)
    assert watch.look().skip_message.startswith("Primero could not be asked: every case of Primero is stamped ahead")


@pytest.mark.proves("stamped-ahead")
def test_quarters_that_have_not_begun_are_not_blamed_on_the_setting(watch: Watch) -> None:
    """A server whose own clock is years ahead stamps in quarters that no setting names."""
    for days in (0, 100):
        watch.clock.now = AHEAD + timedelta(days=days)
        watch.primero.create(case_id_display=f"later {days}")
        message = watch.look().skip_message
    assert message.endswith(
        "; 2 quarters that have not begun were left out: Primero's clock is ahead of this machine's"
    )
