"""The sensor that reports faults: failed runs, failed checks, and what is overdue, each once until it changes.

It looks at the state that Dagster's history holds now, not at what came since: a tick that fails, or a cursor that was lost,
hides nothing. What is sent is made in `pipeline/alerts.py`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import dagster as dg
from dagster._core.storage.tags import PARTITION_NAME_TAG, WILL_RETRY_TAG

from primero_ona.errors import UNEXPECTED, ConfigError, Diagnosis, with_anchor
from primero_ona.graph.diagnosis import ages, as_of, daemon
from primero_ona.graph.machine import STORAGE, free_space, keys_noted
from primero_ona.graph.reconciliation import COMPLETE
from primero_ona.graph.resources import default_storage
from primero_ona.graph.runs import RunOutcome, read_outcome
from primero_ona.graph.steps import safe_tick
from primero_ona.pipeline.alerts import NAMED, Fault, State, channels, ping, report
from primero_ona.quarters import PHNOM_PENH, Quarter, local_time
from primero_ona.settings import AlertSettings, StorageSettings, read_one

#: By job: what to try once the cause is gone, and when the job comes again by itself.
_JOBS = {
    "sync_quarter": ("primero-ona sync --quarter {quarter}", "hour"),
    "refresh_reference": ("primero-ona reference refresh", "week"),
    "reconcile_ona": ("primero-ona verify", "month"),
    "purge_stored": ("primero-ona doctor", "night"),
    "remove_runs": ("primero-ona doctor", "week"),
    "remap_quarter": ("primero-ona remap --from {quarter} --to {quarter}", None),
}


class Cause(NamedTuple):
    """Why a run failed: the kind, the sentence about it (of a check its name only), and the same key for the same cause."""

    kind: str
    sentence: str
    key: str


def alert_sensor(start: Quarter) -> dg.SensorDefinition:
    """Report failures of all jobs and checks of the graph, and what is overdue; `start` is the first quarter."""
    # A failed run does not change, and reading its events takes a while.
    causes: dict[str, Cause] = {}

    @dg.sensor(
        name="report_faults",
        minimum_interval_seconds=300,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "Every five minutes, looks for failed runs, failed checks and whatever is overdue, and reports each once to the "
            "addresses in PRIMERO_ONA_ALERT_URLS; after a day without a fault it asks for PRIMERO_ONA_PING_URL. Starts nothing."
        ),
    )
    def report_faults(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        """Compare the faults of now with those that were reported, and send what is new."""
        with safe_tick():
            settings = read_one(AlertSettings)
            if settings.alert_urls is None and settings.ping_url is None:
                text = "PRIMERO_ONA_ALERT_URLS and PRIMERO_ONA_PING_URL are not set, so faults are reported to no one"
                return dg.SensorResult(skip_reason=text, cursor=context.cursor)
            now = datetime.now(UTC)
            graph: Any = context.repository_def  # always there, but for a test that gives none
            found = [
                *failed_runs(context.instance, graph.job_names, settings.ui_url, causes),
                *failed_checks(context.instance, [*graph.asset_graph.asset_check_keys], settings.ui_url),
                *overdue(context.instance, start, settings, now),
            ]
            state, sent = report(found, State.read(context.cursor), channels(settings), now)
            local = now.astimezone(PHNOM_PENH)
            today = f"{local:%Y-%m-%d}"
            is_due = not found and local.hour >= 7 and state.pinged != today
            if is_due and settings.ping_url and ping(settings.ping_url.get_secret_value()):
                state.pinged = today
        said = [f"{len(found)} faults, {sent} messages sent", *(f"{name} takes no message" for name in state.silent)]
        return dg.SensorResult(skip_reason="; ".join(said), cursor=state.write())

    return report_faults


def failed_runs(
    instance: dg.DagsterInstance, jobs: Sequence[str], ui_url: str, causes: dict[str, Cause]
) -> list[Fault]:
    """One fault for each job and cause, with all the quarters whose last run of the job failed for it.

    `causes` keeps by run what was read. A failure of another job is over when the quarter was synced since.
    """
    newest = {job: _newest(instance, job) for job in jobs}
    groups: dict[tuple[str, str], list[dg.DagsterRun]] = {}
    for job, records in newest.items():
        for partition, record in records.items():
            run, later = record.dagster_run, newest["sync_quarter"].get(partition) if partition else None
            if run.is_success or (later and later.dagster_run.is_success and later.storage_id > record.storage_id):
                continue
            if run.run_id not in causes:
                causes[run.run_id] = _cause(instance, run.run_id)
            groups.setdefault((job, causes[run.run_id].key), []).append(run)
    return [_fault(instance, job, causes[runs[0].run_id], runs, ui_url) for (job, _), runs in groups.items()]


def _newest(instance: dg.DagsterInstance, job: str) -> dict[str | None, dg.RunRecord]:
    """The last run of a job that has ended (of 200), by its partition; one that is retried says later how its quarter stands."""
    found: dict[str | None, dg.RunRecord] = {}
    ended = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE]
    for record in instance.get_run_records(dg.RunsFilter(job_name=job, statuses=ended), limit=200):
        run = record.dagster_run
        if run.is_success or run.tags.get(WILL_RETRY_TAG) != "true":
            found.setdefault(run.tags.get(PARTITION_NAME_TAG), record)
    return found


def _cause(instance: dg.DagsterInstance, run_id: str) -> Cause:
    """Why a run failed; of failed checks their names, since what they counted is for the UI."""
    types = dg.DagsterEventType
    wanted = {types.ASSET_CHECK_EVALUATION, types.STEP_FAILURE, types.RUN_FAILURE}
    entries, outcome = instance.all_logs(run_id, of_type=wanted), RunOutcome(run_id)
    read_outcome((entry.dagster_event for entry in entries if entry.dagster_event), outcome, success=False)
    kind, sentence = outcome.kind or UNEXPECTED, outcome.failure or ""
    bad = sorted(f"{one.name} on {one.asset}" for one in outcome.checks if not one.passed and one.severity == "ERROR")
    if bad:
        kind, sentence = "CheckError", with_anchor(f"failed checks: {', '.join(bad)}", "checks")
    # The same for the same cause, whatever numbers the sentence has.
    key = hashlib.sha256(f"{kind}|{re.sub(r'[0-9]+', '#', sentence)}".encode()).hexdigest()[:12]
    return Cause(kind, sentence, key)


def _fault(instance: dg.DagsterInstance, job: str, cause: Cause, runs: Sequence[dg.DagsterRun], ui_url: str) -> Fault:
    keys = [run.tags.get(PARTITION_NAME_TAG) for run in runs]
    quarters = sorted(Quarter.parse(key) for key in keys if key)
    more = f" and {len(quarters) - NAMED} more" if len(quarters) > NAMED else ""
    named = f" for {', '.join(map(str, quarters[:NAMED]))}{more}" if quarters else ""
    known = [(quarter, as_of(instance, quarter)) for quarter in quarters[:NAMED]]
    stale = ", ".join(f"{one} as of {local_time(moment)}" if moment else f"nothing of {one}" for one, moment in known)
    command, again = _JOBS.get(job, ("primero-ona sync --quarter {quarter}", None))
    command = command.format(quarter=quarters[0]) if quarters else command.partition(" --quarter {")[0]
    look = "" if cause.kind in {"TransientError", "CheckError"} else "primero-ona doctor, then "
    return Fault(
        key=f"run:{job}:{cause.key}",
        text=f"The job {job} failed{named}: {cause.sentence}",
        stale=f"ONA has {stale} (Phnom Penh)." if stale else "",
        heals=_heals(cause.kind, again),
        command=look + command,
        link=_page(ui_url, runs[0].run_id),
        quarters=tuple(map(str, quarters)),
    )


def _page(ui_url: str, run_id: str) -> str:
    return f"{ui_url.rstrip('/')}/runs/{run_id}"


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
    for key, record in instance.event_log_storage.get_latest_asset_check_execution_by_key(checks).items():
        answer = record.evaluation
        if record.status.value != "FAILED" or answer is None or answer.severity != dg.AssetCheckSeverity.ERROR:
            continue
        run = instance.get_run_by_id(record.run_id)
        if run and run.is_failure:
            continue
        quarter = (str(Quarter.parse(answer.partition)),) if answer.partition else ()
        named = "".join(f" for {one}" for one in quarter)
        yield Fault(
            key=f"check:{key.to_user_string()}",
            text=with_anchor(
                f"The check {key.name} on {key.asset_key.to_user_string()} failed{named}.",
                "what-verify-says" if key == COMPLETE else "checks",
            ),
            heals=_heals("CheckError", None),
            command="primero-ona verify",
            link=_page(ui_url, record.run_id),
            quarters=quarter,
        )


def overdue(instance: dg.DagsterInstance, start: Quarter, settings: AlertSettings, now: datetime) -> Iterator[Fault]:
    """A fault for each thing that has grown too old, or that this machine lacks."""
    for line in (*ages(instance, start, now, settings.stale_hours), daemon(instance), *_machine(instance, settings)):
        if line.state == "failed":
            # A missed close of this quarter is another fault than that of the one before.
            of = Quarter.of(now) if line.what in {"closing", "newest sync"} else ""
            yield Fault(
                key=f"overdue:{line.area}:{line.what}:{of}",
                text=with_anchor(f"{line.what}: {line.text}", "overdue"),
                heals="It is over when the look finds it well again.",
                command="primero-ona doctor",
                link=settings.ui_url,
                confirm=True,
            )


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
