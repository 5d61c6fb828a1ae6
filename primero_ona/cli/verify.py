"""`verify`: does ONA hold what Primero holds, whatever the syncs say, and repair; `compare`: the legacy pipeline's tables beside ours."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import Annotated, Any

import typer
from rich.table import Table

from primero_ona.cli import output
from primero_ona.cli.common import AsJson, ona_connection, primero_client, read_settings, stored_assets, sync_quarters
from primero_ona.errors import NAMED_CASES
from primero_ona.graph.runs import Outcome
from primero_ona.ona.compare import Comparison, TableComparison
from primero_ona.ona.compare import compare as compare_tables
from primero_ona.ona.reconcile import remove_gone
from primero_ona.pipeline.reconcile import Reconciliation, reconcile
from primero_ona.pipeline.reference import scope_in_use
from primero_ona.pipeline.stored import Scope
from primero_ona.quarters import Quarter


def verify(
    *,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Sync the quarters in which cases differ or that another version loaded; remove what is gone from Primero.",
        ),
    ] = False,
    remove_out_of_scope: Annotated[
        bool,
        typer.Option(
            "--remove-out-of-scope",
            help="With --repair: remove cases out of this account's scope, however many they are.",
        ),
    ] = False,
    grace: Annotated[int, typer.Option(min=0, help="Minutes within which a change counts as pending.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Compare all of Primero with all of ONA, without trusting the syncs.

    Exit code 1 where anything differs, is in quarantine or was loaded by another version; what the next sync brings is no fault.
    """
    found = _reconcile(grace)
    outcomes: list[Outcome] = []
    removed = {"cases": 0, "services": 0}
    if repair and (found.to_sync or found.removable):
        if not as_json:
            output.show_reconciliation(found)
        if found.to_sync:
            outcomes = sync_quarters(found.to_sync, quiet=as_json, whole=True)
            if not as_json:
                output.show_outcomes(outcomes, as_json=False)
        if found.removable:
            with ona_connection() as connection:
                removed = remove_gone(connection, found.total, found.removable, out_of_scope=remove_out_of_scope)
            if not as_json:
                output.note(
                    f"Removed {removed['cases']:,} cases and {removed['services']:,} services that are gone from Primero."
                )
        found = _reconcile(grace)
    if as_json:
        synced = [output.as_json_of(outcome) for outcome in outcomes]
        output.print_json({**_as_json(found), "synced": synced, "removed": removed})
    else:
        output.show_reconciliation(found)
    raise typer.Exit(max(int(not found.passed), output.exit_code(*(outcome.kind for outcome in outcomes))))


def _reconcile(grace: int) -> Reconciliation:

    graph = read_settings()
    with stored_assets() as stored:
        scope = scope_in_use(Scope(Quarter.parse(graph.start), graph.policy), stored)
    with primero_client() as client, ona_connection() as connection:
        return reconcile(client, connection, scope, grace=timedelta(minutes=grace))


def _as_json(found: Reconciliation) -> dict[str, Any]:
    ahead, inventory = found.inventory.ahead, asdict(found.inventory)
    inventory |= inventory.pop("traffic")
    return {
        "complete": found.complete,
        "sentence": found.sentence(),
        "differences": found.total.differences,
        "quarantined": found.quarantined,
        "pending": found.total.pending,
        "outdated": [quarter.name for quarter in found.outdated],
        "to_sync": [quarter.name for quarter in found.to_sync],
        "total": found.total,
        "quarters": found.quarters,
        "early": {"cases": found.early[:NAMED_CASES], "set PRIMERO_ONA_START to": found.first_early},
        "inventory": {**inventory, "ahead": {"count": len(ahead), "cases": ahead[:NAMED_CASES]}},
    }


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
    with ona_connection() as connection:
        found = compare_tables(connection, legacy)
    if as_json:
        output.print_json(_compared_as_json(found))
    else:
        _show_compared(found)
    raise typer.Exit(1 if found.unexplained or found.legacy_run is None else 0)


def _compared_as_json(found: Comparison) -> dict[str, Any]:
    tables = {
        each.table: {
            **asdict(each),
            "differences": [{**asdict(one), "known": one.is_known, "text": one.text} for one in each.differences],
        }
        for each in found.tables
    }
    return {**asdict(found), "unexplained": found.unexplained, "tables": tables}


def _show_compared(found: Comparison) -> None:
    for each in found.tables:
        output.out.print(_compared_table(each))
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


def _compared_table(each: TableComparison) -> Table:
    columns = ("difference", "rows", "columns", "what it means")
    rows = [
        (one.name, one.rows, ", ".join(f"{name} {count:,}" for name, count in sorted(one.columns.items())), one.text)
        for one in each.differences
    ]
    made = output.table(columns, rows, texts=True)
    made.title = f"{each.table}: {each.there:,} there, {each.here:,} here, {each.equal:,} equal"
    made.title_justify = "left"
    for row, one in zip(made.rows, each.differences, strict=True):
        row.style = "" if one.is_known else "bold"
    return made
