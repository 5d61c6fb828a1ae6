"""What has changed in Primero since the last look: two small requests, no rows of cases.

The state of a look is the newest `last_updated_at` and the number of cases stamped in the hour before it. An edit or a
new case makes the stamp newer; a case that was stamped before and committed later changes the number. A stamp that lies
further ahead of Primero's own time than can be is compared only: if it were the newest, no edit would be seen until then.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from primero_ona.errors import DataError, TransientError
from primero_ona.primero.client import Page, PrimeroClient
from primero_ona.primero.visible import GAVE_UP, emptiness
from primero_ona.primero.walk import ALL_TIME, to_query_time
from primero_ona.quarters import Quarter, current_quarter, quarters_between

#: A stamp is taken before its row is committed, and bulk changes commit hundreds of rows at once, so a look reaches back
#: this far. An hour is cheap (a count); minutes were seen to lose rows.
OVERLAP = timedelta(hours=1)


@dataclass(frozen=True)
class Changes:
    """One look: the newest stamp of all (ISO, UTC), the number of cases in the overlap before it, what is new.

    `quarters` are those in which there is something that an earlier look did not see. `ahead`: the open quarter and the
    newest of the stamps that lie ahead, whose cases belong to it; empty where there is none. `first_look`: there was no earlier
    look to go by, so edits of other quarters may have been missed, too.
    """

    newest: str
    total: int
    quarters: tuple[Quarter, ...] = ()
    ahead: str = ""
    first_look: bool = False


def changes_since(client: PrimeroClient, before: Changes | None) -> Changes:
    """Look for changes since an earlier look; the first look takes all within the overlap for new.

    Where the newest stamp lies before that of the earlier look (Primero was restored, or its clock put back), it counts as
    the first. Raises TransientError where Primero's database gave up, RefusedError where the account sees no case at all,
    DataError where every case is stamped ahead.
    """
    newest, furthest = _newest(client, before.newest if before else None)
    since = datetime.fromisoformat(newest) - OVERLAP
    asked: dict[str, str | int] = {
        "last_updated_at": f"{to_query_time(since)}..",
        "per": 0,
        "fields": "status",
    }
    total = client.page("cases", asked).total
    if not total:
        raise TransientError(
            f"Primero counts no recent case, though it has just shown one: {GAVE_UP}", see="primero-gave-up"
        )
    open_quarter = current_quarter()
    ahead = f"{open_quarter} {furthest}" if furthest else ""
    if before and (before.newest, before.total, before.ahead) == (newest, total, ahead):
        return Changes(newest, total, ahead=ahead)
    known = before if before and datetime.fromisoformat(before.newest) <= datetime.fromisoformat(newest) else None
    seen_until = datetime.fromisoformat(known.newest) - OVERLAP if known else since
    touched = quarters_between(Quarter.of(min(seen_until, since)), Quarter.of(datetime.fromisoformat(newest)))
    if ahead and open_quarter not in touched:
        touched.append(open_quarter)
    return Changes(newest, total, tuple(touched), ahead, first_look=known is None)


def _newest(client: PrimeroClient, known: str | None) -> tuple[str, str]:
    """The newest stamp that can be, and the newest that lies ahead ("" where none does).

    Asked from the last known one on, since that is a smaller question; of all time where nothing is found there. Without
    any window, cases without a stamp would come first.
    """
    spans = ([f"{to_query_time(datetime.fromisoformat(known) - OVERLAP)}.."] if known else []) + [ALL_TIME]
    furthest = ""
    for span in spans:
        asked: dict[str, str | int] = {
            "last_updated_at": span,
            "order_by": "last_updated_at",
            "order": "desc",
            "fields": "status",
        }
        stamps = _stamps(client.page("cases", {**asked, "per": 1}))
        if stamps and _can_be(client, stamps[0]):
            return stamps[0], furthest
        furthest = stamps[0] if stamps else furthest
        # Few, or thousands where a server's clock was wrong for days: read on to the first that can be.
        for page in client.pages("cases", asked) if stamps else ():
            if found := next((text for text in _stamps(page) if _can_be(client, text)), None):
                return found, furthest
    if furthest:
        raise DataError(
            "every case of Primero is stamped ahead of Primero's own time; its administrators have to look at the server's clock",
            see="stamped-ahead",
        )
    raise emptiness(client, times=1)


def _stamps(page: Page) -> list[str]:
    return [str(row["last_updated_at"]) for row in page.rows]


def _can_be(client: PrimeroClient, text: str) -> bool:
    return datetime.fromisoformat(text) <= client.latest()
