"""How results look in a terminal: rich tables and a progress bar, or JSON where a script asks for it.

Counts, codes and messages that are safe to show; never a row of a case.
"""

from __future__ import annotations

import errno
import io
import json
import os
import select
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, TextIO

import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from primero_ona.contract.derived import UNCONFIRMED
from primero_ona.contract.tables import BIRTH_FIELD
from primero_ona.errors import NAMED_CASES, with_anchor
from primero_ona.primero.fields import WITHOUT_BIRTH
from primero_ona.quarters import Quarter, local_time

if TYPE_CHECKING:
    from primero_ona.graph.runs import Outcome, RunOutcome
    from primero_ona.ona.bookkeeping import Entry
    from primero_ona.ona.figure_reads import Total
    from primero_ona.pipeline.reconcile import Reconciliation

#: Where the output is no terminal nothing is folded or cut: a script, or a search, wants each row in its line.
_UNFOLDED = 10_000

out = Console(highlight=False, width=None if sys.stdout and sys.stdout.isatty() else _UNFOLDED)
_err = Console(stderr=True, highlight=False)

#: Shows how far the runs of a command are; see `progress`.
Show = Callable[[int, str, str], None]

#: The outcomes of a load whose rows stand in ONA afterwards.
STANDING = ("inserted", "updated", "unchanged")

_SEVERITIES = {"WARN": "with a warning", "ERROR": "failed"}

_OUTCOMES = ("inserted", "updated", "unchanged", "stale", "removed", "quarantined")


class _UnfailingFile(io.FileIO):
    """A stream of this process that neither a reader who left nor a full disk makes fail: what cannot be written is dropped."""

    def __init__(self, descriptor: int, report: Callable[[OSError], None]) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self._report = report

    def write(self, data: Any, /) -> int:  # noqa: ANN401
        """Write some of the data; all of it counts as written where none can be."""
        try:
            while (written := super().write(data)) is None:  # a pipe that is full and does not wait by itself
                select.select([], [self], [])
        except OSError as failed:
            report, self._report = self._report, lambda _: None
            report(failed)
            return memoryview(data).nbytes
        return written


@contextmanager
def unfailing_output() -> Iterator[None]:
    """Let nothing about standard output and error change what a command does, or its exit code: a sync may be committed by then.

    What an encoding cannot write is written with backslashes. For the command line, around all that it does.
    """
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _unfailing(1, before[0], _report_lost), _unfailing(2, before[1], lambda _: None)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = before


def _unfailing(descriptor: int, stream: TextIO | None, report: Callable[[OSError], None]) -> TextIO:
    if stream is None:  # closed by the caller; a file must not take its number
        os.dup2(os.open(os.devnull, os.O_RDWR), descriptor)
    raw = _UnfailingFile(descriptor, report)
    encoding = stream.encoding if stream else "utf-8"
    by_line = descriptor == 2 or raw.isatty()
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, errors="backslashreplace", line_buffering=by_line)


def _report_lost(failed: OSError) -> None:
    if failed.errno != errno.EPIPE:  # the reader has seen enough
        error(f"the output cannot be written ({failed.strerror}); what was to be done is done, see the exit code")


def note(text: str) -> None:
    """A line for people."""
    out.print(text, markup=False, soft_wrap=True)


def error(text: str) -> None:
    """One plain message on standard error."""
    _err.print(f"primero-ona: {text}", markup=False, soft_wrap=True)


def print_json(value: Any) -> None:  # noqa: ANN401
    """Print a value as JSON; in ASCII where the output is not UTF-8."""
    text = orjson.dumps(value, option=orjson.OPT_INDENT_2, default=str).decode()
    if (sys.stdout.encoding or "").lower() not in {"utf-8", "utf8"}:
        text = json.dumps(json.loads(text), indent=2)
    print(text)  # noqa: T201


