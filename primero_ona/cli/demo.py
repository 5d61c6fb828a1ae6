"""`demo` and `dev`: the whole thing on one machine, on the sandbox where no Primero and no ONA are set."""

from __future__ import annotations

from typing import Annotated

import typer

from primero_ona.cli import output
from primero_ona.cli.common import apply_schema, ona_connection, refresh_reference, sync_quarters
from primero_ona.cli.sync import make_report
from primero_ona.graph.runs import ensure_home
from primero_ona.graph.webserver import LINEAGE, run_ui_and_daemon
from primero_ona.ona.figure_reads import quarter_totals
from primero_ona.quarters import last_quarters
from primero_ona.report.tables import Period
from primero_ona.settings import GraphSettings, read_one

CasesOption = Annotated[int, typer.Option(min=1, help="Cases in the synthetic Primero.")]
SeedOption = Annotated[int, typer.Option(help="Seed of the synthetic data; the same seed gives the same cases.")]


def demo(cases: CasesOption = 3_000, seed: SeedOption = 1) -> None:
    """Sync eight quarters from the settings' Primero, or from the sandbox where none is set, and show what came."""
    from primero_ona.sandbox.demo_environment import QUARTERS, demo_environment  # noqa: PLC0415  an extra

    with demo_environment(cases=cases, seed=seed) as place:
        output.note(place.description)
        apply_schema()
        refreshed = refresh_reference(here=place.is_sandbox)
        if refreshed.failure:
            output.error(refreshed.failure)
            raise typer.Exit(output.exit_code(refreshed.kind))
        quarters = last_quarters(QUARTERS)
        outcomes = sync_quarters(quarters, here=place.is_sandbox)
        output.show_demo(outcomes)
        variants = read_one(GraphSettings).indicators
        with ona_connection() as connection:
            output.show_figures(quarters, quarter_totals(connection, variants), variants)
        code = output.exit_code(*(outcome.kind for outcome in outcomes))
        if not code:
            ended = quarters[-2:][0]
            output.note(f"The report of {ended}, to be opened in a browser, and its tables:")
            make_report(Period.of_quarter(ended), internal=True)
    if not code:
        output.note("Next: `make dev` opens the Dagster UI on these quarters.")
    raise typer.Exit(code)


def dev(
    port: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65_535,
            help="Port of the Dagster UI, on 127.0.0.1; default: 3000, or a free one where that is taken.",
        ),
    ] = None,
    cases: CasesOption = 3_000,
    seed: SeedOption = 1,
) -> None:
    """Open the Dagster UI on the settings' Primero and ONA, or on the sandbox where none is set."""
    from primero_ona.sandbox.demo_environment import demo_environment, free_port  # noqa: PLC0415  an extra

    ensure_home()
    chosen = free_port(port)
    with demo_environment(cases=cases, seed=seed) as place:
        output.note(place.description)
        if place.is_sandbox:
            apply_schema()
            refresh_reference(here=True)
        output.note(f"The Dagster UI: http://127.0.0.1:{chosen}{LINEAGE}  (stop with Ctrl-C)")
        code = run_ui_and_daemon(chosen)
    raise typer.Exit(code)
