"""Complete and stable pulls: every case of a window, once, in its present state, while case workers go on working.

Why so distrustful. A filter that Primero does not like is silently dropped (every case comes) or its error swallowed
(none comes, status 200). No order has a tie-breaker, so pages by offset lose rows. So the cases are walked by
`created_at`, which never changes, every row is checked against the window, and a count at the end must agree.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from primero_ona.errors import DataError, RefusedError, TransientError
from primero_ona.primero.client import AHEAD, Page, PrimeroClient
from primero_ona.primero.fields import (
    CASE_FIELDS,
    ESSENTIAL_FIELDS,
    LEAVING_FIELDS,
    FieldsFound,
    KnownFields,
    json_text,
)
from primero_ona.primero.visible import (
    EMPTY_ASKED,
    EMPTY_PAUSE,
    GAVE_UP,
    KnownScope,
    emptiness,
    require_windows,
    retry_while_empty,
)
from primero_ona.primero.walk import EARLIEST, Walk, Window, read_moment, to_query_time
from primero_ona.storage.frames import prefetch
from primero_ona.texts import is_uuid

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

#: Walks of one pull: the first, and two more where the final count disagrees. A busy afternoon may spoil one walk; a
#: server that disagrees three times does not tell the truth about its cases.
WALKS = 3

#: The count leaves out what was stamped in the last seconds before the walk began: such cases may not be committed yet.
SETTLE_SECONDS = 2

#: Cases among which each essential field must occur. Of fewer, as of a Primero that has just begun, none may have it yet.
YOUNG = 20

#: Where answers have no time, the newest stamp is looked for among the last ones first, which is a smaller question.
_RECENT = timedelta(days=1)

#: The newest cases, among which one is known by its id and asked for by its own stamp.
KNOWN_CASES = 100

#: Offsets, in hours, that a server's own time zone may add to the stamps that Primero compares. Cambodia's comes first.
_ZONES = (7, *[hours for hours in range(-12, 15) if hours not in (0, 7)])


class Survey(NamedTuple):
    """What a pull finds out first: the offset from UTC that the server's stored stamps carry, and how many cases are visible."""

    zone: timedelta
    visible: int


class Sink(Protocol):
    """Where a pull puts its raw frames."""

    def restart(self) -> None:
        """Forget everything that was written: the walk begins again."""

    def write(self, frame: pd.DataFrame) -> None:
        """Take a frame of raw cases (PULLED_SCHEMA), each `id` in one frame of the whole walk only."""

    def leave(self, frame: pd.DataFrame) -> None:
        """Take a frame of cases of modules that are not included (PULLED_SCHEMA, mostly empty): they have to leave ONA."""


@dataclass
class PullReport:
    """What a pull saw: counts and facts, no rows. `seconds` are those spent waiting for Primero.

    `visible`: how many cases the account sees, of all time.

    `ahead`: ids of the cases whose stamps lie further ahead of Primero's own time than can be.
    """

    visible: int = 0
    received: int = 0
    kept: int = 0
    walks: int = 1
    version: str | None = None
    zone_hours: float = 0.0
    other_modules: int = 0
    fields: FieldsFound = field(default_factory=FieldsFound)
    ahead: list[str] = field(default_factory=list)
    requests: int = 0
    bytes: int = 0
    seconds: float = 0.0
    pulled_at: str = ""


