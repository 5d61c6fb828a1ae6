"""What commands share: options that occur more than once, and ways to the database and to a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from primero_ona.cli import output
from primero_ona.quarters import Quarter

if TYPE_CHECKING:
    import psycopg

    from primero_ona.graph.runs import Outcome, RunOutcome
    from primero_ona.pipeline.stored import StoredAssets

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a script instead of tables.")]


@contextmanager
def ona_connection() -> Iterator[psycopg.Connection]:
    """A connection to the ONA database that the settings name."""
    from primero_ona.graph.resources import OnaDatabaseResource

    with OnaDatabaseResource().connection() as connection:
        yield connection


def apply_schema() -> int:
    """Add what is missing in ONA's database; how many changes that took."""
    from primero_ona.ona.migrations import apply, plan

    with ona_connection() as connection:
        changes = plan(connection)
        apply(connection, changes)
    return len(changes)


@contextmanager
def stored_assets() -> Iterator[StoredAssets]:
    """The stored partitions that the settings name."""
    from primero_ona.graph.resources import PartitionStorage
    from primero_ona.graph.runs import ensure_home, open_instance

    ensure_home()
    with open_instance() as instance:
        yield PartitionStorage().assets(instance)


def refresh_reference() -> RunOutcome:
    """Run the job that reads Primero's reference data, without which nothing can be mapped."""
    from primero_ona.graph.runs import ensure_home, open_instance, run_unpartitioned
    from primero_ona.settings import GraphSettings, OnaSettings, PrimeroSettings, StorageSettings, read

    read(PrimeroSettings, OnaSettings, StorageSettings, GraphSettings)
    ensure_home()
    from primero_ona.definitions import build_defs

    with open_instance() as instance:
        return run_unpartitioned(build_defs().resolve_job_def("refresh_reference"), instance)


def sync_quarters(
    wanted: Sequence[Quarter], *, quiet: bool = False, job_name: str = "sync_quarter", whole: bool = False
) -> list[Outcome]:
    """Run the main job, or another one by quarter, for each quarter in turn, showing progress; `whole` as for `sync_quarter`."""
    from primero_ona.graph.partitions import quarterly_partitions, require_partition
    from primero_ona.graph.resources import PartitionStorage
    from primero_ona.graph.runs import Outcome, ensure_home, open_instance, run_unpartitioned, sync_quarter
    from primero_ona.pipeline.stored import REFERENCE
    from primero_ona.settings import GraphSettings, OnaSettings, PrimeroSettings, StorageSettings, read, read_one

    primero = [PrimeroSettings] if job_name == "sync_quarter" else []
    read(*primero, OnaSettings, StorageSettings, GraphSettings)
    quarters = quarterly_partitions(read_one(GraphSettings).start)
    for quarter in wanted:
        require_partition(quarters, quarter)
    ensure_home()
    from primero_ona.definitions import build_defs

    defs = build_defs()
    job = defs.resolve_job_def(job_name)
    with open_instance() as instance, output.progress(len(wanted), quiet=quiet) as advance:
        outcomes: list[Outcome] = []
        if not PartitionStorage().assets(instance).store.partitions(REFERENCE):
            # The first sync of all: without the reference data nothing could be mapped.
            first = run_unpartitioned(defs.resolve_job_def("refresh_reference"), instance)
            if first.failure:
                return [Outcome(quarter=wanted[0], run_id=first.run_id, failure=first.failure, kind=first.kind)]
        for quarter in wanted:
            advance(quarter.label)
            outcomes.append(sync_quarter(job, instance, quarter, whole=whole))
        return outcomes
