"""How a reconciliation and the quarantine look in a terminal: counts and Primero's opaque ids, never a row of a case."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from primero_ona.cli import output
from primero_ona.contract.tables import BIRTH_FIELD
from primero_ona.errors import NAMED_CASES
from primero_ona.primero.fields import WITHOUT_BIRTH

if TYPE_CHECKING:
    from primero_ona.ona.bookkeeping import Entry
    from primero_ona.pipeline.reconcile import Reconciliation

_COLUMNS = (
    "primero", "ona", "missing", "extra", "stale", "different", "services", "quarantined", "pending",
)  # fmt: skip


def show_reconciliation(found: Reconciliation) -> None:
    """One line for each quarter and one for all, then what it means."""
    table = Table(header_style="bold")
    table.add_column("quarter", no_wrap=True)
    for name in _COLUMNS:
        table.add_column("other services" if name == "services" else name, justify="right")
    for quarter in found.quarters:
        table.add_row(quarter.quarter, *_cells(quarter))
    table.add_section()
    table.add_row("total", *_cells(found.total), style="bold")
    output.out.print(table)
    if BIRTH_FIELD in found.inventory.fields.missing:
        output.note(f"Note: {WITHOUT_BIRTH}.")
    total = found.total
    if total.extra:
        output.note(
            f"Of {total.extra:,} extra, {total.gone:,} are gone from Primero, {total.out_of_scope:,} out of scope."
        )
    if total.early:
        output.note(f"Of the extra, {total.early:,} were changed before PRIMERO_ONA_START. {_named(found.early)}")
    if ahead := found.inventory.ahead:
        output.note(
            f"{len(ahead):,} cases are stamped more than an hour ahead of Primero's own time and count for the open quarter; "
            f"let Primero's administrators look at the server's clock. {_named(ahead)}"
        )
    sentence = found.sentence()
    output.note(f"{sentence[0].upper()}{sentence[1:]}.")


def _named(cases: Sequence[str]) -> str:
    return f"{'The first' if len(cases) > NAMED_CASES else 'Primero ids'}: {', '.join(cases[:NAMED_CASES])}."


def _cells(quarter: Any) -> list[str]:  # noqa: ANN401
    return [f"{getattr(quarter, name):,}" for name in _COLUMNS]


def show_quarantine(entries: Sequence[Entry]) -> None:
    """The entries, one line each."""
    if not entries:
        output.note("The quarantine is empty.")
        return
    table = Table(header_style="bold")
    for name in ("quarter", "table", "Primero id", "reason", "rows", "first seen", "last seen", "resolved"):
        table.add_column(name, overflow="fold", justify="right" if name == "rows" else "left")
    for entry in entries:
        resolved = f"{entry.resolved_at:%Y-%m-%d %H:%M}" if entry.resolved_at else "open"
        seen = (f"{moment:%Y-%m-%d %H:%M}" for moment in (entry.first_seen, entry.last_seen))
        table.add_row(
            entry.quarter, entry.table_name, entry.primero_id, entry.reason, f"{entry.entries:,}", *seen, resolved
        )
    output.out.print(table)
