"""What commands share: options that occur more than once, and ways to the database and to a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Annotated, NoReturn

import dagster as dg
import psycopg
import typer

from primero_ona.cli import output
from primero_ona.errors import SyncError
from primero_ona.graph.partitions import quarterly_partitions, require_partition
from primero_ona.graph.queue import (
    NotLaunchedError,
    follow,
    is_served,
    last_beat,
    require_none_launched,
    submit,
    take_back,
)
from primero_ona.graph.resources import OnaDatabaseResource, PartitionStorage, PrimeroResource
from primero_ona.graph.runs import Outcome, RunOutcome, execute, open_instance
from primero_ona.ona.migrations import apply, plan
from primero_ona.pipeline.stored import REFERENCE, StoredAssets
from primero_ona.primero.client import PrimeroClient
from primero_ona.quarters import Quarter
from primero_ona.settings import (
    AlertSettings,
    GraphSettings,
    OnaSettings,
    PrimeroSettings,
    StorageSettings,
    read,
    read_one,
)

#: Exit code of a command that Ctrl-C ended, as a shell has it; and so many of the runs that it leaves are named.
INTERRUPTED, _NAMED = 130, 5

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a script instead of tables.")]


def ona_connection() -> AbstractContextManager[psycopg.Connection]:
    """A connection to the ONA database that the settings name."""
    return OnaDatabaseResource().connection()


def primero_client(total: float | None = None) -> PrimeroClient:
    """A client of the Primero that the settings name; `total`: seconds that all its questions may take together."""
    return PrimeroResource().client(total)


def apply_schema() -> int:
    """Add what is missing in ONA's database; how many changes that took."""
    with ona_connection() as connection:
        changes = plan(connection)
        apply(connection, changes)
    return len(changes)


def build_defs() -> dg.Definitions:
    """Build the graph; raises ConfigError where a setting that shapes it is malformed."""
    from primero_ona.definitions import build_defs  # noqa: PLC0415  makes the graph of the code location, too

    return build_defs()


@contextmanager
def stored_assets() -> Iterator[StoredAssets]:
    """The stored partitions that the settings name."""
    with open_instance() as instance:
        yield PartitionStorage().assets(instance)


def read_settings(*, primero: bool = True) -> GraphSettings:
    """Read all settings of a sync, so that one message names all that is wrong; return those of the graph."""
    read(*([PrimeroSettings] if primero else []), OnaSettings, StorageSettings, GraphSettings)
    return read_one(GraphSettings)


def refresh_reference(*, here: bool = False) -> RunOutcome:
    """Run the job that reads Primero's reference data, without which nothing can be mapped; `here`: see `sync_quarters`."""
    read_settings()
    outcome = RunOutcome()
    with open_instance() as instance, output.progress(1, quiet=True) as show:
        _run("refresh_reference", [outcome], instance, show, here=here)
    return outcome


def sync_quarters(
    wanted: Sequence[Quarter],
    *,
    quiet: bool = False,
    job_name: str = "sync_quarter",
    whole: bool = False,
    here: bool = False,
) -> list[Outcome]:
    """Run the main job, or another one by quarter, for each quarter in turn, showing progress.

    `whole`: all of the open quarter is walked, not its changes only. Where Dagster's daemon is alive its queue takes the runs,
    unless they have to be `here`: this process alone has the sandbox.
    """
    quarters = quarterly_partitions(read_settings(primero=job_name == "sync_quarter").start)
    for quarter in wanted:
        require_partition(quarters, quarter)
    outcomes = [Outcome(quarter=quarter, whole=whole) for quarter in wanted]
    with open_instance() as instance, output.progress(len(wanted), quiet=quiet) as show:
        if not PartitionStorage().assets(instance).store.partitions(REFERENCE):
            # The first sync of all: without the reference data nothing could be mapped.
            first = RunOutcome()
            _run("refresh_reference", [first], instance, show, here=here)
            if first.failure:
                return [Outcome(quarter=wanted[0], run_id=first.run_id, failure=first.failure, kind=first.kind)]
        _run(job_name, outcomes, instance, show, here=here)
    return outcomes


def _run(
    job_name: str, outcomes: Sequence[RunOutcome], instance: dg.DagsterInstance, show: output.Show, *, here: bool
) -> None:
    """Run a job once for each outcome, which says for which quarter, and fill in what came of it."""
    defs = build_defs()
    handed = last_beat(instance)
    runs = _submit(defs, job_name, outcomes, instance) if not here and is_served(instance) else []
    for number, outcome in enumerate(outcomes):
        label = outcome.quarter.label if isinstance(outcome, Outcome) else job_name
        try:
            if runs:
                outcome.run_id = runs[number]
                try:
                    follow(instance, runs[number], outcome, partial(show, number, label), handed)
                    continue
                except NotLaunchedError:
                    take_back(instance, runs[number + 1 :])
                    outcome.run_id, runs = "", []
            if not here:
                require_none_launched(instance)
        except SyncError as error:
            # Other quarters have come, or can: this one alone failed.
            outcome.failure, outcome.kind = error.shown, error.kind
            continue
        except (KeyboardInterrupt, Exception) as end:  # noqa: BLE001 it is raised again
            _leave(runs[number:], end)
        show(number, label, "runs")
        execute(defs.resolve_job_def(job_name), instance, outcome)


def _submit(
    defs: dg.Definitions, job_name: str, outcomes: Sequence[RunOutcome], instance: dg.DagsterInstance
) -> list[str]:
    """Put a run for each outcome into the daemon's queue; their ids. None of them is left there unnamed."""
    runs: list[str] = []
    try:
        for outcome in outcomes:
            runs += [submit(defs, job_name, instance, outcome.tags)]
    except KeyboardInterrupt as end:
        _leave(runs, end)
    except Exception as end:  # noqa: BLE001 it is raised again
        _leave(take_back(instance, runs), end)
    return runs


def _leave(runs: Sequence[str], end: BaseException) -> NoReturn:
    """Say where the UI shows the runs that go on without the command, which a fault or Ctrl-C ends, and end it."""
    if not runs:
        raise end
    address = read_one(AlertSettings).ui_url.rstrip("/")
    pages = ", ".join(f"{address}/runs/{run_id}" for run_id in runs[:_NAMED])
    pages += f" and {len(runs) - _NAMED} more" if len(runs) > _NAMED else ""
    if not isinstance(end, KeyboardInterrupt):
        output.error(f"Dagster's daemon goes on with what was asked before this fault: {pages}")
        raise end
    output.error(f"interrupted, but Dagster's daemon goes on with what was asked; follow or terminate it at {pages}")
    raise typer.Exit(INTERRUPTED)
