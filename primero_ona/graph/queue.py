"""Runs that a command hands to Dagster's daemon: they wait their turn, are retried, and stand on the pages of their jobs.

The command follows them to their end, and they do not need it for that.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

import dagster as dg
from dagster._core.definitions.reconstruct import ReconstructableRepository
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteRepositoryOrigin
from dagster._core.run_coordinator import QueuedRunCoordinator
from dagster._core.storage.dagster_run import ACTIVE_RUN_STATUSES
from dagster._core.storage.tags import AUTO_RETRY_RUN_ID_TAG, GRPC_INFO_TAG, WILL_RETRY_TAG

from primero_ona.errors import DataError, TransientError
from primero_ona.graph.dead_runs import end_dead_runs, is_alive, retry_failed
from primero_ona.graph.runs import RunOutcome, read_outcome

#: Seconds after which the daemon is taken for dead: it says every half minute that it lives, and may wait for a code server for a
#: minute.
_ALIVE = 120

#: Seconds between two looks at a run.
_LOOK_EVERY = 1.0

#: So many looks in a row find nothing new of what the daemon ought to do, or of a run that nothing watches, until that is given up.
_PATIENCE = 180

_WORDS = {
    dg.DagsterRunStatus.QUEUED: "waits in the queue",
    dg.DagsterRunStatus.CANCELING: "is being terminated",
    dg.DagsterRunStatus.FAILURE: "failed, and is tried again",
}


class NotLaunchedError(Exception):
    """The daemon was dead when a run was handed to it, though its last sign of life was not old; the run was taken back."""


def last_beat(instance: dg.DagsterInstance) -> float:
    """When the daemon that launches runs last gave a sign of life (seconds since the epoch); 0 where none does so."""
    beat = instance.get_daemon_heartbeats().get("QUEUED_RUN_COORDINATOR")
    return beat.timestamp if beat and isinstance(instance.run_coordinator, QueuedRunCoordinator) else 0.0


def is_served(instance: dg.DagsterInstance) -> bool:
    """Whether a daemon is alive that launches what is queued."""
    return time.time() - last_beat(instance) < _ALIVE


def submit(defs: dg.Definitions, job_name: str, instance: dg.DagsterInstance, tags: Mapping[str, str]) -> str:
    """Put a run of a job into the daemon's queue, as the UI does; its id."""
    location = RegisteredCodeLocationOrigin("primero_ona")  # as in every workspace.yaml
    repository = RemoteRepositoryOrigin(location, defs.get_repository_def().name)
    context = os.environ.get("DAGSTER_CONTAINER_CONTEXT")
    code = ReconstructableRepository.for_module(
        "primero_ona.definitions",
        "defs",
        container_image=os.environ.get("DAGSTER_CURRENT_IMAGE"),
        container_context=json.loads(context) if context else None,
    )
    run = instance.create_run_for_job(
        defs.resolve_job_def(job_name),
        tags=dict(tags),
        remote_job_origin=repository.get_job_origin(job_name),
        job_code_origin=code.get_reconstructable_job(job_name).get_python_origin(),
    )
    workspace: Any = None  # a queue does not look at it
    try:
        instance.submit_run(run.run_id, workspace)
    except BaseException:
        # The command does not know it yet, and half submitted it would keep its quarter waiting for ever.
        instance.report_run_canceled(run)
        raise
    return run.run_id


def take_back(instance: dg.DagsterInstance, run_ids: Iterable[str]) -> list[str]:
    """Cancel runs that wait in the queue; those that have left it, or cannot be cancelled."""
    left = []
    for run_id in run_ids:
        taken = False
        with suppress(Exception):  # whatever is the matter, the run is named
            run = instance.get_run_by_id(run_id)
            if run and run.status == dg.DagsterRunStatus.QUEUED:
                taken = instance.run_coordinator.cancel_run(run_id)
        if not taken:
            left.append(run_id)
    return left


