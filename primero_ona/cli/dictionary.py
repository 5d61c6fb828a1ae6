"""`dictionary`: ONA's data dictionary as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from primero_ona.cli import output
from primero_ona.cli.common import ona_connection
from primero_ona.errors import UsageError
from primero_ona.storage.files import write_file

app = typer.Typer(help="The data dictionary in English and Khmer.", no_args_is_help=True)


@app.callback()
def dictionary() -> None:
    """The data dictionary in English and Khmer."""


@app.command("export")
def export(
    csv: Annotated[Path, typer.Option("--csv", help="File to write: CSV in UTF-8 with the mark that Excel needs.")],
) -> None:
    """Write ONA's data dictionary into a CSV file, for reading and for reviewing the Khmer texts."""
    from primero_ona.ona.dictionary import read_dictionary
    from primero_ona.pipeline.reference import as_csv

    with ona_connection() as connection:
        rows = read_dictionary(connection)
    try:
        write_file(csv, as_csv(rows).encode(), 0o644)
    except OSError as error:
        raise UsageError(f"{csv} cannot be written ({error.strerror}); name another file with --csv") from None
    output.note(f"{len(rows)} rows written into {csv}.")
