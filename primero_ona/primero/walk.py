"""One walk over the cases of a window, newest creation first, each page bounded by the smallest `created_at` seen so far.

`created_at` never changes, so no edit can move a case past the walker. Pages overlap at their border, so a case is held
back until no later page can bring it again; of two copies the newest stands. Versions 2.11 and 2.12 compare
`created_at` in whole seconds, therefore borders are decided by whole seconds here, which holds for every version.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from primero_ona.errors import DataError, TransientError
from primero_ona.primero.client import BY_IDENTIFIER, EARLIEST, NEWEST, PAGE_ROWS, Page, PrimeroClient
from primero_ona.primero.fields import CASE_FIELDS, LocationPrecision
from primero_ona.primero.raw import PULLED_SCHEMA, raw_columns
from primero_ona.primero.visible import EMPTY_ASKED, GAVE_UP, retry_while_empty
from primero_ona.storage.frames import BATCH_ROWS, prefetch, to_frame
from primero_ona.texts import case_id_of, is_uuid

_SECOND = timedelta(seconds=1)
_MILLISECOND = timedelta(milliseconds=1)
_MICROSECOND = timedelta(microseconds=1)


class Case(NamedTuple):
    """A case as received, its stamps read (UTC); `ahead`: `updated` stands in place of one that cannot be (see `believed`)."""

    row: dict[str, Any]
    updated: datetime
    created: datetime | None
    ahead: bool = False


@dataclass(frozen=True)
class Window:
    """Which cases are pulled: `last_updated_at` from `start` (included) to `end` (excluded), both aware.

    An open window is asked without its end, so that no case can leave it while it is walked; the cases whose stamps lie
    ahead belong to it, with its start as their stamp. `modules` are Primero's module ids; none means all. `precision` is
    how exact locations are kept. `since`, a whole second: only what has changed from then on is asked for.
    """

    start: datetime
    end: datetime
    is_open: bool
    modules: tuple[str, ...] = ()
    precision: LocationPrecision = "village"
    since: datetime | None = None

    @property
    def asked_from(self) -> datetime:
        """The first second that Primero is asked for: a second before the window, since it compares whole seconds."""
        return self.since or self.start - _SECOND

    def filters(self, zone: timedelta, *, until: datetime | None = None) -> dict[str, str]:
        """Primero's filters, in the zone in which its stamps are kept; `until` (included) closes the window earlier."""
        end = until or (None if self.is_open else self.end)
        span = f"{to_query_time(self.asked_from + zone)}..{to_query_time(end + zone) if end else ''}"
        return {"last_updated_at": span} | ({"module_id": ",".join(self.modules)} if self.modules else {})


class Scan:
    """One scan over cases; read it to the end, then the counts are complete.

    `settled` is Primero's own time shortly before it began: what was stamped later may come and go. `zone` is the offset of
    the server's stamps from UTC. Counts: `received` distinct cases, `counted` those stamped up to `counted_until`, which a
    count by Primero must not exceed. `ahead`: ids of the cases whose stamps lay ahead, where the window is open for them.
    """

    def __init__(
        self,
        client: PrimeroClient,
        window: Window,
        zone: timedelta,
        settled: datetime,
        fields: Sequence[str] = CASE_FIELDS,
    ) -> None:
        self._client, self._window, self._zone, self._settled = client, window, zone, settled
        self._fields = ",".join(fields)
        self.counted_until = _floor(min(settled, window.end))
        self.received = self.counted = 0
        self.seen_fields: set[str] = set()
        self.ahead: list[str] = []
        self._ids: list[np.ndarray[Any, np.dtype[np.int64]]] = []

    def _receive(self, cases: list[Case]) -> None:
        """Count cases that have not come before, in a sound scan."""
        self._ids.append(np.fromiter((hash(case.row["id"]) for case in cases), np.int64, len(cases)))
        self.seen_fields.update(*(case.row for case in cases))
        self.received += len(cases)
        after = self.counted_until + _SECOND
        self.counted += sum(case.updated < after and not case.ahead for case in cases)
        if self._window.is_open:
            self.ahead += [case.row["id"] for case in cases if case.ahead]

    def duplicate_count(self) -> int:
        """How many cases came again when nothing should have brought them."""
        ids = np.concatenate([np.empty(0, np.int64), *self._ids])
        return len(ids) - len(np.unique(ids))

    def missing_count(self) -> int:
        """How many cases Primero counts in the settled part of the window beyond those received; some may have left since."""
        if self.counted_until <= self._window.start:
            return 0
        settled = self._window.filters(self._zone, until=self.counted_until)
        return self.count(settled, some=bool(self.counted)) - self.counted

    def count(self, filters: Mapping[str, str], *, some: bool) -> int:
        """Let Primero count cases, again where some came; raises TransientError where there must be `some`, and are none."""
        times = EMPTY_ASKED if self.received else 1
        total = retry_while_empty(self._client, lambda: self._client.count(filters), times)
        if not total and some:
            raise TransientError(f"Primero counted no case just after it gave some: {GAVE_UP}", see="primero-gave-up")
        return total


