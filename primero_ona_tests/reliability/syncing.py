"""Syncs in processes of their own, which a test may kill: as real Dagster runs, or as the steps alone, which is quicker.

Children come from a fork server that has imported everything, so that one starts in a few hundredths of a second and is
at work when it is killed.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any
from unittest import mock

import psycopg
import pytest
from typer.testing import CliRunner, Result

from primero_ona.cli.app import COMMANDS, app, main
from primero_ona.cli.output import exit_code
from primero_ona.errors import SyncError
from primero_ona.ona.bookkeeping import RECEIVED
from primero_ona.ona.connection import connect
from primero_ona.ona.reconcile import remove_gone
from primero_ona.pipeline import extract, sink
from primero_ona.pipeline.carry import CARRY
from primero_ona.pipeline.load import load_stored_quarter
from primero_ona.pipeline.reconcile import Reconciliation, reconcile
from primero_ona.pipeline.reference import scope_in_use
from primero_ona.pipeline.stored import (
    EXITS,
    MAPPED_CASES,
    MAPPED_SERVICES,
    REFERENCE,
    REINTEGRATION,
    UNDER18,
    Scope,
    StoredAssets,
)
from primero_ona.pipeline.transform import map_quarter
from primero_ona.primero.client import PrimeroClient
from primero_ona.primero.fields import PullPolicy
from primero_ona.quarters import Quarter
from primero_ona.storage.partitions import PartitionStore
from primero_ona_tests.harness import Q1, START, Graph, home_with_settings, seed_reference

#: Exit code of a child whose sync broke with something else than a failure of ours.
UNEXPECTED = 70


@dataclass(frozen=True)
class Place:
    """Where a sync works: Primero, ONA, stored partitions; `home` is a DAGSTER_HOME on disk, for real runs."""

    primero_url: str
    username: str
    password: str = field(repr=False)
    ona_url: str
    storage: str
    key: str = field(repr=False)
    home: str | None = None
    start: str = START
    policy: PullPolicy = field(default_factory=PullPolicy)
    #: Variables with which a bucket is found.
    bucket: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def stored(self) -> StoredAssets:
        return StoredAssets(lambda: PartitionStore(self.storage, self.key), self.policy.suffix)

    def connect(self) -> psycopg.Connection:
        return connect(self.ona_url)

    def seed(self) -> None:
        """Store the reference data where none is, as the first command of an installation does."""
        if not self.stored.store.partitions(REFERENCE):
            seed_reference(self.stored, self.connect, key=self.key)

    def client(self) -> PrimeroClient:
        return PrimeroClient(self.primero_url, self.username, self.password, pause=0)

    @property
    def environment(self) -> dict[str, str]:
        """The settings of the command line."""
        return {
            "PRIMERO_URL": self.primero_url,
            "PRIMERO_USERNAME": self.username,
            "PRIMERO_PASSWORD": self.password,
            "ONA_DATABASE_URL": self.ona_url,
            "PRIMERO_ONA_STORAGE_URL": self.storage,
            "PRIMERO_ONA_STORAGE_KEYS": self.key,
            "PRIMERO_ONA_START": self.start,
            "DAGSTER_HOME": self.home or "",
            "DAGSTER_DISABLE_TELEMETRY": "1",
        }


def place_of(graph: Graph, home: str | None = None) -> Place:
    """Where the syncs of a graph work."""
    primero = graph.primero
    return Place(primero.url, primero.username, primero.password, graph.url, str(graph.folder), graph.key, home)


def sync_plainly(graph: Graph, *quarters: Quarter) -> None:
    """Sync quarters (2024-Q1) of a graph by the steps alone, where a test needs what they leave: in a third of the time."""
    assert [sync_rooms(place_of(graph), quarter) for quarter in quarters or (Q1,)] == [0] * max(1, len(quarters))


def terminal_of(graph: Graph, folder: Path, environment: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs `primero-ona` with these arguments on a graph, in this process, with a DAGSTER_HOME in the folder."""
    for name, value in place_of(graph, home_with_settings(folder / "home")).environment.items():
        environment.setenv(name, value)
    environment.chdir(folder)
    return lambda *words: CliRunner().invoke(app, list(words))


#: The reasons that stored rows show, so that they are counted again where rows are carried over.
_SHOWN = (
    "undergoing reintegration", "under 18", "in both",
    sink.EXIT_REASON, sink.PRESENT_AGE_REASON, sink.GBV_REASON, sink.ERASED_REASON,
)  # fmt: skip


def pull(place: Place, quarter: Quarter, *, whole: bool = False) -> extract.Pulled:
    """Pull a quarter into the store, as the raw assets do."""
    with place.client() as client:
        client.version()
        # Primero's clock decides which quarter is open: a test's stands in another year than this machine's.
        now = client.now()
        return extract.pull_quarter(client, place.connect, place.stored, quarter, place.policy, whole=whole, now=now)


def stored_content(place: Place, quarter: Quarter) -> dict[str, Any]:
    """What is stored of a quarter as pulled: rows by asset, in the order of their ids, and the reasons that rows show."""
    found: dict[str, Any] = {}
    for asset in (REINTEGRATION, UNDER18, EXITS):
        file = place.stored.open_file(asset, quarter)
        rows = [row for table in file.tables() for row in table.to_pylist()]
        found[asset] = sorted(rows, key=lambda row: str(row["id"]))
    summary = file.footer["summary"]
    return found | {
        "reasons": {reason: summary["reasons"].get(reason, 0) for reason in _SHOWN if not place.policy.modules},
        "erased": summary[CARRY]["erased"],
        "ahead": sorted(summary[RECEIVED]["ahead"]),
    }


