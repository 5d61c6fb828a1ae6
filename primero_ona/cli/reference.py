"""`reference`, `labels`, `fields`, `places`, `dictionary`: what Primero's configuration says, and what was decided about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from primero_ona.cli import output
from primero_ona.cli.common import AsJson, ona_connection, refresh_reference, stored_assets
from primero_ona.cli.output import exit_code
from primero_ona.errors import UsageError
from primero_ona.primero.fields import CASE_FIELDS

if TYPE_CHECKING:
    from primero_ona.graph.runs import RunOutcome
    from primero_ona.ona.primero_state import Field
    from primero_ona.ona.reference import ChangedName
    from primero_ona.pipeline.reference import LabelChange
    from primero_ona.quarters import Quarter

reference = typer.Typer(help="Primero's places, options and forms.", no_args_is_help=True)


@reference.command("refresh")
def reference_refresh(*, as_json: AsJson = False) -> None:
    """Read them, and bring ONA's locations_lookup and data_dictionary up to date. Safe to repeat."""
    outcome = refresh_reference()
    if as_json:
        output.print_json(output.as_json_of(outcome))
    else:
        show_refresh(outcome)
    raise typer.Exit(exit_code(outcome.kind))


def show_names(names: Sequence[ChangedName]) -> None:
    """Changed names of places, one line each."""
    if not names:
        output.note("All names of places are those in use.")
        return
    table = output.text_table("code", "column", "in use", "Primero's")
    for name in names:
        table.add_row(name.code, name.column_name, name.in_use or "", name.primeros)
    output.out.print(table)


def show_labels(changes: Sequence[LabelChange], outdated: Sequence[Quarter]) -> None:
    """Labels that differ, one line each, and the quarters that were mapped with other labels."""
    if changes:
        table = output.text_table("field", "code", "ours", "Primero's", "rows", "what")
        for change in changes:
            table.add_row(
                change.field, change.code, change.ours, change.primeros, f"{change.rows:,}", change.kind.value
            )
        output.out.print(table)
        _show_lines(changes)
    else:
        output.note("All labels match Primero and every code is known.")
    if outdated:
        output.note(
            f"Mapped with other labels than now: {', '.join(map(str, outdated))}; `primero-ona remap --from {outdated[0]}` "
            "maps them again."
        )


def _show_lines(changes: Sequence[LabelChange]) -> None:
    """Print what to write into labels.yaml to take Primero's labels."""
    from primero_ona.pipeline.reference import as_lines

    if lines := as_lines(changes):
        output.note("To use Primero's labels, put these lines into mapping/labels.yaml, each into its section:")
        output.note(lines)
        output.note("The dashboards filter on these texts: tell ONA's people before the labels change.")


def show_fields(fields: Sequence[Field], never: Sequence[str]) -> None:
    """Fields that Primero has shown, one line each, and those that no pull was ever shown."""
    table = output.text_table("field", "first seen", "last seen", "loss accepted")
    for field in fields:
        accepted = f"{field.accepted_at:%Y-%m-%d %H:%M}" if field.accepted_at else ""
        table.add_row(field.name, f"{field.first_seen:%Y-%m-%d %H:%M}", f"{field.last_seen:%Y-%m-%d %H:%M}", accepted)
    output.out.print(table)
    if never:
        output.note(f"Never seen: {', '.join(never)}: no case has them yet, or the account's role may not read them.")


def show_refresh(outcome: RunOutcome) -> None:
    """What a refresh wrote into ONA, and what its checks found."""
    if outcome.load:
        table = output.text_table("table", "inserted", "updated", "unchanged")
        for asset, counts in sorted(outcome.load.items()):
            table.add_row(asset, *(f"{counts.get(name, 0):,}" for name in ("inserted", "updated", "unchanged")))
        output.out.print(table)
    for check in outcome.checks:
        if not check.passed:
            output.note(f"{check.severity}: {check.asset}, {check.name}: {check.text}")
    if outcome.failure:
        output.error(outcome.failure)


labels = typer.Typer(help="Labels of options: ours beside Primero's.", no_args_is_help=True)


