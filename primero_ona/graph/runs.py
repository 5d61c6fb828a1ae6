"""Real Dagster runs from the command line, in the instance of DAGSTER_HOME: execute a job, and tell what came of it."""

from __future__ import annotations

import fcntl
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.storage.tags import PARTITION_NAME_TAG

from primero_ona.errors import UNEXPECTED, ConfigError, TransientError, with_anchor
from primero_ona.graph.dead_runs import ENDED, end_dead_runs, held_by_this_process
from primero_ona.graph.partitions import QUARTER_TAG, WHOLE_TAG
from primero_ona.graph.steps import kind_of_failure
from primero_ona.process import recorded_error
from primero_ona.quarters import Quarter

#: The table for which an asset is mapped.
_TABLES = {"mapped_cases": "ona/cases", "mapped_services": "ona/services"}


@dataclass
class RunOutcome:
    """What came of a run: rows by asset, what the load did by table, checks, and the failure if there was one.

    `quarantined`: rows that went into quarantine, by table, whether the mapping or the load put them there. `kind`: that of
    the SyncError that ended the run, UNEXPECTED where none is recorded; None after a success.
    """

    run_id: str = ""
    rows: dict[str, int] = field(default_factory=dict)
    load: dict[str, dict[str, int]] = field(default_factory=dict)
    quarantined: Counter[str] = field(default_factory=Counter)
    checks: list[Check] = field(default_factory=list)
    failure: str | None = None
    kind: str | None = None
    quarter: Quarter | None = None
    whole: bool = False

    @property
    def tags(self) -> dict[str, str]:
        """With which the run is asked for: its quarter, if it has one, and what is demanded of it."""
        quarter = {PARTITION_NAME_TAG: self.quarter.key, QUARTER_TAG: self.quarter.name} if self.quarter else {}
        return quarter | ({WHOLE_TAG: "yes"} if self.whole else {})

    def as_json(self) -> dict[str, Any]:
        """The outcome for a script."""
        return {
            **({"quarter": self.quarter.name} if self.quarter else {}),
            "run_id": self.run_id,
            "rows": self.rows,
            "load": self.load,
            "quarantined": self.quarantined.total(),
            "checks": [asdict(check) for check in self.checks],
            "failure": self.failure,
            "kind": self.kind,
        }


@dataclass(kw_only=True)
class Outcome(RunOutcome):
    """What came of the sync of one quarter."""

    quarter: Quarter


@dataclass(frozen=True)
class Check:
    """The result of one asset check."""

    asset: str
    name: str
    passed: bool
    severity: str
    text: str


def find_home() -> Path:
    """DAGSTER_HOME; in a checkout it is `.dagster_home` by default.

    Raises ConfigError where it is not an absolute path, as Dagster requires, or is not set elsewhere.
    """
    home = os.environ.get("DAGSTER_HOME") or ""
    if not home and all(Path(name).exists() for name in ("dagster.yaml", "workspace.yaml", "primero_ona")):
        return Path.cwd() / ".dagster_home"
    if not Path(home).is_absolute():
        raise ConfigError(
            "DAGSTER_HOME must be an absolute path, that of the folder with Dagster's history; only in a checkout it may be left out. On "
            "a server use the command /usr/local/bin/primero-ona of docs/deployment.md, which sets it",
            see="dagster",
        )
    return Path(home)


def ensure_home() -> Path:
    """Make the folder of DAGSTER_HOME where it is not there, and give it the dagster.yaml of this package where it has none.

    Raises ConfigError as `find_home`, and where Dagster's history is to be in PostgreSQL, which this dagster.yaml does not say.
    """
    # Defence in depth behind `safe_step`: what Dagster itself records of an exception then quotes nothing.
    os.environ.setdefault("DAGSTER_REDACT_USER_CODE_ERRORS", "1")
    os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "1")
    home = find_home()
    os.environ["DAGSTER_HOME"] = str(home)
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not (home / "dagster.yaml").exists():
        if os.environ.get("DAGSTER_POSTGRES_URL"):
            raise ConfigError(
                "DAGSTER_POSTGRES_URL is set, and DAGSTER_HOME has no dagster.yaml: copy deploy/dagster.yaml there",
                see="dagster",
            )
        from primero_ona.storage.places import write_file

        # Whole or not at all: with half of it Dagster would keep what our steps print, and send telemetry.
        write_file(home / "dagster.yaml", (files("primero_ona") / "dagster.yaml").read_bytes())
    return home


def open_instance() -> dg.DagsterInstance:
    """Dagster's instance of DAGSTER_HOME, to be used as a context manager; runs of killed processes are ended in it.

    One process opens it at a time: two that make its SQLite files at the same moment spoil them for ever.
    """
    with (ensure_home() / ".opening").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        instance = dg.DagsterInstance.get()
        end_dead_runs(instance)
        return instance


