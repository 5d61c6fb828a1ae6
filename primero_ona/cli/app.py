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

#: Modules of this package, and the commands that each has under their own names.
COMMANDS = {
    "demo": ("demo", "dev"),
    "doctor": ("doctor", "config"),
    "sync": ("sync", "backfill", "remap", "status", "report"),
    "quarantine": ("quarantine", "findings"),
    "verify": ("verify", "compare"),
    "reference": ("reference", "labels", "places", "dictionary", "fields", "account"),
    "storage": ("forget", "purge", "keys"),
    "installation": ("schema", "metrics", "alerts", "code-server"),
}


class _Commands(UserDict[str, Any]):
    """The commands by name; each module is imported when one of its commands is asked for."""

    def get(self, name: str, default: Any = None) -> Any:  # noqa: ANN401
        """Import a command; what its module fails at is no lack of the command."""
        return self[name] if name in self.data else default

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
        self.commands = _Commands({name: module for module, names in COMMANDS.items() for name in names})


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
