"""`reference`, `labels`, `fields`, `places`, `dictionary`, `account`: what Primero has and shows, and what was decided about it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from primero_ona.cli import output
from primero_ona.cli.common import AsJson, ona_connection, primero_client, refresh_reference, stored_assets
from primero_ona.errors import UsageError
from primero_ona.ona.primero_state import Field, accept_fields, accept_visible, forget_refused_logins, shown_fields
from primero_ona.ona.reference import ChangedName, accept_names, changed_names, read_dictionary
from primero_ona.pipeline.reference import as_csv, as_lines, counted_label_changes, labels_in_use, stored_reference
from primero_ona.pipeline.stored import mapped_otherwise
from primero_ona.primero.fields import CASE_FIELDS
from primero_ona.storage.places import write_file

reference = typer.Typer(help="Primero's places, options and forms.", no_args_is_help=True)


@reference.command("refresh")
def reference_refresh(*, as_json: AsJson = False) -> None:
    """Read them, and bring ONA's locations_lookup and data_dictionary up to date. Safe to repeat."""
    outcome = refresh_reference()
    if as_json:
        output.print_json(output.as_json_of(outcome))
        raise typer.Exit(output.exit_code(outcome.kind))
    kinds = ("inserted", "updated", "unchanged")
    if rows := [(asset, *(counts.get(kind, 0) for kind in kinds)) for asset, counts in sorted(outcome.load.items())]:
        output.out.print(output.table(("table", *kinds), rows, texts=True))
    for check in outcome.checks:
        if not check.passed:
            output.note(f"{check.severity}: {check.asset}, {check.name}: {check.text}")
    if outcome.failure:
        output.error(outcome.failure)
    raise typer.Exit(output.exit_code(outcome.kind))


labels = typer.Typer(help="Labels of options: ours beside Primero's.", no_args_is_help=True)


@labels.command("diff")
def labels_diff(*, as_json: AsJson = False) -> None:
    """Print labels that differ from Primero's, codes without a label, the rows affected, and the lines for labels.yaml."""
    with stored_assets() as stored:
        in_use = labels_in_use(stored_reference(stored))
        outdated = mapped_otherwise(stored, in_use)
    with ona_connection() as connection:
        changes = counted_label_changes(connection, in_use)
    lines = as_lines(changes)
    if as_json:
        mapped = [quarter.name for quarter in outdated]
        output.print_json({"labels": changes, "lines": lines, "mapped with other labels": mapped})
        return
    if changes:
        rows = [(each.field, each.code, each.ours, each.primeros, each.rows, each.kind.value) for each in changes]
        output.out.print(output.table(("field", "code", "ours", "Primero's", "rows", "what"), rows, texts=True))
    else:
        output.note("All labels match Primero and every code is known.")
    if lines:
        output.note("To use Primero's labels, put these lines into mapping/labels.yaml, each into its section:")
        output.note(lines)
        output.note("The dashboards filter on these texts: tell ONA's people before the labels change.")
    if outdated:
        output.note(
            f"Mapped with other labels than now: {', '.join(map(str, outdated))}; `primero-ona remap --from {outdated[0]}` "
            "maps them again."
        )


fields = typer.Typer(help="Fields of cases: what Primero has shown, and accepting a loss.", no_args_is_help=True)


@fields.command("list")
def fields_list(*, as_json: AsJson = False) -> None:
    """List the fields that are asked for, when Primero showed each first and last, and which losses were accepted."""
    with ona_connection() as connection:
        shown = shown_fields(connection)
    known = {field.name for field in shown}
    never = [name for name in CASE_FIELDS if name not in known]
    if as_json:
        output.print_json({"shown": shown, "never": never})
        return
    _show_fields(shown)
    if never:
        output.note(f"Never seen: {', '.join(never)}: no case has them yet, or the account's role may not read them.")


