"""Runs that a command hands to Dagster's daemon: they wait their turn, are retried, and stand on the pages of their jobs.

The command follows them to their end, and they do not need it for that.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import dagster as dg
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.origin import DEFAULT_DAGSTER_ENTRY_POINT, RepositoryPythonOrigin
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteRepositoryOrigin
from dagster._core.run_coordinator import QueuedRunCoordinator
from dagster._core.storage.tags import AUTO_RETRY_RUN_ID_TAG, WILL_RETRY_TAG

from primero_ona.errors import DataError, TransientError
from primero_ona.graph.runs import RunOutcome, read_outcome

#: The name of the code location, as in every workspace.yaml.
LOCATION = "primero_ona"

#: Part of the daemon that launches what is queued, and seconds after which it is taken for dead: it says every half minute that it
#: lives, and may wait for a code server for a minute.
_LAUNCHES, _ALIVE = "QUEUED_RUN_COORDINATOR", 120

#: Seconds between two looks at a run.
_LOOK_EVERY = 1.0

#: So many looks a run that failed may lack the word whether it is tried again.
_DOUBTS = 5

_WORDS = {
    dg.DagsterRunStatus.QUEUED: "waits in the queue",
    dg.DagsterRunStatus.CANCELING: "is being terminated",
    dg.DagsterRunStatus.FAILURE: "failed, and is tried again",
}

#: A retry does not repeat the steps that went well before it.
_OF_ALL_ATTEMPTS = {dg.DagsterEventType.ASSET_MATERIALIZATION, dg.DagsterEventType.ASSET_CHECK_EVALUATION}


class NotLaunchedError(Exception):
    """The daemon was dead when a run was handed to it, though its last sign of life was not old; the run was taken back."""


def last_beat(instance: dg.DagsterInstance) -> float:
    """When the daemon that launches runs last gave a sign of life (seconds since the epoch); 0 where none does so."""
    beat = instance.get_daemon_heartbeats().get(_LAUNCHES)
    return beat.timestamp if beat and isinstance(instance.run_coordinator, QueuedRunCoordinator) else 0.0


def is_served(instance: dg.DagsterInstance) -> bool:
    """Whether a daemon is alive that launches what is queued."""
    return time.time() - last_beat(instance) < _ALIVE


def submit(defs: dg.Definitions, job_name: str, instance: dg.DagsterInstance, tags: Mapping[str, str]) -> str:
    """Put a run of a job into the daemon's queue, as the UI does; its id."""
    repository = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin(LOCATION), defs.get_repository_def().name)
    context = os.environ.get("DAGSTER_CONTAINER_CONTEXT")
    code = RepositoryPythonOrigin(
        sys.executable,
        ModuleCodePointer("primero_ona.definitions", "defs", working_directory=None),
        container_image=os.environ.get("DAGSTER_CURRENT_IMAGE"),
        entry_point=DEFAULT_DAGSTER_ENTRY_POINT,
        container_context=json.loads(context) if context else None,
    )
    run = instance.create_run_for_job(
        defs.resolve_job_def(job_name),
        tags=dict(tags),
        remote_job_origin=repository.get_job_origin(job_name),
        job_code_origin=code.get_job_origin(job_name),
    )
    workspace: Any = None  # a queue does not look at it
    instance.submit_run(run.run_id, workspace)
    return run.run_id


def follow(instance: dg.DagsterInstance, run_id: str, outcome: RunOutcome, show: Callable[[str], None]) -> None:
    """Wait for the end of a run and of its retries, and read what came of it; `show` is told what it does.

    Raises NotLaunchedError, or TransientError where the daemon died while the run waited; DataError where it was deleted.
    """
    handed, attempts, looks = last_beat(instance), [run_id], 0
    while True:
        run = instance.get_run_by_id(attempts[-1])
        if run is None:
            raise DataError(
                f"the run {attempts[-1]} was deleted while it was followed; sync its quarter again", see="dagster"
            )
        # Whether it is tried again is written a moment after its failure.
        will_retry = run.tags.get(WILL_RETRY_TAG, str(looks < _DOUBTS).lower()) == "true"
        if run.status == dg.DagsterRunStatus.FAILURE and will_retry:
            if retry := run.tags.get(AUTO_RETRY_RUN_ID_TAG):
                attempts.append(retry)
                continue
            looks += 1
            if not is_served(instance):
                break
        elif run.is_finished:
            break
        elif run.status == dg.DagsterRunStatus.QUEUED and not is_served(instance):
            _give_up(instance, run.run_id, handed)
        show(_WORDS.get(run.status) or _step(instance, run.run_id))
        time.sleep(_LOOK_EVERY)
    outcome.run_id = run.run_id
    events = [
        event
        for attempt in attempts
        for entry in instance.all_logs(attempt)
        if (event := entry.dagster_event) and (attempt == run.run_id or event.event_type in _OF_ALL_ATTEMPTS)
    ]
    read_outcome(events, outcome, success=run.status == dg.DagsterRunStatus.SUCCESS)


def _step(instance: dg.DagsterInstance, run_id: str) -> str:
    """What a run is doing."""
    found = instance.get_records_for_run(
        run_id, of_type=dg.DagsterEventType.STEP_START, limit=1, ascending=False
    ).records
    event = found[0].event_log_entry.dagster_event if found else None
    return event.step_key or "runs" if event else "starts"


def _give_up(instance: dg.DagsterInstance, run_id: str, handed: float) -> None:
    """Take a run back that no daemon has looked at; one that a daemon has seen stays for the next one."""
    if last_beat(instance) == handed and instance.run_coordinator.cancel_run(run_id):
        raise NotLaunchedError
    raise TransientError(
        f"Dagster's daemon gives no sign of life any more; the run {run_id} waits in its queue and begins when the daemon is back "
        "(`systemctl start primero-ona-daemon`)",
        see="dagster",
    )
