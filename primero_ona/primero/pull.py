"""Complete and stable pulls: every case of a window, once, in its present state, while case workers go on working.

Why so distrustful. A filter that Primero does not like is silently dropped (every case comes) or its error swallowed
(none comes, status 200). No order has a tie-breaker, so pages by offset lose rows. So the cases are walked by
`created_at`, which never changes, every row is checked against the window, and a count at the end must agree.

Of an open window whose cases are stored, only the changes are walked, and the others carried over: no case can leave it, so
that Primero's count of it, without an upper end, must equal the number of cases held.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

from primero_ona.errors import DataError, TransientError
from primero_ona.primero.client import AHEAD, EARLIEST, LATEST, NEWEST, Page, PrimeroClient, Traffic
from primero_ona.primero.fields import LEAVING_FIELDS, FieldsFound, KnownFields
from primero_ona.primero.visible import (
    KnownScope,
    check_fields,
    emptiness,
    find_fields,
    require_windows,
    retry_while_empty,
)
from primero_ona.primero.walk import Walk, Window, read_moment, to_query_time
from primero_ona.storage.frames import prefetch
from primero_ona.texts import is_uuid, json_text

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

#: Walks of one pull, while the final count disagrees: a busy afternoon may spoil one; three times, it does not tell the truth.
WALKS = 3

#: Walks of the changes before the whole window is walked: each may meet a case that has just come.
ROUNDS = 3

#: The count leaves out what was stamped in the last seconds before the walk began: such cases may not be committed yet.
SETTLE_SECONDS = 2


class Sink(Protocol):
    """Where a pull puts its raw frames."""

    def restart(self) -> None:
        """Forget everything that was written: the walk begins again."""

    def write(self, frame: pd.DataFrame) -> None:
        """Take a frame of raw cases (PULLED_SCHEMA), each `id` in one frame of the whole walk only."""

    def leave(self, frame: pd.DataFrame) -> None:
        """Take a frame of cases of modules that are not included (PULLED_SCHEMA, mostly empty): they have to leave ONA."""


class Carried(Sink, Protocol):
    """What is stored of an open window, in a sink that takes the changes and can carry the rest over beside them."""

    @property
    def since(self) -> datetime:
        """From when on changes have to be asked for; a stored case has that stamp or a later one, so one must come again."""

    @property
    def fields(self) -> Collection[str]:
        """The fields that were shown when it was stored."""

    def refusal(self, report: PullReport) -> str:
        """Why the whole window has to be walked, by what Primero says of itself; "" where the changes will do."""

    def fault(self, counted: int) -> str:
        """What speaks against what came, where Primero counts so many cases in the window; "" where nothing does."""

    def examples(self, names: Sequence[str]) -> dict[str, str]:
        """By field, the id of a stored case that has a value there, for those of which there is one."""

    def carry(self) -> int:
        """Write the stored cases that did not come into the sink; their number. Raises DataError where they are damaged."""


@dataclass
class PullReport:
    """What a pull saw: counts and facts, no rows; times are ISO 8601 in UTC.

    `visible`: how many cases the account sees, of all time. `ahead`: ids of the cases whose stamps lie further ahead of
    Primero's own time than can be. `settled`: Primero's own time shortly before the walk began. `since`: that only changes
    from then on were walked, and so many cases `carried` over; None where the whole window was walked, `whole_because` of
    what is said there. `whole_at`: the `settled` of the last walk of the whole window.
    """

    visible: int = 0
    kept: int = 0
    walks: int = 1
    version: str | None = None
    zone_hours: float = 0.0
    other_modules: int = 0
    fields: FieldsFound = field(default_factory=FieldsFound)
    ahead: list[str] = field(default_factory=list)
    traffic: Traffic = field(default_factory=Traffic)
    pulled_at: str = ""
    settled: str = ""
    since: str | None = None
    carried: int = 0
    whole_at: str = ""
    whole_because: str = ""


def pull_cases(
    client: PrimeroClient,
    window: Window,
    sink: Sink,
    known: KnownFields | None = None,
    scope: KnownScope | None = None,
    *,
    carried: Carried | None = None,
) -> PullReport:
    """Walk the window into the sink until a walk is proved complete; where `carried` allows it, its changes only.

    `known`: the fields that earlier pulls were shown; `scope`: how many cases the account should see. Raises TransientError
    where three walks did not agree with Primero's own count, RefusedError where the account may not read a needed field, or
    sees no case at all or too few, DataError where Primero ignored a filter.
    """
    version, pulled_at = client.version(), to_query_time(datetime.now(UTC))
    report = PullReport(version=version, pulled_at=pulled_at, traffic=client.traffic)
    zone, report.visible = survey(client)
    (scope or KnownScope()).check(report.visible)
    settled = primero_now(client, zone) - timedelta(seconds=SETTLE_SECONDS)
    report.zone_hours, report.settled = zone.total_seconds() / 3600, to_query_time(settled)
    pull = _Pull(client, window, zone, settled, known or KnownFields(), report)
    if carried is not None:
        report.whole_because = carried.refusal(report) or pull.walk_changes(carried)
    if carried is None or report.whole_because:
        report.whole_at = report.settled
        pull.walk_whole(sink)
    return report


@dataclass(frozen=True)
class _Pull:
    """The walks of one pull, which fill in its report."""

    client: PrimeroClient
    window: Window
    zone: timedelta
    settled: datetime
    known: KnownFields
    report: PullReport

    def walk_whole(self, sink: Sink) -> None:
        """Walk the whole window, again where a count disagrees."""
        for number in range(1, WALKS + 1):
            walk, lacking = self._walk(self.window, sink)
            if lacking <= 0 and not walk.received:
                # An empty quarter is fair; but a database that gives up gives nothing to each of these questions.
                require_windows(self.client)
                lacking = walk.missing_count()
            doubled = walk.duplicate_count()
            if lacking <= 0 and not doubled:
                break
            logger.warning("walk %d of %s: %d cases lacking, %d doubled", number, WALKS, max(lacking, 0), doubled)
        else:
            raise TransientError(
                f"Primero counted {lacking} cases more than it gave (or gave {doubled} twice), {WALKS} times over; "
                "nothing was stored; the next run tries again",
                see="moving-list",
            )
        self.report.walks = number
        if walk.received:
            self.report.fields = check_fields(self.client, walk.seen_fields, self.known)

    def walk_changes(self, carried: Carried) -> str:
        """Walk the changes of an open window and carry the rest over; "" where that is proved, else why not."""
        window = replace(self.window, since=carried.since)
        whole = replace(self.window, modules=(), since=self.window.start)
        for number in range(1, ROUNDS + 1):
            try:
                walk, lacking = self._walk(window, carried)
            except DataError as failure:
                logger.warning("changes, round %d of %d: %s", number, ROUNDS, failure)
                return "Primero's answers about its changes cannot be used"
            counted = walk.count(whole.filters(self.zone), some=bool(walk.received))
            found = carried.fault(counted)
            if lacking > 0:
                found = f"{lacking} changed cases lacking"
            elif doubled := walk.duplicate_count():
                found = f"{doubled} changed cases came twice"
            if not found:
                break
            logger.warning("changes, round %d of %d: %s", number, ROUNDS, found)
            if 2 * walk.received > counted:
                return f"{found}, and most cases have changed"  # another round costs nearly what the whole window does
        else:
            return f"{found}, {ROUNDS} times over"
        self.report.fields = self._fields_of_changes(walk.seen_fields, carried)
        if set(self.report.fields.shown) != set(carried.fields):
            return "Primero shows other fields than before"
        try:
            self.report.carried = carried.carry()
        except DataError:
            return "what is stored is damaged"
        self.report.walks, self.report.since = number, to_query_time(carried.since)
        return ""

    def _walk(self, window: Window, sink: Sink) -> tuple[Walk, int]:
        """Walk a window into the sink from the start; the walk, and how many cases it lacks by Primero's count."""
        sink.restart()
        walk = Walk(self.client, window, self.zone, self.settled)
        for frame in prefetch(walk.frames()):
            sink.write(frame)
        lacking, ahead = walk.missing_count(), walk.ahead
        if window.modules:
            others = Walk(self.client, replace(window, modules=()), self.zone, self.settled, LEAVING_FIELDS)
            self.report.other_modules, settled = _leave_others(others, window.modules, sink)
            # What a filtered walk was given, the walk of all must have, too; only a window with an end may cases have left meanwhile.
            lost = walk.received - others.received if window.is_open or not others.received else 0
            lacking = max(lacking, others.missing_count(), lost, settled - walk.counted)
            ahead = ahead + others.ahead
        self.report.kept, self.report.ahead = walk.kept, list(dict.fromkeys(ahead))
        return walk, lacking

    def _fields_of_changes(self, seen_fields: Collection[str], carried: Carried) -> FieldsFound:
        """Which fields occur, where only changes came: a stored case that had a rare one is asked for it, by its id."""
        seen = set(seen_fields)
        examples = carried.examples([name for name in carried.fields if name not in seen])
        seen |= set(carried.fields) - examples.keys()  # no stored case has a value there: they count as shown as before
        rare = sorted(examples)
        for start in range(0, len(rare), 8):  # an id for each: a URL has 1,000 bytes
            names = rare[start : start + 8]
            ids = sorted({examples[name] for name in names})
            page = self.client.page("cases", {"id": ",".join(ids), "fields": ",".join(names), "per": len(ids)})
            seen.update(*page.rows)
        return find_fields(self.client, seen, self.known)[0]


