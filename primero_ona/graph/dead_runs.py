"""Mark command-line runs as failed when their process has died.

Dagster cannot see that such a process is gone: its run would stay "started" for ever, keep its place in the queue, and
never be asked for again. So a process holds a lock on a file while it executes a run; the lock dies with its holder,
whatever ended it. Runs that the daemon launched are watched by Dagster itself (`run_monitoring` in dagster.yaml).
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import dagster as dg

#: Run tag with the name of the lock that the run's process holds; the UI does not show tags that begin like this.
PROCESS_TAG = ".dagster/primero_ona_process"

#: What is recorded of such a run.
ENDED = (
    "The process of this run ended before the run did: it was killed, or the machine stopped. ONA holds all of this quarter "
    "or what it held before. Run it again."
)
#: The statuses of a run that has not ended.
UNFINISHED = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
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
    ended = 0
    for lock in _locks(instance).glob("*.lock"):
        with suppress(BlockingIOError, FileNotFoundError), lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for run in instance.get_runs(dg.RunsFilter(tags={PROCESS_TAG: lock.stem}, statuses=UNFINISHED)):
                instance.report_run_failed(run, ENDED)
                ended += 1
            lock.unlink(missing_ok=True)
    return ended


def _locks(instance: dg.DagsterInstance) -> Path:
    return Path(instance.root_directory) / "processes"
