"""What runs without anybody asking: schedules, the change sensor, and the jobs that remove what is old.

Which quarters the sensor asks for is decided in `due.py`; what may be removed is said in `docs/data-protection.md`. Quarters are
those of Phnom Penh.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import dagster as dg
from dagster._core.storage.event_log.schema import AssetEventTagsTable, SqlEventLogStorageTable
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from dagster._core.storage.sqlalchemy_compat import db_select
from dagster._core.storage.tags import PARTITION_NAME_TAG, PRIORITY_TAG, RESUME_RETRY_TAG, STEP_SELECTION_TAG

from primero_ona.errors import SyncError
from primero_ona.graph.assets.quarterly import PRIMERO
from primero_ona.graph.dead_runs import end_dead_runs
from primero_ona.graph.diagnosis import last_materialized
from primero_ona.graph.due import CHANGES, PULLED, VERSION, Attempt, Cursor, Due, attempts, judge
from primero_ona.graph.partitions import QUARTER_TAG, WHOLE_TAG
from primero_ona.graph.resources import Ona, OnaDatabaseResource, Partitions, Primero
from primero_ona.graph.steps import attach_safe_step, unexpected_withheld
from primero_ona.pipeline.stored import (
    EXITS,
    MAPPED_CASES,
    MAPPED_SERVICES,
    REINTEGRATION,
    UNDER18,
    StoredAssets,
    current_versions,
)
from primero_ona.pipeline.stored import purge as purge_stored
from primero_ona.quarters import TIME_ZONE, Quarter, current_quarter, last_quarters, quarters_between

if TYPE_CHECKING:
    import psycopg

    from primero_ona.ona.bookkeeping import LastLoad
    from primero_ona.primero.changes import Changes

#: Seconds that the questions of one look may take together. Dagster gives a tick 60 seconds, then drops it with a message
#: that does not name Primero; the rest is for what a tick reads of Dagster's own storage.
LOOK_SECONDS = 45

#: What makes a sync that a new version asks for wait for the syncs that data ask for, and lets the close of a quarter, and the
#: reference data that it needs, go before a backfill of years.
_LATER, _FIRST = {PRIORITY_TAG: "-1"}, {PRIORITY_TAG: "1"}

#: With it all of a quarter is walked, not its changes only.
_WHOLE = {WHOLE_TAG: "yes"}


def quarters_to_refresh(now: datetime) -> list[Quarter]:
    """The open quarter, and for 30 days after its end the one before; later edits reach it through the sensor."""
    quarter = Quarter.of(now)
    return [quarter.previous(), quarter] if now - quarter.start < timedelta(days=30) else [quarter]


class _Plan(NamedTuple):
    """When (in Phnom Penh) a job runs by itself, what the UI says, the tags of its runs; of one by quarter, for which and why."""

    cron: str | list[str]
    text: str
    tags: Mapping[str, str] = {}
    quarters: Callable[[datetime], list[Quarter]] | None = None
    reason: str = ""


_SCHEDULES = {
    # The reference data is read in seconds, so an hour before the quarter is closed is early enough, even with two retries. A
    # run of its own, and not a part of closing: a list that cannot be read today must not keep a quarter from being closed.
    "refresh_reference": _Plan(
        ["0 1 * * 1", "0 1 5 1,4,7,10 *"],
        "Each Monday at 01:00 (Phnom Penh), and an hour before a quarter is closed, reads Primero's places, options and forms again.",
        _FIRST,
    ),
    # Late entries of the last days are in, and case workers sleep.
    "close_quarter": _Plan(
        "0 2 5 1,4,7,10 *",
        "At 02:00 on the fifth day of each quarter (Phnom Penh), syncs the quarter that has just ended.",
        _FIRST | _WHOLE,
        lambda now: [Quarter.of(now).previous()],
        "closed",
    ),
    # For those who want a full pull each night.
    "refresh_nightly": _Plan(
        "0 3 * * *",
        "Each night at 03:00 (Phnom Penh), pulls the whole open quarter, and for 30 days after its end the quarter before, "
        "and syncs them. Off by default: the change sensor does the same with less load on Primero.",
        _WHOLE,
        quarters_to_refresh,
        "nightly",
    ),
    # Soon after midnight, when months, quarters and years begin.
    "compute_figures": _Plan(
        "10 0 * * *",
        "Each night at 00:10 (Phnom Penh), computes the indicators' figures, since periods begin without a load.",
    ),
    # After the figures of the night. A report by itself: a sync need not wait for it.
    "write_reports": _Plan(
        "40 0 * * *",
        "Each night at 00:40 (Phnom Penh), writes the internal reports of the open quarter and of the one before, which late "
        "entries still change.",
        quarters=lambda now: [Quarter.of(now).previous(), Quarter.of(now)],
        reason="report",
    ),
    # After the fifth, when a quarter is closed, and while case workers sleep. A full read of Primero, so not more often than
    # monthly by itself; `primero-ona verify` does it at any time.
    "verify_monthly": _Plan(
        "0 4 10 * *",
        "At 04:00 on the tenth of each month (Phnom Penh), compares all of Primero with all of ONA.",
    ),
    # Before the nightly refresh and the quarterly close.
    "purge_nightly": _Plan(
        "0 1 * * *",
        "Each night at 01:00 (Phnom Penh), deletes stored partitions that are older than the retention setting.",
    ),
    "remove_runs": _Plan(
        "30 0 * * 0",
        "Each Sunday at 00:30 (Phnom Penh), removes runs that newer ones have made needless; see PRIMERO_ONA_RUNS_DAYS.",
    ),
}


def schedule(
    name: str,
    job: Any,  # noqa: ANN401
    partitions: dg.TimeWindowPartitionsDefinition,
    *,
    on: bool = True,
) -> dg.ScheduleDefinition:
    """The schedule of this name; one by quarter asks for those that have a partition."""
    plan = _SCHEDULES[name]

    def requests(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest]:
        now = context.scheduled_execution_time
        for quarter in plan.quarters(now) if plan.quarters else ():
            if partitions.has_partition_key(quarter.key):
                yield request(quarter, f"{plan.reason}:{now:%Y-%m-%d}", plan.tags)

    return dg.ScheduleDefinition(
        name=name,
        cron_schedule=plan.cron,
        execution_timezone=TIME_ZONE,
        job=job,
        execution_fn=requests if plan.quarters else None,
        tags=None if plan.quarters else plan.tags,
        default_status=dg.DefaultScheduleStatus.RUNNING if on else dg.DefaultScheduleStatus.STOPPED,
        description=plan.text,
    )


def request(quarter: Quarter, reason: str, tags: Mapping[str, str]) -> dg.RunRequest:
    """A request to sync a quarter; the same reason asks once only."""
    return dg.RunRequest(
        run_key=f"{quarter.name}:{reason}", partition_key=quarter.key, tags={QUARTER_TAG: quarter.name, **tags}
    )


def change_sensor(
    job: Any,  # noqa: ANN401
    quarters: dg.TimeWindowPartitionsDefinition,
    rules: str,
) -> dg.SensorDefinition:
    """Watch Primero for changes, and ONA for quarters that another version of pull or mapping loaded; `rules`: the policy's suffix."""
    versions = current_versions(rules)

    @dg.sensor(
        name="watch_primero",
        job=job,
        # Primero reads its whole case table for one look, and people work on it.
        minimum_interval_seconds=900,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "Every 15 minutes, asks Primero whether cases were created or changed, and syncs the quarters that have changed "
            "since their last load, and those that another version of primero-ona loaded. A quarter whose sync failed or was "
            "cancelled is asked for again after an hour; one that failed for good, when something has changed since. "
            "Each look that Primero answered is recorded as a materialization of `primero`, without data."
        ),
    )
    def watch_primero(context: dg.SensorEvaluationContext, primero: Primero, ona: Ona) -> dg.SensorResult:
        """Ask for the quarters that are due."""
        from primero_ona.primero.changes import changes_since

        if ended := end_dead_runs(context.instance):
            context.log.warning("ended %s runs whose process was gone", ended)
        now, before = datetime.now(UTC), Cursor.read(context.cursor)
        try:
            with unexpected_withheld(), primero.client(total=LOOK_SECONDS) as client:
                there = changes_since(client, before.look)
        except SyncError as failure:
            # A failed read is not an empty answer: the tick says so, and the cursor stays where it is.
            return dg.SensorResult(skip_reason=f"Primero could not be asked: {failure.shown}", cursor=context.cursor)
        touched = set(there.quarters)
        if there.first_look and touched:
            touched |= unsettled(context.instance, max(touched))
        known = set(map(Quarter.parse, quarters.get_partition_keys()))
        inside = touched & known
        cursor, loads, unasked = _ask_ona(ona, before.after(there, inside, versions, now))
        tried = attempts(context.instance, known)
        # Without ONA it is not known what became of earlier changes, so only those of this look are asked for.
        changes = cursor.changes if loads is not None else {quarter: cursor.changes[quarter] for quarter in inside}
        judged = judge(changes, loads or {}, tried, cursor.versions, now)
        due = {quarter: each for quarter, each in judged.items() if quarter in known}
        requests = [_asked(quarter, each, there, tried.get(quarter)) for quarter, each in due.items() if not each.held]
        held = _held(due)
        said = held + _left_out(touched - known) + unasked
        why = "Nothing is asked for now" if held else f"No case was created or changed since {there.newest}"
        if requests:
            context.log.info("asks for a sync of %s%s", ", ".join(each.tags[QUARTER_TAG] for each in requests), said)
        return dg.SensorResult(
            requests,
            skip_reason=None if requests else why + said,
            cursor=cursor.write(),
            asset_events=[dg.AssetMaterialization(PRIMERO.key)],  # its age is what turns red when looks fail
        )

    return watch_primero