class Walk(Scan):
    """One walk through a window; `kept` are the cases inside the exact window."""

    kept = 0

    def frames(self) -> Iterator[pd.DataFrame]:
        """The cases of the window as pulled frames (PULLED_SCHEMA), at most BATCH_ROWS rows each."""
        window, waiting = self._window, PULLED_SCHEMA.empty_table()
        for cases in self._distinct():
            self._receive(cases)
            inside = [
                case for case in cases if (window.is_open if case.ahead else window.start <= case.updated < window.end)
            ]
            self.kept += len(inside)
            waiting = pa.concat_tables([waiting, raw_table(inside, window.precision)])
            while len(waiting) >= BATCH_ROWS:
                yield to_frame(waiting.slice(0, BATCH_ROWS).combine_chunks())
                waiting = waiting.slice(BATCH_ROWS)
        if len(waiting):
            yield to_frame(waiting.combine_chunks())

    def _distinct(self) -> Iterator[list[Case]]:
        """Lists of cases, each case once: those that no later page can bring again. The next page is asked for meanwhile."""
        held: dict[str, Case] = {}
        for page, tied, bound in prefetch(self._pages()):
            time.sleep(0.001)  # lets the thread that asks begin, which would wait 5 ms for Python, and Primero for it
            for case in [*self._read(page), *tied]:
                known = held.get(case.row["id"])
                if known is None or known.ahead or case.ahead or known.updated <= case.updated:
                    held[case.row["id"]] = case
            border = None if bound is None else _floor(bound) + _SECOND
            ready = [case for case in held.values() if border is None or case.created is None or case.created >= border]
            for case in ready:
                del held[case.row["id"]]
            yield ready

    def _pages(self) -> Iterator[tuple[Page, list[Case], datetime | None]]:
        """Each page, the cases tied at its end, and the bound of the next page; None where none follows."""
        asked = {**self._window.filters(self._zone), **NEWEST, "fields": self._fields}
        bound: datetime | None = None  # at first, so that cases without a creation stamp are seen
        while True:
            if bound is not None:
                asked["created_at"] = f"{EARLIEST}..{to_query_time(bound)}"
            page = self._client.page("cases", {**asked, "per": PAGE_ROWS})
            lower, tied = _smallest(page.rows, bound), list[Case]()
            if len(page.rows) < page.per:
                lower = None
            elif lower is None or (bound is not None and lower >= bound):
                tied, lower = self._tied(lower)
            yield page, tied, lower
            if lower is None:
                return
            bound = lower

    def _tied(self, bound: datetime | None) -> tuple[list[Case], datetime | None]:
        """All cases created in the second before `bound`, more than fit on a page, by identifier; and the next bound, or None.

        The window is asked open, so that no edit moves a case out of it and shifts the pages.
        Without a bound a whole page had no `created_at`: then all of the window is paged.
        """
        is_open, before = replace(self._window, is_open=True), None
        asked = {**is_open.filters(self._zone), **BY_IDENTIFIER, "fields": self._fields}
        if bound is not None:
            second = _floor(bound - _MILLISECOND)
            asked["created_at"] = f"{to_query_time(second)}..{to_query_time(second + _SECOND - _MICROSECOND)}"
            before = second - _MICROSECOND if second > datetime.fromisoformat(EARLIEST) else None
        pages = self._client.pages("cases", asked)
        return [case for page in pages for case in self._read(page, is_open=True)], before

    def _read(self, page: Page, *, is_open: bool = False) -> list[Case]:
        """Read the stamps of a page's rows and check each row against the window that was asked for."""
        if page.per <= 0:
            raise DataError(
                f"Primero gives {page.per} cases a page where {PAGE_ROWS} were asked for, so no walk is possible",
                see="unreliable-answers",
            )
        window, cases = self._window, [read_case(row) for row in page.rows]
        late = window.end + _SECOND
        no_end = is_open or window.is_open
        out_of_window = sum(
            case.updated < window.asked_from or not (no_end or case.updated < late or case.updated >= self._settled)
            for case in cases
        )
        if out_of_window:
            raise DataError(
                f"Primero ignored the filter on last_updated_at: {out_of_window} of {len(cases)} cases lie outside; nothing was stored",
                see="unreliable-answers",
            )
        if window.modules and any(case.row.get("module_id") not in window.modules for case in cases):
            raise DataError(
                "Primero ignored the filter on module_id; may the account's role read it? nothing was stored",
                see="unreliable-answers",
            )
        return believed(self._client, cases, window.start, window.end if window.is_open else None)


