"""`fields`: the fields of cases that Primero has shown, and accepting that one does not come any more."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from primero_ona.cli import output, output_reference
from primero_ona.cli.common import AsJson, ona_connection
from primero_ona.primero.fields import CASE_FIELDS

app = typer.Typer(help="Fields of cases: what Primero has shown, and accepting a loss.", no_args_is_help=True)


@app.command("list")
def fields_list(*, as_json: AsJson = False) -> None:
    """List the fields that are asked for, when Primero showed each first and last, and which losses were accepted."""
    from primero_ona.ona.primero_state import shown_fields

    with ona_connection() as connection:
        shown = shown_fields(connection)
    known = {field.name for field in shown}
    never = [name for name in CASE_FIELDS if name not in known]
    if as_json:
        output.print_json({"shown": [asdict(field) for field in shown], "never": never})
    else:
        output_reference.show_fields(shown, never)


@app.command("accept")
def accept(names: Annotated[list[str], typer.Argument(help="Names of fields, like care_date.")]) -> None:
    """Accept that fields which Primero has shown do not come any more; their columns become empty with the next syncs.

    Ends by itself when the field comes back. Safe to repeat.
    """
    from primero_ona.ona.primero_state import accept_fields

    with ona_connection() as connection:
        accepted = accept_fields(connection, names, datetime.now(UTC))
    output_reference.show_fields(accepted, ())
    output.note("Accepted. `primero-ona sync` goes on without them, and their columns become empty in what it loads.")