@labels.command("diff")
def labels_diff(*, as_json: AsJson = False) -> None:
    """Print labels that differ from Primero's, codes without a label, the rows affected, and the lines for labels.yaml."""
    from primero_ona.pipeline.reference import as_lines

    changes, outdated = _label_changes()
    if as_json:
        mapped = [quarter.name for quarter in outdated]
        found = [asdict(change) for change in changes]
        output.print_json({"labels": found, "lines": as_lines(changes), "mapped with other labels": mapped})
    else:
        show_labels(changes, outdated)


def _label_changes() -> tuple[list[LabelChange], list[Quarter]]:
    from primero_ona.pipeline.reference import counted_label_changes, labels_in_use, stored_reference
    from primero_ona.pipeline.stored import mapped_otherwise

    with stored_assets() as stored:
        in_use = labels_in_use(stored_reference(stored))
        outdated = mapped_otherwise(stored, in_use)
    with ona_connection() as connection:
        return counted_label_changes(connection, in_use), outdated


fields = typer.Typer(help="Fields of cases: what Primero has shown, and accepting a loss.", no_args_is_help=True)


@fields.command("list")
def fields_list(*, as_json: AsJson = False) -> None:
    """List the fields that are asked for, when Primero showed each first and last, and which losses were accepted."""
    from primero_ona.ona.primero_state import shown_fields

    with ona_connection() as connection:
        shown = shown_fields(connection)
    known = {field.name for field in shown}
    never = [name for name in CASE_FIELDS if name not in known]
    if as_json:
        output.print_json({"shown": [asdict(field) for field in shown], "never": never})
    else:
        show_fields(shown, never)


@fields.command("accept")
def fields_accept(names: Annotated[list[str], typer.Argument(help="Names of fields, like care_date.")]) -> None:
    """Accept that fields which Primero has shown do not come any more; their columns become empty with the next syncs.

    Ends by itself when the field comes back. Safe to repeat.
    """
    from primero_ona.ona.primero_state import accept_fields

    with ona_connection() as connection:
        accepted = accept_fields(connection, names, datetime.now(UTC))
    show_fields(accepted, ())
    output.note("Accepted. `primero-ona sync` goes on without them, and their columns become empty in what it loads.")


places = typer.Typer(help="Names of places: what Primero has changed, and accepting it.", no_args_is_help=True)


@places.command("changes")
def places_changes(*, as_json: AsJson = False) -> None:
    """List the names that Primero has changed since, beside those that are in use in ONA."""
    from primero_ona.ona.reference import changed_names

    with ona_connection() as connection:
        names = changed_names(connection)
    if as_json:
        output.print_json([asdict(name) for name in names])
    else:
        show_names(names)


@places.command("accept")
def places_accept(
    code: Annotated[list[str] | None, typer.Option(help="Code of a district, or of a province for all of its.")] = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Accept every changed name.")] = False,
) -> None:
    """Take Primero's names into ONA's locations_lookup. Cases get them when their quarter is synced or mapped again."""
    from primero_ona.ona.reference import accept_names

    if bool(code) == everything:
        raise UsageError("name what to accept: --code 601, also several times, or --all")
    with ona_connection() as connection:
        names = accept_names(connection, code or None, datetime.now(UTC))
    show_names(names)
    output.note(
        f"{len(names)} names accepted. `primero-ona remap --from 2024-Q1` brings them into the cases of stored quarters."
    )


dictionary = typer.Typer(help="The data dictionary in English and Khmer.", no_args_is_help=True)


@dictionary.command("export")
def dictionary_export(
    csv: Annotated[Path, typer.Option("--csv", help="File to write: CSV in UTF-8 with the mark that Excel needs.")],
) -> None:
    """Write ONA's data dictionary into a CSV file, for reading and for reviewing the Khmer texts."""
    from primero_ona.ona.reference import read_dictionary
    from primero_ona.pipeline.reference import as_csv
    from primero_ona.storage.places import write_file

    with ona_connection() as connection:
        rows = read_dictionary(connection)
    try:
        write_file(csv, as_csv(rows), 0o644)
    except OSError as error:
        raise UsageError(f"{csv} cannot be written ({error.strerror}); name another file with --csv") from None
    output.note(f"{len(rows)} rows written into {csv}.")