def to_query_time(moment: datetime) -> str:
    """A point in time as Primero must be asked: UTC with `Z`; whole seconds, or with the fraction where there is one."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


def read_case(row: dict[str, Any]) -> Case:
    """Read the identity and the stamps that Primero always gives; without the time of its last change no quarter has the case.

    An id that is no UUID is replaced by a stand-in, by which the mapping quarantines the case.
    """
    updated = read_moment(row.get("last_updated_at"))
    if updated is None:
        raise DataError(
            "Primero sent a case without a readable last_updated_at; is PRIMERO_URL a Primero v2?", see="not-primero"
        )
    if not is_uuid(row.get("id")):
        row = {**row, "id": case_id_of(row.get("id"), row.get("created_at"), row.get("case_id_display"))}
    return Case(row, updated, read_moment(row.get("created_at")))


def believed(client: PrimeroClient, cases: Iterable[Case], start: datetime, end: datetime | None) -> list[Case]:
    """The cases with stamps that can be; others are replaced by `start`, that of the open quarter.

    None can be after `client.latest()`, or, whatever Primero's clock says, from `end` on, since no later quarter would take
    it. That start is older than any state to come, so none of them is taken for stale; and it is the same in every pull of
    the quarter, so an unchanged case is not written again.
    """
    latest = client.latest() if end is None else min(client.latest(), end - _MICROSECOND)
    instead = start.astimezone(UTC)
    return [case if case.updated <= latest else case._replace(updated=instead, ahead=True) for case in cases]


def read_moment(value: object) -> datetime | None:
    """Read a stamp of Primero, which is ISO 8601 in UTC; None where it is absent or unreadable."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment


def _floor(moment: datetime) -> datetime:
    return moment.replace(microsecond=0)


def _smallest(rows: list[dict[str, Any]], bound: datetime | None) -> datetime | None:
    """The smallest creation stamp of a page, rounded up as replies cut it; raises DataError where order or bound are not kept."""
    created = [moment for row in rows if (moment := read_moment(row.get("created_at"))) is not None]
    seconds = [_floor(moment) for moment in created]
    beyond = bound is not None and seconds and seconds[0] > _floor(bound)
    if beyond or any(later > earlier for earlier, later in pairwise(seconds)):
        raise DataError(
            "Primero does not keep the order by created_at, or ignores its bound; nothing was stored",
            see="unreliable-answers",
        )
    return min(created) + _MILLISECOND if created else None


def raw_table(cases: list[Case], precision: LocationPrecision) -> pa.Table:
    """Cases in the form of a pull (PULLED_SCHEMA): this is where everything not allowed is cut."""
    columns = raw_columns([case.row for case in cases], precision)
    columns |= {"last_updated_at": [case.updated for case in cases], "created_at": [case.created for case in cases]}
    return pa.Table.from_pydict(columns, PULLED_SCHEMA)
