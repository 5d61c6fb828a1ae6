"""Schedules and the change sensor, ticked with clocks that stand: a year's turn, a quarter's turn, the seven hours to UTC."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import dagster as dg
import psycopg
import pytest
from dagster._core.events import AssetMaterializationPlannedData, StepMaterializationData
from dagster._core.loader import LoadingContextForTest
from dagster._core.storage.dagster_run import DagsterRun
from dagster._daemon.freshness import FreshnessDaemon

from primero_ona.definitions import build_defs
from primero_ona.graph.assets.ona import CASES_KEY, SERVICES_KEY
from primero_ona.graph.assets.raw import PRIMERO
from primero_ona.graph.automation import quarters_to_refresh
from primero_ona.graph.dead_runs import PROCESS_TAG, held_by_this_process
from primero_ona.graph.due import FOR_GOOD, PULLED, TOO_SOON, WAITS, read_cursor
from primero_ona.graph.resources import OnaDatabaseResource, PrimeroResource
from primero_ona.graph.steps import stop_run_retries
from primero_ona.pipeline.stored import current_versions
from primero_ona.primero.changes import Changes
from primero_ona.quarters import PHNOM_PENH, Quarter, current_quarter
from primero_ona.sandbox.primero import SandboxPrimero
from primero_ona.settings import GraphSettings
from primero_ona_tests.harness import Clock

DEFS = build_defs(settings=GraphSettings(PRIMERO_ONA_START="2023-Q1"))

#: 31 December in UTC, New Year's morning in Phnom Penh.
NEW_YEAR = datetime(2024, 12, 31, 18, 0, tzinfo=UTC)


def tick(name: str, at: str) -> list[tuple[str | None, str | None]]:
    """What a schedule requests at a tick in Phnom Penh time: partition and run key, once the tags were looked at."""
    moment = datetime.fromisoformat(at).replace(tzinfo=PHNOM_PENH)
    context = dg.build_schedule_context(scheduled_execution_time=moment, repository_def=DEFS.get_repository_def())
    requests = DEFS.resolve_schedule_def(name).evaluate_tick(context).run_requests or []
    for request in requests:
        assert request.tags["quarter"] == Quarter.parse(request.partition_key or "").name
    return [(request.partition_key, request.run_key) for request in requests]


@pytest.mark.parametrize(
    ("at", "key"),
    [
        ("2025-01-05 02:00", "2024-10-01"),
        ("2024-04-05 02:00", "2024-01-01"),
        ("2024-07-05 02:00", "2024-04-01"),
        ("2024-10-05 02:00", "2024-07-01"),
    ],
)
def test_closing_takes_the_quarter_that_has_just_ended(at: str, key: str) -> None:
    """On 5 January it is the fourth quarter of last year; the one that has just opened would be empty."""
    assert tick("close_quarter", at) == [(key, f"{Quarter.parse(key)}:closed:{at[:10]}")]


@pytest.mark.parametrize(
    ("at", "keys"),
    [
        ("2024-07-01 03:00", ["2024-04-01", "2024-07-01"]),
        ("2024-07-30 03:00", ["2024-04-01", "2024-07-01"]),
        ("2024-07-31 03:00", ["2024-07-01"]),
        ("2024-09-30 03:00", ["2024-07-01"]),
        ("2025-01-01 03:00", ["2024-10-01", "2025-01-01"]),  # still 2024 in UTC
        ("2024-12-31 03:00", ["2024-10-01"]),
    ],
)
def test_the_nightly_refresh_takes_the_open_quarter_and_for_thirty_days_the_one_before(
    at: str, keys: list[str]
) -> None:
    """What is entered late into a quarter that has ended must still arrive."""
    assert tick("refresh_nightly", at) == [(key, f"{Quarter.parse(key)}:nightly:{at[:10]}") for key in keys]


@pytest.mark.parametrize(
    ("now", "names"),
    [
        (NEW_YEAR, ["2024-Q4", "2025-Q1"]),
        (datetime(2024, 3, 31, 16, 59, tzinfo=UTC), ["2024-Q1"]),
        (datetime(2024, 3, 31, 17, 30, tzinfo=UTC), ["2024-Q1", "2024-Q2"]),
        (datetime(2024, 4, 30, 16, 59, tzinfo=UTC), ["2024-Q1", "2024-Q2"]),
        (datetime(2024, 4, 30, 17, 0, tzinfo=UTC), ["2024-Q2"]),
    ],
)
def test_quarters_to_refresh_follow_phnom_penh_and_not_utc(now: datetime, names: list[str]) -> None:
    """A server in UTC would refresh the wrong quarter for seven hours, four times a year."""
    assert [quarter.name for quarter in quarters_to_refresh(now)] == names


def test_schedules_and_sensor_are_on_or_off_as_told_and_run_in_phnom_penh_time() -> None:
    """Off by default, nobody would notice that nothing is synced; UTC by default, it would run in office hours."""
    close, nightly = (DEFS.resolve_schedule_def(name) for name in ("close_quarter", "refresh_nightly"))
    assert (close.default_status, nightly.default_status) == (
        dg.DefaultScheduleStatus.RUNNING,
        dg.DefaultScheduleStatus.STOPPED,
    )
    assert {close.execution_timezone, nightly.execution_timezone} == {"Asia/Phnom_Penh"}
    assert (close.cron_schedule, nightly.cron_schedule) == ("0 2 5 1,4,7,10 *", "0 3 * * *")
    sensor = DEFS.resolve_sensor_def("watch_primero")
    assert sensor.default_status == dg.DefaultSensorStatus.RUNNING
    assert sensor.minimum_interval_seconds == 900
    assert all(each.description for each in (close, nightly, sensor, DEFS.resolve_job_def("sync_quarter")))


def test_reports_are_written_for_the_open_quarter_and_the_one_before() -> None:
    """Late entries still change the quarter that has just ended."""
    assert tick("write_reports", "2024-04-01T00:40") == [
        ("2024-01-01", "2024-Q1:report:2024-04-01"),
        ("2024-04-01", "2024-Q2:report:2024-04-01"),
    ]
    schedule = DEFS.resolve_schedule_def("write_reports")
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("40 0 * * *", "Asia/Phnom_Penh")
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING


@dataclass
class Watch:
    """The sensor on a sandbox whose clock stands; keeps the cursor as the daemon does."""

    primero: SandboxPrimero
    clock: Clock
    instance: dg.DagsterInstance
    ona_url: str
    ona: psycopg.Connection
    cursor: str | None = None
    url: str | None = None

    def look(self) -> Any:
        context = dg.build_sensor_context(
            instance=self.instance,
            cursor=self.cursor,
            definitions=DEFS,
            resources={
                "primero": PrimeroResource(
                    url=self.url or self.primero.url,
                    username=self.primero.username,
                    password=self.primero.password,
                    pause=0,
                ),
                "ona": OnaDatabaseResource(url=self.ona_url),
            },
        )
        data = DEFS.resolve_sensor_def("watch_primero").evaluate_tick(context)
        self.cursor = data.cursor
        return data

    def asked(self) -> list[str]:
        """The quarters that a look requests, each of which is then pulled and loaded."""
        keys = [str(request.partition_key) for request in self.look().run_requests or []]
        for key in keys:
            loaded(self.ona, Quarter.parse(key).name, *current_versions(""))
        return keys

    def pulled(self, quarter: Quarter, at: datetime) -> None:
        """Let Dagster's history hold a pull of the quarter at this time."""
        event = dg.AssetMaterialization("raw_under18_cases", partition=quarter.key)
        self.instance.handle_new_event(
            dg.EventLogEntry(
                error_info=None, level="debug", user_message="", run_id=str(uuid.uuid4()), timestamp=at.timestamp(),
                dagster_event=dg.DagsterEvent(
                    dg.DagsterEventType.ASSET_MATERIALIZATION.value, "sync_quarter",
                    event_specific_data=StepMaterializationData(event),
                ),
            )
        )  # fmt: skip

    def run(self, quarter: Quarter, status: dg.DagsterRunStatus = dg.DagsterRunStatus.STARTED, **more: Any) -> str:
        """Let Dagster know of a run that is to pull the quarter, by default one that goes on; more: job's name, tags."""
        run_id, job = str(uuid.uuid4()), more.get("job", "sync_quarter")
        tags = {"dagster/partition": quarter.key, **more.get("tags", {})}
        self.instance.add_run(DagsterRun(job, run_id=run_id, tags=tags, status=status))
        planned = AssetMaterializationPlannedData(PULLED, quarter.key)
        event = dg.DagsterEvent(
            dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED.value, job, event_specific_data=planned
        )
        self.instance.handle_new_event(
            dg.EventLogEntry(
                error_info=None, level="debug", user_message="", run_id=run_id, timestamp=1.0, dagster_event=event
            )
        )
        return run_id

    def end(self, run_id: str, how: str) -> None:
        """End a run: it `failed` by what may pass, `failed for good`, or was `cancelled`."""
        run = self.instance.get_run_by_id(run_id)
        if how == "cancelled":
            self.instance.report_run_canceled(run)
            return
        if how == "failed for good":
            stop_run_retries(self.instance, run_id)
        self.instance.report_run_failed(run)


