"""The command `primero-ona`: everything that an operator or a script does without the Dagster UI.

What belongs here: arguments, exit codes, and which room is asked. How results look is in `console.py`, running the graph
in `runs.py`. Exit codes: 0 done; 1 the data or a check failed; 2 wrong usage, or a setting missing or malformed; 3 Primero
or ONA could not be reached or refused us. Heavy imports are inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from primero_ona import console
from primero_ona.failures import SettingsFailure, SyncFailure
from primero_ona.quarters import Quarter, current_quarter, last_quarters

if TYPE_CHECKING:
    import psycopg

    from primero_ona.runs import Outcome

app = typer.Typer(
    help="Child-protection cases from Primero to the ONA dashboards, quarter by quarter.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
schema_app = typer.Typer(help="ONA's tables: what is missing, and adding it.", no_args_is_help=True)
keys_app = typer.Typer(help="Keys of the stored partitions.", no_args_is_help=True)
app.add_typer(schema_app, name="schema")
app.add_typer(keys_app, name="keys")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a script instead of tables.")]
CasesOption = Annotated[int, typer.Option(min=1, help="Cases in the synthetic Primero.")]
SeedOption = Annotated[int, typer.Option(help="Seed of the synthetic data; the same seed gives the same cases.")]


def main() -> None:
    """Run the command line; a failure is one plain message and an exit code, never a traceback."""
    try:
        app()
    except SyncFailure as failure:
        console.error(str(failure))
        sys.exit(failure.exit_code)


@app.command()
def sync(
    quarter: Annotated[str | None, typer.Option(help="Which quarter, like 2024-Q1; default: the open one.")] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Pull, map, load and check one quarter. Safe to repeat."""
    wanted = Quarter.parse(quarter) if quarter else current_quarter()
    _finish(_sync([wanted], quiet=as_json), as_json=as_json)


@app.command()
def backfill(
    first: Annotated[str, typer.Option("--from", help="First quarter, like 2023-Q1.")],
    last: Annotated[str | None, typer.Option("--to", help="Last quarter; default: the open one.")] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Sync several quarters, one run each, oldest first. A quarter that fails does not stop the others."""
    start, end = Quarter.parse(first), Quarter.parse(last) if last else current_quarter()
    if end < start:
        raise SettingsFailure(f"--from {start} is later than --to {end}")
    wanted = [start]
    while wanted[-1] < end:
        wanted.append(wanted[-1].next())
    _finish(_sync(wanted, quiet=as_json), as_json=as_json)


@app.command()
def status(*, as_json: AsJson = False) -> None:
    """Show which quarters are loaded, when, how many rows, and what is stale."""
    from primero_ona.ona.status import quarter_status  # noqa: PLC0415

    with _ona() as connection:
        console.show_status(quarter_status(connection), as_json=as_json)


@app.command()
def demo(cases: CasesOption = 3_000, seed: SeedOption = 1) -> None:
    """Sync eight quarters from the settings' Primero, or from the sandbox where none is set, and show what came."""
    from primero_ona.sandbox.surroundings import QUARTERS, surroundings  # noqa: PLC0415

    with surroundings(cases=cases, seed=seed) as place:
        console.note(place.told)
        _apply_schema()
        outcomes = _sync(last_quarters(QUARTERS))
        console.show_demo(outcomes)
    code = max(outcome.exit_code for outcome in outcomes)
    if not code:
        console.note("Next: `make dev` opens the Dagster UI on these quarters.")
    raise typer.Exit(code)


@app.command()
def dev(
    port: Annotated[int, typer.Option(help="Port of the Dagster UI, on 127.0.0.1.")] = 3000,
    cases: CasesOption = 3_000,
    seed: SeedOption = 1,
) -> None:
    """Open the Dagster UI on the settings' Primero and ONA, or on the sandbox where none is set."""
    from primero_ona.runs import ensure_home  # noqa: PLC0415
    from primero_ona.sandbox.surroundings import run_dagster_dev, surroundings  # noqa: PLC0415

    ensure_home()
    with surroundings(cases=cases, seed=seed) as place:
        console.note(place.told)
        if place.is_sandbox:
            _apply_schema()
        console.note(f"The Dagster UI: http://127.0.0.1:{port}{console.LINEAGE}  (stop with Ctrl-C)")
        code = run_dagster_dev(port)
    raise typer.Exit(code)


@schema_app.command("plan")
def schema_plan(*, as_json: AsJson = False) -> None:
    """Print what is missing in ONA's database, and the SQL that would add it. Changes nothing."""
    from primero_ona.ona.migrations import plan  # noqa: PLC0415

    with _ona() as connection:
        console.show_changes(plan(connection), as_json=as_json)


@schema_app.command("apply")
def schema_apply() -> None:
    """Add what is missing in ONA's database; nothing is ever changed or removed."""
    console.note(f"{_apply_schema()} changes made; ONA's tables are as this version needs them.")


@keys_app.command("new")
def keys_new() -> None:
    """Print a new key for PRIMERO_ONA_STORAGE_KEYS."""
    from cryptography.fernet import Fernet  # noqa: PLC0415

    typer.echo(Fernet.generate_key().decode())


def _sync(wanted: list[Quarter], *, quiet: bool = False) -> list[Outcome]:
    """Run the main job for each quarter in turn, showing progress."""
    import dagster as dg  # noqa: PLC0415

    from primero_ona.partitions import quarterly_partitions, require_partition  # noqa: PLC0415
    from primero_ona.runs import ensure_home, sync_quarter  # noqa: PLC0415
    from primero_ona.settings import GraphSettings, OnaSettings, PrimeroSettings, StorageSettings, read, read_one  # noqa: PLC0415

    read(PrimeroSettings, OnaSettings, StorageSettings, GraphSettings)
    quarters = quarterly_partitions(read_one(GraphSettings).start)
    for quarter in wanted:
        require_partition(quarters, quarter)
    ensure_home()
    from primero_ona.definitions import build_defs  # noqa: PLC0415

    job = build_defs().resolve_job_def("sync_quarter")
    with dg.DagsterInstance.get() as instance, console.progress(len(wanted), quiet=quiet) as advance:
        outcomes = []
        for quarter in wanted:
            advance(quarter.label)
            outcomes.append(sync_quarter(job, instance, quarter))
        return outcomes


def _finish(outcomes: list[Outcome], *, as_json: bool) -> None:
    """Show the outcomes and leave with the largest of their exit codes."""
    console.show_outcomes(outcomes, as_json=as_json)
    raise typer.Exit(max(outcome.exit_code for outcome in outcomes))


def _apply_schema() -> int:
    from primero_ona.ona.migrations import apply, plan  # noqa: PLC0415

    with _ona() as connection:
        changes = plan(connection)
        apply(connection, changes)
    return len(changes)


@contextmanager
def _ona() -> Iterator[psycopg.Connection]:
    from primero_ona.resources import OnaDatabaseResource  # noqa: PLC0415

    with OnaDatabaseResource().connection() as connection:
        yield connection


if __name__ == "__main__":
    main()