@contextmanager
def progress(total: int, *, quiet: bool) -> Iterator[Show]:
    """A progress bar over runs; call the function with how many have ended, the label of the next one, and what it does."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=_err, disable=quiet or not _err.is_terminal, transient=True) as bar:
        task = bar.add_task("", total=total)

        def show(ended: int, label: str, words: str) -> None:
            bar.update(task, description=f"{label}: {words}", completed=ended)

        yield show


def show_outcomes(outcomes: Sequence[Outcome], *, as_json: bool) -> None:
    """What the load of each quarter did, how its checks went, and what went wrong."""
    if as_json:
        print_json([as_json_of(outcome) for outcome in outcomes])
        return
    table = _table("quarter", "table", *_OUTCOMES)
    for outcome in outcomes:
        for asset, counts in sorted(outcome.load.items()):
            table.add_row(outcome.quarter.label, asset, *(f"{counts.get(name, 0):,}" for name in _OUTCOMES))
    if table.row_count:
        out.print(table)
    _show_checks(outcomes)
    _show_failures(outcomes)


def as_json_of(outcome: RunOutcome) -> dict[str, Any]:
    """Return the outcome of a run for a script, with the exit code that it would have by itself."""
    return {**outcome.as_json(), "exit_code": exit_code(outcome.kind)}


def show_demo(outcomes: Sequence[Outcome]) -> None:
    """Rows per quarter, the children in each indicator's set, and the checks."""
    table = _table("quarter", "cases", "services", "in 4.8", "in 4.11a", "removed", "quarantined")
    for outcome in outcomes:
        loaded = {asset: sum(counts.get(name, 0) for name in STANDING) for asset, counts in outcome.load.items()}
        numbers = (
            loaded.get("ona/cases", 0),
            loaded.get("ona/services", 0),
            *(outcome.rows.get(asset, 0) for asset in ("raw_reintegration_cases", "raw_under18_cases", "case_exits")),
            outcome.quarantined.total(),
        )
        table.add_row(outcome.quarter.label, *(f"{number:,}" for number in numbers))
    out.print(table)
    note(
        "in 4.8: children undergoing reintegration; in 4.11a: under 18 when registered; a child may be in both.\n"
        "removed: cases in neither, or disabled; quarantined: rows in quarantine, see `primero-ona quarantine list`."
    )
    _show_checks(outcomes)
    _show_failures(outcomes)


def show_figures(
    quarters: Sequence[Quarter], totals: Mapping[tuple[str, date], Total], variants: Mapping[str, str]
) -> None:
    """Children in each indicator by quarter, with what the figures do not cover, and by which definition."""
    table = _table("children by quarter", *(head for name in variants for head in (name, "age unknown", "undated")))
    for quarter in quarters:
        found = [totals.get((name, quarter.start.date())) for name in variants]
        numbers = [(t.children, t.age_unknown, t.undated) if t else (0, 0, 0) for t in found]
        table.add_row(quarter.label, *(f"{number:,}" for three in numbers for number in three))
    out.print(table)
    definitions = " and ".join(f"{name} by `{variant}`" for name, variant in variants.items())
    note(
        f"{definitions}: {UNCONFIRMED}. age unknown: counted, without an age; undated: not counted, for want of a date.\n"
        "Services that OSCaR sends have no date, and its age 0 may mean that the age is not known."
    )


def _show_checks(outcomes: Sequence[Outcome]) -> None:
    """One line for each check over all quarters."""
    checks = [(outcome.quarter, check) for outcome in outcomes for check in outcome.checks]
    if not checks:
        return
    table = _table("check", "passed", "not passed")
    for asset, name in dict.fromkeys((check.asset, check.name) for _, check in checks):
        same = [(quarter, check) for quarter, check in checks if (check.asset, check.name) == (asset, name)]
        bad = Counter(check.severity for _, check in same if not check.passed)
        words = ", ".join(f"{count} {_SEVERITIES[severity]}" for severity, count in bad.items())
        table.add_row(f"{asset}: {name}", f"{len(same) - bad.total()} of {len(same)}", words)
    out.print(table)


def _show_failures(outcomes: Sequence[Outcome]) -> None:
    for outcome in outcomes:
        if outcome.failure:
            error(f"{outcome.quarter}: {outcome.failure}")


def show_changes(changes: Sequence[Any], *, as_json: bool) -> None:
    """The SQL that `schema apply` would run, and why."""
    if as_json:
        print_json([asdict(change) for change in changes])
        return
    for change in changes:
        note(f"-- {change.why}\n{change.sql.strip().rstrip(';')};\n")
    note(f"{len(changes)} changes; `primero-ona schema apply` makes them." if changes else "Nothing is missing.")


