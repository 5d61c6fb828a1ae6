"""`places`: names of places that Primero has changed, and accepting them."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from primero_ona.cli import output, output_reference
from primero_ona.cli.common import AsJson, ona_connection
from primero_ona.errors import UsageError

app = typer.Typer(help="Names of places: what Primero has changed, and accepting it.", no_args_is_help=True)


@app.command("changes")
def changes(*, as_json: AsJson = False) -> None:
    """List the names that Primero has changed since, beside those that are in use in ONA."""
    from primero_ona.ona.lookup import changed_names

    with ona_connection() as connection:
        names = changed_names(connection)
    if as_json:
        output.print_json([asdict(name) for name in names])
    else:
        output_reference.show_names(names)


@app.command("accept")
def accept(
    code: Annotated[list[str] | None, typer.Option(help="Code of a district, or of a province for all of its.")] = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Accept every changed name.")] = False,
) -> None:
    """Take Primero's names into ONA's locations_lookup. Cases get them when their quarter is synced or mapped again."""
    from primero_ona.ona.lookup import accept_names

    if bool(code) == everything:
        raise UsageError("name what to accept: --code 601, also several times, or --all")
    with ona_connection() as connection:
        names = accept_names(connection, code or None, datetime.now(UTC))
    output_reference.show_names(names)
    output.note(
        f"{len(names)} names accepted. `primero-ona remap --from 2024-Q1` brings them into the cases of stored quarters."
    )