@pytest.fixture
def watch(ona_url: str, ona: psycopg.Connection) -> Iterator[Watch]:
    """A sandbox with one old case and one of today, never looked at; today is New Year's morning."""
    clock = Clock(NEW_YEAR)
    with SandboxPrimero(0, clock=clock).serve() as primero, dg.DagsterInstance.ephemeral() as instance:
        primero.create(case_id_display="old", created_at=NEW_YEAR, last_updated_at=NEW_YEAR - timedelta(days=200))
        primero.create(case_id_display="new", created_at=NEW_YEAR)
        yield Watch(primero, clock, instance, ona_url, ona)


def test_the_first_look_asks_for_the_quarter_of_the_newest_change(watch: Watch) -> None:
    """Older quarters are a backfill, which people start; the newest one must be there without them."""
    watch.clock.move(hours=2)
    watch.primero.create(case_id_display="newer", created_at=watch.clock.now)
    data = watch.look()
    (request,) = data.run_requests
    assert request.partition_key == "2025-01-01", "18:00 UTC of 31 December is the new year in Phnom Penh"
    assert request.run_key.startswith("2025-Q1:changes:2024-12-31T20:00:00")
    assert request.tags["quarter"] == "2025-Q1"


def test_a_change_is_asked_for_until_it_is_loaded_and_by_one_key(watch: Watch) -> None:
    """Each sync reads a quarter from a server on which people work; and a request may be lost with the daemon."""
    first, second = watch.look().run_requests, watch.look().run_requests
    assert [request.run_key for request in first] == [request.run_key for request in second], (
        "Dagster asks once for a key"
    )
    loaded(watch.ona, "2025-Q1", *current_versions(""))
    data = watch.look()
    assert not data.run_requests
    assert data.skip_message.startswith("No case was created or changed since 2024-12-31T18:00:00")


