"""One walk over the cases of a window, newest creation first, each page bounded by the smallest `created_at` seen so far.

`created_at` never changes, so no edit can move a case past the walker. Pages overlap at their border, so a case is held
back until no later page can bring it again; of two copies the newest stands. Versions 2.11 and 2.12 compare
`created_at` in whole seconds, therefore borders are decided by whole seconds here, which holds for every version.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from primero_ona.errors import DataError
from primero_ona.primero.client import PAGE_ROWS, Page, PrimeroClient
from primero_ona.primero.fields import CASE_FIELDS, LocationPrecision
from primero_ona.primero.raw import PULLED_SCHEMA, raw_columns
from primero_ona.storage.frames import BATCH_ROWS
from primero_ona.texts import case_id_of, is_uuid

#: A range without a lower end is silently dropped by Primero, so ranges begin before any date that data hold: a
#: spreadsheet's zero is 30 December 1899, a program's the year 1. A range without an upper end is fair.
EARLIEST = "0001-01-01T00:00:00Z"
ALL_TIME = f"{EARLIEST}.."

#: Seconds in which the thread that asks for a page can begin: Python lets the one at work go on for 5 ms, while Primero idles.
_LET_BEGIN = 0.001

_SECOND = timedelta(seconds=1)
_MILLISECOND = timedelta(milliseconds=1)
_MICROSECOND = timedelta(microseconds=1)
_FIRST = datetime.fromisoformat(EARLIEST)


class Case(NamedTuple):
    """A case as received, with its two stamps read (UTC); `created` is None where Primero has none.

    `ahead`: its stamp lay further ahead than can be, and `updated` stands in its place (see `believed`).
    """

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
        """Primero's filters: whole seconds, a second wider than the window, in the zone in which its stamps are kept.

        `until` (included) closes the window at an earlier point in time.
        """
        end = until or (None if self.is_open else self.end)
        asked = {
            "last_updated_at": f"{to_query_time(self.asked_from + zone)}..{to_query_time(end + zone) if end else ''}"
        }
        if self.modules:
            asked["module_id"] = ",".join(self.modules)
        return asked


class Walk:
    """One walk; read `frames()` to the end, then the counts are complete.

    `settled` is Primero's own time shortly before the walk began: what was stamped later may come and go. `zone` is the
    offset of the server's stamps from UTC. Counts: `received` distinct cases, `kept` those inside the exact window,
    `counted` those stamped up to `counted_until`, which a count by Primero must not exceed. `ahead`: ids of kept cases whose
    stamps lay ahead.
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
        self._fields = fields
        self.counted_until = _floor(min(settled, window.end))
        self.received = self.kept = self.counted = 0
        self.seen_fields: set[str] = set()
        self.ahead: list[str] = []
        self._ids: list[np.ndarray[Any, np.dtype[np.int64]]] = []

    def frames(self) -> Iterator[pd.DataFrame]:
        """The cases of the window as pulled frames (PULLED_SCHEMA), at most BATCH_ROWS rows each."""
        batches: list[pa.RecordBatch] = []
        for cases in self._distinct():
            self._count(cases)
            inside = [case for case in cases if self._is_inside(case)]
            self.ahead += [case.row["id"] for case in inside if case.ahead]
            self.kept += len(inside)
            batches += raw_batches(inside, self._window.precision)
            while sum(map(len, batches)) >= BATCH_ROWS:
                whole = pa.Table.from_batches(batches)
                yield raw_frame(whole.slice(0, BATCH_ROWS))
                batches = whole.slice(BATCH_ROWS).to_batches()
        if batches:
            yield raw_frame(pa.Table.from_batches(batches))

    def _is_inside(self, case: Case) -> bool:
        return self._window.is_open if case.ahead else self._window.start <= case.updated < self._window.end

    def duplicate_count(self) -> int:
        """How many cases came again when no page should have brought them; 0 in a sound walk."""
        ids = np.concatenate(self._ids) if self._ids else np.empty(0, np.int64)
        return len(ids) - len(np.unique(ids))

    def _count(self, cases: list[Case]) -> None:
        self._ids.append(np.fromiter((hash(case.row["id"]) for case in cases), np.int64, len(cases)))
        self.received += len(cases)
        after = self.counted_until + _SECOND
        self.counted += sum(case.updated < after and not case.ahead for case in cases)

    def _distinct(self) -> Iterator[list[Case]]:
        """Lists of cases, each case once: those that no later page can bring again.

        The next page is asked for while this one is worked on; it is still one request at a time.
        """
        held: dict[str, Case] = {}
        bound: datetime | None = None
        ahead = ThreadPoolExecutor(1, "primero-page")
        try:
            answer = ahead.submit(self._ask, bound)
            while True:
                page = answer.result()
                ends = len(page.rows) < page.per
                lower = None if ends else _next_bound(page.rows)
                advances = lower is not None and (bound is None or lower < bound)
                if advances:
                    # Before this page is even checked: the server works meanwhile, and a page in error ends the walk anyway.
                    answer = ahead.submit(self._ask, lower)
                    time.sleep(_LET_BEGIN)
                cases = self._read(page)
                _check_order(cases, bound)
                if not ends and not advances:
                    cases += self._tied(lower)
                    lower = _before_tie(lower)
                    ends = lower is None
                    if not ends:
                        answer = ahead.submit(self._ask, lower)
                bound = lower
                _keep_newest(held, cases)
                yield _release(held, None if ends else bound)
                if ends:
                    return
        finally:
            ahead.shutdown(wait=False, cancel_futures=True)

    def _ask(self, bound: datetime | None) -> Page:
        """The newest cases created up to `bound`; the first page has none, so that cases without a stamp are seen."""
        asked = {**self._window.filters(self._zone), "order_by": "created_at", "order": "desc"}
        if bound is not None:
            asked["created_at"] = f"{EARLIEST}..{to_query_time(bound)}"
        return _walkable(self._client.page("cases", self._with_fields(asked)))

    def _tied(self, bound: datetime | None) -> list[Case]:
        """All cases created in the second before `bound`: more than fit on a page, so they are paged by identifier.

        The window is asked open, so that no edit moves a case out of it and shifts the pages. Without a bound a whole
        page had no `created_at`: then all of the window is paged.
        """
        is_open = replace(self._window, is_open=True)
        asked = {**is_open.filters(self._zone), "order_by": "unique_identifier", "order": "asc"}
        if bound is not None:
            second = _floor(bound - _MILLISECOND)
            asked["created_at"] = f"{to_query_time(second)}..{to_query_time(second + _SECOND - _MICROSECOND)}"
        return [
            case
            for page in self._client.pages("cases", self._with_fields(asked))
            for case in self._read(_walkable(page), is_open=True)
        ]

    def _with_fields(self, asked: dict[str, str]) -> dict[str, str | int]:
        return {**asked, "fields": ",".join(self._fields), "per": PAGE_ROWS}

    def _read(self, page: Page, *, is_open: bool = False) -> list[Case]:
        """Read the stamps of a page's rows and check each row against the window that was asked for."""
        cases = [read_case(row) for row in page.rows]
        self.seen_fields.update(*(case.row.keys() for case in cases))
        late = self._window.end + _SECOND
        no_end = is_open or self._window.is_open
        out_of_window = sum(
            case.updated < self._window.asked_from
            or not (no_end or case.updated < late or case.updated >= self._settled)
            for case in cases
        )
        if out_of_window:
            raise DataError(
                f"Primero ignored the filter on last_updated_at: {out_of_window} of {len(cases)} cases lie outside; nothing was stored",
                see="unreliable-answers",
            )
        if self._window.modules and any(case.row.get("module_id") not in self._window.modules for case in cases):
            raise DataError(
                "Primero ignored the filter on module_id; may the account's role read it? nothing was stored",
                see="unreliable-answers",
            )
        latest = self._client.latest()
        if (
            self._window.is_open
        ):  # whatever Primero's clock says, no later quarter would take what lies beyond the open one
            latest = min(latest, self._window.end - _MICROSECOND)
        return [believed(case, latest, self._window.start) for case in cases]


