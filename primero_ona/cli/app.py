"""The command `primero-ona`: everything that an operator or a script does without the Dagster UI.

Heavy imports are inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import sys
from importlib import metadata
from typing import Annotated

import typer

from primero_ona.cli import demo, doctor, installation, output, quarantine, reference, storage, sync, verify
from primero_ona.process import described, prepare_process

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (
    demo.demo,
    demo.dev,
    doctor.doctor,
    sync.sync,
    sync.backfill,
    sync.remap,
    sync.status,
    quarantine.findings,
    verify.verify,
    verify.compare,
    sync.report,
    installation.metrics,
    storage.forget,
    storage.purge,
):
    app.command()(command)
for name, group in {
    "schema": installation.schema,
    "reference": reference.reference,
    "labels": reference.labels,
    "places": reference.places,
    "dictionary": reference.dictionary,
    "quarantine": quarantine.app,
    "fields": reference.fields,
    "account": reference.account,
    "config": doctor.config,
    "keys": storage.keys,
    "alerts": installation.alerts,
    "code-server": installation.code_server,
}.items():
    app.add_typer(group, name=name)


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
