"""`sync` and `backfill`: real Dagster runs, in the instance of DAGSTER_HOME."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from primero_ona import console
from primero_ona.commands.common import AsJson, ona_connection, sync_quarters
from primero_ona.failures import SettingsFailure
from primero_ona.quarters import Quarter, current_quarter, quarters_between

if TYPE_CHECKING:
    from primero_ona.runs import Outcome


def sync(
    quarter: Annotated[str | None, typer.Option(help="Which quarter, like 2024-Q1; default: the open one.")] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Pull, map, load and check one quarter. Safe to repeat."""
    wanted = Quarter.parse(quarter) if quarter else current_quarter()
    _finish(sync_quarters([wanted], quiet=as_json), as_json=as_json)


def backfill(
    first: Annotated[str, typer.Option("--from", help="First quarter, like 2023-Q1.")],
    last: Annotated[str | None, typer.Option("--to", help="Last quarter; default: the open one.")] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Sync several quarters, one run each, oldest first. A quarter that fails does not stop the others."""
    start, end = Quarter.parse(first), Quarter.parse(last) if last else current_quarter()
    if end < start:
        raise SettingsFailure(f"--from {start} is later than --to {end}")
    _finish(sync_quarters(quarters_between(start, end), quiet=as_json), as_json=as_json)


def status(*, as_json: AsJson = False) -> None:
    """Show which quarters are loaded, when, how many rows, and what is stale."""
    from primero_ona.ona.status import quarter_status  # noqa: PLC0415

    with ona_connection() as connection:
        console.show_status(quarter_status(connection), as_json=as_json)


def _finish(outcomes: Sequence[Outcome], *, as_json: bool) -> None:
    """Show the outcomes and leave with the largest of their exit codes."""
    console.show_outcomes(outcomes, as_json=as_json)
    raise typer.Exit(max(outcome.exit_code for outcome in outcomes))
