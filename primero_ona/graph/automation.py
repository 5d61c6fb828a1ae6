"""Jobs, schedules and the change sensor: when a quarter is synced without anybody asking.

Each schedule and the sensor is a thin shell over a pure function below it, which is given what there is and returns what
to request. Quarters are those of Phnom Penh. "Now" never becomes a cursor: the sensor's cursor comes from the data.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg

from primero_ona.errors import CheckError, SyncError
from primero_ona.graph.dead_runs import end_dead_runs
from primero_ona.graph.partitions import QUARTER_TAG
from primero_ona.graph.resources import OnaDatabaseResource, PrimeroResource
from primero_ona.graph.steps import unexpected_withheld
from primero_ona.quarters import TIME_ZONE, Quarter, current_quarter, quarters_between

if TYPE_CHECKING:
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

#: A closed quarter is refreshed for so long after its end; later edits reach it through the sensor.
GRACE = timedelta(days=30)

#: Seconds between two looks for changes. Primero reads its whole case table for one look, and people work on it.
LOOK_EVERY = 900

#: Seconds that the questions of one look may take together. Dagster gives a tick 60 seconds, then drops it with a message
#: that does not name Primero; the rest is for what a tick reads of Dagster's own storage.
LOOK_SECONDS = 45

#: Seconds after which a failed sync is asked for again, so that a standing fault does not fill the run list.
ASK_AGAIN_AFTER = 3_600

#: Raised when the cursor's shape changes; an older one is then forgotten, see `unsettled`.
CURSOR_VERSION = 2

#: A quarter that was pulled so long after its end lacks no edit: each is stamped with the time at which it is made.
SETTLED = timedelta(days=1)

#: Materialized by every pull, and by nothing else.
_PULLED = dg.AssetKey("raw_under18_cases")

#: Seconds that ONA may take to tell a tick of the sensor what it has loaded: a tick has a minute for all it does.
ONA_SECONDS = 10

#: How the reason of a sync begins that a new version asks for, and what makes it wait for the syncs that data ask for.
_VERSION, _LATER = "version:", {"dagster/priority": "-1"}

_UNFINISHED = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
)


def sync_job(quarters: dg.PartitionsDefinition[str], selection: dg.AssetSelection) -> Any:  # noqa: ANN401
    """The main job: pull, map and load one quarter, with all its checks."""
    return dg.define_asset_job(
        "sync_quarter",
        selection=selection,
        partitions_def=quarters,
        description="Sync one quarter: pull it from Primero, map it, load it into ONA and check it. Safe to repeat.",
    )


def remap_job(quarters: dg.PartitionsDefinition[str], selection: dg.AssetSelection) -> Any:  # noqa: ANN401
    """Map and load a quarter again from what is stored of it."""
    return dg.define_asset_job(
        "remap_quarter",
        selection=selection,
        partitions_def=quarters,
        description="Map a stored quarter again, load it into ONA and check it, without asking Primero. For changed labels.",
    )


def reference_job(selection: dg.AssetSelection) -> Any:  # noqa: ANN401
    """Refresh places, options and forms, and ONA's two tables made of them."""
    return dg.define_asset_job(
        "refresh_reference",
        selection=selection,
        description="Read Primero's places, options and forms anew, and bring ONA's lookup and dictionary up to date.",
    )


def figures_job(selection: dg.AssetSelection) -> Any:  # noqa: ANN401
    """Compute the indicators' figures, whatever was loaded."""
    return dg.define_asset_job(
        "compute_figures",
        selection=selection,
        description="Compute all figures of the indicators in ONA and check them; writes only those that differ.",
    )


def figures_schedule(job: Any) -> dg.ScheduleDefinition:  # noqa: ANN401
    """Compute the figures each night: periods begin without a load."""
    return dg.ScheduleDefinition(
        name="compute_figures",
        cron_schedule=FIGURES_CRON,
        execution_timezone=TIME_ZONE,
        job=job,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Each night at 00:10 (Phnom Penh), computes the indicators' figures, since periods begin without a load.",
    )


def request(quarter: Quarter, reason: str) -> dg.RunRequest:
    """A request to sync a quarter; the same reason asks once only."""
    tags = {QUARTER_TAG: quarter.name, **(_LATER if reason.startswith(_VERSION) else {})}
    return dg.RunRequest(run_key=f"{quarter.name}:{reason}", partition_key=quarter.key, tags=tags)


