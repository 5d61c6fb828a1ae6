"""Which quarters to sync, and why: decided by what is loaded and what was tried, whatever the runs are called.

`judge` is pure; `attempts` reads Dagster's own record of who was to pull a quarter last.
"""

import hashlib
import hmac
import json
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import dagster as dg

from primero_ona.errors import SyncError
from primero_ona.graph.partitions import WHOLE_TAG
from primero_ona.graph.steps import NO_RUN_RETRY
from primero_ona.quarters import Quarter
from primero_ona.settings import PrimeroSettings, StorageSettings, read_one

if TYPE_CHECKING:
    from primero_ona.graph.resources import OnaDatabaseResource
    from primero_ona.ona.bookkeeping import LastLoad
    from primero_ona.primero.changes import Changes

logger = logging.getLogger(__name__)

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

#: The reason of a sync that a change asks for, and how that of a sync begins that a new version asks for.
CHANGES, VERSION = "changes", "version:"


class Change(NamedTuple):
    """That a look saw a quarter changed: when (aware), and the number of the last pull that had begun by then.

    A pull with a higher number began later, and has the change. `pull` is None where ONA could not be asked.
    """

    at: datetime
    pull: int | None

    def is_in(self, load: "LastLoad | None") -> bool:
        """Whether what is loaded was pulled after the change was seen."""
        return load is not None and load.pull is not None and self.pull is not None and load.pull > self.pull


class Versions(NamedTuple):
    """The versions of pull and mapping that loads must have, and since when the sensor has known them (aware)."""

    pull: str
    mapping: str
    since: datetime


@dataclass(frozen=True)
class Attempt:
    """The last run that was to pull a quarter. Times are aware; `ended` is None while it waits or runs.

    `whole`: all of the quarter was to be walked, not its changes only.
    """

    run_id: str
    state: State
    created: datetime
    ended: datetime | None = None
    whole: bool = False


class Due(NamedTuple):
    """That a quarter is due: the reason, which is part of the run key, and why it is not asked for now ("": it is).

    `whole`: a run that was to walk all of it did not end well, so all of it is still to be walked.
    """

    reason: str
    held: str = ""
    whole: bool = False


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
        load, last, change = loads.get(quarter), attempts.get(quarter), changes.get(quarter)
        if last and last.state != "waiting" and (last.state == "done" or (load and load.run_id == last.run_id)):
            last = None  # ONA has what it was to bring, whatever came after its load
        reasons: dict[str, datetime] = {}  # and since when there is each
        if change and not change.is_in(load):
            reasons[CHANGES] = change.at
        if load and (load.pull_version, load.mapping_version) != (versions.pull, versions.mapping):
            reasons[f"{VERSION}{versions.pull}:{versions.mapping}"] = versions.since
        if last and last.state == "failed":
            reasons["failed"] = last.created
        if reasons:
            held = _held(last, max(reasons.values()), now) if last else ""
            found[quarter] = Due(next(iter(reasons)), held, last is not None and last.whole)
    return found


def _held(last: Attempt, since: datetime, now: datetime) -> str:
    if last.state == "waiting":
        return WAITS
    if last.state == "failed for good" and last.created >= since:
        return FOR_GOOD
    return TOO_SOON if last.ended and now - last.ended < ASK_AGAIN_AFTER else ""


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
    return Attempt(run.run_id, state, created, None if state == "waiting" else ended, WHOLE_TAG in run.tags)


#: Raised when the cursor's shape changes. One of version 2 knows the look alone; an older one is forgotten, see `unsettled`.
CURSOR_VERSION = 3


_NEVER = Versions("", "", datetime.min.replace(tzinfo=UTC))


