"""`compare`: the legacy pipeline's tables beside ours while both run, and what differs by which known difference."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from primero_ona.cli import output
from primero_ona.cli.common import AsJson, ona_connection

if TYPE_CHECKING:
    from primero_ona.ona.compare import Comparison, TableComparison


def compare(
    legacy: Annotated[
        str, typer.Option("--legacy", help="Schema in ONA's database into which the legacy pipeline writes.")
    ],
    *,
    as_json: AsJson = False,
) -> None:
    """Compare the legacy pipeline's tables with ours, and say by which known difference each row differs. Changes nothing.

    Run `verify` first: it proves that ours hold what Primero holds. Exit code 1 where no known difference explains a row,
    or where it is unknown when the legacy pipeline last ran.
    """
    from primero_ona.ona.compare import compare as compare_tables

    with ona_connection() as connection:
        found = compare_tables(connection, legacy)
    if as_json:
        output.print_json(_as_json(found))
    else:
        _show(found)
    raise typer.Exit(1 if found.unexplained or found.legacy_run is None else 0)


def _as_json(found: Comparison) -> dict[str, Any]:
    tables = {
        each.table: {
            **asdict(each),
            "differences": [{**asdict(one), "known": one.is_known, "text": one.text} for one in each.differences],
        }
        for each in found.tables
    }
    return {**asdict(found), "unexplained": found.unexplained, "tables": tables}


def _show(found: Comparison) -> None:
    for each in found.tables:
        output.out.print(_table(each))
        for side, names in ((found.there, each.only_there), (found.here, each.only_here)):
            if names:
                output.note(f"Columns of {each.table} only in {side}: {', '.join(names)}.")
        for one in each.differences:
            if not one.is_known and one.ids:
                output.note(f"{one.name}, the first cases: {', '.join(one.ids)}.")
    if found.legacy_run:
        output.note(f"The legacy pipeline last wrote into {found.there}: {found.legacy_run:%Y-%m-%d %H:%M} UTC.")
    else:
        output.note(
            f"It is unknown when the legacy pipeline last wrote: no row of {found.there}.cases has a last_updated_date that can be "
            "read. So nothing says which changes it should have, and the comparison proves nothing."
        )
    if found.unexplained:
        output.note(f"{found.unexplained:,} rows differ for no known reason.")
    elif found.legacy_run:
        output.note("Every difference is a known one.")


def _table(each: TableComparison) -> Table:
    table = Table(
        title=f"{each.table}: {each.there:,} there, {each.here:,} here, {each.equal:,} equal",
        title_justify="left",
        header_style="bold",
    )
    for name in ("difference", "rows", "columns", "what it means"):
        table.add_column(name, justify="right" if name == "rows" else "left", overflow="fold")
    for one in each.differences:
        columns = ", ".join(f"{name} {count:,}" for name, count in sorted(one.columns.items()))
        table.add_row(one.name, f"{one.rows:,}", columns, one.text, style="" if one.is_known else "bold")
    return table
