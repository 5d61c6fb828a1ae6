"""`quarantine`: rows that are in quarantine, and trying them again."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from primero_ona.cli import output, output_reconciliation
from primero_ona.cli.common import AsJson, ona_connection
from primero_ona.cli.verify import run_mending
from primero_ona.quarters import Quarter

app = typer.Typer(help="Rows in quarantine: which and why, and trying them again.", no_args_is_help=True)

QuarterOption = Annotated[str | None, typer.Option(help="Only this quarter, like 2024-Q1.")]


@app.command("list")
def quarantine_list(
    quarter: QuarterOption = None,
    *,
    resolved: Annotated[bool, typer.Option("--resolved", help="Include resolved entries.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the cases in quarantine by Primero's ids, with reason, first and last seen. No personal values."""
    from primero_ona.ona.bookkeeping import list_entries

    name = Quarter.parse(quarter).name if quarter else None
    with ona_connection() as connection:
        entries = list_entries(connection, quarter=name, resolved=resolved)
    if as_json:
        output.print_json([asdict(entry) for entry in entries])
    else:
        output_reconciliation.show_quarantine(entries)


@app.command("retry")
def quarantine_retry(quarter: QuarterOption = None, *, as_json: AsJson = False) -> None:
    """Fetch the cases in quarantine again and load those that have become good; they leave it by themselves.

    Exit code 1 where some stay.
    """
    from primero_ona.ona.bookkeeping import list_entries

    name = Quarter.parse(quarter).name if quarter else None
    with ona_connection() as connection:
        before = list_entries(connection, quarter=name)
    cases = sorted({entry.primero_id for entry in before if entry.primero_id})
    mended = run_mending(cases) if cases else None
    with ona_connection() as connection:
        after = list_entries(connection, quarter=name)
    if as_json:
        done = asdict(mended) if mended else None
        output.print_json({"before": len(before), "open": [asdict(entry) for entry in after], "mended": done})
    else:
        output.note(f"{len(cases):,} cases were tried again; {len(before):,} entries before, {len(after):,} now.")
        output_reconciliation.show_quarantine(after)
    raise typer.Exit(1 if after else 0)