def _walkable(page: Page) -> Page:
    if page.per <= 0:
        raise DataError(
            f"Primero gives {page.per} cases a page where {PAGE_ROWS} were asked for, so no walk is possible",
            see="unreliable-answers",
        )
    return page


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
            "Primero sent a case without a readable last_updated_at; is PRIMERO_URL a Primero v2?",
            see="not-primero",
        )
    if not is_uuid(row.get("id")):
        row = {**row, "id": case_id_of(row.get("id"), row.get("created_at"), row.get("case_id_display"))}
    return Case(row, updated, read_moment(row.get("created_at")))


def believed(case: Case, latest: datetime, instead: datetime) -> Case:
    """The case with a stamp that can be: one after `latest` is replaced by `instead`, the start of the open quarter.

    That start is older than any state to come, so none of them is taken for stale; and it is the same in every pull of
    the quarter, so an unchanged case is not written again.
    """
    return case if case.updated <= latest else case._replace(updated=instead.astimezone(UTC), ahead=True)


def read_moment(value: object) -> datetime | None:
    """Read a stamp of Primero, which is ISO 8601 in UTC; None where it is absent or unreadable."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment


def _floor(moment: datetime) -> datetime:
    return moment.replace(microsecond=0)


def _check_order(cases: list[Case], bound: datetime | None) -> None:
    """The walk stands on the order and on the bound; a server that keeps neither cannot be walked."""
    seconds = [_floor(case.created) for case in cases if case.created is not None]
    beyond = bound is not None and seconds and max(seconds) > _floor(bound)
    if beyond or any(later > earlier for earlier, later in pairwise(seconds)):
        raise DataError(
            "Primero does not keep the order by created_at, or ignores its bound; nothing was stored",
            see="unreliable-answers",
        )


def _next_bound(rows: list[dict[str, Any]]) -> datetime | None:
    """The smallest creation stamp of a full page, rounded up to the next millisecond, since replies cut the rest off."""
    created = [moment for row in rows if (moment := read_moment(row.get("created_at"))) is not None]
    return min(created) + _MILLISECOND if created else None


def _before_tie(bound: datetime | None) -> datetime | None:
    """The last instant before the second that `_tied` has paged; None where nothing can be older."""
    second = None if bound is None else _floor(bound - _MILLISECOND)
    return None if second is None or second <= _FIRST else second - _MICROSECOND


def _keep_newest(held: dict[str, Case], cases: list[Case]) -> None:
    for case in cases:
        known = held.get(case.row["id"])
        if known is None or known.ahead or case.ahead or known.updated <= case.updated:
            held[case.row["id"]] = case


def _release(held: dict[str, Case], bound: datetime | None) -> list[Case]:
    """Take out of `held` what a page up to `bound` cannot bring again; everything, where no page follows."""
    border = None if bound is None else _floor(bound) + _SECOND
    ready = [case for case in held.values() if border is None or case.created is None or case.created >= border]
    for case in ready:
        del held[case.row["id"]]
    return ready


def raw_batches(cases: list[Case], precision: LocationPrecision = "village") -> list[pa.RecordBatch]:
    """Cases in the form of a pull (PULLED_SCHEMA): this is where everything not allowed is cut."""
    if not cases:
        return []
    columns = raw_columns([case.row for case in cases], precision)
    columns["last_updated_at"] = pa.array([case.updated for case in cases], PULLED_SCHEMA.field("last_updated_at").type)
    columns["created_at"] = pa.array([case.created for case in cases], PULLED_SCHEMA.field("created_at").type)
    return [pa.RecordBatch.from_arrays([columns[name] for name in PULLED_SCHEMA.names], schema=PULLED_SCHEMA)]


def raw_frame(table: pa.Table) -> pd.DataFrame:
    """A table of raw cases as a frame with Arrow dtypes."""
    frame: pd.DataFrame = table.combine_chunks().to_pandas(types_mapper=pd.ArrowDtype)
    return frame
