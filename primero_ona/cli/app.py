"""The command `primero-ona`: everything that an operator or a script does without the Dagster UI.

A command's module is imported when the command is asked for: all of them take seconds.
"""

from __future__ import annotations

import sys
from collections import UserDict
from importlib import import_module, metadata
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from primero_ona.cli import output
from primero_ona.process import described, prepare_process

#: By command, the module that has it, under its own name.
_MODULES = {
    "demo": "demo",
    "dev": "demo",
    "doctor": "doctor",
    "sync": "sync",
    "backfill": "sync",
    "remap": "sync",
    "status": "sync",
    "findings": "quarantine",
    "verify": "verify",
    "compare": "verify",
    "report": "sync",
    "metrics": "installation",
    "forget": "storage",
    "purge": "storage",
    "schema": "installation",
    "reference": "reference",
    "labels": "reference",
    "places": "reference",
    "dictionary": "reference",
    "quarantine": "quarantine",
    "fields": "reference",
    "account": "reference",
    "config": "doctor",
    "keys": "storage",
    "alerts": "installation",
    "code-server": "installation",
}


class _Commands(UserDict[str, Any]):
    """The commands by name; each module is imported when one of its commands is asked for."""

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401
        """Import a command."""
        found = getattr(import_module(f"primero_ona.cli.{self.data[name]}"), name.replace("-", "_"))
        if isinstance(found, typer.Typer):
            command: Any = typer.main.get_group(found)
        else:
            alone = typer.Typer(add_completion=False)
            alone.command()(found)
            command = typer.main.get_command(alone)
        command.name = name
        return command


class _Group(TyperGroup):
    def __init__(self, **attributes: Any) -> None:  # noqa: ANN401
        super().__init__(**attributes)
        self.commands = _Commands(_MODULES)


app = typer.Typer(cls=_Group, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


def _show_version(asked: bool) -> None:
    if asked:
        output.note(f"primero-ona {metadata.version('primero-ona')}")
        raise typer.Exit


@app.callback()
def primero_ona(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version, and leave.")
    ] = False,
) -> None:
    """Child-protection cases from Primero to the ONA dashboards, quarter by quarter."""


def main() -> None:
    """Run the command line; a failure is one plain message and an exit code, never a traceback."""
    prepare_process()
    with output.unfailing_output():
        try:
            app()
        except Exception as error:  # noqa: BLE001 whatever it is, its text may quote a row, so it ends here
            text, kind = described(error)
            output.error(text)
            sys.exit(output.exit_code(kind))


if __name__ == "__main__":
    main()
