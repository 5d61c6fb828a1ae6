"""`quarantine` and `findings`: rows that were not loaded, and what the syncs noted of stored quarters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer

from primero_ona.cli import output
from primero_ona.cli.common import AsJson, ona_connection, stored_assets, sync_quarters
from primero_ona.mapping.labels import Labels
from primero_ona.mapping.result import to_decide
from primero_ona.ona.bookkeeping import Entry, list_entries
from primero_ona.pipeline.stored import MAPPED_CASES, MAPPED_SERVICES, UNDER18, StoredAssets
from primero_ona.quarters import Quarter

quarantine = typer.Typer(help="Rows that were not loaded: which and why, and syncing them again.", no_args_is_help=True)

QuarterOption = Annotated[str | None, typer.Option(help="Only this quarter, like 2024-Q1.")]


@quarantine.command("list")
def quarantine_list(
    quarter: QuarterOption = None,
    *,
    resolved: Annotated[bool, typer.Option("--resolved", help="Include resolved entries.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the cases in quarantine by Primero's ids, with reason, first and last seen. No personal values."""
    name = Quarter.parse(quarter).name if quarter else None
    with ona_connection() as connection:
        entries = list_entries(connection, quarter=name, resolved=resolved)
    if as_json:
        output.print_json(entries)
    else:
        _show_quarantine(entries)


@quarantine.command("retry")
def quarantine_retry(quarter: QuarterOption = None, *, as_json: AsJson = False) -> None:
    """Sync the quarters that have cases in quarantine; those that have become good leave it by themselves.

    Exit code 1 where some stay.
    """
    name = Quarter.parse(quarter).name if quarter else None
    with ona_connection() as connection:
        before = list_entries(connection, quarter=name)
    quarters = sorted({Quarter.parse(entry.quarter) for entry in before})
    outcomes = sync_quarters(quarters, quiet=as_json) if quarters else []
    with ona_connection() as connection:
        after = list_entries(connection, quarter=name)
    if as_json:
        synced = [output.as_json_of(outcome) for outcome in outcomes]
        output.print_json({"before": len(before), "open": after, "synced": synced})
    else:
        output.note(
            f"{len(quarters):,} quarters were synced again; {len(before):,} entries before, {len(after):,} now."
        )
        _show_quarantine(after)
    raise typer.Exit(max(int(bool(after)), output.exit_code(*(outcome.kind for outcome in outcomes))))


def _show_quarantine(entries: Sequence[Entry]) -> None:
    if not entries:
        output.note("The quarantine is empty.")
        return
    columns = ("quarter", "table", "Primero id", "reason", "rows", "first seen", "last seen", "resolved")
    rows = [
        (e.quarter, e.table_name, e.primero_id, e.reason, e.entries, e.first_seen, e.last_seen, e.resolved_at or "open")
        for e in entries
    ]
    output.out.print(output.table(columns, rows, texts=True))


def findings(
    quarter: Annotated[
        str | None, typer.Option(help="Only this quarter, like 2024-Q1; default: all that are stored.")
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Show why cases were included or not, codes that no table knows, and what has to be decided about them, with counts.

    Reads the stored partitions, so it needs their key. Counts of few children can point at one: do not pass them on.
    """
    with stored_assets() as stored:
        wanted = [Quarter.parse(quarter)] if quarter else stored.quarters(MAPPED_CASES)
        found = [entry for each in wanted for entry in _findings(stored, each)]
    if as_json:
        output.print_json(found)
    elif found:
        output.out.print(output.table(list(found[0]), [list(entry.values()) for entry in found], texts=True))
    else:
        output.note("Nothing is stored of these quarters.")


def _findings(stored: StoredAssets, quarter: Quarter) -> Iterator[dict[str, Any]]:
    """What the summaries of a quarter's partitions say, one entry for each reason, code and thing to decide."""
    accepted = Labels.load().accepted
    for asset in (UNDER18, MAPPED_CASES, MAPPED_SERVICES):
        try:
            summary = stored.summary(asset, quarter)
        except FileNotFoundError:
            continue
        codes = {f"{e['field']}: {e['code'] or '(not shown)'}": e["count"] for e in summary.get("findings", ())}
        kinds = {
            "reason": summary.get("reasons", {}),
            "quarantined": Counter(entry["reason"] for entry in summary.get("quarantine", ())),
            "not mapped": codes,
            "to decide": to_decide(summary.get("findings", ()), accepted, summary.get("rows", 0)),
        }
        for kind, counts in kinds.items():
            for what, count in counts.items():
                yield {"quarter": quarter.name, "asset": asset, "kind": kind, "what": what, "count": count}