def _asked(quarter: Quarter, due: Due, there: "Changes", last: Attempt | None) -> dg.RunRequest:
    """The request for a quarter that is due; its key names what was seen, and the last attempt."""
    seen = [there.newest, str(there.total), there.ahead] if due.reason == CHANGES else []
    parts = [due.reason, *seen, last.run_id if last else "first"]
    tags = (_WHOLE if due.whole else {}) | (_LATER if due.reason.startswith(VERSION) else {})
    return request(quarter, ":".join(filter(None, parts)), tags)


def _held(due: Mapping[Quarter, Due]) -> str:
    """Say which quarters are due and not asked for, and why."""
    causes = dict.fromkeys(each.held for each in due.values() if each.held)
    names = {cause: ", ".join(quarter.name for quarter in due if due[quarter].held == cause) for cause in causes}
    return "".join(f"; {names[cause]}: {cause}" for cause in causes)


def _left_out(quarters: Collection[Quarter]) -> str:
    """Say how many quarters have no partition, and why: they lie before the first, or after the open one."""
    later = sum(quarter > current_quarter() for quarter in quarters)
    earlier = len(quarters) - later
    said = f"; {earlier} quarters before PRIMERO_ONA_START were left out" if earlier else ""
    if later:
        said += f"; {later} quarters that have not begun were left out: Primero's clock is ahead of this machine's"
    return said


