"""The command `primero-ona`: everything that an operator or a script does without the Dagster UI.

What belongs here: putting the commands together, and the exit code of a failure: 0 done; 1 the data or a check failed;
2 wrong usage, or a setting missing or malformed; 3 Primero or ONA could not be reached or refused us, or this machine lacks
something. The commands are in `commands/`, how results look in `console.py`. Heavy imports are inside the commands, so that
`--help` answers at once.
"""

from __future__ import annotations

import sys

import typer

from primero_ona import console
from primero_ona.commands import (
    config,
    dictionary,
    erasure,
    fields,
    findings,
    keys,
    labels,
    places,
    quarantine,
    reference,
    schema,
    sync,
    try_out,
    verify,
)
from primero_ona.failures import SyncFailure
from primero_ona.machine import machine_failure
from primero_ona.process import prepare_process, unexpected

app = typer.Typer(
    help="Child-protection cases from Primero to the ONA dashboards, quarter by quarter.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (
    try_out.demo,
    try_out.dev,
    sync.sync,
    sync.backfill,
    sync.remap,
    sync.status,
    findings.findings,
    verify.verify,
    erasure.forget,
    erasure.purge,
):
    app.command()(command)
for group in (schema, reference, labels, places, dictionary, quarantine, fields, config, keys):
    app.add_typer(group.app, name=group.__name__.rpartition(".")[2])


def main() -> None:
    """Run the command line; a failure is one plain message and an exit code, never a traceback."""
    prepare_process()
    with console.unfailing_output():
        try:
            app()
        except Exception as error:  # noqa: BLE001 whatever it is, its text may quote a row, so it ends here
            failure = error if isinstance(error, SyncFailure) else machine_failure(error)
            console.error(str(failure or unexpected(error)))
            sys.exit(failure.exit_code if failure else 1)


if __name__ == "__main__":
    main()
