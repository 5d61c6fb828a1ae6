"""The sensor that reports faults: failed runs, failed checks, and what is overdue, each once until it changes.

It looks at the state that Dagster's history holds now, not at what came since: a tick that fails, or a cursor that was lost,
hides nothing. What is sent is made in `pipeline/alerts.py`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from primero_ona.diagnosis import Diagnosis
from primero_ona.errors import ConfigError, with_anchor
from primero_ona.graph.diagnosis import ages, as_of, daemon
from primero_ona.graph.machine import STORAGE, free_space, keys_noted
from primero_ona.graph.reconciliation import COMPLETE
from primero_ona.graph.resources import default_storage
from primero_ona.graph.runs import read_failure
from primero_ona.graph.steps import safe_tick
from primero_ona.quarters import PHNOM_PENH, Quarter, local_time
from primero_ona.settings import AlertSettings, StorageSettings, read_one

if TYPE_CHECKING:
    from primero_ona.pipeline.alerts import Fault

#: Seconds between two looks.
LOOK_EVERY = 300

#: Of each job so many runs are looked at, newest first.
_RUNS = 200

#: From this hour on, in Phnom Penh, the ping of a day is sent.
_PING_HOUR = 7

#: Runs that say how their quarter stands: one that is retried will say it later.
_ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE]
_WILL_RETRY = "dagster/will_retry"

_SYNC = "sync_quarter"

#: By job: what to try once the cause is gone, and when the job comes again by itself.
_JOBS = {
    _SYNC: ("primero-ona sync --quarter {quarter}", "hour"),
    "refresh_reference": ("primero-ona reference refresh", "week"),
    "reconcile_ona": ("primero-ona verify", "month"),
    "purge_stored": ("primero-ona doctor", "night"),
    "remove_runs": ("primero-ona doctor", "week"),
    "remap_quarter": ("primero-ona remap --from {quarter} --to {quarter}", None),
}
_BY_HAND = ("primero-ona sync --quarter {quarter}", None)


@dataclass(frozen=True)
class Cause:
    """Why a run failed: the kind of failure, the sentence about it (of a check its name only), and what tells it from others."""

    kind: str
    sentence: str

    @property
    def key(self) -> str:
        """The same for the same cause, whatever numbers the sentence has."""
        return hashlib.sha256(f"{self.kind}|{re.sub(r'[0-9]+', '#', self.sentence)}".encode()).hexdigest()[:12]


def alert_sensor(start: Quarter) -> dg.SensorDefinition:
    """Report failures of all jobs and checks of the graph, and what is overdue; `start` is the first quarter."""
    # A failed run does not change, and reading its events takes a while.
    causes: dict[str, Cause] = {}

    @dg.sensor(
        name="report_faults",
        minimum_interval_seconds=LOOK_EVERY,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "Every five minutes, looks for failed runs, failed checks and whatever is overdue, and reports each once to the "
            "addresses in PRIMERO_ONA_ALERT_URLS; after a day without a fault it asks for PRIMERO_ONA_PING_URL. Starts nothing."
        ),
    )
    def report_faults(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        """Compare the faults of now with those that were reported, and send what is new."""
        from primero_ona.pipeline.alerts import State, channels, ping, report

        with safe_tick():
            settings = read_one(AlertSettings)
            if settings.alert_urls is None and settings.ping_url is None:
                text = "PRIMERO_ONA_ALERT_URLS and PRIMERO_ONA_PING_URL are not set, so faults are reported to no one"
                return dg.SensorResult(skip_reason=text, cursor=context.cursor)
            now = datetime.now(UTC)
            graph = context.repository_def
            if graph is None:
                raise dg.DagsterInvariantViolationError(
                    "the sensor needs the graph: give `definitions` to build_sensor_context"
                )
            found = [
                *failed_runs(context.instance, graph.job_names, settings.ui_url, causes),
                *failed_checks(context.instance, [*graph.asset_graph.asset_check_keys], settings.ui_url),
                *overdue(context.instance, start, settings, now),
            ]
            state, sent = report(found, State.read(context.cursor), channels(settings), now)
            today = now.astimezone(PHNOM_PENH)
            is_due = settings.ping_url and state.pinged != f"{today:%Y-%m-%d}" and today.hour >= _PING_HOUR
            if is_due and not found and settings.ping_url and ping(settings.ping_url.get_secret_value()):
                state = replace(state, pinged=f"{today:%Y-%m-%d}")
        said = [f"{len(found)} faults, {sent} messages sent"]
        said += [f"{name} takes no message" for name in state.silent]
        return dg.SensorResult(skip_reason="; ".join(said), cursor=state.write())

    return report_faults


def failed_runs(
    instance: dg.DagsterInstance, jobs: Sequence[str], ui_url: str, causes: dict[str, Cause]
) -> list[Fault]:
    """One fault for each job and cause, with all the quarters whose last run of the job failed for it.

    `causes` keeps by run what was read. A failure of another job is over when the quarter was synced since.
    """
    synced = _newest(instance, _SYNC)
    groups: dict[tuple[str, str], list[dg.RunRecord]] = {}
    for job in jobs:
        for partition, record in (synced if job == _SYNC else _newest(instance, job)).items():
            later = synced.get(partition) if partition else None
            healed = later and _is_well(later) and later.storage_id > record.storage_id
            if not _is_well(record) and not healed:
                run_id = record.dagster_run.run_id
                if run_id not in causes:
                    causes[run_id] = _cause(instance, run_id)
                groups.setdefault((job, causes[run_id].key), []).append(record)
    return [
        _fault(instance, job, causes[records[0].dagster_run.run_id], records, ui_url)
        for (job, _), records in groups.items()
    ]


def _newest(instance: dg.DagsterInstance, job: str) -> dict[str | None, dg.RunRecord]:
    """The last run of a job that has ended, by its partition."""
    found: dict[str | None, dg.RunRecord] = {}
    for record in instance.get_run_records(dg.RunsFilter(job_name=job, statuses=_ENDED), limit=_RUNS):
        tags = record.dagster_run.tags
        if tags.get(_WILL_RETRY) != "true" or _is_well(record):
            found.setdefault(tags.get("dagster/partition"), record)
    return found


def _is_well(record: dg.RunRecord) -> bool:
    return record.dagster_run.status == dg.DagsterRunStatus.SUCCESS


def _cause(instance: dg.DagsterInstance, run_id: str) -> Cause:
    """Why a run failed; of failed checks their names, since what they counted is for the UI."""
    records = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION).records
    evaluations = [
        record.event_log_entry.dagster_event.asset_check_evaluation_data
        for record in records
        if record.event_log_entry.dagster_event
    ]
    failed = sorted(
        f"{one.check_name} on {one.asset_key.to_user_string()}"
        for one in evaluations
        if not one.passed and one.severity == dg.AssetCheckSeverity.ERROR
    )
    if failed:
        return Cause("CheckError", with_anchor(f"failed checks: {', '.join(failed)}", "checks"))
    kind, sentence = read_failure(instance, run_id)
    return Cause(kind, sentence)


def _fault(instance: dg.DagsterInstance, job: str, cause: Cause, records: Sequence[dg.RunRecord], ui_url: str) -> Fault:
    from primero_ona.pipeline.alerts import NAMED, Fault

    keys = [record.dagster_run.tags.get("dagster/partition") for record in records]
    quarters = sorted(Quarter.parse(key) for key in keys if key)
    named = ", ".join(map(str, quarters[:NAMED])) + (
        f" and {len(quarters) - NAMED} more" if len(quarters) > NAMED else ""
    )
    known = [(quarter, as_of(instance, quarter)) for quarter in quarters[:NAMED]]
    stale = ", ".join(f"{one} as of {local_time(moment)}" if moment else f"nothing of {one}" for one, moment in known)
    command, again = _JOBS.get(job, _BY_HAND)
    command = command.format(quarter=quarters[0]) if quarters else command.partition(" --quarter {")[0]
    look = "" if cause.kind in {"TransientError", "CheckError"} else "primero-ona doctor, then "
    return Fault(
        key=f"run:{job}:{cause.key}",
        text=f"The job {job} failed{f' for {named}' if quarters else ''}: {cause.sentence}",
        stale=f"ONA has {stale} (Phnom Penh)." if stale else "",
        heals=_heals(cause.kind, again),
        command=look + command,
        link=f"{ui_url.rstrip('/')}/runs/{records[0].dagster_run.run_id}",
        quarters=tuple(map(str, quarters)),
    )


def _heals(kind: str, again: str | None) -> str:
    """Whether a failure heals by itself; `again`: within which time its job comes again without being asked."""
    if kind == "CheckError":
        return "It does not heal by itself: the same rows fail again, until the data or this program change."
    if again is None:
        return "It is not tried again by itself."
    if kind == "TransientError":
        return f"It is tried again within the {again}, and heals by itself once the cause is gone."
    return f"It does not heal by itself: do what the sentence says. It is tried again within the {again}."


def failed_checks(instance: dg.DagsterInstance, checks: Sequence[dg.AssetCheckKey], ui_url: str) -> Iterator[Fault]:
    """A fault for each check of severity ERROR whose last answer is a failure, in a run that did not fail for it."""
    from primero_ona.pipeline.alerts import Fault

    for key, record in instance.event_log_storage.get_latest_asset_check_execution_by_key(checks).items():
        event = record.event.dagster_event if record.event else None
        if event is None or event.event_type != dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            continue
        answer, run = event.asset_check_evaluation_data, instance.get_run_by_id(record.run_id)
        if answer.passed or answer.severity != dg.AssetCheckSeverity.ERROR:
            continue
        if run is not None and run.status == dg.DagsterRunStatus.FAILURE:
            continue
        quarter = (str(Quarter.parse(answer.partition)),) if answer.partition else ()
        yield Fault(
            key=f"check:{key.to_user_string()}",
            text=with_anchor(
                f"The check {key.name} on {key.asset_key.to_user_string()} failed{''.join(f' for {one}' for one in quarter)}.",
                "what-verify-says" if key == COMPLETE else "checks",
            ),
            stale="",
            heals=_heals("CheckError", None),
            command="primero-ona verify",
            link=f"{ui_url.rstrip('/')}/runs/{record.run_id}",
            quarters=quarter,
        )


def overdue(instance: dg.DagsterInstance, start: Quarter, settings: AlertSettings, now: datetime) -> list[Fault]:
    """A fault for each thing that has grown too old, or that this machine lacks."""
    from primero_ona.pipeline.alerts import Fault

    lines = [*ages(instance, start, now, settings.stale_hours), daemon(instance), *_machine(instance, settings)]
    return [
        Fault(
            # A missed close of this quarter is another fault than that of the one before.
            key=f"overdue:{line.area}:{line.what}:{Quarter.of(now) if line.what in {'closing', 'newest sync'} else ''}",
            text=with_anchor(f"{line.what}: {line.text}", "overdue"),
            stale="",
            heals="It is over when the look finds it well again.",
            command="primero-ona doctor",
            link=settings.ui_url,
            confirm=True,
        )
        for line in lines
        if line.state == "failed"
    ]


def _machine(instance: dg.DagsterInstance, settings: AlertSettings) -> Iterator[Diagnosis]:
    try:
        storage = read_one(StorageSettings)
    except ConfigError as failure:
        yield STORAGE.failure("keys", failure)
        return
    folders = {"DAGSTER_HOME": Path(instance.root_directory)}
    if not storage.bucket:
        folders["stored partitions"] = storage.folder or default_storage(instance)
    yield free_space(folders, settings.least_space_gb)
    yield keys_noted(storage.storage_keys.get_secret_value(), settings.keys_backup)