def test_a_change_asks_for_all_quarters_between_the_last_look_and_now(watch: Watch) -> None:
    """After a weekend of silence, or of a stopped server, nothing may be left out."""
    watch.asked()
    watch.clock.move(days=200)
    watch.primero.create(case_id_display="later")
    assert watch.asked() == ["2025-01-01", "2025-04-01", "2025-07-01"]
    assert watch.asked() == []


@pytest.mark.proves("late-commit")
def test_a_late_commit_with_an_older_stamp_is_seen(watch: Watch) -> None:
    """A stamp is taken before its row can be seen; a cursor that only grows would lose the row for ever."""
    watch.asked()
    watch.primero.create(case_id_display="late", last_updated_at=NEW_YEAR - timedelta(minutes=20))
    assert "2025-01-01" in watch.asked()
    assert watch.asked() == []


@pytest.mark.parametrize("trouble", ["error", "swallowed", "unreachable", "refused", "two slow answers"])
@pytest.mark.proves("slow-answer")
def test_a_failed_look_keeps_the_cursor_and_says_so(
    watch: Watch, trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed read is not an empty answer: what changed meanwhile would never be asked for."""
    watch.asked()
    before = watch.cursor
    watch.clock.move(days=1)
    watch.primero.create(case_id_display="later")
    if trouble == "error":
        watch.primero.fail("status", status=500, times=None)
    elif trouble == "swallowed":
        watch.primero.fail("swallow", times=None)
    elif trouble == "refused":
        watch.primero.role.refused.add("cases")
    elif trouble == "two slow answers":  # each honest, together more than Dagster gives a tick
        monkeypatch.setattr("primero_ona.graph.automation.LOOK_SECONDS", 1.0)
        watch.primero.fail("silence", times=None, seconds=0.7)
    else:
        watch.url = "http://127.0.0.1:9"
    data = watch.look()
    assert not data.run_requests
    assert data.skip_message.startswith("Primero could not be asked: ")
    assert watch.cursor == before
    monkeypatch.undo()
    watch.primero.faults.clear()
    watch.primero.role.refused.clear()
    watch.url = None
    assert watch.asked() == ["2025-01-01"]


@pytest.mark.proves("primero-gave-up")
def test_a_database_that_gives_up_is_named_by_the_tick(watch: Watch) -> None:
    """An account that sees nothing is for other people to look at."""
    watch.primero.switches.scans_time_out = True
    assert "Primero's database gave up a question" in watch.look().skip_message
    watch.primero.role.owner = "nobody"
    assert "shows this account no case at all" in watch.look().skip_message


def freshness(instance: dg.DagsterInstance, asset: dg.AssetKey, after: timedelta) -> str:
    """The state that Dagster's daemon gives an asset some time from now."""
    node = DEFS.resolve_asset_graph().get(asset)
    then = datetime.now(UTC) + after
    with mock.patch("dagster._core.definitions.freshness_evaluator.get_current_timestamp", then.timestamp):
        state = FreshnessDaemon()._compute_asset_freshness_state(LoadingContextForTest(instance), node)
        return asyncio.run(state).value


@pytest.mark.proves("seen")
def test_each_look_that_primero_answered_is_recorded_and_its_age_turns_red(watch: Watch) -> None:
    """With a wrong password the sensor ticked green, "0 runs requested", as in a quiet night."""
    for events in (
        watch.look().asset_events,
        watch.look().asset_events,
    ):  # one that asks for runs, and one that does not
        (seen,) = events
        assert (seen.asset_key, seen.metadata, seen.partition) == (PRIMERO.key, {}, None)
    watch.primero.role.refused.add("cases")
    assert not watch.look().asset_events
    watch.instance.report_runless_asset_event(seen)
    states = [freshness(watch.instance, PRIMERO.key, timedelta(hours=hours)) for hours in (0.5, 1.5, 3.5)]
    assert states == ["PASS", "WARN", "FAIL"]


@pytest.mark.proves("seen")
def test_a_load_of_any_quarter_keeps_ona_s_tables_fresh_for_days(watch: Watch) -> None:
    """The days of Khmer New Year bring no edit; two weeks without one are a fault."""
    for key in (CASES_KEY, SERVICES_KEY):
        watch.instance.report_runless_asset_event(dg.AssetMaterialization(key, partition="2024-01-01"))
        states = [freshness(watch.instance, key, timedelta(days=days)) for days in (4, 6, 15)]
        assert states == ["PASS", "WARN", "FAIL"]


def test_an_unexpected_exception_in_a_tick_quotes_nothing(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """The text of a tick's error is kept in Dagster's storage."""

    def broken(*_: object) -> Changes:
        raise KeyError("a-name-that-must-not-be-read")

    monkeypatch.setattr("primero_ona.primero.changes.changes_since", broken)
    with pytest.raises(Exception, match="internal error KeyError") as caught:
        watch.look()
    chain: list[BaseException] = [caught.value]
    while (cause := chain[-1].__cause__) is not None:
        chain.append(cause)
    assert "a-name" not in "".join(map(str, chain))


NOTHING = timedelta()


@pytest.mark.parametrize("job", ["sync_quarter", "__ASSET_JOB", "remap_quarter"])
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


def loaded(
    ona: psycopg.Connection,
    quarter: str,
    pull: str | None,
    mapping: str,
    run_id: str = "a-run",
    number: int | None = None,
) -> None:
    """Let ONA's bookkeeping hold a load under these versions, of a pull that begins now or has this number."""
    ona.execute(
        "INSERT INTO primero_sync.runs (run_id, quarter, started_at, pull, pull_version, mapping_version, counts)"
        " VALUES (%s, %s, now(), COALESCE(%s, nextval('primero_sync.pulls')), %s, %s, '{}')",
        (run_id, quarter, number, pull, mapping),
    )


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


@pytest.mark.parametrize("trouble", ["unreachable", "no column"])
@pytest.mark.proves("ona-unasked")
def test_an_ona_that_cannot_be_asked_is_told_and_keeps_no_change_from_being_seen(
    watch: Watch, ona: psycopg.Connection, trouble: str
) -> None:
    """What the sensor is for is Primero; but that it does not know what is due must not be hidden."""
    if trouble == "unreachable":
        watch.ona_url = "postgresql://sync:s3cret@127.0.0.1:9/ona"
    else:
        ona.execute("ALTER TABLE primero_sync.runs DROP COLUMN pull_version")
    assert [request.partition_key for request in watch.look().run_requests] == ["2025-01-01"]
    message = watch.look().skip_message
    assert "; ONA could not be asked which quarters are loaded, and by which version: " in message
    assert ("is not listening there" if trouble == "unreachable" else "run `primero-ona schema apply`") in message
    assert "s3cret" not in message


def test_quarters_before_the_start_are_left_out_and_counted(watch: Watch) -> None:
    """Dagster would fail the whole tick for a partition that does not exist."""
    watch.pulled(Quarter(2019, 1), Quarter(2019, 1).end)
    watch.pulled(Quarter(2024, 4), Quarter(2024, 4).end + timedelta(days=2))
    data = watch.look()
    assert [request.partition_key for request in data.run_requests] == ["2024-10-01", "2025-01-01"]
    watch.asked()
    watch.cursor = None
    watch.end(watch.run(Quarter(2024, 4)), "failed")
    watch.end(watch.run(Quarter(2025, 1)), "failed")
    assert watch.look().skip_message.endswith("; 1 quarters before PRIMERO_ONA_START were left out")


def test_a_cursor_of_an_older_version_is_forgotten_and_costs_one_sync(watch: Watch) -> None:
    """An update must not stop the sensor."""
    watch.cursor = json.dumps({"version": 0, "anything": 1})
    assert read_cursor(watch.cursor) is None
    assert "2025-01-01" in watch.asked()
    assert watch.asked() == []


def test_the_cursor_holds_a_stamp_and_a_number_and_nothing_of_a_case(watch: Watch) -> None:
    """Cursors lie in the clear in Dagster's storage and in the UI."""
    watch.asked()
    newest = "2024-12-31T18:00:00.000Z"
    state = json.loads(watch.cursor or "")
    assert (state["version"], state["newest"], state["total"], state["ahead"]) == (3, newest, 1, "")
    assert state.keys() == {"version", "newest", "total", "ahead", "versions", "changes"}
    assert [(quarter, number) for quarter, (_, number) in state["changes"].items()] == [("2025-Q1", 1)]


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


@pytest.mark.parametrize("lost", ["reset in the UI", "of an older version", "of a Primero that was restored"])
@pytest.mark.proves("lost-cursor")
def test_a_forgotten_cursor_asks_for_all_that_may_have_been_missed(watch: Watch, lost: str) -> None:
    """Edits of the last evening of a quarter lie on the other side of its border, and nothing would ask for them again."""
    pulled = {Quarter(2024, 1): True, Quarter(2024, 2): False, Quarter(2024, 3): True}
    for quarter, settled in pulled.items():
        watch.pulled(quarter, quarter.end + timedelta(days=2) if settled else quarter.end - timedelta(minutes=5))
    watch.asked()
    if lost == "reset in the UI":
        watch.cursor = None
    elif lost == "of an older version":
        watch.cursor = json.dumps({"version": 1, "newest": "2031-05-05T00:00:00.000Z", "total": 7})
    else:
        watch.cursor = json.dumps({**json.loads(watch.cursor or ""), "newest": "2025-01-05T00:00:00.000Z"})
    assert watch.asked() == ["2024-04-01", "2024-07-01", "2024-10-01", "2025-01-01"]
    assert watch.asked() == []


def test_a_known_cursor_asks_for_no_more_than_what_changed(watch: Watch) -> None:
    """Else every edit would have all unsettled quarters read again."""
    watch.pulled(Quarter(2024, 2), Quarter(2024, 2).end)
    watch.asked()
    watch.clock.move(hours=2)
    watch.primero.create(case_id_display="later")
    assert watch.asked() == ["2025-01-01"]