def quarters_to_refresh(now: datetime, grace: timedelta = GRACE) -> list[Quarter]:
    """The open quarter, and the one before while it is in its grace."""
    quarter = Quarter.of(now)
    return [quarter.previous(), quarter] if now - quarter.start < grace else [quarter]


def reference_schedule(job: Any) -> dg.ScheduleDefinition:  # noqa: ANN401
    """Refresh the reference data weekly, and before a quarter is closed."""
    return dg.ScheduleDefinition(
        name="refresh_reference",
        cron_schedule=[WEEKLY_CRON, BEFORE_CLOSE_CRON],
        execution_timezone=TIME_ZONE,
        job=job,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=(
            "Each Monday at 01:00 (Phnom Penh), and an hour before a quarter is closed, reads Primero's places, options and "
            "forms anew."
        ),
    )


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
        return request(ended, f"closed:{context.scheduled_execution_time:%Y-%m-%d}")

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
            "Each night at 03:00 (Phnom Penh), syncs the open quarter, and for 30 days after its end the quarter before. "
            "Off by default: the change sensor does the same with less load on Primero."
        ),
    )
    def refresh_nightly(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest]:
        now = context.scheduled_execution_time
        return [request(quarter, f"nightly:{now:%Y-%m-%d}") for quarter in quarters_to_refresh(now)]

    return refresh_nightly


@dataclass(frozen=True)
class LastRun:
    """What became of the last sync of a quarter: whether it waits or runs, whether it failed, and when it ended (UTC).

    One that only checks failed has not failed here: it ended, and the same data would end so again.
    """

    unfinished: bool
    failed: bool
    ended: datetime | None


def plan(
    there: "Changes", last_runs: Mapping[Quarter, LastRun], now: datetime, outdated: Mapping[Quarter, str]
) -> dict[Quarter, str]:
    """Which quarters to sync, and why: those touched by changes, those whose last sync failed a while ago, those outdated.

    The reason is part of the run key: the same state of the data is asked for once, a failure once for each time, and an
    outdated load (`outdated` says by quarter which one it is) once for each version.
    """
    ahead = f":{there.ahead}" if there.ahead else ""
    wanted = dict.fromkeys(there.quarters, f"changes:{there.newest}:{there.total}{ahead}")
    for quarter, run in last_runs.items():
        if run.failed and not run.unfinished and run.ended and (now - run.ended).total_seconds() >= ASK_AGAIN_AFTER:
            wanted.setdefault(quarter, f"failed:{run.ended.isoformat(timespec='seconds')}")
    for quarter, load in outdated.items():
        if not (quarter in last_runs and last_runs[quarter].unfinished):
            wanted.setdefault(quarter, f"{_VERSION}{load}")
    return wanted


def change_sensor(
    job: Any,  # noqa: ANN401
    quarters: dg.TimeWindowPartitionsDefinition,
    modules: tuple[str, ...],
    versions: tuple[str, str],
) -> dg.SensorDefinition:
    """Watch Primero for changes, and ONA for quarters that were loaded under other `versions` of pull and mapping."""

    @dg.sensor(
        name="watch_primero",
        job=job,
        minimum_interval_seconds=LOOK_EVERY,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "Every 15 minutes, asks Primero whether cases were created or changed, and syncs the quarters they belong to; "
            "asks again for a quarter whose last sync failed an hour ago or earlier, and once for each that another version of "
            "primero-ona loaded."
        ),
    )
    def watch_primero(
        context: dg.SensorEvaluationContext,
        primero: dg.ResourceParam[PrimeroResource],
        ona: dg.ResourceParam[OnaDatabaseResource],
    ) -> dg.SensorResult:
        """Ask for the quarters touched since the cursor, those whose last sync failed, and those that are outdated."""
        from primero_ona.primero.changes import changes_since

        if ended := end_dead_runs(context.instance):
            context.log.warning("ended %s runs whose process was gone", ended)
        try:
            with unexpected_withheld(), primero.client(total=LOOK_SECONDS) as client:
                there = changes_since(client, read_cursor(context.cursor), modules)
        except SyncError as failure:
            # A failed read is not an empty answer: the tick says so, and the cursor stays where it is.
            return dg.SensorResult(skip_reason=f"Primero could not be asked: {failure}", cursor=context.cursor)
        if there.first_look and there.quarters:
            missed = unsettled(context.instance, there.quarters[-1])
            there = replace(there, quarters=tuple(sorted({*there.quarters, *missed})))
        outdated, unasked = _outdated(ona, versions)
        ours = {quarter: load for quarter, load in outdated.items() if quarters.has_partition_key(quarter.key)}
        wanted = plan(there, last_runs(context.instance, job.name), datetime.now(UTC), ours)
        inside = [quarter for quarter in sorted(wanted) if quarters.has_partition_key(quarter.key)]
        outside = _left_out([quarter for quarter in wanted if quarter not in inside]) + unasked
        if inside:
            context.log.info("asks for a sync of %s%s", ", ".join(map(str, inside)), outside)
            requests = [request(quarter, wanted[quarter]) for quarter in inside]
            return dg.SensorResult(run_requests=requests, cursor=write_cursor(there))
        return dg.SensorResult(
            skip_reason=f"No case was created or changed since {there.newest}{outside}", cursor=write_cursor(there)
        )

    return watch_primero


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
    pulled = {Quarter.parse(key) for key in instance.get_materialized_partitions(_PULLED)}
    found = {quarter for quarter in pulled if _last_pull(instance, quarter) < quarter.end + SETTLED}
    return found | set(quarters_between(max(pulled), newest)) if pulled else found


