"""Pull a quarter into the three raw assets; nothing else is kept."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from typing import NamedTuple

from primero_ona.ona.bookkeeping import RECEIVED, last_pull, next_pull
from primero_ona.ona.connection import Connect, partition_lock, require_held
from primero_ona.ona.erasure import erased_subjects
from primero_ona.pipeline.account import known_fields, known_scope, note_seen
from primero_ona.pipeline.carry import CarriedQuarter, summary_of
from primero_ona.pipeline.sink import QuarterSink
from primero_ona.pipeline.stored import StoredAssets
from primero_ona.primero.client import PrimeroClient
from primero_ona.primero.fields import PullPolicy
from primero_ona.primero.pull import PullReport, pull_cases
from primero_ona.primero.walk import Window
from primero_ona.quarters import Quarter


class Pulled(NamedTuple):
    """What a pull stored: its report, rows by asset, how many that came were `erased` before, and the ids of others stamped `ahead`."""

    report: PullReport
    rows: dict[str, int]
    erased: int
    ahead: list[str]


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
    is_open = quarter.is_open(now or datetime.now(UTC))
    window = Window(quarter.start, quarter.end, is_open, policy.modules, policy.precision)
    with connect() as lock, partition_lock(lock, quarter.key):
        # Under the lock, for which a pull may wait, and before Primero is asked.
        with connect() as conn:
            number, loaded, erased = next_pull(conn), last_pull(conn, quarter), erased_subjects(conn)
            fields, scope = known_fields(conn), known_scope(conn)
        with closing(QuarterSink(stored, quarter, policy, erased)) as sink:
            refused = "it was asked for" if whole else "it is closed"
            found = CarriedQuarter.find(stored, sink) if is_open and not whole else refused
            carried = None if isinstance(found, str) else found
            report = pull_cases(client, window, sink, fields, scope, carried=carried)
            if isinstance(found, str):
                report.whole_because = found
            with connect() as conn:
                sink.require_same_erasures(erased_subjects(conn))
            require_held(lock)
            summary = summary_of(report, number, sink, carried, loaded)
            rows = sink.commit(summary)
    with connect() as conn:
        note_seen(conn, report, scope)
    return Pulled(report, rows, len(sink.erased_seen), summary[RECEIVED]["ahead"])
