"""How many cases and which fields the account sees, and what it means that Primero shows none of them, or fewer than before."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TypeVar

from primero_ona.errors import RefusedError, SyncError, TransientError
from primero_ona.primero.client import ALL_TIME, NEWEST, PAGE_ROWS, PrimeroClient
from primero_ona.primero.fields import CASE_FIELDS, ESSENTIAL_FIELDS, FieldsFound, KnownFields

#: How often an answer of "no cases" is asked before it is believed, and the seconds between: a database time-out inside
#: Primero looks the same, and passes.
EMPTY_ASKED = 3
EMPTY_PAUSE = 2.0

#: Why an answer without cases is no answer. Primero itself says 200 and total 0.
GAVE_UP = (
    "Primero's database gave up a question (a time-out, or a lost connection), which Primero answers as if there were no case; "
    "try again later, and tell Primero's administrators if it lasts"
)

Answer = TypeVar("Answer")


def retry_while_empty(client: PrimeroClient, ask: Callable[[], Answer], times: int = EMPTY_ASKED) -> Answer:
    """Ask again where the answer is empty: Primero's own errors look like emptiness."""
    answer = ask()
    for _ in range(times - 1):
        if answer:
            break
        time.sleep(EMPTY_PAUSE * client.pause)
        answer = ask()
    return answer


def emptiness(client: PrimeroClient, times: int = EMPTY_ASKED) -> SyncError:
    """Say why Primero shows no case: TransientError where it counts some without a filter, else RefusedError."""
    if retry_while_empty(client, lambda: client.count({}), times):
        return TransientError(GAVE_UP, see="primero-gave-up")
    return RefusedError(
        "Primero shows this account no case at all, of any time; check that its role may read cases with the scope `all`",
        see="lost-scope",
    )


@dataclass(frozen=True)
class KnownScope:
    """How many cases the account should see: as many as at the `last` pull (None: unknown), and as stand `in_ona`.

    `accepted`: an operator has accepted that they are fewer than in ONA. A fall is one by more than `share` (of 1) and more
    than `least` cases.
    """

    last: int | None = None
    in_ona: int = 0
    accepted: bool = False
    share: float = 0.02
    least: int = 10

    def check(self, visible: int) -> None:
        """Raise RefusedError where the account sees so few cases that it must have lost a part of its scope."""
        expected = max(self.last or 0, 0 if self.accepted else self.in_ona)
        if expected - visible <= max(self.share * expected, self.least):
            return
        seen = "" if self.last is None else f"{self.last:,} were visible before, and "
        raise RefusedError(
            f"Primero shows this account {visible:,} cases, where {seen}{self.in_ona:,} stand in ONA; nothing was stored. Ask "
            "Primero's administrators whether its role still reads cases with the scope `all`, and whether cases were deleted; "
            f"if {visible:,} are right, run `primero-ona account accept-cases {visible}`",
            see="lost-scope",
        )


def require_windows(client: PrimeroClient) -> None:
    """Make sure that questions with a window are answered, where one found nothing; else raise as `emptiness` says."""
    if not retry_while_empty(client, lambda: client.count({"last_updated_at": ALL_TIME})):
        raise emptiness(client)


def check_fields(client: PrimeroClient, seen_fields: Collection[str], known: KnownFields) -> FieldsFound:
    """Which of the asked-for fields occur among the cases; `seen_fields` did among those received.

    A field that no case of a small quarter has is absent without fault, so the newest 1,000 cases of all time are asked
    for those not seen, and for those whose loss was accepted: seen in an old quarter, they are not back yet. Raises
    RefusedError where an essential field does not occur among twenty cases or more, or one that earlier pulls were
    shown does not occur any more and its loss was not accepted.
    """
    found, rows = find_fields(client, seen_fields, known)
    refused = [name for name in found.missing if name in ESSENTIAL_FIELDS]
    if refused and rows >= 20:  # of fewer, as of a Primero that has just begun, none may have it yet
        raise RefusedError(
            f"no case has the field{'s' * (len(refused) > 1)} {', '.join(refused)}; Primero leaves out what the account's role may not "
            "read: let its administrators grant the forms with these fields",
            see="missing-field",
        )
    lost = [name for name in found.missing if name in known.shown and name not in known.accepted]
    if lost:
        raise RefusedError(
            f"earlier pulls were shown the field{'s' * (len(lost) > 1)} {', '.join(lost)}, and none of Primero's newest {rows:,} cases "
            "has it any more; nothing was stored. If the account's role has lost it, let Primero's administrators grant its "
            f"form again; if it is gone for good, run `primero-ona fields accept {' '.join(lost)}`, and its columns become empty",
            see="lost-field",
        )
    return found


def find_fields(client: PrimeroClient, seen_fields: Collection[str], known: KnownFields) -> tuple[FieldsFound, int]:
    """Which fields occur among the cases seen and the newest 1,000, and how many of these came; none, where none was needed."""
    asked = [name for name in CASE_FIELDS if name not in seen_fields or name in known.accepted]
    if not asked:
        return FieldsFound(CASE_FIELDS), 0
    question: dict[str, str | int] = {**NEWEST, "per": PAGE_ROWS, "fields": ",".join(asked)}
    rows = retry_while_empty(client, lambda: client.page("cases", question).rows)
    if not rows:
        raise TransientError(f"Primero shows no case where it has just shown some: {GAVE_UP}", see="primero-gave-up")
    newest = set[str]().union(*rows)
    missing = tuple(name for name in CASE_FIELDS if name not in seen_fields and name not in newest)
    shown = tuple(name for name in CASE_FIELDS if name not in missing)
    returned = tuple(name for name in asked if name in known.accepted and name in newest)
    return FieldsFound(shown, missing, returned), len(rows)
