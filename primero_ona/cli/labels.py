"""`labels`: where our labels and Primero's part, and taking Primero's into labels.yaml."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from primero_ona.cli import output, output_reference
from primero_ona.cli.common import AsJson, ona_connection, stored_assets
from primero_ona.errors import ConfigError
from primero_ona.storage.files import write_file

if TYPE_CHECKING:
    from primero_ona.mapping.label_changes import LabelChange
    from primero_ona.quarters import Quarter

app = typer.Typer(help="Labels of options: ours beside Primero's.", no_args_is_help=True)


@app.command("diff")
def diff(*, as_json: AsJson = False) -> None:
    """Print every label that differs from Primero's and every code that labels.yaml does not know, with the rows affected."""
    changes, outdated = _changes()
    if as_json:
        mapped = [quarter.name for quarter in outdated]
        output.print_json({"labels": [asdict(change) for change in changes], "mapped with other labels": mapped})
    else:
        output_reference.show_labels(changes, outdated)


@app.command("accept")
def accept(
    code: Annotated[list[str] | None, typer.Option(help="Id of an option; may be given several times.")] = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Accept every label of Primero's that differs.")] = False,
    to: Annotated[
        Path | None,
        typer.Option(help="Write the new labels.yaml here, where the installed one may not be written."),
    ] = None,
) -> None:
    """Write Primero's labels into labels.yaml. The dashboards filter on these texts: tell ONA's people first."""
    if bool(code) == everything:
        raise ConfigError("name what to accept: --code male, also several times, or --all")
    changes, _ = _changes()
    chosen = [change for change in changes if change.primeros and (everything or change.code in (code or ()))]
    if unknown := sorted(set(code or ()) - {change.code for change in chosen}):
        raise ConfigError(
            f"Primero has no other label for {', '.join(unknown)}; `primero-ona labels diff` lists what differs"
        )
    path = _write(chosen, to)
    output_reference.show_labels(chosen, ())
    output.note(f"{len(chosen)} labels written into {path}.")
    output.note(
        "Next: `primero-ona reference refresh`, then `primero-ona remap --from 2024-Q1` for the stored quarters."
    )


def _changes() -> tuple[list[LabelChange], list[Quarter]]:
    from primero_ona.pipeline.reference import (  # noqa: PLC0415
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


def _write(changes: Sequence[LabelChange], to: Path | None) -> Path:
    """Write the file whole; where it may not be written, say what to do."""
    import primero_ona.mapping  # noqa: PLC0415
    from primero_ona.mapping.label_changes import accepted  # noqa: PLC0415
    from primero_ona.mapping.labels import source  # noqa: PLC0415

    path = to or Path(primero_ona.mapping.__path__[0]) / "labels.yaml"
    try:
        write_file(path, accepted(source().decode(), changes).encode(), 0o644)
    except OSError:
        raise ConfigError(
            f"{path} cannot be written; name another file with --to, and put it there when the package is built"
        ) from None
    return path