def _leave_others(walk: Walk, modules: tuple[str, ...], sink: Sink) -> tuple[int, int]:
    """Walk the window without the filter on modules, and let the cases of other modules leave.

    A case that moved to another module is not seen by a filtered walk, and would stay in ONA for ever. How many have left, and
    how many settled ones of the wanted modules came, of which a filtered walk must have as many.
    """
    wanted, left, settled = [json_text(module) for module in modules], 0, 0
    after = walk.counted_until + timedelta(seconds=1)
    for frame in walk.frames():
        of_wanted = frame["module_id"].isin(wanted).to_numpy(bool)
        counts = (frame["last_updated_at"] < after).to_numpy(bool) & ~frame["id"].isin(walk.ahead).to_numpy(bool)
        settled += int((of_wanted & counts).sum())
        left += int((~of_wanted).sum())
        sink.leave(frame[~of_wanted])
    return left, settled


def survey(client: PrimeroClient) -> tuple[timedelta, int]:
    """The offset from UTC of the server's stamps, nearly always none, and how many cases the account sees.

    Primero writes a stamp in its process's zone and compares it as if it were UTC, so on a server that does not run in
    UTC every window is off by hours, and its answers do not show it. Asks for a known case by its own stamp.
    Raises RefusedError where the account sees no case at all, TransientError where Primero's database gave up.
    """

    def newest() -> Page | None:
        page = client.page("cases", {**NEWEST, "per": 100, "fields": "created_at"})
        return page if page.rows else None

    shown = retry_while_empty(client, newest)
    if shown is None:
        raise emptiness(client)
    known = [row for row in shown.rows if is_uuid(row.get("id")) and read_moment(row.get("last_updated_at"))]
    if not known:
        raise DataError(
            f"none of Primero's newest {len(shown.rows)} cases has a readable id and a time of its last change; its "
            "administrators have to look at these cases",
            see="unreliable-answers",
        )
    return _zone(client, known[:3]), shown.total


