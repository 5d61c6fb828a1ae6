"""Take an inventory of every case that Primero shows, of all time, in the order of its identifier; and find single cases.

A second way to the cases beside the walk of `pull.py`, so that a fault of one does not hide in the other: no filter at
all, plain pages in an order that is total and never changes. New cases shift later pages towards the end, which shows a
case twice; a case that vanishes shifts them towards the start, which would hide one, but makes `total` smaller, and then
the inventory is taken again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

from primero_ona.errors import TransientError
from primero_ona.primero.client import BY_IDENTIFIER, EARLIEST, AnswerRefusedError, PrimeroClient, Traffic
from primero_ona.primero.fields import FieldsFound, KnownFields, LocationPrecision
from primero_ona.primero.pull import SETTLE_SECONDS, WALKS, Sink, primero_now, survey
from primero_ona.primero.visible import check_fields
from primero_ona.primero.walk import Scan, Window, believed, raw_table, read_case, read_moment
from primero_ona.quarters import current_quarter
from primero_ona.storage.frames import to_frame

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

#: So many single cases, in the order of their random ids, say what the others would.
AGREED = 50

Presence = Literal["gone", "out of scope", "present"]


@dataclass
class InventoryReport:
    """What an inventory saw: `settled` is Primero's own time shortly before it began; what was stamped later may be lacking.

    `latest`: the latest stamp that could be when it ended. `ahead`: ids of the cases whose stamps lie further ahead of
    Primero's own time than can be. `unstamped`: how many cases were left out since they have no readable time of their last
    change, and so belong to no quarter.
    """

    settled: datetime
    latest: datetime
    cases: int
    unstamped: int
    takes: int
    fields: FieldsFound
    ahead: list[str]
    traffic: Traffic


def take_inventory(
    client: PrimeroClient, sink: Sink, precision: LocationPrecision = "village", known: KnownFields | None = None
) -> InventoryReport:
    """Write every case that the account sees, of all modules, into the sink, as raw frames, each case once.

    `precision` is how exact locations are kept; `known` are the fields that earlier pulls were shown. Memory does not grow
    but by 16 bytes a case. Raises TransientError where three inventories were not complete, else as `pull_cases`.
    """
    zone, _ = survey(client)
    beginning = datetime.fromisoformat(EARLIEST) + timedelta(days=1)  # can be asked about in any zone
    for number in range(1, WALKS + 1):
        settled = primero_now(client, zone) - timedelta(seconds=SETTLE_SECONDS)
        sink.restart()
        take = _Take(client, Window(beginning, settled, is_open=True, precision=precision), zone, settled)
        for frame in take.frames():
            sink.write(frame)
        fault = take.fault()
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
    fields = check_fields(client, take.seen_fields, known or KnownFields())
    counts = take.received, take.unstamped, number
    return InventoryReport(settled, client.latest(), *counts, fields, take.ahead, client.traffic)


class _Take(Scan):
    """One pass over all pages; `unstamped` cases are no part of it."""

    unstamped = 0
    _shrunk = 0

    def frames(self) -> Iterator[pd.DataFrame]:
        """All pages as raw frames; a case that the page before brought already is left out."""
        before: set[str] = set()
        most = 0
        for page in self._client.pages("cases", {**BY_IDENTIFIER, "fields": self._fields}):
            self._shrunk = max(self._shrunk, most - page.total)
            most = max(most, page.total)
            stamped = [read_case(row) for row in page.rows if read_moment(row.get("last_updated_at"))]
            self.unstamped += len(page.rows) - len(stamped)
            quarter = current_quarter()
            came = believed(self._client, stamped, quarter.start, quarter.end)  # as a pull has them
            cases = [case for case in came if case.row["id"] not in before]
            before = {case.row["id"] for case in came}
            self._receive(cases)
            if cases:
                yield to_frame(raw_table(cases, self._window.precision))

    def fault(self) -> str:
        """What speaks against this pass; empty where nothing does. Raises as `count`."""
        if self._shrunk:
            return f"{self._shrunk} cases vanished meanwhile"
        if twice := self.duplicate_count():
            return f"{twice} cases came twice"
        missing = self.missing_count()
        if not self.received:
            return "no case came, though Primero has just shown some"
        return f"{missing} cases lacking" if missing > 0 else ""


def presences_of(client: PrimeroClient, cases: Sequence[str]) -> dict[str, Presence]:
    """How these cases stand, each asked for by itself, up to where the first AGREED are all out of scope: it was lost then."""
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
