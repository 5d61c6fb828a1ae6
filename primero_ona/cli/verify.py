"""`verify`: does ONA hold what Primero holds, whatever the syncs say; and mending what differs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from primero_ona.cli import output, output_reconciliation
from primero_ona.cli.common import AsJson, ona_connection, sync_quarters
from primero_ona.cli.exit_codes import exit_code
from primero_ona.errors import NAMED_CASES

if TYPE_CHECKING:
    from primero_ona.graph.runs import Mending, Outcome
    from primero_ona.pipeline.reconcile import Reconciliation


def verify(
    *,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair", help="Sync the quarters that another version loaded; fetch and load the cases that differ."
        ),
    ] = False,
    grace: Annotated[int, typer.Option(min=0, help="Minutes within which a change counts as pending.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Compare all of Primero with all of ONA, without trusting the syncs.

    Exit code 1 where anything differs, is in quarantine or was loaded by another version; what the next sync brings is no fault.
    """
    found, mended = _audited(grace), None
    outcomes: list[Outcome] = []
    if repair and (found.total.differences or found.outdated):
        if not as_json:
            output_reconciliation.show_audit(found)
        if found.outdated:
            outcomes = sync_quarters(found.outdated, quiet=as_json)
            if not as_json:
                output.show_outcomes(outcomes, as_json=False)
        if found.total.differences:
            mended = run_mending()
            if not as_json:
                output_reconciliation.show_mended(mended.run_id, mended.done)
        found = _audited(grace)
    if as_json:
        synced = [output.as_json_of(outcome) for outcome in outcomes]
        output.print_json({**_as_json(found), "synced": synced, "mended": asdict(mended) if mended else None})
    else:
        output_reconciliation.show_audit(found)
    raise typer.Exit(max([0 if found.passed else 1, *(exit_code(outcome.kind) for outcome in outcomes)]))


def run_mending(cases: Sequence[str] = ()) -> Mending:
    """Run the mending job for these cases, or all that differ, so that the UI shows it; a failure ends the command."""
    from primero_ona.graph.runs import ensure_home, mend, open_instance

    ensure_home()
    from primero_ona.definitions import build_defs

    with open_instance() as instance:
        mended = mend(build_defs().resolve_job_def("mend_ona"), instance, cases)
    if mended.failure:
        output.error(mended.failure)
        raise typer.Exit(exit_code(mended.kind))
    return mended


def _audited(grace: int) -> Reconciliation:
    from primero_ona.graph.reconciliation import labelled
    from primero_ona.graph.resources import PartitionStorage, PrimeroResource
    from primero_ona.pipeline.reconcile import audit
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
    scope = labelled(Scope(Quarter.parse(graph.start), graph.policy), PartitionStorage().store())
    with PrimeroResource().client() as client, ona_connection() as connection:
        found, _ = audit(client, connection, scope, grace=timedelta(minutes=grace))
    return found


def _as_json(found: Reconciliation) -> dict[str, Any]:
    return {
        "complete": found.complete,
        "sentence": found.sentence(),
        "differences": found.total.differences,
        "quarantined": found.quarantined,
        "pending": found.total.pending,
        "outdated": [quarter.name for quarter in found.outdated],
        "total": asdict(found.total),
        "quarters": [asdict(quarter) for quarter in found.quarters],
        "early": {"cases": found.early[:NAMED_CASES], "set PRIMERO_ONA_START to": found.first_early},
        "inventory": {
            **asdict(found.inventory),
            "ahead": {"count": len(found.inventory.ahead), "cases": found.inventory.ahead[:NAMED_CASES]},
        },
    }
