"""Mark runs as failed when their process has died.

Dagster cannot see that such a process is gone: its run would stay "started" for half a day, keep its place in the queue, and
not be asked for again. A command that executes a run itself holds a lock on a file meanwhile, which dies with its holder,
whatever ended it. Of a run that the daemon launched, Dagster records the process and the code server that it is a child of.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import dagster as dg
from dagster._core.storage.dagster_run import ACTIVE_RUN_STATUSES, NOT_FINISHED_STATUSES
from dagster._core.storage.tags import AUTO_RETRY_RUN_ID_TAG, GRPC_INFO_TAG, WILL_RETRY_TAG

#: Run tag with the name of the lock that the run's process holds; the UI does not show tags that begin like this.
PROCESS_TAG = ".dagster/primero_ona_process"

#: What is recorded of such a run.
ENDED = (
    "The process of this run ended before the run did: it was killed, or the machine stopped. ONA holds all of this quarter "
    "or what it held before. Run it again."
)


@contextmanager
def held_by_this_process(instance: dg.DagsterInstance) -> Iterator[dict[str, str]]:
    """Hold a lock while a run executes; yields the tags that the run must carry."""
    folder = _locks(instance)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    name = uuid4().hex
    # Locked before it has its name, so that it is never found unlocked.
    new, lock = folder / f".{name}", folder / f"{name}.lock"
    with new.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        new.rename(lock)
        try:
            yield {PROCESS_TAG: name}
        finally:
            lock.unlink(missing_ok=True)


def end_dead_runs(instance: dg.DagsterInstance) -> int:
    """Record as failed each run whose process is gone; how many there were."""
    begun = instance.get_runs(dg.RunsFilter(statuses=ACTIVE_RUN_STATUSES))
    ended = sum(_end(instance, run) for run in begun if is_alive(instance, run) is False)
    for lock in _locks(instance).glob("*.lock"):
        with suppress(BlockingIOError, FileNotFoundError), lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = instance.get_runs(dg.RunsFilter(tags={PROCESS_TAG: lock.stem}, statuses=NOT_FINISHED_STATUSES))
            ended += sum(_end(instance, run) for run in held)
            # Only now: without its lock a run is not found again.
            lock.unlink(missing_ok=True)
    return ended


def _end(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Record a run as failed, unless it or another process has recorded its end since it was listed."""
    latest = instance.get_run_by_id(run.run_id)
    if latest is None or latest.is_finished:
        return False
    instance.report_run_failed(latest, ENDED)
    return True


def ask_for_lost_retries(instance: dg.DagsterInstance) -> int:
    """Have runs tried again whose retry Dagster gave up since no code server answered; how many there were.

    For a code server that answers again. Dagster asks once, seconds after a run has failed, and what ends a code server ends its runs.
    """
    # One that was lost before is not worth it: the sensor has asked since.
    since = datetime.now(UTC) - timedelta(hours=1)
    failed = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], updated_after=since))
    found = [run for run in failed if AUTO_RETRY_RUN_ID_TAG not in run.tags and retry_failed(instance, run)]
    for run in found:
        # First, since whoever sees the failure before Dagster has judged it again must not take it for the last word.
        instance.add_run_tags(run.run_id, {WILL_RETRY_TAG: "true"})
        instance.report_run_failed(run, ENDED)
    return len(found)


def retry_failed(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether the last that Dagster did about a run is that it failed to retry it."""
    last = instance.get_records_for_run(run.run_id, limit=1, ascending=False).records
    return bool(last) and last[0].event_log_entry.message == "Failed to retry run"


def is_alive(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool | None:
    """Whether the process is there that a code server of this machine started for a run; None where that cannot be known.

    A run that has no process yet is left to Dagster, which gives it three minutes; one in a pod or on another machine, too.
    """
    server = json.loads(run.tags.get(GRPC_INFO_TAG, "{}"))
    if not server or not _is_here(server["host"]):
        return None
    for record in instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT).records:
        if found := re.match(r"Started process for run \(pid: (\d+)\)", record.event_log_entry.message):
            return _is_same(int(found[1]), record.event_log_entry.timestamp)
    return None


def _is_here(host: str) -> bool:
    """Whether a name is one of this machine: no socket can be bound to an address of another."""
    with suppress(OSError):
        for family, kind, protocol, _, address in socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM):
            with suppress(OSError), socket.socket(family, kind, protocol) as trial:
                trial.bind(address)
                return True
    return False


def _is_same(pid: int, then: float) -> bool:
    """Whether the process that had the number `pid` at a time (seconds since the epoch) is there still, and not another."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    if sys.platform != "linux":
        return True
    with suppress(FileNotFoundError):
        # Numbered after the name in brackets, which may have blanks: the state is the first, the start the twentieth.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")
        return fields[0] not in "XZ" and time.time() - age < then + 60  # the clock may have been set since
    return False


def _locks(instance: dg.DagsterInstance) -> Path:
    return Path(instance.root_directory) / "processes"
