"""Real Dagster runs from the command line: execute the main job for a quarter, and tell what came of it.

The runs are stored in the instance of DAGSTER_HOME, so the UI shows them like any other.
"""

from __future__ import annotations

import fcntl
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg

from primero_ona.errors import UNEXPECTED, ConfigError, TransientError
from primero_ona.graph.dead_runs import ENDED, end_dead_runs, held_by_this_process
from primero_ona.graph.partitions import QUARTER_TAG, WHOLE_TAG
from primero_ona.graph.steps import kind_of_failure
from primero_ona.process import recorded_error
from primero_ona.quarters import Quarter
from primero_ona.storage.files import write_file

#: What the console shows of a run comes from its outcome; Dagster's own log would repeat it with every event.
_QUIET: Mapping[str, Any] = {"loggers": {"quiet": {}}}

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

    def as_json(self) -> dict[str, Any]:
        """The outcome for a script."""
        return {
            "run_id": self.run_id,
            "rows": self.rows,
            "load": self.load,
            "quarantined": self.quarantined.total(),
            "checks": [
                {"asset": c.asset, "name": c.name, "passed": c.passed, "severity": c.severity, "text": c.text}
                for c in self.checks
            ],
            "failure": self.failure,
            "kind": self.kind,
        }


@dataclass(kw_only=True)
class Outcome(RunOutcome):
    """What came of the sync of one quarter."""

    quarter: Quarter

    def as_json(self) -> dict[str, Any]:
        """The outcome for a script."""
        return {"quarter": self.quarter.name, **super().as_json()}


@dataclass(frozen=True)
class Check:
    """The result of one asset check."""

    asset: str
    name: str
    passed: bool
    severity: str
    text: str


def ensure_home() -> Path:
    """DAGSTER_HOME, by default `.dagster_home` here; a new one gets the project's dagster.yaml.

    Raises ConfigError where DAGSTER_HOME is not an absolute path, as Dagster requires.
    """
    # Defence in depth behind `safe_step`: what Dagster itself records of an exception then quotes nothing.
    os.environ.setdefault("DAGSTER_REDACT_USER_CODE_ERRORS", "1")
    home = Path(os.environ.setdefault("DAGSTER_HOME", str(Path.cwd() / ".dagster_home")))
    if not home.is_absolute():
        raise ConfigError("DAGSTER_HOME must be an absolute path")
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not (home / "dagster.yaml").exists() and Path("dagster.yaml").exists():
        # Whole or not at all: with half of it Dagster would keep what our steps print, and send telemetry.
        write_file(home / "dagster.yaml", Path("dagster.yaml").read_bytes())
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


def sync_quarter(
    job: dg.JobDefinition, instance: dg.DagsterInstance, quarter: Quarter, *, whole: bool = False
) -> Outcome:
    """Execute a job for a quarter in this process and wait for its end; `whole`: all of it is walked, not its changes only."""
    tags = {QUARTER_TAG: quarter.name, **({WHOLE_TAG: "yes"} if whole else {})}
    result = _execute(job, instance, partition_key=quarter.key, tags=tags)
    outcome = Outcome(quarter=quarter, run_id=result.run_id)
    _read(result, outcome)
    return outcome


def run_unpartitioned(job: dg.JobDefinition, instance: dg.DagsterInstance) -> RunOutcome:
    """Execute a job that has no quarters in this process and wait for its end."""
    result = _execute(job, instance)
    outcome = RunOutcome(run_id=result.run_id)
    _read(result, outcome)
    return outcome


def _execute(
    job: dg.JobDefinition,
    instance: dg.DagsterInstance,
    *,
    partition_key: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> dg.ExecuteInProcessResult:
    """Execute a job in this process; a run that dies with it is ended by the next process that opens the instance."""
    with held_by_this_process(instance) as held:
        return job.execute_in_process(
            instance=instance,
            partition_key=partition_key,
            tags={**(tags or {}), **held},
            run_config=_QUIET,
            raise_on_error=False,
        )


def _read(result: dg.ExecuteInProcessResult, outcome: RunOutcome) -> None:
    """Take from a run's events what came of it."""
    for event in result.all_events:
        _take(event, outcome)
    if not result.success and outcome.failure is None:
        ended = [event for event in result.all_events if event.event_type == dg.DagsterEventType.RUN_FAILURE]
        error = ended[-1].job_failure_data.error if ended else None
        text = "the run failed; see it in the Dagster UI"
        outcome.failure, outcome.kind = _of_dagster(error.message if error else "", text)


def _take(event: dg.DagsterEvent, outcome: RunOutcome) -> None:
    """Add what one event of the run says."""
    if event.event_type == dg.DagsterEventType.ASSET_MATERIALIZATION:
        _take_materialization(event.step_materialization_data.materialization, outcome)
    elif event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
        data = event.asset_check_evaluation_data
        name = data.asset_key.to_user_string()
        outcome.checks.append(Check(name, data.check_name, data.passed, data.severity.value, data.description or ""))
    elif event.event_type == dg.DagsterEventType.STEP_FAILURE and outcome.failure is None:
        outcome.failure, outcome.kind = _read_failure(event, outcome)


def _take_materialization(materialization: dg.AssetMaterialization, outcome: RunOutcome) -> None:
    asset = materialization.asset_key.to_user_string()
    numbers = {
        name: int(value.value or 0)
        for name, value in materialization.metadata.items()
        if isinstance(value, dg.IntMetadataValue)
    }
    outcome.rows[asset] = numbers.get("dagster/row_count", 0)
    # Neither the mapping nor the load counts what the other put into quarantine.
    table = _TABLES.get(asset, asset)
    outcome.quarantined[table] += numbers.get("quarantined", 0)
    if "inserted" in numbers:
        outcome.load[asset] = {name: count for name, count in numbers.items() if not name.startswith("dagster/")}
        if asset in _TABLES.values():
            outcome.load[asset]["quarantined"] = outcome.quarantined[table]


def _read_failure(event: dg.DagsterEvent, outcome: RunOutcome) -> tuple[str, str]:
    """Read the plain message of a failed step, and the kind of its error."""
    failure = event.step_failure_data.user_failure_data
    if failure is not None and failure.description:
        return failure.description, kind_of_failure(event) or UNEXPECTED
    text = f"step {event.step_key} failed; see run {outcome.run_id} in the Dagster UI"
    error = event.step_failure_data.error
    return _of_dagster(error.message if error else "", text)


def read_failure(instance: dg.DagsterInstance, run_id: str) -> tuple[str, str]:
    """The kind of failure that ended a run, as `errors.py` names it, and its plain message; see `_read_failure`."""
    wanted = {dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.RUN_FAILURE}
    records = instance.get_records_for_run(run_id, of_type=wanted).records
    events = [record.event_log_entry.dagster_event for record in records]
    for event in events:
        if event is not None and event.event_type == dg.DagsterEventType.STEP_FAILURE:
            text, kind = _read_failure(event, RunOutcome(run_id))
            return kind, text
    messages = [event.message or "" for event in events if event is not None]
    if ENDED in messages:
        return TransientError.__name__, ENDED
    return UNEXPECTED, "the run failed before or after its steps; see it in the Dagster UI"


def _of_dagster(message: str, otherwise: str) -> tuple[str, str]:
    """Read the message and the kind of what Dagster itself failed at: no step of ours was there to name it."""
    failure = recorded_error(message)
    return (str(failure), failure.kind) if failure else (otherwise, UNEXPECTED)