def pull_cases(
    client: PrimeroClient,
    window: Window,
    sink: Sink,
    known: KnownFields | None = None,
    scope: KnownScope | None = None,
    *,
    empty_pause: float = EMPTY_PAUSE,
) -> PullReport:
    """Walk the window into the sink until a walk is proved complete.

    `known`: the fields that earlier pulls were shown; `scope`: how many cases the account should see. Raises TransientError
    where three walks did not agree with Primero's own count, RefusedError where the account may not read a needed field, or
    sees no case at all or too few, DataError where Primero ignored a filter.
    """
    report = PullReport(version=client.version(), pulled_at=to_query_time(datetime.now(UTC)))
    zone, report.visible = survey(client, empty_pause)
    (scope or KnownScope()).check(report.visible)
    report.zone_hours = zone.total_seconds() / 3600
    settled = primero_now(client, zone) - timedelta(seconds=SETTLE_SECONDS)
    for number in range(1, WALKS + 1):
        sink.restart()
        walk = Walk(client, window, zone, settled)
        for frame in prefetch(walk.frames()):
            sink.write(frame)
        lacking = _missing_count(client, window, walk, zone, empty_pause)
        if window.modules:
            others = Walk(client, replace(window, modules=()), zone, settled, LEAVING_FIELDS)
            report.other_modules = _leave_others(others, window.modules, sink)
            lacking = max(lacking, _missing_count(client, replace(window, modules=()), others, zone, empty_pause))
        if lacking <= 0 and not walk.received:
            # An empty quarter is fair; but a database that gives up gives nothing to each of these questions.
            require_windows(client, empty_pause)
            lacking = _missing_count(client, window, walk, zone, empty_pause)
        if lacking <= 0 and not walk.duplicate_count():
            break
        logger.warning(
            "walk %d of %s: %d cases lacking, %d doubled", number, WALKS, max(lacking, 0), walk.duplicate_count()
        )
    else:
        raise TransientError(
            f"Primero counted {lacking} cases more than it gave (or gave {walk.duplicate_count()} twice), {WALKS} times over; "
            "nothing was stored; the next run tries again",
            see="moving-list",
        )
    report.walks = number
    report.received, report.kept, report.ahead = walk.received, walk.kept, walk.ahead
    if walk.received:
        report.fields = check_fields(client, walk.seen_fields, known or KnownFields(), empty_pause)
    report.requests, report.bytes, report.seconds = (
        client.traffic.requests,
        client.traffic.bytes,
        client.traffic.seconds,
    )
    return report


def _leave_others(walk: Walk, modules: tuple[str, ...], sink: Sink) -> int:
    """Walk the window without the filter on modules, and let the cases of other modules leave; how many they are.

    A case that moved to another module is not seen by a filtered walk, and would stay in ONA for ever.
    """
    wanted, left = [json_text(module) for module in modules], 0
    for frame in walk.frames():
        others = frame[~frame["module_id"].isin(wanted).to_numpy()]
        left += len(others)
        sink.leave(others)
    return left


def survey(client: PrimeroClient, pause: float = EMPTY_PAUSE) -> Survey:
    """See how many cases the account sees, and find the zone of the server's stamps; nearly always UTC.

    Primero writes a stamp in its process's zone and compares it as if it were UTC, so on a server that does not run in
    UTC every window is off by hours, and its answers do not show it. Asks for a known case by its own stamp.

    Raises RefusedError where the account sees no case at all, TransientError where Primero's database gave up.
    """
    newest: dict[str, str | int] = {
        "order_by": "created_at",
        "order": "desc",
        "per": KNOWN_CASES,
        "fields": "created_at",
    }
    shown = retry_while_empty(lambda: _with_rows(client.page("cases", newest)), pause)
    if shown is None:
        raise emptiness(client, pause)
    known = [row for row in shown.rows if is_uuid(row.get("id")) and read_moment(row.get("last_updated_at"))]
    if not known:
        raise DataError(
            f"none of Primero's newest {len(shown.rows)} cases has a readable id and a time of its last change; its "
            "administrators have to look at these cases",
            see="unreliable-answers",
        )
    return Survey(_zone(client, known[:3], pause), shown.total)


def _with_rows(page: Page) -> Page | None:
    return page if page.rows else None


def _zone(client: PrimeroClient, rows: list[dict[str, Any]], pause: float) -> timedelta:
    """The offset from UTC of the server's stamps, by which it finds one of these cases."""
    for hours in (0, *_ZONES):
        zone = timedelta(hours=hours)
        if any(_found_at(client, row, zone) for row in rows[: None if hours == 0 else 1]):
            if hours:
                logger.warning("Primero keeps its stamps %+d hours off UTC; windows are asked accordingly", hours)
            return zone
    require_windows(client, pause)
    raise DataError(
        "Primero does not find a case by the time stamp it gives for it, in any time zone, so no quarter could be cut right; "
        "its administrators have to look at the server's time zone",
        see="unreliable-answers",
    )


def _found_at(client: PrimeroClient, row: dict[str, Any], zone: timedelta) -> bool:
    """Whether Primero finds the case within two seconds of its stamp, shifted by `zone`."""
    moment = datetime.fromisoformat(row["last_updated_at"]) + zone
    around = f"{to_query_time(moment - timedelta(seconds=2))}..{to_query_time(moment + timedelta(seconds=2))}"
    return client.page("cases", {"id": row["id"], "last_updated_at": around, "per": 0}).total > 0


