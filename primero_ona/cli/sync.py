"""`sync`, `backfill` and `remap`: real Dagster runs, in the instance of DAGSTER_HOME; `status` and `report`: what came of them."""

from __future__ import annotations

import webbrowser
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from primero_ona.cli import output
from primero_ona.cli.common import AsJson, ona_connection, stored_assets, sync_quarters
from primero_ona.errors import DataError, UsageError
from primero_ona.graph.resources import default_reports
from primero_ona.graph.runs import Outcome
from primero_ona.ona.bookkeeping import quarter_status
from primero_ona.pipeline.stored import UNDER18, outdated_quarters
from primero_ona.quarters import Quarter, current_quarter, quarters_between
from primero_ona.report.files import write_report
from primero_ona.report.tables import Period
from primero_ona.settings import GraphSettings, read_one

FirstOption = Annotated[str, typer.Option("--from", help="First quarter, like 2023-Q1.")]
LastOption = Annotated[str | None, typer.Option("--to", help="Last quarter; default: the open one.")]


def sync(
    quarter: Annotated[str | None, typer.Option(help="Which quarter, like 2024-Q1; default: the open one.")] = None,
    *,
    full: Annotated[
        bool,
        typer.Option("--full", help="Pull all of the open quarter, not only what has changed since its last pull."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Pull, map, load and check one quarter. Safe to repeat."""
    wanted = Quarter.parse(quarter) if quarter else current_quarter()
    _finish(sync_quarters([wanted], quiet=as_json, whole=full), as_json=as_json)


def backfill(first: FirstOption, last: LastOption = None, *, as_json: AsJson = False) -> None:
    """Sync several quarters, one run each, oldest first. A quarter that fails does not stop the others."""
    _finish(sync_quarters(_range(first, last), quiet=as_json), as_json=as_json)


def remap(first: FirstOption, last: LastOption = None, *, as_json: AsJson = False) -> None:
    """Map and load stored quarters again with the labels and names of now, without asking Primero."""
    asked = _range(first, last)
    with stored_assets() as assets:
        stored = set(assets.quarters(UNDER18))
    wanted = [quarter for quarter in asked if quarter in stored]
    if not wanted:
        raise DataError(
            f"none of the quarters {asked[0]} to {asked[-1]} is stored; `primero-ona backfill` brings them",
            see="stored-partition",
        )
    if not as_json and len(wanted) < len(asked):
        missing = ", ".join(str(quarter) for quarter in asked if quarter not in stored)
        output.note(f"Not stored, so left as they are: {missing}; `primero-ona backfill` brings them.")
    _finish(sync_quarters(wanted, quiet=as_json, job_name="remap_quarter"), as_json=as_json)


def _range(first: str, last: str | None) -> list[Quarter]:
    """The quarters that the options --from and --to name."""
    start, end = Quarter.parse(first), Quarter.parse(last) if last else current_quarter()
    if end < start:
        raise UsageError(f"--from {start} is later than --to {end}")
    return quarters_between(start, end)


def status(*, as_json: AsJson = False) -> None:
    """Show which quarters are loaded, when, how many rows, what is stale, and which another version loaded."""
    rules = read_one(GraphSettings).policy.suffix
    with ona_connection() as connection:
        outdated = {quarter.name for quarter in outdated_quarters(connection, rules)}
        output.show_status(quarter_status(connection), outdated, as_json=as_json)


def _finish(outcomes: Sequence[Outcome], *, as_json: bool) -> None:
    """Show the outcomes and leave with the largest of their exit codes."""
    output.show_outcomes(outcomes, as_json=as_json)
    raise typer.Exit(output.exit_code(*(outcome.kind for outcome in outcomes)))


def report(
    quarter: Annotated[str | None, typer.Option(help="Quarter of the report, as 2024-Q1.")] = None,
    year: Annotated[
        int | None, typer.Option(help="Year of the report, in place of a quarter.", min=1900, max=9999)
    ] = None,
    internal: Annotated[
        bool,
        typer.Option("--internal", help="The exact edition, which may not be passed on, in place of the public one."),
    ] = False,
    to: Annotated[
        Path | None, typer.Option(help="Folder of the files; default: the one of PRIMERO_ONA_REPORTS.", file_okay=False)
    ] = None,
    opened: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> None:
    """Write the report of a quarter or a year: figures, their definitions, and how far they can be relied on."""
    if (quarter is None) == (year is None):
        raise UsageError("name one of --quarter and --year")

    period = Period.of_quarter(Quarter.parse(quarter)) if quarter is not None else Period.of_year(year or 0)
    page = make_report(period, internal=internal, folder=to)
    if opened:
        webbrowser.open(page.resolve().as_uri())


def make_report(period: Period, *, internal: bool, folder: Path | None = None) -> Path:
    """Write a report, name its files, and return the page."""
    settings = read_one(GraphSettings)
    with ona_connection() as connection:
        paths = write_report(
            connection,
            period,
            settings.indicators,
            "internal" if internal else "public",
            folder or settings.reports or default_reports(None),
            datetime.now(UTC),
        )
    for path in paths:
        output.note(str(path))
    return paths[0]
