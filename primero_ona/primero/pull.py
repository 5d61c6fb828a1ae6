"""Complete and stable pulls: every case of a window, once, in its present state, while case workers go on working.

Why so distrustful. A filter that Primero does not like is silently dropped (every case comes) or its error swallowed
(none comes, status 200). No order has a tie-breaker, so pages by offset lose rows. So the cases are walked by
`created_at`, which never changes, every row is checked against the window, and a count at the end must agree.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from primero_ona.errors import DataError, RefusedError, TransientError
from primero_ona.primero.client import PrimeroClient
from primero_ona.primero.fields import (
    CASE_FIELDS,
    ESSENTIAL_FIELDS,
    LEAVING_FIELDS,
    FieldsFound,
    KnownFields,
    json_text,
)
from primero_ona.primero.walk import ALL_TIME, Walk, Window, to_query_time
from primero_ona.storage.frames import prefetch
from primero_ona.texts import is_uuid

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

#: Walks of one pull: the first, and two more where the final count disagrees. A busy afternoon may spoil one walk; a
#: server that disagrees three times does not tell the truth about its cases.
WALKS = 3

#: How often an answer of "no cases" is asked before it is believed, and the seconds between: a database time-out inside
#: Primero looks the same, and passes.
EMPTY_ASKED = 3
EMPTY_PAUSE = 2.0

#: The count leaves out what was stamped in the last seconds before the walk began: such cases may not be committed yet.
SETTLE_SECONDS = 2

#: Cases among which each essential field must occur. Of fewer, as of a Primero that has just begun, none may have it yet.
YOUNG = 20

#: The newest cases, among which one is known by its id and asked for by its own stamp.
KNOWN_CASES = 100

#: Offsets, in hours, that a server's own time zone may add to the stamps that Primero compares. Cambodia's comes first.
_ZONES = (7, *[hours for hours in range(-12, 15) if hours not in (0, 7)])


Answer = TypeVar("Answer")


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

    `ahead`: ids of the cases whose stamps lie further ahead of Primero's own time than can be.
    """

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
    *,
    empty_pause: float = EMPTY_PAUSE,
) -> PullReport:
    """Walk the window into the sink until a walk is proved complete.

    `known`: the fields that earlier pulls were shown. Raises TransientError where three walks did not agree with
    Primero's own count, RefusedError where the account may not read a needed field or sees no case at all, DataError
    where Primero ignored a filter.
    """
    report = PullReport(version=client.version(), pulled_at=to_query_time(datetime.now(UTC)))
    zone = find_zone(client, empty_pause)
    report.zone_hours = zone.total_seconds() / 3600
    settled = client.now() - timedelta(seconds=SETTLE_SECONDS)
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
        if lacking <= 0 and not walk.duplicate_count():
            break
        logger.warning(
            "walk %d of %s: %d cases lacking, %d doubled", number, WALKS, max(lacking, 0), walk.duplicate_count()
        )
    else:
        raise TransientError(
            f"Primero counted {lacking} cases more than it gave (or gave {walk.duplicate_count()} twice), {WALKS} times over; "
            "nothing was stored; the next run tries again"
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


def find_zone(client: PrimeroClient, pause: float = EMPTY_PAUSE) -> timedelta:
    """The offset from UTC that the server's stored stamps carry; nearly always none.

    Primero writes a stamp in its process's zone and compares it as if it were UTC, so on a server that does not run in
    UTC every window is off by hours, and its answers do not show it. Asks for a known case by its own stamp.

    Raises RefusedError where the account sees no case at all.
    """
    newest: dict[str, str | int] = {
        "last_updated_at": ALL_TIME,
        "order_by": "created_at",
        "order": "desc",
        "per": KNOWN_CASES,
        "fields": "created_at",
    }
    shown = retry_while_empty(lambda: client.page("cases", newest).rows, pause)
    if not shown:
        raise RefusedError(
            "Primero shows this account no case at all, of any time; check that its role may read cases with the scope `all`"
        )
    rows = [row for row in shown if is_uuid(row.get("id"))][:3]
    if not rows:
        raise DataError(
            f"none of Primero's newest {len(shown)} cases has a readable id; its administrators have to look at these cases"
        )
    for hours in (0, *_ZONES):
        zone = timedelta(hours=hours)
        if any(_found_at(client, row, zone) for row in rows[: None if hours == 0 else 1]):
            if hours:
                logger.warning("Primero keeps its stamps %+d hours off UTC; windows are asked accordingly", hours)
            return zone
    raise DataError(
        "Primero does not find a case by the time stamp it gives for it, in any time zone, so no quarter could be cut right; "
        "its administrators have to look at the server's time zone"
    )


def _found_at(client: PrimeroClient, row: dict[str, Any], zone: timedelta) -> bool:
    """Whether Primero finds the case within two seconds of its stamp, shifted by `zone`."""
    moment = datetime.fromisoformat(row["last_updated_at"]) + zone
    around = f"{to_query_time(moment - timedelta(seconds=2))}..{to_query_time(moment + timedelta(seconds=2))}"
    return client.page("cases", {"id": row["id"], "last_updated_at": around, "per": 0}).total > 0


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
        raise TransientError("Primero counted no case in the quarter just after it gave some; try again later")
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
        "last_updated_at": ALL_TIME,
        "order_by": "created_at",
        "order": "desc",
        "per": 1000,
        "fields": ",".join(asked),
    }
    rows = retry_while_empty(lambda: client.page("cases", question).rows, pause)
    if not rows:
        raise TransientError("Primero shows no case where it has just shown some; try again later")
    newest = set[str]().union(*rows)
    missing = tuple(name for name in CASE_FIELDS if name not in seen_fields and name not in newest)
    refused = [name for name in missing if name in ESSENTIAL_FIELDS]
    if refused and len(rows) >= YOUNG:
        raise RefusedError(
            f"no case has the field{_s(refused)} {', '.join(refused)}; Primero leaves out what the account's role may not "
            "read: let its administrators grant the forms with these fields"
        )
    lost = [name for name in missing if name in known.shown and name not in known.accepted]
    if lost:
        raise RefusedError(
            f"earlier pulls were shown the field{_s(lost)} {', '.join(lost)}, and none of Primero's newest {len(rows):,} cases "
            "has it any more; nothing was stored. If the account's role has lost it, let Primero's administrators grant its "
            f"form again; if it is gone for good, run `primero-ona fields accept {' '.join(lost)}`, and its columns become empty"
        )
    shown = tuple(name for name in CASE_FIELDS if name not in missing)
    return FieldsFound(shown, missing, tuple(name for name in asked if name in known.accepted and name in newest))


def _s(names: Collection[str]) -> str:
    return "s" if len(names) > 1 else ""


def retry_while_empty(ask: Callable[[], Answer], pause: float, times: int = EMPTY_ASKED) -> Answer:
    """Ask again where the answer is empty: Primero's own errors look like emptiness."""
    answer = ask()
    for _ in range(times - 1):
        if answer:
            break
        time.sleep(pause)
        answer = ask()
    return answer
