"""`config`: what is set, with no secret."""

from __future__ import annotations

from dataclasses import asdict

import typer

from primero_ona.cli import output
from primero_ona.cli.common import AsJson

app = typer.Typer(help="The settings.", no_args_is_help=True)


@app.callback()
def config() -> None:
    """The settings."""


@app.command("show")
def show(*, as_json: AsJson = False) -> None:
    """Print every setting, its value (of a secret only whether it is set), its default, and how connections are protected."""
    from primero_ona.cli.settings_docs import show_settings

    lines = show_settings()
    if as_json:
        output.print_json([asdict(line) for line in lines])
        return
    for line in lines:
        output.note(f"{line.variable}: {line.value}")
        output.note(
            f"    {line.description}" + ("" if "default: " in line.description else f"; default: {line.default}")
        )
