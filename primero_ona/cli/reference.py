"""`reference`: reading Primero's places, options and forms."""

from __future__ import annotations

import typer

from primero_ona.cli import output, output_reference
from primero_ona.cli.common import AsJson, refresh_reference
from primero_ona.cli.exit_codes import exit_code

app = typer.Typer(help="Primero's places, options and forms.", no_args_is_help=True)


@app.callback()
def reference() -> None:
    """Primero's places, options and forms."""


@app.command("refresh")
def refresh(*, as_json: AsJson = False) -> None:
    """Read them, and bring ONA's locations_lookup and data_dictionary up to date. Safe to repeat."""
    outcome = refresh_reference()
    if as_json:
        output.print_json(output.as_json_of(outcome))
    else:
        output_reference.show_refresh(outcome)
    raise typer.Exit(exit_code(outcome.kind))
