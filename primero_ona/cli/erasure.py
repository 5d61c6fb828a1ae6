"""`forget` and `purge`: taking single cases, or old stored partitions, away for good."""

from __future__ import annotations

from typing import Annotated

import typer

from primero_ona.cli import output
from primero_ona.cli.common import ona_connection
from primero_ona.quarters import Quarter


def forget(
    primero_id: Annotated[list[str], typer.Option(help="Primero's own id of a case (a UUID); may be repeated.")],
) -> None:
    """Erase cases with their services from ONA, the bookkeeping and the stored partitions. Safe to repeat.

    Erase the case in Primero, too: as long as it is there, each sync keeps it out and counts it.
    """
    from datetime import UTC, datetime

    from primero_ona.graph.resources import PartitionStorage
    from primero_ona.ona.erasure import erase, note_stored_rows, read_ids
    from primero_ona.storage.rewrite import forget as forget_stored

    ids = read_ids(primero_id)
    store = PartitionStorage().store()
    with ona_connection() as connection:
        # ONA first: its audit line is what keeps a run that is at work from bringing the case back.
        erased = erase(connection, ids, datetime.now(UTC))
        stored = forget_stored(store, ids)
        note_stored_rows(connection, stored)
    output.note(
        f"Of {len(ids)} cases, erased {erased.cases} rows of cases, {erased.services} of services, {erased.bookkeeping} of the "
        f"bookkeeping, and {sum(stored.values())} of stored partitions. They will not come back; erase them in Primero, too."
    )


def purge(
    before: Annotated[
        str, typer.Option(help="Delete the stored partitions of all quarters before this one, like 2022-Q1.")
    ],
) -> None:
    """Delete stored partitions of old quarters. ONA and Dagster's history keep what they have."""
    from primero_ona.graph.resources import PartitionStorage
    from primero_ona.storage.rewrite import purge as purge_stored

    quarter = Quarter.parse(before)
    count = purge_stored(PartitionStorage().store().base, quarter)
    output.note(f"{count} stored partitions of quarters before {quarter} deleted.")