def unsettled(instance: dg.DagsterInstance, newest: Quarter) -> set[Quarter]:
    """Find the quarters that may lack edits when no earlier look is known, as far as they were ever pulled.

    Those that were not pulled again a day after their end, since each edit is stamped with the time at which it is made; and all
    from the last that was pulled to the `newest`.
    """
    pulls = {
        quarter: last_materialized(instance, PULLED, quarter)
        for quarter in map(Quarter.parse, instance.get_materialized_partitions(PULLED))
    }
    found = {quarter for quarter, last in pulls.items() if last is None or last < quarter.end + timedelta(days=1)}
    return found | set(quarters_between(max(pulls), newest)) if pulls else found


def _ask_ona(ona: OnaDatabaseResource, cursor: Cursor) -> "tuple[Cursor, dict[Quarter, LastLoad] | None, str]":
    """The cursor without the changes that are in, the last load of each quarter, and why ONA could not be asked.

    Changes that have no number yet get that of a pull that begins now: all with a higher one begin after the look. A failure
    here does not stop the sensor from looking at Primero, and a tick has a minute for all it does.
    """
    from primero_ona.ona.bookkeeping import last_loads, next_pull

    try:
        with unexpected_withheld(), ona.connection(statement_timeout=10) as connection:
            number = next_pull(connection) if cursor.unnumbered else None
            loads = last_loads(connection)
    except (SyncError, dg.Failure) as failure:
        said = failure.shown if isinstance(failure, SyncError) else str(failure)
        return cursor, None, f"; ONA could not be asked which quarters are loaded, and by which version: {said}"
    return cursor.known(number, loads), loads, ""


