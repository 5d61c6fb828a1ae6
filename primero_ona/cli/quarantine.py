"""`quarantine`: rows that were not loaded, and syncing them again."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from primero_ona.cli import output, output_reconciliation
from primero_ona.cli.common import AsJson, ona_connection, sync_quarters
from primero_ona.cli.exit_codes import exit_code
from primero_ona.quarters import Quarter

app = typer.Typer(help="Rows that were not loaded: which and why, and syncing them again.", no_args_is_help=True)

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
    """Sync the quarters that have cases in quarantine; those that have become good leave it by themselves.

    Exit code 1 where some stay.
    """
    from primero_ona.ona.bookkeeping import list_entries

    name = Quarter.parse(quarter).name if quarter else None
    with ona_connection() as connection:
        before = list_entries(connection, quarter=name)
    quarters = sorted({Quarter.parse(entry.quarter) for entry in before})
    outcomes = sync_quarters(quarters, quiet=as_json) if quarters else []
    with ona_connection() as connection:
        after = list_entries(connection, quarter=name)
    if as_json:
        synced = [output.as_json_of(outcome) for outcome in outcomes]
        output.print_json({"before": len(before), "open": [asdict(entry) for entry in after], "synced": synced})
    else:
        output.note(
            f"{len(quarters):,} quarters were synced again; {len(before):,} entries before, {len(after):,} now."
        )
        output_reconciliation.show_quarantine(after)
    raise typer.Exit(max([1 if after else 0, *(exit_code(outcome.kind) for outcome in outcomes)]))
