"""`labels`: where our labels and Primero's differ."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from primero_ona.cli import output, output_reference
from primero_ona.cli.common import AsJson, ona_connection, stored_assets

if TYPE_CHECKING:
    from primero_ona.mapping.label_changes import LabelChange
    from primero_ona.quarters import Quarter

app = typer.Typer(help="Labels of options: ours beside Primero's.", no_args_is_help=True)


@app.command("diff")
def diff(*, as_json: AsJson = False) -> None:
    """Print labels that differ from Primero's, codes without a label, the rows affected, and the lines for labels.yaml."""
    from primero_ona.mapping.label_changes import as_lines

    changes, outdated = _changes()
    if as_json:
        mapped = [quarter.name for quarter in outdated]
        labels = [asdict(change) for change in changes]
        output.print_json({"labels": labels, "lines": as_lines(changes), "mapped with other labels": mapped})
    else:
        output_reference.show_labels(changes, outdated)


def _changes() -> tuple[list[LabelChange], list[Quarter]]:
    from primero_ona.pipeline.reference import (
        counted_label_changes,
        labels_in_use,
        mapped_otherwise,
        stored_reference,
    )

    with stored_assets() as stored:
        labels = labels_in_use(stored_reference(stored))
        outdated = mapped_otherwise(stored, labels)
    with ona_connection() as connection:
        return counted_label_changes(connection, labels), outdated
