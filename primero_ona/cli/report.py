"""`report`: the indicators of a quarter or a year as a page, a workbook and CSV."""

from __future__ import annotations

import webbrowser
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from primero_ona.cli import output
from primero_ona.cli.common import ona_connection
from primero_ona.errors import UsageError
from primero_ona.quarters import Quarter

if TYPE_CHECKING:
    from primero_ona.report.tables import Period


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
    from primero_ona.report.tables import Period

    period = Period.of_quarter(Quarter.parse(quarter)) if quarter is not None else Period.of_year(year or 0)
    page = make_report(period, internal=internal, folder=to)
    if opened:
        webbrowser.open(page.resolve().as_uri())


def make_report(period: Period, *, internal: bool, folder: Path | None = None) -> Path:
    """Write a report, name its files, and return the page."""
    from primero_ona.graph.resources import default_reports
    from primero_ona.report.files import write_report
    from primero_ona.settings import GraphSettings, read_one

    settings = read_one(GraphSettings)
    with ona_connection() as connection:
        paths = write_report(
            connection,
            period,
            settings.indicators,
            "internal" if internal else "public",
            folder or settings.reports_folder or default_reports(None),
            datetime.now(UTC),
        )
    for path in paths:
        output.note(str(path))
    return paths[0]
