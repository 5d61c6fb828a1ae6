"""Which quarters to sync, and why: decided by what is loaded and what was tried, whatever the runs are called.

`judge` is pure; `attempts` reads Dagster's own record of who was to pull a quarter last.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

import dagster as dg

from primero_ona.graph.steps import NO_RUN_RETRY
from primero_ona.quarters import Quarter

if TYPE_CHECKING:
    from primero_ona.ona.bookkeeping import LastLoad

#: Materialized by every pull, and by nothing else.
PULLED = dg.AssetKey("raw_under18_cases")

#: How long a quarter whose last run failed or was cancelled is left alone, so that a standing fault does not fill the run list.
ASK_AGAIN_AFTER = timedelta(hours=1)

State = Literal["waiting", "done", "failed", "failed for good", "cancelled"]

_STATES: Mapping[dg.DagsterRunStatus, State] = {
    dg.DagsterRunStatus.SUCCESS: "done",
    dg.DagsterRunStatus.FAILURE: "failed",
    dg.DagsterRunStatus.CANCELED: "cancelled",
}

#: Why a quarter that is due is not asked for now.
WAITS = "a run of it waits or is under way"
TOO_SOON = "its last run failed or was cancelled less than an hour ago"
FOR_GOOD = "its last run failed for good, and nothing has changed since: do what that run says, then sync it"

#: How the reason of a sync begins that a new version asks for.
VERSION = "version:"


@dataclass(frozen=True)
class Change:
    """That a look saw a quarter changed: when (aware), and the number of the last pull that had begun by then.

    A pull with a higher number began later, and has the change. `pull` is None where ONA could not be asked.
    """

    at: datetime
    pull: int | None

    def is_in(self, load: "LastLoad | None") -> bool:
        """Whether what is loaded was pulled after the change was seen."""
        return load is not None and load.pull is not None and self.pull is not None and load.pull > self.pull


@dataclass(frozen=True)
class Versions:
    """The versions of pull and mapping that loads must have, and since when the sensor has known them (aware)."""

    pull: str
    mapping: str
    since: datetime


@dataclass(frozen=True)
class Attempt:
    """The last run that was to pull a quarter. Times are aware; `ended` is None while it waits or runs."""

    run_id: str
    state: State
    created: datetime
    ended: datetime | None = None


@dataclass(frozen=True)
class Due:
    """That a quarter is due: the reason, which is part of the run key, and why it is not asked for now ("": it is)."""

    reason: str
    held: str = ""


def judge(
    changes: Mapping[Quarter, Change],
    loads: Mapping[Quarter, "LastLoad"],
    attempts: Mapping[Quarter, Attempt],
    versions: Versions,
    now: datetime,
) -> dict[Quarter, Due]:
    """The quarters that are due: changed since their last load, loaded by another version, or failed by what may pass."""
    found: dict[Quarter, Due] = {}
    for quarter in sorted({*changes, *loads, *attempts}):
        load, attempt = loads.get(quarter), attempts.get(quarter)
        reasons: list[str] = []
        since: list[datetime] = []
        if (change := changes.get(quarter)) and not change.is_in(load):
            reasons.append("changes")
            since.append(change.at)
        if load and (load.pull_version, load.mapping_version) != (versions.pull, versions.mapping):
            reasons.append(f"{VERSION}{versions.pull}:{versions.mapping}")
            since.append(versions.since)
        if attempt and attempt.state == "failed" and not _loaded_by(attempt, load):
            reasons.append("failed")
        if reasons:
            found[quarter] = Due(reasons[0], _held(attempt, load, max(since, default=None), now))
    return found


def _loaded_by(attempt: Attempt, load: "LastLoad | None") -> bool:
    return load is not None and load.run_id == attempt.run_id


def _held(attempt: Attempt | None, load: "LastLoad | None", since: datetime | None, now: datetime) -> str:
    if attempt is None:
        return ""
    if attempt.state == "waiting":
        return WAITS
    if attempt.state == "done" or _loaded_by(attempt, load):
        return ""
    if attempt.state == "failed for good" and since is not None and attempt.created >= since:
        return FOR_GOOD
    return TOO_SOON if attempt.ended and now - attempt.ended < ASK_AGAIN_AFTER else ""


def attempts(instance: dg.DagsterInstance, quarters: Iterable[Quarter]) -> dict[Quarter, Attempt]:
    """The last run that was to pull each quarter: of the command line, the daemon or the UI, under any job's name."""
    planned = {
        quarter: info.run_id
        for quarter in quarters
        if (info := instance.get_latest_planned_materialization_info(PULLED, quarter.key))
    }
    if not planned:
        return {}
    wanted = dg.RunsFilter(run_ids=sorted(set(planned.values())))
    records = {record.dagster_run.run_id: record for record in instance.get_run_records(wanted)}
    return {quarter: _attempt(records[run_id]) for quarter, run_id in planned.items() if run_id in records}


def _attempt(record: dg.RunRecord) -> Attempt:
    run = record.dagster_run
    state = _STATES.get(run.status, "waiting")
    if state == "failed" and NO_RUN_RETRY.items() <= run.tags.items():
        state = "failed for good"
    created = record.create_timestamp.replace(tzinfo=record.create_timestamp.tzinfo or UTC)
    ended = datetime.fromtimestamp(record.end_time, UTC) if record.end_time else created
    return Attempt(run.run_id, state, created, None if state == "waiting" else ended)
