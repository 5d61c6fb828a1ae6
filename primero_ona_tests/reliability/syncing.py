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
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from multiprocessing.process import BaseProcess
from pathlib import Path

from upath import UPath

from primero_ona.cli.exit_codes import exit_code
from primero_ona.errors import SyncError
from primero_ona.graph.io_manager import PartitionIOManager
from primero_ona.mapping.labels import Labels
from primero_ona.mapping.locations import Places
from primero_ona.mapping.streams import map_cases_stream, map_services_stream
from primero_ona.ona.bookkeeping import PULL_NUMBER, next_pull
from primero_ona.ona.connection import connect
from primero_ona.ona.load import load_quarter
from primero_ona.ona.lookup import read_places
from primero_ona.pipeline.extract import QuarterSink, window_of
from primero_ona.pipeline.stored import stored_assets
from primero_ona.primero.client import PrimeroClient
from primero_ona.primero.policy import PullPolicy
from primero_ona.primero.pull import pull_cases
from primero_ona.quarters import Quarter
from primero_ona.storage.frames import Frames
from primero_ona.storage.partitions import PartitionStore

#: Exit code of a child whose sync broke with something else than a failure of ours.
UNEXPECTED = 70

RAW = ("raw_reintegration_cases", "raw_under18_cases", "case_exits")


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
    start: str = "2023-Q4"

    @property
    def store(self) -> PartitionStore:
        return PartitionStore(UPath(self.storage), self.key)

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


def pull(place: Place, quarter: Quarter) -> None:
    """Pull a quarter into the store, as the raw assets do."""
    sink = QuarterSink(PartitionIOManager(lambda: place.store, stored_assets("")), quarter.key)
    with connect(place.ona_url) as conn:
        number = next_pull(conn)
    try:
        with place.client() as client:
            client.version()
            # Primero's clock decides which quarter is open: a test's stands in another year than this machine's.
            window = replace(window_of(quarter, PullPolicy()), is_open=quarter.is_open(client.now()))
            pull_cases(client, window, sink, empty_pause=0)
        sink.commit({PULL_NUMBER: number})
    except BaseException:
        sink.discard()
        raise


def _numbered(frames: Frames, number: int) -> Frames:
    return Frames.of(*list(frames), summary={**frames.summary, PULL_NUMBER: number})


def load(place: Place, quarter: Quarter, run_id: str) -> None:
    """Map what is stored of a quarter and load it, as the mapped assets and ONA's do."""
    store, stored = place.store, stored_assets("")
    reintegration, under18, exits = (store.open(store.base / asset / quarter.key, stored[asset]) for asset in RAW)
    labels = Labels.load()
    with connect(place.ona_url) as conn:
        places = Places.of(read_places(conn))
    number = under18.summary[PULL_NUMBER]
    cases = _numbered(map_cases_stream(reintegration, under18, places, labels), number)
    services = _numbered(map_services_stream(reintegration, under18, labels), number)
    with connect(place.ona_url) as conn:
        load_quarter(
            conn, quarter=quarter, run_id=run_id, cases=cases, services=services, exits=exits, now=datetime.now(UTC)
        )


def sync_rooms(place: Place, quarter: Quarter, *, fresh: bool = True) -> int:
    """Pull (unless stored raw data serves), map and load one quarter in this process; the exit code it deserves."""
    try:
        if fresh:
            pull(place, quarter)
        load(place, quarter, f"run-{os.getpid()}-{time.monotonic_ns()}")
    except SyncError as failure:
        return exit_code(failure.kind)
    except FileNotFoundError:
        return 1  # nothing stored yet
    except Exception as error:  # noqa: BLE001
        sys.stderr.write(f"unexpected {type(error).__name__}: {error}\n")
        return UNEXPECTED
    return 0


def _rooms(place: Place, key: str, fresh: bool) -> None:
    """Entry point of a child."""
    logging.disable(logging.CRITICAL)
    os._exit(sync_rooms(place, Quarter.parse(key), fresh=fresh))


def sync_dagster(place: Place, key: str) -> None:
    """Entry point of a child: a real Dagster run of the main job in the instance on disk; exits with its code."""
    logging.disable(logging.CRITICAL)
    os.environ.update(place.environment)
    from primero_ona.cli.common import sync_quarters

    try:
        (outcome,) = sync_quarters([Quarter.parse(key)], quiet=True)
    except SyncError as failure:
        os._exit(exit_code(failure.kind))
    sys.stderr.write(f"{outcome.failure}\n" if outcome.failure else "")
    sys.stderr.flush()
    os._exit(exit_code(outcome.kind))


_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload([__name__, "primero_ona.definitions", "primero_ona.cli.common"])


def start(place: Place, quarter: Quarter, *, dagster: bool = False, fresh: bool = True) -> BaseProcess:
    """Start a sync in a process of its own."""
    child = (
        _context.Process(target=sync_dagster, args=(place, quarter.key))
        if dagster
        else _context.Process(target=_rooms, args=(place, quarter.key, fresh))
    )
    child.start()
    return child


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


def home_with_settings(folder: Path) -> str:
    """A DAGSTER_HOME with the project's own dagster.yaml."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    (folder / "dagster.yaml").write_text((Path(__file__).parents[2] / "dagster.yaml").read_text())
    return str(folder)
