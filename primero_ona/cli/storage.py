"""`forget`, `purge` and `keys`: taking single cases, or old stored partitions, away for good, and renewing keys."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer
from cryptography.fernet import Fernet

from primero_ona.cli import output
from primero_ona.cli.common import ona_connection, stored_assets
from primero_ona.errors import UsageError
from primero_ona.graph.automation import purge as purge_stored
from primero_ona.graph.resources import PartitionStorage
from primero_ona.graph.runs import open_instance
from primero_ona.ona.erasure import erase_legacy, legacy_rows, read_ids
from primero_ona.pipeline.stored import forget as forget_everywhere
from primero_ona.pipeline.stored import rotate
from primero_ona.quarters import Quarter


def forget(
    primero_id: Annotated[
        list[str] | None, typer.Option(help="Primero's own id of a case (a UUID); may be repeated.")
    ] = None,
    case_id: Annotated[
        list[str] | None,
        typer.Option(help="Case ID of a row that the legacy pipeline left without Primero's id; may be repeated."),
    ] = None,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Erase rows of the legacy pipeline without asking.")] = False,
) -> None:
    """Erase cases with their services from ONA, the bookkeeping and the stored partitions. Safe to repeat.

    Erase the case in Primero, too: as long as it is there, each sync excludes and counts it.
    """
    if not primero_id and not case_id:
        raise UsageError("name at least one case: --primero-id with Primero's own id, or --case-id")
    if primero_id:
        _forget_cases(primero_id)
    if case_id:
        _forget_legacy_rows(case_id, yes=yes)


def _forget_cases(primero_ids: list[str]) -> None:

    ids = read_ids(primero_ids)
    with stored_assets() as stored:
        erased = forget_everywhere(stored, ona_connection, ids, datetime.now(UTC))
    output.note(
        f"Of {len(ids)} cases, erased {erased.ona.cases} rows of cases, {erased.ona.services} of services, "
        f"{erased.ona.bookkeeping} of the bookkeeping, and {erased.stored} of stored partitions. They will not come back; erase "
        "them in Primero, too."
    )
    if erased.legacy:
        output.note(
            f"ONA has rows of the legacy pipeline with the Case IDs {', '.join(erased.legacy)} and without Primero's id. Such a row "
            "may be two children merged, so it stays; to erase it: `primero-ona forget --case-id …`"
        )


def _forget_legacy_rows(case_ids: list[str], *, yes: bool) -> None:

    with ona_connection() as connection:
        found = legacy_rows(connection, case_ids)
        if found and not yes:
            typer.confirm(
                f"Erase {len(found)} rows of the legacy pipeline with their services? Each may be two children merged",
                abort=True,
            )
        erased = erase_legacy(connection, found, datetime.now(UTC))
    output.note(f"Erased {erased.cases} rows of cases and {erased.services} of services that the legacy pipeline left.")


def purge(
    before: Annotated[
        str, typer.Option(help="Delete the stored partitions of all quarters before this one, like 2022-Q1.")
    ],
) -> None:
    """Delete stored partitions of old quarters. ONA keeps what it has; Dagster shows them as missing."""
    quarter = Quarter.parse(before)
    with open_instance() as instance:
        count = purge_stored(instance, PartitionStorage().assets(instance), ona_connection, quarter)
    output.note(f"{count} stored partitions of quarters before {quarter} deleted.")


keys = typer.Typer(help="Keys of the stored partitions.", no_args_is_help=True)


@keys.command("rotate")
def keys_rotate() -> None:
    """Re-encrypt all stored partitions with the first key of PRIMERO_ONA_STORAGE_KEYS; then the others can go."""
    with stored_assets() as stored:
        count = rotate(stored, ona_connection)
    output.note(f"{count} stored partitions re-encrypted with the newest key; older keys are not needed any more.")


@keys.command("new")
def keys_new() -> None:
    """Print a new key for PRIMERO_ONA_STORAGE_KEYS."""
    typer.echo(Fernet.generate_key().decode())