def show_status(rows: Sequence[Any], outdated: Collection[str], *, as_json: bool) -> None:
    """The quarters that were loaded; `outdated` names those that another version of the pull or the mapping loaded."""
    if as_json:
        print_json([{**asdict(row), "outdated": row.quarter in outdated} for row in rows])
        return
    if not rows:
        note("No quarter is loaded yet; begin with `primero-ona backfill --from FIRST_QUARTER`.")
        return
    table = _table(
        "quarter",
        "loaded (Phnom Penh)",
        "changed",
        "cases",
        "services",
        "stale",
        "quarantined",
        "unmapped",
        "version",
        "walked",
    )
    for row in rows:
        standing = [sum(row.counts.get(name, {}).get(kind, 0) for kind in STANDING) for name in ("cases", "services")]
        numbers = (*standing, row.stale, row.quarantined, row.unmapped)
        version = "another" if row.quarter in outdated else "this"
        times = local_time(row.finished_at), local_time(row.changed_at)
        table.add_row(row.quarter, *times, *(f"{number:,}" for number in numbers), version, _walked(row.walk))
    out.print(table)


def _walked(walk: Mapping[str, Any] | None) -> str:
    """How the last pull of a quarter walked it."""
    if walk is None:
        return ""
    whole_at = local_time(datetime.fromisoformat(walk["whole_at"]))
    if walk["since"] is None:
        return f"whole at {whole_at}"
    since = local_time(datetime.fromisoformat(walk["since"]))
    return f"changes since {since}: {walk['came']:,} came, {walk['carried']:,} carried over; whole at {whole_at}"


def _table(*columns: str) -> Table:
    """A table whose numbers stand right; all columns but the first two are numbers or short."""
    table = Table(header_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number < 1 else "right", no_wrap=number < 1)
    return table


def text_table(*columns: str) -> Table:
    """A table of texts that are folded, never cut; columns of counts stand to the right."""
    table = Table(header_style="bold")
    for column in columns:
        right = column in {"rows", "count", "inserted", "updated", "unchanged"}
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    return table


def show_reconciliation(found: Reconciliation) -> None:
    """One line for each quarter and one for all, then what it means."""
    table = Table(header_style="bold")
    table.add_column("quarter", no_wrap=True)
    for name in found.total.SHOWN:
        table.add_column("other services" if name == "services" else name, justify="right")
    for quarter in found.quarters:
        table.add_row(quarter.quarter, *_cells(quarter))
    table.add_section()
    table.add_row("total", *_cells(found.total), style="bold")
    out.print(table)
    if BIRTH_FIELD in found.inventory.fields.missing:
        note(f"Note: {WITHOUT_BIRTH}.")
    total = found.total
    if total.extra:
        note(f"Of {total.extra:,} extra, {total.gone:,} are gone from Primero, {total.out_of_scope:,} out of scope.")
    if total.early:
        note(f"Of the extra, {total.early:,} were changed before PRIMERO_ONA_START. {_named(found.early)}")
    if ahead := found.inventory.ahead:
        note(
            f"{len(ahead):,} cases are stamped more than an hour ahead of Primero's own time and count for the open quarter; "
            f"let Primero's administrators look at the server's clock. {_named(ahead)}"
        )
    sentence = found.sentence()
    shown = f"{sentence[0].upper()}{sentence[1:]}."
    note(shown if found.passed else with_anchor(shown, "what-verify-says"))


def _named(cases: Sequence[str]) -> str:
    return f"{'The first' if len(cases) > NAMED_CASES else 'Primero ids'}: {', '.join(cases[:NAMED_CASES])}."


def _cells(quarter: Any) -> list[str]:  # noqa: ANN401
    return [f"{getattr(quarter, name):,}" for name in quarter.SHOWN]


def show_quarantine(entries: Sequence[Entry]) -> None:
    """The entries, one line each."""
    if not entries:
        note("The quarantine is empty.")
        return
    table = text_table("quarter", "table", "Primero id", "reason", "rows", "first seen", "last seen", "resolved")
    for entry in entries:
        resolved = f"{entry.resolved_at:%Y-%m-%d %H:%M}" if entry.resolved_at else "open"
        seen = (f"{moment:%Y-%m-%d %H:%M}" for moment in (entry.first_seen, entry.last_seen))
        table.add_row(
            entry.quarter, entry.table_name, entry.primero_id, entry.reason, f"{entry.entries:,}", *seen, resolved
        )
    out.print(table)


#: 1: the data or a check; 2: a setting or the usage; 3: unreachable, refused or transient. Any other error counts as 1.
CODES = {
    "SyncError": 1,
    "PermanentError": 1,
    "DataError": 1,
    "CheckError": 1,
    "ConfigError": 2,
    "UsageError": 2,
    "RefusedError": 3,
    "TransientError": 3,
}


def exit_code(kind: str | None) -> int:
    """Return the exit code for the kind of an error; 0 where there was none."""
    return 0 if kind is None else CODES.get(kind, 1)
