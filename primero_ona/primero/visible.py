"""How many cases the account sees, and what it means that Primero shows none of them, or fewer than before."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from primero_ona.errors import RefusedError, SyncError, TransientError
from primero_ona.primero.client import PrimeroClient
from primero_ona.primero.walk import ALL_TIME

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


def retry_while_empty(ask: Callable[[], Answer], pause: float, times: int = EMPTY_ASKED) -> Answer:
    """Ask again where the answer is empty: Primero's own errors look like emptiness."""
    answer = ask()
    for _ in range(times - 1):
        if answer:
            break
        time.sleep(pause)
        answer = ask()
    return answer


def emptiness(client: PrimeroClient, pause: float = EMPTY_PAUSE, times: int = EMPTY_ASKED) -> SyncError:
    """Say why Primero shows no case: a count without any filter is cheap, and comes when other questions time out.

    TransientError where it counts some, RefusedError where the account sees none.
    """
    if retry_while_empty(lambda: client.page("cases", {"per": 0, "fields": "status"}).total, pause, times):
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


def require_windows(client: PrimeroClient, pause: float = EMPTY_PAUSE) -> None:
    """Make sure that questions with a window are answered, where one found nothing; a window of all time is the dearest.

    Raises what `emptiness` says where it finds nothing either.
    """
    of_all_time: dict[str, str | int] = {"last_updated_at": ALL_TIME, "per": 0, "fields": "status"}
    if not retry_while_empty(lambda: client.page("cases", of_all_time).total, pause):
        raise emptiness(client, pause)