def _show_fields(fields: Sequence[Field]) -> None:
    rows = [(field.name, field.first_seen, field.last_seen, field.accepted_at) for field in fields]
    output.out.print(output.table(("field", "first seen", "last seen", "loss accepted"), rows, texts=True))


@fields.command("accept")
def fields_accept(names: Annotated[list[str], typer.Argument(help="Names of fields, like care_date.")]) -> None:
    """Accept that fields which Primero has shown do not come any more; their columns become empty with the next syncs.

    Ends by itself when the field comes back. Safe to repeat.
    """
    with ona_connection() as connection:
        accepted = accept_fields(connection, names, datetime.now(UTC))
    _show_fields(accepted)
    output.note("Accepted. `primero-ona sync` goes on without them, and their columns become empty in what it loads.")


places = typer.Typer(help="Names of places: what Primero has changed, and accepting it.", no_args_is_help=True)


@places.command("changes")
def places_changes(*, as_json: AsJson = False) -> None:
    """List the names that Primero has changed since, beside those that are in use in ONA."""
    with ona_connection() as connection:
        names = changed_names(connection)
    if as_json:
        output.print_json(names)
    else:
        _show_names(names)


def _show_names(names: Sequence[ChangedName]) -> None:
    if not names:
        output.note("All names of places are those in use.")
        return
    rows = [(name.code, name.column_name, name.in_use, name.primeros) for name in names]
    output.out.print(output.table(("code", "column", "in use", "Primero's"), rows, texts=True))


@places.command("accept")
def places_accept(
    code: Annotated[list[str] | None, typer.Option(help="Code of a district, or of a province for all of its.")] = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Accept every changed name.")] = False,
) -> None:
    """Take Primero's names into ONA's locations_lookup. Cases get them when their quarter is synced or mapped again."""
    if bool(code) == everything:
        raise UsageError("name what to accept: --code 601, also several times, or --all")
    with ona_connection() as connection:
        names = accept_names(connection, code or None, datetime.now(UTC))
    _show_names(names)
    output.note(
        f"{len(names)} names accepted. `primero-ona remap --from 2024-Q1` brings them into the cases of stored quarters."
    )


dictionary = typer.Typer(help="The data dictionary in English and Khmer.", no_args_is_help=True)


@dictionary.command("export")
def dictionary_export(
    csv: Annotated[Path, typer.Option("--csv", help="File to write: CSV in UTF-8 with the mark that Excel needs.")],
) -> None:
    """Write ONA's data dictionary into a CSV file, for reading and for reviewing the Khmer texts."""
    with ona_connection() as connection:
        rows = read_dictionary(connection)
    try:
        write_file(csv, as_csv(rows), 0o644)
    except OSError as error:
        raise UsageError(f"{csv} cannot be written ({error.strerror}); name another file with --csv") from None
    output.note(f"{len(rows)} rows written into {csv}.")


account = typer.Typer(help="Primero's account: what it sees, and a login that was refused.", no_args_is_help=True)


@account.command("accept-cases")
def accept_cases(
    cases: Annotated[int, typer.Argument(min=1, help="How many cases are right, as the failure names them.")],
) -> None:
    """Accept that the account sees so many cases and no more, where pulls fail since it saw more before or ONA has more.

    Ask Primero's administrators first. Cases that are lost from sight stay in ONA as they are. Safe to repeat.
    """
    with ona_connection() as connection:
        accept_visible(connection, cases)
    output.note(f"Accepted: {cases:,} cases are right. `primero-ona sync` goes on with them.")


@account.command("retry-login")
def retry_login() -> None:
    """Ask Primero once whether it takes the login, though it refused it before; then everything asks again, or nothing does.

    For a login that is right: the account was locked or disabled, and is not any more.
    """
    with ona_connection() as connection:
        forget_refused_logins(connection)
    with primero_client() as client:
        client.page("cases", {"per": 0, "fields": "status"})
    output.note("Primero takes the login. Syncs and the sensor ask again.")
