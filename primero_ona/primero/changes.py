"""What has changed in Primero since the last look: two small requests, no rows of cases.

The state of a look is the newest `last_updated_at` and the number of cases stamped in the hour before it. An edit or a
new case makes the stamp newer; a case that was stamped before and committed later changes the number.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from primero_ona.failures import TransientFailure
from primero_ona.primero.client import PrimeroClient
from primero_ona.primero.walk import ALL_TIME, stamp
from primero_ona.quarters import Quarter, quarters_between

#: A stamp is taken before its row is committed, and bulk changes commit hundreds of rows at once, so a look reaches back
#: this far. An hour is cheap (a count); minutes were seen to lose rows.
OVERLAP = timedelta(hours=1)


@dataclass(frozen=True)
class Changes:
    """One look: the newest stamp of all (ISO, UTC), the number of cases in the overlap before it, what is new.

    `quarters` are those in which there is something that an earlier look did not see.
    """

    newest: str
    total: int
    quarters: tuple[Quarter, ...] = ()


def changes_since(client: PrimeroClient, before: Changes | None, modules: tuple[str, ...] = ()) -> Changes:
    """Look for changes since an earlier look; the first look takes all within the overlap for new.

    Raises TransientFailure where Primero shows nothing: there was something before, so the answer is an error.
    """
    scope = {"module_id": ",".join(modules)} if modules else {}
    newest = _newest(client, before.newest if before else None, scope)
    since = datetime.fromisoformat(newest) - OVERLAP
    asked: dict[str, str | int] = {**scope, "last_updated_at": f"{stamp(since)}..", "per": 0, "fields": "status"}
    total = client.page("cases", asked).total
    if not total:
        raise TransientFailure(
            "Primero counts no recent case, though it has just shown one; looking again at the next tick"
        )
    if before and (before.newest, before.total) == (newest, total):
        return Changes(newest, total)
    seen_until = datetime.fromisoformat(before.newest) - OVERLAP if before else since
    return Changes(
        newest,
        total,
        tuple(quarters_between(Quarter.of(min(seen_until, since)), Quarter.of(datetime.fromisoformat(newest)))),
    )


def _newest(client: PrimeroClient, known: str | None, scope: dict[str, str]) -> str:
    """The newest stamp of a change; asked from the last known one on, since that is a smaller question."""
    span = f"{stamp(datetime.fromisoformat(known) - OVERLAP)}.." if known else ALL_TIME
    asked: dict[str, str | int] = {
        **scope,
        "last_updated_at": span,
        "order_by": "last_updated_at",
        "order": "desc",
        "per": 1,
        "fields": "status",
    }
    rows = client.page("cases", asked).rows
    if not rows:
        raise TransientFailure("Primero shows no case where there were some; looking again at the next tick")
    return str(rows[0]["last_updated_at"])
