"""How places, labels and the reference data look in a terminal: names and codes of configuration, and counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from primero_ona.cli import output

if TYPE_CHECKING:
    from primero_ona.graph.runs import RunOutcome
    from primero_ona.mapping.label_changes import LabelChange
    from primero_ona.ona.lookup import ChangedName
    from primero_ona.ona.primero_state import Field
    from primero_ona.quarters import Quarter


def show_names(names: Sequence[ChangedName]) -> None:
    """Changed names of places, one line each."""
    if not names:
        output.note("All names of places are those in use.")
        return
    table = _table("code", "column", "in use", "Primero's")
    for name in names:
        table.add_row(name.code, name.column_name, name.in_use or "", name.primeros)
    output.out.print(table)


def show_labels(changes: Sequence[LabelChange], outdated: Sequence[Quarter]) -> None:
    """Labels that differ, one line each, and the quarters that were mapped with other labels."""
    if changes:
        table = _table("field", "code", "ours", "Primero's", "rows", "what")
        for change in changes:
            table.add_row(
                change.field, change.code, change.ours, change.primeros, f"{change.rows:,}", change.kind.value
            )
        output.out.print(table)
        _show_lines(changes)
    else:
        output.note("All labels match Primero and every code is known.")
    if outdated:
        output.note(
            f"Mapped with other labels than now: {', '.join(map(str, outdated))}; `primero-ona remap --from {outdated[0]}` "
            "maps them again."
        )


def _show_lines(changes: Sequence[LabelChange]) -> None:
    """Print what to write into labels.yaml to take Primero's labels."""
    from primero_ona.mapping.label_changes import as_lines

    if lines := as_lines(changes):
        output.note("To use Primero's labels, put these lines into mapping/labels.yaml, each into its section:")
        output.note(lines)
        output.note("The dashboards filter on these texts: tell ONA's people before the labels change.")


def show_fields(fields: Sequence[Field], never: Sequence[str]) -> None:
    """Fields that Primero has shown, one line each, and those that no pull was ever shown."""
    table = _table("field", "first seen", "last seen", "loss accepted")
    for field in fields:
        accepted = f"{field.accepted_at:%Y-%m-%d %H:%M}" if field.accepted_at else ""
        table.add_row(field.name, f"{field.first_seen:%Y-%m-%d %H:%M}", f"{field.last_seen:%Y-%m-%d %H:%M}", accepted)
    output.out.print(table)
    if never:
        output.note(f"Never seen: {', '.join(never)}: no case has them yet, or the account's role may not read them.")


def show_findings(found: Sequence[Mapping[str, object]]) -> None:
    """What the syncs noted of stored quarters, one line for each reason, code and thing to decide."""
    if not found:
        output.note("Nothing is stored of these quarters.")
        return
    table = _table("quarter", "asset", "kind", "what", "count")
    for entry in found:
        table.add_row(*(str(entry[name]) for name in ("quarter", "asset", "kind", "what")), f"{entry['count']:,}")
    output.out.print(table)


def show_refresh(outcome: RunOutcome) -> None:
    """What a refresh wrote into ONA, and what its checks found."""
    if outcome.load:
        table = _table("table", "inserted", "updated", "unchanged")
        for asset, counts in sorted(outcome.load.items()):
            table.add_row(asset, *(f"{counts.get(name, 0):,}" for name in ("inserted", "updated", "unchanged")))
        output.out.print(table)
    for check in outcome.checks:
        if not check.passed:
            output.note(f"{check.severity}: {check.asset}, {check.name}: {check.text}")
    if outcome.failure:
        output.error(outcome.failure)


def _table(*columns: str) -> Table:
    table = Table(header_style="bold")
    for column in columns:
        right = column in {"rows", "count", "inserted", "updated", "unchanged"}
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    return table
