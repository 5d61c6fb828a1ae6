"""Schedules and the change sensor, ticked with clocks that stand: a year's turn, a quarter's turn, the seven hours to UTC."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from unittest import mock

import dagster as dg
import psycopg
import pytest
from dagster._core.loader import LoadingContextForTest
from dagster._daemon.freshness import FreshnessDaemon

from primero_ona.definitions import build_defs
from primero_ona.graph.assets.ona import CASES_KEY, SERVICES_KEY
from primero_ona.graph.assets.quarterly import PRIMERO
from primero_ona.graph.automation import quarters_to_refresh
from primero_ona.graph.due import Cursor
from primero_ona.pipeline.stored import current_versions
from primero_ona.primero.changes import Changes
from primero_ona.quarters import PHNOM_PENH, Quarter
from primero_ona.settings import GraphSettings
from primero_ona_tests.graph.watching import DEFS, NEW_YEAR, Watch, loaded, watch

__all__ = ["watch"]  # fixture


def tick(name: str, at: str) -> list[tuple[str | None, str | None]]:
    """What a schedule requests at a tick in Phnom Penh time: partition and run key, once the tags were looked at."""
    moment = datetime.fromisoformat(at).replace(tzinfo=PHNOM_PENH)
    context = dg.build_schedule_context(scheduled_execution_time=moment, repository_def=DEFS.get_repository_def())
    requests = DEFS.resolve_schedule_def(name).evaluate_tick(context).run_requests or []
    for request in requests:
        assert request.tags["quarter"] == Quarter.parse(request.partition_key or "").name
        assert ("whole" in request.tags) is (name in {"close_quarter", "refresh_nightly"})
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


def test_a_quarter_before_the_first_is_not_asked_for() -> None:
    """In the first quarter of an installation the whole tick failed, and Dagster would have tried it again."""
    moment = datetime(2023, 1, 5, 2, tzinfo=PHNOM_PENH)
    context = dg.build_schedule_context(scheduled_execution_time=moment, repository_def=DEFS.get_repository_def())
    asked = {
        name: [
            request.partition_key
            for request in DEFS.resolve_schedule_def(name).evaluate_tick(context).run_requests or ()
        ]
        for name in ("close_quarter", "refresh_nightly", "write_reports")
    }
    assert asked == {"close_quarter": [], "refresh_nightly": ["2023-01-01"], "write_reports": ["2023-01-01"]}


@pytest.mark.proves("urgent-runs")
def test_closing_a_quarter_goes_before_a_backfill() -> None:
    """With ten years waiting in the queue, the report of the quarter would be made without its last entries."""
    context = dg.build_schedule_context(
        scheduled_execution_time=datetime(2024, 4, 5, 2, tzinfo=PHNOM_PENH), repository_def=DEFS.get_repository_def()
    )
    priority = {
        name: [
            (r.tags or {}).get("dagster/priority")
            for r in DEFS.resolve_schedule_def(name).evaluate_tick(context).run_requests or ()
        ]
        for name in ("close_quarter", "refresh_reference", "refresh_nightly")
    }
    # A backfill has none, which is 0.
    assert priority == {"close_quarter": ["1"], "refresh_reference": ["1"], "refresh_nightly": [None, None]}


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


@pytest.mark.parametrize(("folder", "status"), [(None, "STOPPED"), ("/reports", "RUNNING")])
def test_no_report_is_written_each_night_into_a_pod(
    monkeypatch: pytest.MonkeyPatch, folder: str | None, status: str
) -> None:
    """It would fail each night, on an installation that asked for none."""
    monkeypatch.setenv("DAGSTER_CURRENT_IMAGE", "registry/image:1")
    defs = build_defs(settings=GraphSettings(PRIMERO_ONA_REPORTS=folder))
    assert defs.resolve_schedule_def("write_reports").default_status == dg.DefaultScheduleStatus[status]


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
    assert Cursor.read(watch.cursor) == Cursor()
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