def require_none_launched(instance: dg.DagsterInstance) -> None:
    """Raise TransientError while a run is under way that the daemon launched; runs of commands do not count.

    For a command that executes a run itself: a daemon that is stopped leaves its runs going, and one at a time asks Primero.
    """
    end_dead_runs(instance)
    for run in instance.get_runs(dg.RunsFilter(statuses=ACTIVE_RUN_STATUSES)):
        if run.remote_job_origin or GRPC_INFO_TAG in run.tags:
            raise TransientError(
                f"the run {run.run_id} that Dagster's daemon began is still under way, and two at once may not ask Primero; "
                "wait for its end, or terminate it in the UI, and try again",
                see="stuck-run",
            )


def follow(
    instance: dg.DagsterInstance, run_id: str, outcome: RunOutcome, show: Callable[[str], None], handed: float
) -> None:
    """Wait for the end of a run and of its retries, and read what came of it; `show` gets what it does, in words.

    `handed`: the daemon's last beat before the run was submitted. Raises NotLaunchedError, or TransientError where the daemon
    died while the run waited, or nothing says whether it goes on; DataError where it was deleted.
    """
    attempts, looks = [run_id], 0
    while True:
        run = instance.get_run_by_id(attempts[-1])
        if run is None:
            raise DataError(
                f"the run {attempts[-1]} was deleted while it was followed; sync its quarter again", see="dagster"
            )
        if run.is_failure and _is_tried_again(instance, run, looks):
            if retry := run.tags.get(AUTO_RETRY_RUN_ID_TAG):
                attempts.append(retry)
                looks = 0
                continue
            looks += 1
            # Where Dagster finds that the job or the run's backfill is no more, the tag still says that it tries again.
            if looks > _PATIENCE or not is_served(instance):
                break
        elif run.is_finished:
            break
        else:
            looks = 0 if is_served(instance) else looks + 1
            if looks:
                _require_watched(instance, run, handed, looks)
        show(_WORDS.get(run.status) or _step(instance, run.run_id))
        time.sleep(_LOOK_EVERY)
    outcome.run_id = run.run_id
    # A retry does not repeat the steps that went well before it.
    kept = {dg.DagsterEventType.ASSET_MATERIALIZATION, dg.DagsterEventType.ASSET_CHECK_EVALUATION}
    events = [
        event
        for attempt in attempts
        for entry in instance.all_logs(attempt, of_type=None if attempt == run.run_id else kept)
        if (event := entry.dagster_event)
    ]
    read_outcome(events, outcome, success=run.is_success)


def _is_tried_again(instance: dg.DagsterInstance, run: dg.DagsterRun, looks: int) -> bool:
    """Whether a run that failed is tried again, as far as is known after so many looks."""
    if run.tags.get(WILL_RETRY_TAG) == "false" and not retry_failed(instance, run):
        # For good, unless a code server that is back has asked again since the run was read.
        latest = instance.get_run_by_id(run.run_id)
        return latest is not None and latest.tags.get(WILL_RETRY_TAG) == "true"
    # Where the run's process could not write that word, the daemon does, which looks every five seconds.
    return WILL_RETRY_TAG in run.tags or looks < 15


def _require_watched(instance: dg.DagsterInstance, run: dg.DagsterRun, handed: float, looks: int) -> None:
    """Raise where a run that the daemon, which is dead, has not launched waits, or one says nothing whose process is not found."""
    if run.status in {dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.QUEUED}:
        # One that a daemon has seen stays for the next one.
        if last_beat(instance) == handed and instance.run_coordinator.cancel_run(run.run_id):
            raise NotLaunchedError
        raise TransientError(
            f"Dagster's daemon gives no sign of life any more; the run {run.run_id} waits in its queue and begins when the daemon is "
            "back (`systemctl start primero-ona-daemon`)",
            see="dagster",
        )
    end_dead_runs(instance)
    if looks > _PATIENCE and not is_alive(instance, run):
        raise TransientError(
            f"Dagster's daemon gives no sign of life any more, and nothing says whether the run {run.run_id} goes on; start the "
            "daemon (`systemctl start primero-ona-daemon`), and see the run in the UI",
            see="stuck-run",
        )


def _step(instance: dg.DagsterInstance, run_id: str) -> str:
    """What a run is doing."""
    started = dg.DagsterEventType.STEP_START
    last = instance.get_records_for_run(run_id, of_type=started, limit=1, ascending=False).records
    event = last[0].event_log_entry.dagster_event if last else None
    return event.step_key or "runs" if event else "starts"
