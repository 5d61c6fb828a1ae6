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
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import date, datetime
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, TextIO

import orjson
from rich.console import Console, OverflowMethod
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from primero_ona.contract.derived import UNCONFIRMED
from primero_ona.contract.tables import BIRTH_FIELD
from primero_ona.errors import NAMED_CASES, with_anchor
from primero_ona.primero.fields import WITHOUT_BIRTH
from primero_ona.quarters import Quarter, local_time

if TYPE_CHECKING:
    from primero_ona.graph.runs import Outcome, RunOutcome
    from primero_ona.ona.bookkeeping import QuarterStatus
    from primero_ona.ona.figure_reads import Total
    from primero_ona.pipeline.reconcile import Reconciliation

#: Where the output is no terminal nothing is folded or cut: a script, or a search, wants each row in its line.
_UNFOLDED = 10_000

# What is printed is shown as it is: `[/b]` in a label is no markup, and `:a:` in an address no emoji.
_plain = partial(Console, highlight=False, markup=False, emoji=False)
out = _plain(width=None if sys.stdout and sys.stdout.isatty() else _UNFOLDED)
_err = _plain(stderr=True)

#: Shows how far the runs of a command are; see `progress`.
Show = Callable[[int, str, str], None]

_SEVERITIES = {"WARN": "with a warning", "ERROR": "failed"}

_OUTCOMES = ("inserted", "updated", "unchanged", "stale", "removed", "quarantined")


class _UnfailingFile(io.FileIO):
    """A stream of this process that neither a reader who left nor a full disk makes fail: what cannot be written is dropped."""

    _lost = False

    def write(self, data: Any, /) -> int:  # noqa: ANN401
        """Write some of the data; all of it counts as written where none can be, which is said once of standard output."""
        try:
            while (written := super().write(data)) is None:  # a pipe that is full and does not wait by itself
                select.select([], [self], [])
        except OSError as failed:
            first, self._lost = not self._lost, True
            if first and self.fileno() == 1 and failed.errno != errno.EPIPE:  # else the reader has seen enough
                error(
                    f"the output cannot be written ({failed.strerror}); what was to be done is done, see the exit code"
                )
            return memoryview(data).nbytes
        return written


@contextmanager
def unfailing_output() -> Iterator[None]:
    """Let nothing about standard output and error change what a command does, or its exit code: a sync may be committed by then.

    What an encoding cannot write is written with backslashes. For the command line, around all that it does.
    """
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _unfailing(1, sys.stdout), _unfailing(2, sys.stderr)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = before


def _unfailing(descriptor: int, stream: TextIO | None) -> TextIO:
    if stream is None:  # closed by the caller; a file must not take its number
        os.dup2(os.open(os.devnull, os.O_RDWR), descriptor)
    raw = _UnfailingFile(descriptor, "w", closefd=False)
    encoding = stream.encoding if stream else "utf-8"
    by_line = descriptor == 2 or raw.isatty()
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, errors="backslashreplace", line_buffering=by_line)


def note(text: str) -> None:
    """A line for people."""
    out.print(text, soft_wrap=True)


def error(text: str) -> None:
    """One plain message on standard error."""
    _err.print(f"primero-ona: {text}", soft_wrap=True)


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


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, texts: bool = False) -> Table:
    """Make a table, of which all columns but the first stand to the right; or of `texts`: folded, never cut, only counts do."""
    made, listed = Table(header_style="bold"), list(rows)
    for place, column in enumerate(columns):
        right = bool(listed) and isinstance(listed[0][place], int) if texts else place > 0
        overflow: OverflowMethod = "fold" if texts else "ellipsis"
        made.add_column(
            column, justify="right" if right else "left", overflow=overflow, no_wrap=not texts and not place
        )
    for row in listed:
        made.add_row(*map(_cell, row))
    return made


def _cell(value: object) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    return "" if value is None else str(value)


def show_outcomes(outcomes: Sequence[Outcome], *, as_json: bool) -> None:
    """What the load of each quarter did, how its checks went, and what went wrong."""
    if as_json:
        print_json([as_json_of(outcome) for outcome in outcomes])
        return
    rows = [
        (outcome.quarter.label, asset, *(counts.get(name, 0) for name in _OUTCOMES))
        for outcome in outcomes
        for asset, counts in sorted(outcome.load.items())
    ]
    if rows:
        out.print(table(("quarter", "table", *_OUTCOMES), rows))
    _show_checks(outcomes)


def as_json_of(outcome: RunOutcome) -> dict[str, Any]:
    """Return the outcome of a run for a script, with the exit code that it would have by itself."""
    return {**outcome.as_json(), "exit_code": exit_code(outcome.kind)}


def show_demo(outcomes: Sequence[Outcome]) -> None:
    """Rows per quarter, the children in each indicator's set, and the checks."""
    rows = [
        (
            outcome.quarter.label,
            *(_standing(outcome.load.get(asset, {})) for asset in ("ona/cases", "ona/services")),
            *(outcome.rows.get(asset, 0) for asset in ("raw_reintegration_cases", "raw_under18_cases", "case_exits")),
            outcome.quarantined.total(),
        )
        for outcome in outcomes
    ]
    out.print(table(("quarter", "cases", "services", "in 4.8", "in 4.11a", "removed", "quarantined"), rows))
    note(
        "in 4.8: children undergoing reintegration; in 4.11a: under 18 when registered; a child may be in both.\n"
        "removed: cases in neither, or disabled; quarantined: rows in quarantine, see `primero-ona quarantine list`."
    )
    _show_checks(outcomes)


