"""Canaries in runs that are killed with -9: nothing can tidy up, so nothing may lie there that would have to be tidied up."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import psycopg
import pytest

from primero_ona.cli.app import main
from primero_ona_tests.canary.places import Watched
from primero_ona_tests.harness import Graph
from primero_ona_tests.reliability.syncing import finish, kill

#: Where a run stands still, until it is killed: yields whether one stands there.
Presence = Callable[[Graph], AbstractContextManager[Callable[[], bool]]]


def _sync(environment: dict[str, str], temporary: str, said: str) -> None:
    """Entry point of a child: the command `sync`, whose output goes into a file."""
    os.environ.update(environment)
    tempfile.tempdir = temporary
    with open(said, "ab", buffering=0) as file:  # noqa: PTH123
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.argv = ["primero-ona", "sync", "--quarter", "2024-Q1"]
    main()


def start(watched: Watched) -> multiprocessing.process.BaseProcess:
    """A sync in a process of its own, from the fork server of the reliability suite."""
    names = ("DAGSTER_", "PRIMERO_", "ONA_", "TMPDIR")
    environment = {name: value for name, value in os.environ.items() if name.startswith(names)}
    child = multiprocessing.get_context("forkserver").Process(
        target=_sync, args=(environment, str(watched.temporary), str(watched.folder / "said"))
    )
    child.start()
    return child


@contextmanager
def silent(graph: Graph) -> Iterator[Callable[[], bool]]:
    """In the middle of the pull, with cases in memory."""
    fault = graph.primero.fail("silence", times=None, after=3)
    yield lambda: fault.after == 0
    graph.primero.faults.clear()


def locked(table: str) -> Presence:
    """Where a table of ONA is needed that somebody else holds."""

    @contextmanager
    def standing(graph: Graph) -> Iterator[Callable[[], bool]]:
        with psycopg.connect(graph.url) as other:
            other.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE".encode())
            waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = %s::regclass"
            yield lambda: other.execute(waiting, (table,)).fetchone() == (1,)

    return standing


MOMENTS: dict[str, Presence] = {
    "in mid-pull": silent,
    "while mapping": locked("locations_lookup"),
    "in mid-load": locked("primero_sync.runs"),
}


@pytest.mark.ci
def test_runs_killed_while_they_hold_children_and_the_one_that_heals_leave_no_marker(listening):
    """A power cut, or an operator's kill: what lies on the disk then lies there for whoever finds the disk."""
    for moment, standing in MOMENTS.items():
        with standing(listening.graph) as stands:
            child = start(listening)
            until = time.monotonic() + 60
            while not stands() and child.is_alive() and time.monotonic() < until:
                time.sleep(0.02)
            assert stands(), moment
            kill(child, after=0)
        assert child.exitcode == -signal.SIGKILL
        assert listening.found() == {}, moment
    assert finish([start(listening)]) == [0]
    said = (listening.folder / "said").read_text()
    assert "ona/cases" in said, "what was searched is what the command prints"
    listening.said.append(said)