def execute(job: dg.JobDefinition, instance: dg.DagsterInstance, outcome: RunOutcome) -> None:
    """Execute a job in this process, for the outcome's quarter where it has one, and read what came of it."""
    with held_by_this_process(instance) as held:
        result = job.execute_in_process(
            instance=instance,
            partition_key=outcome.tags.get(PARTITION_NAME_TAG),
            tags={**outcome.tags, **held},
            # What the console shows comes from the outcome; Dagster's own log would repeat it with every event.
            run_config={"loggers": {"quiet": {}}},
            raise_on_error=False,
        )
    outcome.run_id = result.run_id
    read_outcome(result.all_events, outcome, success=result.success)


def read_outcome(events: Iterable[dg.DagsterEvent], outcome: RunOutcome, *, success: bool) -> None:
    """Take from a run's events, and those of the runs that it retries, what came of it."""
    # A retry says of an asset, of a check or of a step what then holds.
    latest = {_subject(event): event for event in events}
    for event in latest.values():
        _take(event, outcome)
    if success:
        outcome.failure = outcome.kind = None
    elif outcome.failure is None:
        outcome.failure, outcome.kind = _ended_by(latest.values())


def _subject(event: dg.DagsterEvent) -> tuple[object, ...]:
    """What an event is about."""
    if event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
        return event.event_type, event.asset_check_evaluation_data.asset_check_key
    return event.event_type, event.asset_key, event.step_key


def _take(event: dg.DagsterEvent, outcome: RunOutcome) -> None:
    """Add what one event of the run says."""
    if event.event_type == dg.DagsterEventType.ASSET_MATERIALIZATION:
        _take_materialization(event.step_materialization_data.materialization, outcome)
    elif event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
        data = event.asset_check_evaluation_data
        name = data.asset_key.to_user_string()
        outcome.checks.append(Check(name, data.check_name, data.passed, data.severity.value, data.description or ""))
    elif event.event_type == dg.DagsterEventType.STEP_FAILURE and not outcome.failure and not _was_interrupted(event):
        failure = event.step_failure_data.user_failure_data
        if failure and failure.description:
            outcome.failure, outcome.kind = failure.description, kind_of_failure(event) or UNEXPECTED
        else:
            text = f"step {event.step_key} failed; see run {outcome.run_id} in the Dagster UI"
            outcome.failure, outcome.kind = _of_dagster(event, text)


def _take_materialization(materialization: dg.AssetMaterialization, outcome: RunOutcome) -> None:
    asset = materialization.asset_key.to_user_string()
    numbers = {
        name: int(value.value or 0)
        for name, value in materialization.metadata.items()
        if isinstance(value, dg.IntMetadataValue)
    }
    outcome.rows[asset] = numbers.get("dagster/partition_row_count", numbers.get("dagster/row_count", 0))
    # Neither the mapping nor the load counts what the other put into quarantine.
    table = _TABLES.get(asset, asset)
    outcome.quarantined[table] += numbers.get("quarantined", 0)
    if "inserted" in numbers:
        outcome.load[asset] = {name: count for name, count in numbers.items() if not name.startswith("dagster/")}
        if asset in _TABLES.values():
            outcome.load[asset]["quarantined"] = outcome.quarantined[table]


def _ended_by(events: Iterable[dg.DagsterEvent]) -> tuple[str, str]:
    """Read why a run ended in which no step failed by itself, and the kind of that."""
    see = "the run failed; see it in the Dagster UI"
    for event in events:
        if event.event_type == dg.DagsterEventType.RUN_CANCELED:
            text = "The run was terminated. ONA holds all of its quarter or what it held before"
            return with_anchor(text, "stuck-run"), TransientError.__name__
        if event.event_type == dg.DagsterEventType.RUN_FAILURE:
            if event.message == ENDED or _was_interrupted(event):
                return with_anchor(ENDED, "stuck-run"), TransientError.__name__
            return _of_dagster(event, see)
    return with_anchor(see, "internal-error"), UNEXPECTED


def _was_interrupted(event: dg.DagsterEvent) -> bool:
    """Whether a step or a run failed since its process was asked to end."""
    return dg.DagsterExecutionInterruptedError.__name__ in _error_text(event)


def _of_dagster(event: dg.DagsterEvent, otherwise: str) -> tuple[str, str]:
    """Read the message and the kind of what Dagster itself failed at: no step of ours was there to name it."""
    failure = recorded_error(_error_text(event))
    return (failure.shown, failure.kind) if failure else (with_anchor(otherwise, "internal-error"), UNEXPECTED)


def _error_text(event: dg.DagsterEvent) -> str:
    """What Dagster recorded of the exception behind the failure of a step or a run: its class and, unless masked, its text."""
    error = getattr(event.event_specific_data, "error", None)
    return error.message if error else ""