def _standing(counts: Mapping[str, int]) -> int:
    """How many rows of a load stand in ONA afterwards."""
    return sum(counts.get(name, 0) for name in ("inserted", "updated", "unchanged"))


def show_figures(
    quarters: Sequence[Quarter], totals: Mapping[tuple[str, date], Total], variants: Mapping[str, str]
) -> None:
    """Children in each indicator by quarter, with what the figures do not cover, and by which definition."""
    rows = []
    for quarter in quarters:
        found = [totals.get((name, quarter.start.date())) for name in variants]
        numbers = [(t.children, t.age_unknown, t.undated) if t else (0, 0, 0) for t in found]
        rows.append((quarter.label, *chain.from_iterable(numbers)))
    columns = chain.from_iterable((name, "age unknown", "undated") for name in variants)
    out.print(table(("children by quarter", *columns), rows))
    definitions = " and ".join(f"{name} by `{variant}`" for name, variant in variants.items())
    note(
        f"{definitions}: {UNCONFIRMED}. age unknown: counted, without an age; undated: not counted, for want of a date.\n"
        "Services that OSCaR sends have no date, and its age 0 may mean that the age is not known."
    )


def _show_checks(outcomes: Sequence[Outcome]) -> None:
    """One line for each check over all quarters, and for each quarter that failed."""
    answers: dict[str, Counter[str]] = defaultdict(Counter)
    for outcome in outcomes:
        for check in outcome.checks:
            answers[f"{check.asset}: {check.name}"]["passed" if check.passed else _SEVERITIES[check.severity]] += 1
    rows = []
    for name, found in answers.items():
        bad = ", ".join(f"{count} {answer}" for answer, count in found.items() if answer != "passed")
        rows.append((name, f"{found['passed']} of {found.total()}", bad))
    if rows:
        out.print(table(("check", "passed", "not passed"), rows))
    for outcome in outcomes:
        if outcome.failure:
            error(f"{outcome.quarter}: {outcome.failure}")


def show_status(rows: Sequence[QuarterStatus], outdated: Collection[str], *, as_json: bool) -> None:
    """The quarters that were loaded; `outdated` names those that another version of the pull or the mapping loaded."""
    if as_json:
        print_json([{**asdict(row), "outdated": row.quarter in outdated} for row in rows])
        return
    if not rows:
        note("No quarter is loaded yet; begin with `primero-ona backfill --from FIRST_QUARTER`.")
        return
    columns = (
        "quarter", "loaded (Phnom Penh)", "changed", "cases", "services", "stale", "quarantined", "unmapped", "version", "walked",
    )  # fmt: skip
    cells = [
        (
            row.quarter,
            local_time(row.finished_at),
            local_time(row.changed_at),
            *(_standing(row.counts.get(name, {})) for name in ("cases", "services")),
            row.stale,
            row.quarantined,
            row.unmapped,
            "another" if row.quarter in outdated else "this",
            _walked(row.walk),
        )
        for row in rows
    ]
    out.print(table(columns, cells))


def _walked(walk: Mapping[str, Any] | None) -> str:
    """How the last pull of a quarter walked it."""
    if walk is None:
        return ""
    whole_at = local_time(datetime.fromisoformat(walk["whole_at"]))
    if walk["since"] is None:
        return f"whole at {whole_at}"
    since = local_time(datetime.fromisoformat(walk["since"]))
    return f"changes since {since}: {walk['came']:,} came, {walk['carried']:,} carried over; whole at {whole_at}"


def show_reconciliation(found: Reconciliation) -> None:
    """One line for each quarter and one for all, then what it means."""
    total = found.total
    columns = ("quarter", *("other services" if name == "services" else name for name in total.SHOWN))
    lines = [(each.quarter, *(getattr(each, name) for name in each.SHOWN)) for each in found.quarters]
    shown = table(columns, lines)
    shown.add_section()
    shown.add_row("total", *(_cell(getattr(total, name)) for name in total.SHOWN), style="bold")
    out.print(shown)
    if BIRTH_FIELD in found.inventory.fields.missing:
        note(f"Note: {WITHOUT_BIRTH}.")
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
    sentence = f"{sentence[0].upper()}{sentence[1:]}."
    note(sentence if found.passed else with_anchor(sentence, "what-verify-says"))


def _named(cases: Sequence[str]) -> str:
    return f"{'The first' if len(cases) > NAMED_CASES else 'Primero ids'}: {', '.join(cases[:NAMED_CASES])}."


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


def exit_code(*kinds: str | None) -> int:
    """Return the exit code for errors of these kinds, the largest; 0 where there was none."""
    return max((CODES.get(kind, 1) for kind in kinds if kind is not None), default=0)
