"""Take an inventory of every case that Primero shows, of all time, in the order of its identifier; and find single cases.

A second way to the cases beside the walk of `pull.py`, so that a fault of one does not hide in the other: no filter at
all, plain pages in an order that is total and never changes. New cases shift later pages towards the end, which shows a
case twice; a case that vanishes shifts them towards the start, which would hide one, but makes `total` smaller, and then
the inventory is taken again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

import numpy as np
import pyarrow as pa

from primero_ona.errors import TransientError
from primero_ona.primero.client import AnswerRefusedError, PrimeroClient
from primero_ona.primero.fields import CASE_FIELDS, FieldsFound, KnownFields, LocationPrecision
from primero_ona.primero.pull import SETTLE_SECONDS, WALKS, Sink, primero_now, survey
from primero_ona.primero.visible import GAVE_UP, check_fields, retry_while_empty
from primero_ona.primero.walk import (
    EARLIEST,
    Case,
    Window,
    believed,
    raw_batches,
    raw_frame,
    read_case,
    read_moment,
)
from primero_ona.quarters import current_quarter

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

#: So many single cases, in the order of their random ids, say what the others would.
AGREED = 50

#: The inventory has no bound but the first instant that can be asked about, with a day for time zones.
_BEGINNING = datetime.fromisoformat(EARLIEST) + timedelta(days=1)

_ASKED: dict[str, str | int] = {
    "order_by": "unique_identifier",
    "order": "asc",
    "fields": ",".join(CASE_FIELDS),
}

Presence = Literal["gone", "out of scope", "present"]


@dataclass
class InventoryReport:
    """What an inventory saw: `settled` is Primero's own time shortly before it began; what was stamped later may be lacking.

    `latest`: the latest stamp that could be when it ended.

    `ahead`: ids of the cases whose stamps lie further ahead of Primero's own time than can be. `unstamped`: how many cases
    were left out since they have no readable time of their last change, and so belong to no quarter.
    """

    settled: datetime
    latest: datetime
    cases: int = 0
    unstamped: int = 0
    takes: int = 1
    fields: FieldsFound = field(default_factory=FieldsFound)
    ahead: list[str] = field(default_factory=list)
    requests: int = 0
    bytes: int = 0
    seconds: float = 0.0


def take_inventory(
    client: PrimeroClient,
    sink: Sink,
    precision: LocationPrecision = "village",
    known: KnownFields | None = None,
) -> InventoryReport:
    """Write every case that the account sees, of all modules, into the sink, as raw frames, each case once.

    `precision` is how exact locations are kept; `known` are the fields that earlier pulls were shown.

    Memory does not grow but by 16 bytes a case. Raises TransientError where three inventories were not complete, else as
    `pull_cases`.
    """
    zone, _ = survey(client)
    for number in range(1, WALKS + 1):
        settled = primero_now(client, zone) - timedelta(seconds=SETTLE_SECONDS)
        sink.restart()
        take = _Take(client, Window(_BEGINNING, settled, is_open=True, precision=precision), settled)
        for frame in take.frames():
            sink.write(frame)
        fault = take.fault() or _missing_count(client, take, zone)
        if not fault:
            break
        logger.warning("inventory %d of %d: %s", number, WALKS, fault)
    else:
        raise TransientError(
            f"an inventory of Primero's cases was not complete, {WALKS} times over ({fault}); try again later",
            see="moving-list",
        )
    if take.unstamped:
        logger.warning("%d cases have no readable time of their last change; no quarter has them", take.unstamped)
    report = InventoryReport(settled, client.latest(), take.received, take.unstamped, takes=number, ahead=take.ahead)
    if take.received:
        report.fields = check_fields(client, take.seen_fields, known or KnownFields())
    traffic = client.traffic
    report.requests, report.bytes, report.seconds = traffic.requests, traffic.bytes, traffic.seconds
    return report


class _Take:
    """One pass over all pages; read `frames()` to the end, then the counts are complete."""

    def __init__(self, client: PrimeroClient, window: Window, settled: datetime) -> None:
        self._client, self.window, self._settled = client, window, settled.replace(microsecond=0)
        self.received = self.counted = self.unstamped = 0
        self.seen_fields: set[str] = set()
        self.ahead: list[str] = []
        self._ids: list[np.ndarray[Any, np.dtype[np.int64]]] = []
        self._shrunk = 0

    def frames(self) -> Iterator[pd.DataFrame]:
        """All pages as raw frames; a case that the page before brought already is left out."""
        before: set[str] = set()
        most = 0
        for page in self._client.pages("cases", _ASKED):
            self._shrunk += max(most - page.total, 0)
            most = max(most, page.total)
            stamped = [row for row in page.rows if read_moment(row.get("last_updated_at"))]
            self.unstamped += len(page.rows) - len(stamped)
            believed_cases = _believed(self._client, stamped)
            cases = [case for case in believed_cases if case.row["id"] not in before]
            self.ahead += [case.row["id"] for case in cases if case.ahead]
            before = {case.row["id"] for case in believed_cases}
            self.seen_fields.update(*(case.row.keys() for case in cases))
            self._ids.append(np.fromiter((hash(case.row["id"]) for case in cases), np.int64, len(cases)))
            self.received += len(cases)
            self.counted += sum(
                case.updated.replace(microsecond=0) <= self._settled and not case.ahead for case in cases
            )
            if cases:
                yield raw_frame(pa.Table.from_batches(raw_batches(cases, self.window.precision)))

    def fault(self) -> str:
        """What speaks against this pass; empty where nothing does."""
        ids = np.concatenate(self._ids) if self._ids else np.empty(0, np.int64)
        duplicate_count = len(ids) - len(np.unique(ids))
        if self._shrunk:
            return f"{self._shrunk} cases vanished meanwhile"
        return f"{duplicate_count} cases came twice" if duplicate_count else ""


def _missing_count(client: PrimeroClient, take: _Take, zone: timedelta) -> str:
    """Whether Primero counts more settled cases than came; that there are none is not believed at once.

    Raises TransientError where cases came, and Primero counts none.
    """
    question: dict[str, str | int] = {
        **take.window.filters(zone, until=take.window.end.replace(microsecond=0)),
        "per": 0,
        "fields": "status",
    }
    total = retry_while_empty(client, lambda: client.page("cases", question).total)
    if not total and take.counted:
        raise TransientError(f"Primero counted no case just after it gave some: {GAVE_UP}", see="primero-gave-up")
    if not take.received:
        return "no case came, though Primero has just shown some"
    return f"{total - take.counted} cases lacking" if total > take.counted else ""


def _believed(client: PrimeroClient, rows: Iterable[dict[str, Any]]) -> list[Case]:
    """The cases with stamps that can be, as the pull of the open quarter has them."""
    quarter = current_quarter()
    latest = min(client.latest(), quarter.end - timedelta(microseconds=1))
    return [believed(read_case(row), latest, quarter.start) for row in rows]


def presences_of(client: PrimeroClient, cases: Sequence[str]) -> dict[str, Presence]:
    """How these cases stand, each asked for by itself; it ends early where the first AGREED are all out of scope.

    Then the account has lost its scope, and a thousand questions more would say no more than that.
    """
    found: dict[str, Presence] = {}
    for case in cases:
        found[case] = presence_of(client, case)
        if len(found) == AGREED and set(found.values()) == {"out of scope"}:
            break
    return found


def presence_of(client: PrimeroClient, case: str) -> Presence:
    """How a single case stands: `gone` (404), `out of scope` of this account (403), or `present`."""
    try:
        client.get(f"cases/{quote(case, safe='')}", {"fields": "status"})
    except AnswerRefusedError as refused:
        if refused.status == 404:
            return "gone"
        if refused.status == 403:
            return "out of scope"
        raise
    return "present"