def primero_now(client: PrimeroClient, zone: timedelta) -> datetime:
    """Primero's own time: that of its answers; where they have none, as Puma's, its newest stamp up to an hour ahead of our clock.

    Our clock is no measure: two minutes ahead of Primero's, it takes for settled what case workers are still to save.
    """
    if client.server_time is None:
        ours = datetime.now(UTC)
        for since in (to_query_time(ours - _RECENT + zone), EARLIEST):
            asked: dict[str, str | int] = {
                "last_updated_at": f"{since}..{to_query_time(ours + AHEAD + zone)}",
                "order_by": "last_updated_at",
                "order": "desc",
                "per": 1,
                "fields": "status",
            }
            found = [read_moment(row.get("last_updated_at")) for row in client.page("cases", asked).rows]
            if found and found[0] and found[0] <= client.latest():
                client.note_newest(found[0])
                break
    return client.now()


def _missing_count(client: PrimeroClient, window: Window, walk: Walk, zone: timedelta, pause: float) -> int:
    """How many cases Primero counts in the settled part of the window beyond those received there.

    Fewer than received is fair: a case edited meanwhile has left. A count of nothing after cases came is not believed.
    """
    until = walk.counted_until
    if until <= window.start:
        return 0
    question: dict[str, str | int] = {**window.filters(zone, until=until), "per": 0, "fields": "created_at"}
    total = retry_while_empty(
        lambda: client.page("cases", question).total, pause, times=EMPTY_ASKED if walk.received else 1
    )
    if not total and walk.counted:
        raise TransientError(
            f"Primero counted no case in the quarter just after it gave some: {GAVE_UP}", see="primero-gave-up"
        )
    return total - walk.counted


def check_fields(
    client: PrimeroClient, seen_fields: Collection[str], known: KnownFields, pause: float = EMPTY_PAUSE
) -> FieldsFound:
    """Which of the asked-for fields occur among the cases; `seen_fields` did among those received.

    A field that no case of a small quarter has is absent without fault, so the newest 1,000 cases of all time are asked
    for those not seen, and for those whose loss was accepted: seen in an old quarter, they are not back yet. Raises
    RefusedError where an essential field does not occur among twenty cases or more, or one that earlier pulls were
    shown does not occur any more and its loss was not accepted.
    """
    asked = [name for name in CASE_FIELDS if name not in seen_fields or name in known.accepted]
    if not asked:
        return FieldsFound(CASE_FIELDS)
    question: dict[str, str | int] = {
        "order_by": "created_at",
        "order": "desc",
        "per": 1000,
        "fields": ",".join(asked),
    }
    rows = retry_while_empty(lambda: client.page("cases", question).rows, pause)
    if not rows:
        raise TransientError(f"Primero shows no case where it has just shown some: {GAVE_UP}", see="primero-gave-up")
    newest = set[str]().union(*rows)
    missing = tuple(name for name in CASE_FIELDS if name not in seen_fields and name not in newest)
    refused = [name for name in missing if name in ESSENTIAL_FIELDS]
    if refused and len(rows) >= YOUNG:
        raise RefusedError(
            f"no case has the field{_s(refused)} {', '.join(refused)}; Primero leaves out what the account's role may not "
            "read: let its administrators grant the forms with these fields",
            see="missing-field",
        )
    lost = [name for name in missing if name in known.shown and name not in known.accepted]
    if lost:
        raise RefusedError(
            f"earlier pulls were shown the field{_s(lost)} {', '.join(lost)}, and none of Primero's newest {len(rows):,} cases "
            "has it any more; nothing was stored. If the account's role has lost it, let Primero's administrators grant its "
            f"form again; if it is gone for good, run `primero-ona fields accept {' '.join(lost)}`, and its columns become empty",
            see="lost-field",
        )
    shown = tuple(name for name in CASE_FIELDS if name not in missing)
    return FieldsFound(shown, missing, tuple(name for name in asked if name in known.accepted and name in newest))


def _s(names: Collection[str]) -> str:
    return "s" if len(names) > 1 else ""
