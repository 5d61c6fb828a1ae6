"""`verify`: does ONA hold what Primero holds, whatever the syncs say; and repairing what differs."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from primero_ona.cli import output
from primero_ona.cli.common import AsJson, ona_connection, stored_assets, sync_quarters
from primero_ona.cli.output import exit_code
from primero_ona.errors import NAMED_CASES

if TYPE_CHECKING:
    from primero_ona.graph.runs import Outcome
    from primero_ona.pipeline.reconcile import Reconciliation


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
            removed = _remove(found, out_of_scope=remove_out_of_scope)
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
    raise typer.Exit(max([0 if found.passed else 1, *(exit_code(outcome.kind) for outcome in outcomes)]))


def _remove(found: Reconciliation, *, out_of_scope: bool) -> dict[str, int]:
    from primero_ona.pipeline.reconcile import remove_gone

    with ona_connection() as connection:
        return remove_gone(connection, found, out_of_scope=out_of_scope)


def _reconcile(grace: int) -> Reconciliation:
    from primero_ona.graph.resources import PrimeroResource
    from primero_ona.pipeline.reconcile import reconcile
    from primero_ona.pipeline.reference import scope_in_use
    from primero_ona.pipeline.scope import Scope
    from primero_ona.quarters import Quarter
    from primero_ona.settings import (
        GraphSettings,
        OnaSettings,
        PrimeroSettings,
        StorageSettings,
        read,
        read_one,
    )

    read(PrimeroSettings, OnaSettings, StorageSettings, GraphSettings)
    graph = read_one(GraphSettings)
    with stored_assets() as stored:
        scope = scope_in_use(Scope(Quarter.parse(graph.start), graph.policy), stored)
    with PrimeroResource().client() as client, ona_connection() as connection:
        return reconcile(client, connection, scope, grace=timedelta(minutes=grace))


def _as_json(found: Reconciliation) -> dict[str, Any]:
    return {
        "complete": found.complete,
        "sentence": found.sentence(),
        "differences": found.total.differences,
        "quarantined": found.quarantined,
        "pending": found.total.pending,
        "outdated": [quarter.name for quarter in found.outdated],
        "to_sync": [quarter.name for quarter in found.to_sync],
        "total": asdict(found.total),
        "quarters": [asdict(quarter) for quarter in found.quarters],
        "early": {"cases": found.early[:NAMED_CASES], "set PRIMERO_ONA_START to": found.first_early},
        "inventory": {
            **asdict(found.inventory),
            "ahead": {"count": len(found.inventory.ahead), "cases": found.inventory.ahead[:NAMED_CASES]},
        },
    }