def _last_pull(instance: dg.DagsterInstance, quarter: Quarter) -> datetime:
    wanted = dg.AssetRecordsFilter(asset_key=_PULLED, asset_partitions=[quarter.key])
    (record,) = instance.fetch_materializations(wanted, limit=1).records
    return datetime.fromtimestamp(record.timestamp, UTC)


def last_runs(instance: dg.DagsterInstance, job_name: str, limit: int = 200) -> dict[Quarter, LastRun]:
    """The last sync of each quarter among the newest `limit` runs of the job."""
    found: dict[Quarter, LastRun] = {}
    for record in instance.get_run_records(dg.RunsFilter(job_name=job_name), limit=limit):
        key = record.dagster_run.tags.get("dagster/partition")
        if key is None or (quarter := Quarter.parse(key)) in found:
            continue
        status = record.dagster_run.status
        ended = datetime.fromtimestamp(record.end_time, UTC) if record.end_time else None
        failed = status == dg.DagsterRunStatus.FAILURE and not _by_checks(instance, record.dagster_run.run_id)
        found[quarter] = LastRun(status in _UNFINISHED, failed, ended)
    return found


def _by_checks(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Whether nothing but failed checks ended a run."""
    records = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.STEP_FAILURE).records
    kinds = [_kind_of_failure(record.event_log_entry.dagster_event) for record in records]
    return bool(kinds) and set(kinds) == {CheckError.__name__}


def _kind_of_failure(event: dg.DagsterEvent | None) -> str | None:
    """The kind of failure that `safe_step` recorded; None where something else ended the step."""
    failure = event.step_failure_data.user_failure_data if event else None
    kind = failure.metadata.get("kind") if failure else None
    return kind.text if isinstance(kind, dg.TextMetadataValue) else None


def _outdated(ona: OnaDatabaseResource, versions: tuple[str, str]) -> tuple[dict[Quarter, str], str]:
    """Quarters that other versions loaded, each with these versions and the load's run; and why ONA could not be asked.

    A failure here does not stop the sensor from looking at Primero.
    """
    from primero_ona.ona.bookkeeping import outdated_quarters

    try:
        with unexpected_withheld(), ona.connection(statement_timeout=ONA_SECONDS) as connection:
            found = outdated_quarters(connection, *versions)
    except (SyncError, dg.Failure) as failure:
        return {}, f"; ONA could not be asked which quarters another version loaded: {failure}"
    return {quarter: ":".join((*versions, run_id)) for quarter, run_id in found.items()}, ""


def read_cursor(cursor: str | None) -> "Changes | None":
    """The last look; none where there was none, or where an older version wrote it."""
    from primero_ona.primero.changes import Changes

    state = json.loads(cursor) if cursor else {}
    if state.get("version") != CURSOR_VERSION:
        return None
    return Changes(state["newest"], state["total"], ahead=state["ahead"])


def write_cursor(there: "Changes") -> str:
    """The look as the sensor's cursor: stamps and a count, nothing of a case."""
    state = {"newest": there.newest, "total": there.total, "ahead": there.ahead}
    return json.dumps({"version": CURSOR_VERSION, **state})