def load(place: Place, quarter: Quarter, run_id: str) -> None:
    """Map what is stored of a quarter and load it, as the mapped assets and ONA's do."""
    for asset in (MAPPED_CASES, MAPPED_SERVICES):
        map_quarter(place.connect, place.stored, quarter, asset)
    with place.connect() as conn:
        load_stored_quarter(conn, place.stored, quarter, run_id, datetime.now(UTC))


def reconciled(place: Place, scope: Scope) -> Reconciliation:
    """Compare all of Primero with all of ONA."""
    place.seed()
    with place.client() as client, place.connect() as conn:
        return reconcile(client, conn, scope_in_use(scope, place.stored))


def repaired(place: Place, scope: Scope) -> Reconciliation:
    """Repair what a reconciliation finds, as `verify --repair` does; what it found."""
    found = reconciled(place, scope)
    for quarter in found.to_sync:
        assert sync_rooms(place, quarter, whole=True) == 0
    if found.removable:
        with place.connect() as conn:
            remove_gone(conn, found.total, found.removable)
    return found


def sync_rooms(place: Place, quarter: Quarter, *, fresh: bool = True, whole: bool = False) -> int:
    """Pull (unless stored raw data serves), map and load one quarter in this process; the exit code it deserves."""
    try:
        place.seed()
        if fresh:
            pull(place, quarter, whole=whole)
        load(place, quarter, f"run-{os.getpid()}-{time.monotonic_ns()}")
    except SyncError as failure:
        return exit_code(failure.kind)
    except Exception as error:  # noqa: BLE001
        sys.stderr.write(f"unexpected {type(error).__name__}: {error}\n")
        return UNEXPECTED
    return 0


def _rooms(place: Place, key: str, fresh: bool) -> None:
    """Entry point of a child."""
    logging.disable(logging.CRITICAL)
    os.environ.update(place.bucket)
    os._exit(sync_rooms(place, Quarter.parse(key), fresh=fresh))


def sync_dagster(place: Place, key: str) -> None:
    """Entry point of a child: a real Dagster run of the main job in the instance on disk; exits with its code."""
    logging.disable(logging.CRITICAL)
    os.environ.update(place.environment)
    from primero_ona.cli.common import sync_quarters

    try:
        place.seed()
        (outcome,) = sync_quarters([Quarter.parse(key)], quiet=True)
    except SyncError as failure:
        os._exit(exit_code(failure.kind))
    sys.stderr.write(f"{outcome.failure}\n" if outcome.failure else "")
    sys.stderr.flush()
    os._exit(exit_code(outcome.kind))


_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    [__name__, "primero_ona.definitions", *(f"primero_ona.cli.{each}" for each in COMMANDS), "pandera.pandas", "upath"]
)


def start(place: Place, quarter: Quarter, *, dagster: bool = False, fresh: bool = True) -> BaseProcess:
    """Start a sync in a process of its own."""
    child = (
        _context.Process(target=sync_dagster, args=(place, quarter.key))
        if dagster
        else _context.Process(target=_rooms, args=(place, quarter.key, fresh))
    )
    return _begun(child)


def _begun(child: BaseProcess) -> BaseProcess:
    child.start()
    # Each start of a process asks after all earlier children, those of other threads among them; two threads that ask at the
    # same time read one exit code between them, and the second takes the child for broken (255).
    multiprocessing.process._children.discard(child)  # type: ignore[attr-defined]
    return child


def start_command(
    words: Sequence[str], folder: Path, variables: Mapping[str, str], output: Path, *, pauses: bool = True
) -> BaseProcess:
    """Start `primero-ona` with these words and variables in a process of its own; `output` gets .out and .err.

    Without pauses, the client of Primero asks again at once.
    """
    return _begun(_context.Process(target=_command, args=(words, folder, dict(variables), output, pauses)))


def _command(words: Sequence[str], folder: Path, variables: Mapping[str, str], output: Path, pauses: bool) -> None:
    """Entry point of a child: what the interpreter and the shell do before a command, and the command."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    for descriptor, name in ((1, "out"), (2, "err")):
        with output.with_suffix(f".{name}").open("wb") as file:
            os.dup2(file.fileno(), descriptor)
    letters = variables.get("PYTHONIOENCODING", "utf-8")
    sys.stdout, sys.stderr = open(1, "w", encoding=letters), open(2, "w", encoding=letters)  # noqa: SIM115
    sys.argv = ["primero-ona", *words]
    code: Any = 0
    with nullcontext() if pauses else mock.patch("primero_ona.primero.client.time.sleep"):
        try:
            main()
        except SystemExit as ended:
            code = ended.code or 0
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def locks(place: Place) -> set[Path]:
    """The locks of the processes that execute a Dagster run, or did until they were killed."""
    return set(Path(place.home or "").glob("processes/*.lock"))


def wait_for_run(place: Place, child: BaseProcess, before: set[Path], within: float = 60) -> None:
    """Wait until a child executes its Dagster run, which has its lock then; on a busy machine it takes its time."""
    until = time.monotonic() + within
    while child.is_alive() and locks(place) <= before and time.monotonic() < until:
        time.sleep(0.01)


def kill(child: BaseProcess, after: float) -> None:
    """Kill -9 a child after so many seconds, if it is still at work."""
    child.join(after)
    if child.is_alive() and child.pid:
        with suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGKILL)
    child.join()


def finish(children: Sequence[BaseProcess], within: float = 120) -> list[int]:
    """Wait for children; their exit codes."""
    for child in children:
        child.join(within)
        if child.is_alive() and child.pid:
            os.kill(child.pid, signal.SIGKILL)
            raise AssertionError("a sync did not end")
    return [child.exitcode or 0 for child in children]
