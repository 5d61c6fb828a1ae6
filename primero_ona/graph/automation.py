"""Jobs, schedules and the change sensor: when a quarter is synced without anybody asking.

Which quarters the sensor asks for is decided in `due.py`. Quarters are those of Phnom Penh.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster._core.storage.tags import PRIORITY_TAG

from primero_ona.errors import SyncError
from primero_ona.graph.assets.quarterly import PRIMERO
from primero_ona.graph.dead_runs import end_dead_runs
from primero_ona.graph.due import PULLED, VERSION, Cursor, Due, attempts, judge, read_cursor, write_cursor
from primero_ona.graph.partitions import QUARTER_TAG, WHOLE_TAG
from primero_ona.graph.resources import OnaDatabaseResource, PrimeroResource
from primero_ona.graph.steps import unexpected_withheld
from primero_ona.quarters import TIME_ZONE, Quarter, current_quarter, quarters_between

if TYPE_CHECKING:
    from primero_ona.graph.due import Attempt
    from primero_ona.ona.bookkeeping import LastLoad
    from primero_ona.primero.changes import Changes

#: 02:00 on the fifth day of a quarter: late entries of the last days are in, and case workers sleep.
CLOSE_CRON = "0 2 5 1,4,7,10 *"

#: The reference data is read in seconds, so an hour before the quarter is closed is early enough, even with two retries. A
#: run of its own, and not a part of closing: a list that cannot be read today must not keep a quarter from being closed.
BEFORE_CLOSE_CRON = "0 1 5 1,4,7,10 *"
WEEKLY_CRON = "0 1 * * 1"

REFRESH_CRON = "0 3 * * *"

#: Soon after midnight, when months, quarters and years begin in Phnom Penh.
FIGURES_CRON = "10 0 * * *"

#: 01:00 each night, before the nightly refresh and the quarterly close; and 00:30 each Sunday.
PURGE_CRON, REMOVE_CRON = "0 1 * * *", "30 0 * * 0"

#: 04:00 on the tenth: after the fifth, when a quarter is closed, and while case workers sleep. A full read of Primero, so
#: not more often than monthly by itself; `primero-ona verify` does it at any time.
VERIFY_CRON = "0 4 10 * *"

#: After the figures of the night. A report by itself: a sync need not wait for it.
REPORTS_CRON = "40 0 * * *"

#: A closed quarter is refreshed for so long after its end; later edits reach it through the sensor.
GRACE = timedelta(days=30)

#: Seconds between two looks for changes. Primero reads its whole case table for one look, and people work on it.
LOOK_EVERY = 900

#: Seconds that the questions of one look may take together. Dagster gives a tick 60 seconds, then drops it with a message
#: that does not name Primero; the rest is for what a tick reads of Dagster's own storage.
LOOK_SECONDS = 45

#: A quarter that was pulled so long after its end lacks no edit: each is stamped with the time at which it is made.
SETTLED = timedelta(days=1)

#: Recorded by each look that Primero answered; its age is what turns red when looks fail.
SEEN_NOW = dg.AssetMaterialization(PRIMERO.key)

#: Seconds that ONA may take to tell a tick of the sensor what it has loaded: a tick has a minute for all it does.
ONA_SECONDS = 10

#: What makes a sync that a new version asks for wait for the syncs that data ask for, and lets the close of a quarter, and the
#: reference data that it needs, go before a backfill of years.
_LATER, _FIRST = {PRIORITY_TAG: "-1"}, {PRIORITY_TAG: "1"}

#: How the reason of a sync begins that closes a quarter.
_CLOSED = "closed:"


#: The jobs that materialize assets or answer a check, and what they do.
_JOBS = {
    "sync_quarter": "Sync one quarter: pull it from Primero, map it, load it into ONA and check it. Safe to repeat.",
    "remap_quarter": "Map a stored quarter again, load it into ONA and check it, without asking Primero. For changed labels.",
    "refresh_reference": "Read Primero's places, options and forms again, and bring ONA's lookup and dictionary up to date.",
    "compute_figures": "Compute all figures of the indicators in ONA and check them; writes only those that differ.",
    "write_report": "Write the internal report of a quarter from the figures in ONA, as HTML, XLSX and CSV.",
    "reconcile_ona": "Compare all of Primero with all of ONA, without trusting the syncs. Changes nothing.",
}

#: What runs by itself at a time of the day in Phnom Penh, whatever has happened.
_SCHEDULES: Mapping[str, tuple[str | list[str], str]] = {
    "refresh_reference": (
        [WEEKLY_CRON, BEFORE_CLOSE_CRON],
        "Each Monday at 01:00 (Phnom Penh), and an hour before a quarter is closed, reads Primero's places, options and forms again.",
    ),
    "compute_figures": (
        FIGURES_CRON,
        "Each night at 00:10 (Phnom Penh), computes the indicators' figures, since periods begin without a load.",
    ),
    "verify_monthly": (
        VERIFY_CRON,
        "At 04:00 on the tenth of each month (Phnom Penh), compares all of Primero with all of ONA.",
    ),
    "purge_nightly": (
        PURGE_CRON,
        "Each night at 01:00 (Phnom Penh), deletes stored partitions that are older than the retention setting.",
    ),
    "remove_runs": (
        REMOVE_CRON,
        "Each Sunday at 00:30 (Phnom Penh), removes runs that newer ones have made needless; see PRIMERO_ONA_RUNS_DAYS.",
    ),
}


def asset_job(name: str, selection: dg.AssetSelection) -> Any:  # noqa: ANN401
    """The job of this name."""
    return dg.define_asset_job(name, selection=selection, description=_JOBS[name])


def schedule(name: str, job: Any) -> dg.ScheduleDefinition:  # noqa: ANN401
    """The schedule of this name, which is on by default."""
    cron, text = _SCHEDULES[name]
    return dg.ScheduleDefinition(
        name=name,
        cron_schedule=cron,
        execution_timezone=TIME_ZONE,
        job=job,
        tags=_FIRST if name == "refresh_reference" else None,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=text,
    )


def reports_schedule(
    job: Any,  # noqa: ANN401
    quarters: dg.TimeWindowPartitionsDefinition,
    *,
    on: bool,
) -> dg.ScheduleDefinition:
    """Write the reports of the quarters whose figures still change; off where there is no folder for them."""

    @dg.schedule(
        name="write_reports",
        cron_schedule=REPORTS_CRON,
        execution_timezone=TIME_ZONE,
        job=job,
        default_status=dg.DefaultScheduleStatus.RUNNING if on else dg.DefaultScheduleStatus.STOPPED,
        description=(
            "Each night at 00:40 (Phnom Penh), writes the internal reports of the open quarter and of the one before, which late "
            "entries still change."
        ),
    )
    def write_reports(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest]:
        """Ask for the reports of the open quarter and of the one before, as far as they have a partition."""
        now = context.scheduled_execution_time
        changing = Quarter.of(now).previous(), Quarter.of(now)
        return [
            request(quarter, f"report:{now:%Y-%m-%d}")
            for quarter in changing
            if quarters.has_partition_key(quarter.key)
        ]

    return write_reports


def request(quarter: Quarter, reason: str, *, whole: bool = False) -> dg.RunRequest:
    """A request to sync a quarter; the same reason asks once only. `whole`: all of it is walked, not its changes only."""
    tags = {QUARTER_TAG: quarter.name} | ({WHOLE_TAG: "yes"} if whole else {})
    if reason.startswith(VERSION):
        tags |= _LATER
    elif reason.startswith(_CLOSED):
        tags |= _FIRST
    return dg.RunRequest(run_key=f"{quarter.name}:{reason}", partition_key=quarter.key, tags=tags)


def quarters_to_refresh(now: datetime) -> list[Quarter]:
    """The open quarter, and the one before while it is in its grace."""
    quarter = Quarter.of(now)
    return [quarter.previous(), quarter] if now - quarter.start < GRACE else [quarter]


def close_schedule(job: Any) -> dg.ScheduleDefinition:  # noqa: ANN401
    """Close the quarter that has just ended."""

    @dg.schedule(
        name="close_quarter",
        cron_schedule=CLOSE_CRON,
        execution_timezone=TIME_ZONE,
        job=job,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="At 02:00 on the fifth day of each quarter (Phnom Penh), syncs the quarter that has just ended.",
    )
    def close_quarter(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        ended = Quarter.of(context.scheduled_execution_time).previous()
        return request(ended, f"{_CLOSED}{context.scheduled_execution_time:%Y-%m-%d}", whole=True)

    return close_quarter


def refresh_schedule(job: Any) -> dg.ScheduleDefinition:  # noqa: ANN401
    """Refresh the open quarter nightly; for those who want a full pull each night."""

    @dg.schedule(
        name="refresh_nightly",
        cron_schedule=REFRESH_CRON,
        execution_timezone=TIME_ZONE,
        job=job,
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description=(
            "Each night at 03:00 (Phnom Penh), pulls the whole open quarter, and for 30 days after its end the quarter before, "
            "and syncs them. Off by default: the change sensor does the same with less load on Primero."
        ),
    )
    def refresh_nightly(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest]:
        now = context.scheduled_execution_time
        return [request(quarter, f"nightly:{now:%Y-%m-%d}", whole=True) for quarter in quarters_to_refresh(now)]

    return refresh_nightly


def change_sensor(
    job: Any,  # noqa: ANN401
    quarters: dg.TimeWindowPartitionsDefinition,
    versions: tuple[str, str],
) -> dg.SensorDefinition:
    """Watch Primero for changes, and ONA for quarters that were loaded under other `versions` of pull and mapping."""

    @dg.sensor(
        name="watch_primero",
        job=job,
        minimum_interval_seconds=LOOK_EVERY,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "Every 15 minutes, asks Primero whether cases were created or changed, and syncs the quarters that have changed "
            "since their last load, and those that another version of primero-ona loaded. A quarter whose sync failed or was "
            "cancelled is asked for again after an hour; one that failed for good, when something has changed since. "
            "Each look that Primero answered is recorded as a materialization of `primero`, without data."
        ),
    )
    def watch_primero(
        context: dg.SensorEvaluationContext,
        primero: dg.ResourceParam[PrimeroResource],
        ona: dg.ResourceParam[OnaDatabaseResource],
    ) -> dg.SensorResult:
        """Ask for the quarters that are due."""
        from primero_ona.primero.changes import changes_since

        if ended := end_dead_runs(context.instance):
            context.log.warning("ended %s runs whose process was gone", ended)
        now, before = datetime.now(UTC), read_cursor(context.cursor)
        try:
            with unexpected_withheld(), primero.client(total=LOOK_SECONDS) as client:
                there = changes_since(client, before.look if before else None)
        except SyncError as failure:
            # A failed read is not an empty answer: the tick says so, and the cursor stays where it is.
            return dg.SensorResult(skip_reason=f"Primero could not be asked: {failure.shown}", cursor=context.cursor)
        touched = _touched(context.instance, there)
        inside = {quarter for quarter in touched if quarters.has_partition_key(quarter.key)}
        cursor = Cursor.after(before, there, inside, versions, now)
        numbered, loads, unasked = _ask_ona(ona, cursor)
        tried = attempts(context.instance, map(Quarter.parse, quarters.get_partition_keys()))
        # Without ONA it is not known what became of earlier changes, so only those of this look are asked for.
        changes = numbered.changes if loads is not None else {q: numbered.changes[q] for q in inside}
        judged = judge(changes, loads or {}, tried, cursor.versions, now)
        due = {quarter: each for quarter, each in judged.items() if quarters.has_partition_key(quarter.key)}
        requests = [
            request(quarter, _reason(each, there, tried.get(quarter)), whole=each.whole)
            for quarter, each in due.items()
            if not each.held
        ]
        held = _held(due)
        said = held + _left_out(sorted(touched - inside)) + unasked
        if requests:
            context.log.info("asks for a sync of %s%s", ", ".join(each.tags[QUARTER_TAG] for each in requests), said)
            return dg.SensorResult(run_requests=requests, cursor=write_cursor(numbered), asset_events=[SEEN_NOW])
        why = "Nothing is asked for now" if held else f"No case was created or changed since {there.newest}"
        return dg.SensorResult(skip_reason=why + said, cursor=write_cursor(numbered), asset_events=[SEEN_NOW])

    return watch_primero


def _touched(instance: dg.DagsterInstance, there: "Changes") -> set[Quarter]:
    """The quarters with changes; at a first look, those that may lack earlier ones as well."""
    known = there.first_look and there.quarters
    return {*there.quarters, *(unsettled(instance, there.quarters[-1]) if known else ())}


def _reason(due: Due, there: "Changes", last: "Attempt | None") -> str:
    """Why a quarter is asked for after its last attempt, as its run key says it."""
    ahead = f":{there.ahead}" if there.ahead else ""
    reason = f"changes:{there.newest}:{there.total}{ahead}" if due.reason == "changes" else due.reason
    return f"{reason}:{last.run_id if last else 'first'}"


def _held(due: Mapping[Quarter, Due]) -> str:
    """Say which quarters are due and not asked for, and why."""
    by_cause: dict[str, list[str]] = {}
    for quarter, each in due.items():
        if each.held:
            by_cause.setdefault(each.held, []).append(quarter.name)
    return "".join(f"; {', '.join(names)}: {cause}" for cause, names in by_cause.items())


def _left_out(quarters: Sequence[Quarter]) -> str:
    """Say how many quarters have no partition, and why: they lie before the first, or after the open one."""
    later = sum(quarter > current_quarter() for quarter in quarters)
    earlier = len(quarters) - later
    return (f"; {earlier} quarters before PRIMERO_ONA_START were left out" if earlier else "") + (
        f"; {later} quarters that have not begun were left out: Primero's clock is ahead of this machine's"
        if later
        else ""
    )


def unsettled(instance: dg.DagsterInstance, newest: Quarter) -> set[Quarter]:
    """Find the quarters that may lack edits when no earlier look is known, as far as they were ever pulled.

    Those that were not pulled again a day after their end, and all from the last that was pulled to the `newest`.
    """
    pulled = {Quarter.parse(key) for key in instance.get_materialized_partitions(PULLED)}
    found = {quarter for quarter in pulled if _last_pull(instance, quarter) < quarter.end + SETTLED}
    return found | set(quarters_between(max(pulled), newest)) if pulled else found


def _last_pull(instance: dg.DagsterInstance, quarter: Quarter) -> datetime:
    wanted = dg.AssetRecordsFilter(asset_key=PULLED, asset_partitions=[quarter.key])
    (record,) = instance.fetch_materializations(wanted, limit=1).records
    return datetime.fromtimestamp(record.timestamp, UTC)


def _ask_ona(ona: OnaDatabaseResource, cursor: Cursor) -> "tuple[Cursor, dict[Quarter, LastLoad] | None, str]":
    """The last load of each quarter, the cursor without the changes that are in, and why ONA could not be asked.

    Changes that have no number yet get that of a pull that begins now: all with a higher one begin after the look. A failure
    here does not stop the sensor from looking at Primero.
    """
    from primero_ona.ona.bookkeeping import last_loads, next_pull

    try:
        with unexpected_withheld(), ona.connection(statement_timeout=ONA_SECONDS) as connection:
            number = next_pull(connection) if cursor.unnumbered else None
            loads = last_loads(connection)
    except (SyncError, dg.Failure) as failure:
        said = failure.shown if isinstance(failure, SyncError) else str(failure)
        return cursor, None, f"; ONA could not be asked which quarters are loaded, and by which version: {said}"
    return cursor.known(number, loads), loads, ""