def _zone(client: PrimeroClient, rows: list[dict[str, Any]]) -> timedelta:
    """The offset from UTC of the server's stamps, by which it finds one of these cases within two seconds of its stamp."""
    for hours in dict.fromkeys((0, 7, *range(-12, 15))):  # UTC and Cambodia first
        zone = timedelta(hours=hours)
        for row in rows if hours == 0 else rows[:1]:
            moment = datetime.fromisoformat(row["last_updated_at"]) + zone
            around = [to_query_time(moment + timedelta(seconds=seconds)) for seconds in (-2, 2)]
            if client.count({"id": row["id"], "last_updated_at": "..".join(around)}):
                if hours:
                    logger.warning("Primero keeps its stamps %+d hours off UTC; windows are asked accordingly", hours)
                return zone
    require_windows(client)
    raise DataError(
        "Primero does not find a case by the time stamp it gives for it, in any time zone, so no quarter could be cut right; "
        "its administrators have to look at the server's time zone",
        see="unreliable-answers",
    )


def primero_now(client: PrimeroClient, zone: timedelta) -> datetime:
    """Primero's own time: that of its answers; where they have none, as Puma's, its newest stamp up to an hour ahead of our clock.

    Our clock is no measure: two minutes ahead of Primero's, it takes for settled what case workers are still to save.
    """
    if client.server_time is None:
        ours = datetime.now(UTC)
        for since in (to_query_time(ours - timedelta(days=1) + zone), EARLIEST):  # the last day is a smaller question
            span = f"{since}..{to_query_time(ours + AHEAD + zone)}"
            page = client.page("cases", {**LATEST, "last_updated_at": span, "per": 1})
            stamp = read_moment(page.rows[0].get("last_updated_at")) if page.rows else None
            if stamp and stamp <= client.latest():
                client.newest_stamp = max(stamp, client.newest_stamp or stamp)
                break
    return client.now()
