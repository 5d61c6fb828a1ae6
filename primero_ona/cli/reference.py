"""`reference`: read Primero's places, options and forms again."""

from __future__ import annotations

import typer

from primero_ona.cli import output, output_reference
from primero_ona.cli.common import AsJson
from primero_ona.cli.exit_codes import exit_code

app = typer.Typer(help="Primero's places, options and forms.", no_args_is_help=True)


@app.callback()
def reference() -> None:
    """Primero's places, options and forms."""


@app.command("refresh")
def refresh(*, as_json: AsJson = False) -> None:
    """Read them again, and bring ONA's locations_lookup and data_dictionary up to date. Safe to repeat."""
    from primero_ona.graph.runs import ensure_home, open_instance, run_unpartitioned
    from primero_ona.settings import GraphSettings, OnaSettings, PrimeroSettings, StorageSettings, read

    read(PrimeroSettings, OnaSettings, StorageSettings, GraphSettings)
    ensure_home()
    from primero_ona.definitions import build_defs

    with open_instance() as instance:
        outcome = run_unpartitioned(build_defs().resolve_job_def("refresh_reference"), instance)
    if as_json:
        output.print_json(output.as_json_of(outcome))
    else:
        output_reference.show_refresh(outcome)
    raise typer.Exit(exit_code(outcome.kind))
