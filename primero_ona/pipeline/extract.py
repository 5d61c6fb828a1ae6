"""Pull a quarter into the three raw assets; nothing else is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from primero_ona.errors import NAMED_CASES, TransientError
from primero_ona.ona.bookkeeping import PULL_NUMBER, last_pull, next_pull
from primero_ona.ona.connection import Connect, partition_lock, require_held
from primero_ona.ona.erasure import erased_subjects, not_erased
from primero_ona.ona.primero_state import note_fields, note_visible, shown_fields, visible_cases
from primero_ona.pipeline.carry import Basis, CarriedQuarter, Present, carry_facts
from primero_ona.pipeline.sink import ERASED_REASON, QuarterSink
from primero_ona.pipeline.stored import StoredAssets
from primero_ona.primero.client import PrimeroClient
from primero_ona.primero.fields import KnownFields, PullPolicy, warn_of_fields
from primero_ona.primero.pull import PullReport, pull_cases
from primero_ona.primero.visible import KnownScope
from primero_ona.primero.walk import Window
from primero_ona.quarters import Quarter, local_today
from primero_ona.settings import GraphSettings, read_one


@dataclass(frozen=True)
class Pulled:
    """What a pull stored: rows by asset, why cases went where they went, how many were erased earlier, and its report.

    `ahead`: Primero ids of the cases that are stamped ahead of Primero's own time, without those that were erased.
    """

    report: PullReport
    rows: Mapping[str, int]
    reasons: Mapping[str, int]
    ahead: list[str]

    @property
    def warnings(self) -> list[str]:
        """What people should look into, with Primero's ids at most."""
        found = warn_of_fields(self.report.fields.missing)
        if ahead := len(self.report.ahead):
            found.append(
                f"{ahead} cases are stamped more than an hour ahead of Primero's own time; they came with the open quarter, stamped "
                "with its start. Let Primero's administrators look at the server's clock. The first: "
                + ", ".join(self.ahead[:NAMED_CASES])
            )
        return found

    @property
    def erased(self) -> int:
        """Cases that are still in Primero, and are excluded because they were erased."""
        return self.reasons.get(ERASED_REASON, 0)


def pull_quarter(
    client: PrimeroClient,
    connect: Connect,
    stored: StoredAssets,
    quarter: Quarter,
    policy: PullPolicy,
    *,
    whole: bool = False,
    now: datetime | None = None,
) -> Pulled:
    """Pull a quarter from Primero into the three raw assets; all three, or none.

    An open quarter is pulled by its changes where what is stored allows it, and `whole` is not demanded. `connect` opens a
    connection to ONA; `now` (aware; default: this machine's clock) decides whether the quarter is open.
    Raises TransientError where another run stores the quarter or a case was erased meanwhile, else as `pull_cases`.
    """
    window = window_of(quarter, policy, now)
    limit = timedelta(days=read_one(GraphSettings).whole_walk_days)
    with connect() as lock, partition_lock(lock, quarter.key):
        # Under the lock, for which a pull may wait, and before Primero is asked.
        with connect() as conn:
            number = next_pull(conn)
            erased, known, scope = erased_subjects(conn), known_fields(conn), known_scope(conn)
            loaded = last_pull(conn, quarter)
        present = Present(window.is_open, whole, erased, local_today(), limit)
        basis = Basis.find(stored, quarter) if window.is_open and not whole else "it is walked whole"
        sink = QuarterSink(stored, quarter, policy, erased)
        carried = CarriedQuarter(sink, quarter, basis, present)
        try:
            report = pull_cases(client, window, sink, known, scope, carried=carried)
            _require_erased(connect, erased, quarter)
            require_held(lock)
            spans = carry_facts(report, number, basis, loaded, erased, sink.erased_seen, sink.next_registration)
            rows = sink.commit({**_facts(quarter, number, report, sink.reasons), **spans})
        except BaseException:
            sink.discard()
            raise
    with connect() as conn:
        note_fields(conn, report.fields.shown, report.fields.returned, datetime.now(UTC))
        note_visible(conn, report.visible, restored=report.visible >= scope.in_ona)
    return Pulled(report, rows, dict(sink.reasons), not_erased(report.ahead, erased))


def _require_erased(connect: Connect, erased: frozenset[str], quarter: Quarter) -> None:
    """Read the erasures again: what was written may hold a case that was erased meanwhile."""
    with connect() as conn:
        if erased_subjects(conn) != erased:
            raise TransientError(
                f"a case was erased while {quarter} was pulled; nothing was stored, sync it again",
                see="two-pulls",
            )


def _facts(quarter: Quarter, number: int, report: PullReport, reasons: Mapping[str, int]) -> dict[str, Any]:
    """What the summary of each stored partition says of its pull."""
    return {
        "quarter": quarter.name,
        PULL_NUMBER: number,
        "window": [quarter.start.isoformat(), quarter.end.isoformat()],
        "pull": {**asdict(report), "ahead": len(report.ahead)},
        "reasons": dict(reasons),
    }


def known_fields(conn: psycopg.Connection) -> KnownFields:
    """Read what ONA's bookkeeping knows of the fields that earlier pulls were shown."""
    fields = shown_fields(conn)
    return KnownFields(
        frozenset(field.name for field in fields), frozenset(field.name for field in fields if field.accepted_at)
    )


def known_scope(conn: psycopg.Connection) -> KnownScope:
    """Read how many cases the account should see, and from the settings what counts as a fall."""
    settings = read_one(GraphSettings)
    share = settings.scope_loss_percent / 100
    return KnownScope(*visible_cases(conn), share=share, least=settings.scope_loss_cases)


def window_of(quarter: Quarter, policy: PullPolicy, now: datetime | None = None) -> Window:
    """The window of a quarter, open while the quarter runs."""
    is_open = quarter.is_open(now or datetime.now(UTC))
    return Window(quarter.start, quarter.end, is_open, policy.modules, policy.precision)