def purge(
    instance: dg.DagsterInstance,
    stored: StoredAssets,
    connect: "Callable[[], AbstractContextManager[psycopg.Connection]]",
    before: Quarter,
) -> int:
    """Delete the stored partitions of quarters before `before`; how many. Dagster shows them as missing. Raises as `stored.purge`."""
    count = purge_stored(stored, connect, before)
    storage = instance.event_log_storage
    if isinstance(storage, SqlEventLogStorage):  # Dagster cannot forget single partitions of an asset by itself
        events, tags = SqlEventLogStorageTable, AssetEventTagsTable
        keys = [dg.AssetKey(name) for name in (REINTEGRATION, UNDER18, EXITS, MAPPED_CASES, MAPPED_SERVICES)]
        gone = (
            events.c.asset_key.in_([key.to_string() for key in keys])
            & (events.c.partition < before.key)
            & (events.c.dagster_event_type == dg.DagsterEventType.ASSET_MATERIALIZATION.value)
        )
        with storage.index_connection() as connection:
            connection.execute(tags.delete().where(tags.c.event_id.in_(db_select([events.c.id]).where(gone))))
            connection.execute(events.delete().where(gone))
        for key in keys:
            storage.wipe_asset_cached_status(key)
    return count


def purge_job(quarters: int) -> dg.JobDefinition:
    """The job that deletes stored partitions of all quarters but the open one and so many before it."""

    @dg.op(out=dg.Out(dg.Nothing), config_schema={})
    def purge_partitions(context: dg.OpExecutionContext, ona: Ona, partitions: Partitions) -> None:
        """Delete the stored partitions of the quarters before the oldest one that is kept."""
        before = last_quarters(quarters + 1)[0]
        count = purge(context.instance, partitions, ona.connection, before)
        context.log.info("%d stored partitions of quarters before %s deleted", count, before)

    description = f"Deletes stored partitions of quarters that ended more than {quarters} quarters ago."
    return _job("purge_stored", purge_partitions, description)


def remove_runs(instance: dg.DagsterInstance, before: datetime) -> int:
    """Remove each run that ended before a time (aware) and whose job has been whole and well again since; how many there were.

    With a run Dagster forgets what it materialized and checked, so the last whole success of each job, quarter and selection stays,
    and all that came after it.
    """
    ended = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
    seen, gone, cursor = set(), [], None
    while page := instance.get_run_records(dg.RunsFilter(statuses=ended), limit=200, cursor=cursor):  # newest first
        for record in page:
            run = record.dagster_run
            does = (run.job_name, run.tags.get(PARTITION_NAME_TAG), run.asset_selection, run.asset_check_selection)
            if does in seen and record.end_time and datetime.fromtimestamp(record.end_time, UTC) < before:
                gone.append(run.run_id)
            # A retry that began where another run had failed did not do the whole.
            elif run.is_success and not {RESUME_RETRY_TAG, STEP_SELECTION_TAG} & set(run.tags):
                seen.add(does)
        cursor = page[-1].dagster_run.run_id
    for run_id in gone:
        instance.delete_run(run_id)
    return len(gone)


def remove_job(days: int) -> dg.JobDefinition:
    """The job that removes runs of more than so many days ago which say nothing any more."""

    @dg.op(out=dg.Out(dg.Nothing), config_schema={})
    def remove_old_runs(context: dg.OpExecutionContext) -> None:
        """Remove the runs that ended so many days ago, and that newer ones have made needless."""
        count = remove_runs(context.instance, datetime.now(UTC) - timedelta(days=days))
        context.log.info("%d runs removed", count)

    description = f"Removes runs of more than {days} days ago whose job has gone well since, for the same quarter."
    return _job("remove_runs", remove_old_runs, description)


def _job(name: str, op: dg.OpDefinition, description: str) -> dg.JobDefinition:
    """A job of one step."""
    attach_safe_step(op)
    return dg.GraphDefinition(name=name, node_defs=[op]).to_job(description=description)
