"""What has changed in Primero since the last look: two small requests, no rows of cases.

The state of a look is the newest `last_updated_at` and the number of cases stamped in the hour before it. An edit or a
new case makes the stamp newer; a case that was stamped before and committed later changes the number. A stamp that lies
further ahead of Primero's own time than can be is compared only: if it were the newest, no edit would be seen until then.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain

from primero_ona.errors import DataError, TransientError
from primero_ona.primero.client import ALL_TIME, LATEST, PrimeroClient
from primero_ona.primero.visible import GAVE_UP, emptiness
from primero_ona.primero.walk import to_query_time
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
    moment = datetime.fromisoformat(newest)
    since = moment - OVERLAP
    total = client.count({"last_updated_at": f"{to_query_time(since)}.."})
    if not total:
        raise TransientError(
            f"Primero counts no recent case, though it has just shown one: {GAVE_UP}", see="primero-gave-up"
        )
    open_quarter = current_quarter()
    ahead = f"{open_quarter} {furthest}" if furthest else ""
    if before and (before.newest, before.total, before.ahead) == (newest, total, ahead):
        return Changes(newest, total, ahead=ahead)
    seen = datetime.fromisoformat(before.newest) if before else None
    first_look = seen is None or seen > moment
    seen_until = since if seen is None or first_look else seen - OVERLAP
    touched = quarters_between(Quarter.of(seen_until), Quarter.of(moment))
    if ahead and open_quarter not in touched:
        touched.append(open_quarter)
    return Changes(newest, total, tuple(touched), ahead, first_look)


def _newest(client: PrimeroClient, known: str | None) -> tuple[str, str]:
    """The newest stamp that can be, and the newest that lies ahead ("" where none does).

    Asked from the last known one on, since that is a smaller question; of all time where nothing is found there. Without
    any window, cases without a stamp would come first.
    """
    recent = [f"{to_query_time(datetime.fromisoformat(known) - OVERLAP)}.."] if known else []
    furthest = ""
    for span in (*recent, ALL_TIME):
        asked = {**LATEST, "last_updated_at": span}
        newest = client.page("cases", {**asked, "per": 1}).rows
        # Those ahead are few, or thousands where a server's clock was wrong for days: read on to the first that can be.
        more = client.pages("cases", asked) if newest else ()
        for row in chain(newest, chain.from_iterable(page.rows for page in more)):
            stamp = str(row["last_updated_at"])
            if datetime.fromisoformat(stamp) <= client.latest():
                return stamp, furthest
            furthest = furthest or stamp
    if furthest:
        raise DataError(
            "every case of Primero is stamped ahead of Primero's own time; its administrators have to look at the server's clock",
            see="stamped-ahead",
        )
    raise emptiness(client, times=1)