@dataclass(frozen=True)
class Cursor:
    """The last look at Primero, the versions that loads must have, and the changes that no load is known to have."""

    look: "Changes | None" = None
    versions: Versions = _NEVER
    changes: Mapping[Quarter, Change] = field(default_factory=dict)

    @classmethod
    def read(cls, text: str | None) -> "Cursor":
        """Read what `write` wrote; empty where there was nothing, or where an older version wrote it."""
        from primero_ona.primero.changes import Changes

        state = json.loads(text) if text else {}
        if state.get("version") not in {CURSOR_VERSION, 2}:
            return cls()
        look = Changes(state["newest"], state["total"], ahead=state["ahead"])
        if state["version"] == 2:
            return cls(look)
        pull, mapping, since = state["versions"]
        changes = {
            Quarter.parse(quarter): Change(datetime.fromisoformat(at), number)
            for quarter, (at, number) in state["changes"].items()
        }
        return cls(look, Versions(pull, mapping, datetime.fromisoformat(since)), changes)

    def write(self) -> str:
        """The cursor as JSON, times in ISO."""
        look = {name: getattr(self.look, name) for name in ("newest", "total", "ahead")}
        changes = {quarter.name: change for quarter, change in sorted(self.changes.items())}
        state = {"version": CURSOR_VERSION, **look, "versions": self.versions, "changes": changes}
        return json.dumps(state, default=datetime.isoformat)

    def after(self, look: "Changes", touched: Iterable[Quarter], versions: tuple[str, str], now: datetime) -> "Cursor":
        """The cursor after another look: the `touched` quarters have changed, as those that had changed before."""
        since = self.versions.since if self.versions[:2] == versions else now
        return Cursor(look, Versions(*versions, since), {**self.changes, **dict.fromkeys(touched, Change(now, None))})

    @property
    def unnumbered(self) -> bool:
        """Whether there are changes without the number of a pull."""
        return any(change.pull is None for change in self.changes.values())

    def known(self, number: int | None, loads: "Mapping[Quarter, LastLoad]") -> "Cursor":
        """The cursor whose changes without a number have this one, without those that are loaded."""
        numbered = {q: Change(change.at, change.pull or number) for q, change in self.changes.items()}
        return replace(self, changes={q: change for q, change in numbered.items() if not change.is_in(loads.get(q))})


#: What this process has seen itself, by login, for when ONA cannot be asked.
_seen_here: dict[tuple[str, str, str], datetime] = {}


class OnaLoginMemory:
    """A `LoginMemory` in ONA's bookkeeping, where all processes see it.

    The login is kept as a hash keyed with the storage key, so that no reader of the bookkeeping can try passwords on it.
    """

    def __init__(self, ona: "OnaDatabaseResource", settings: PrimeroSettings) -> None:
        self._ona = ona
        self._login = (settings.url, settings.username, settings.password.get_secret_value())

    def refused_at(self) -> datetime | None:
        """When Primero refused this login (aware, UTC); None where nothing is known of that."""
        from primero_ona.ona.primero_state import login_refused_at

        try:
            found: datetime | None = self._ask(login_refused_at)
        except SyncError as failure:
            logger.warning("ONA could not be asked whether Primero has refused the login: %s", failure)
            return _seen_here.get(self._login)
        _seen_here.pop(self._login, None)  # a person may have said that it is good again
        return found

    def note_refused(self) -> None:
        """Remember that Primero has refused this login."""
        from primero_ona.ona.primero_state import note_refused_login

        _seen_here[self._login] = datetime.now(UTC)
        try:
            self._ask(note_refused_login)
        except SyncError as failure:
            logger.warning("that Primero has refused the login is known to this process only: %s", failure)

    def _ask(self, question: Callable[..., Any]) -> Any:  # noqa: ANN401
        key = read_one(StorageSettings).storage_keys.get_secret_value().split(",")[0].strip()
        subject = hmac.new(key.encode(), "\0".join(self._login).encode(), hashlib.sha256).hexdigest()
        with self._ona.connection(
            statement_timeout=5
        ) as connection:  # a tick of the sensor has a minute for all it does
            return question(connection, subject)
