"""What the change sensor remembers from tick to tick: stamps, counts and numbers, nothing of a case."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING

from primero_ona.graph.due import Change, Versions
from primero_ona.quarters import Quarter

if TYPE_CHECKING:
    from primero_ona.ona.bookkeeping import LastLoad
    from primero_ona.primero.changes import Changes

#: Raised when the cursor's shape changes. One of version 2 knows the look alone; an older one is forgotten, see `unsettled`.
CURSOR_VERSION = 3
_LOOK_ONLY = 2


@dataclass(frozen=True)
class Cursor:
    """The last look at Primero, the changes that no load is known to have, and the versions that loads must have."""

    look: "Changes"
    versions: Versions
    changes: Mapping[Quarter, Change] = field(default_factory=dict)

    @classmethod
    def after(
        cls,
        before: "Cursor | None",
        look: "Changes",
        touched: Collection[Quarter],
        versions: tuple[str, str],
        now: datetime,
    ) -> "Cursor":
        """The cursor after a look: the `touched` quarters have changed, as those that had changed `before`."""
        known = before.versions if before else None
        since = known.since if known and (known.pull, known.mapping) == versions else now
        changes = {**(before.changes if before else {}), **{quarter: Change(now, None) for quarter in touched}}
        return cls(look, Versions(*versions, since), changes)

    @property
    def unnumbered(self) -> bool:
        """Whether there are changes without the number of a pull."""
        return any(change.pull is None for change in self.changes.values())

    def known(self, number: int | None, loads: "Mapping[Quarter, LastLoad]") -> "Cursor":
        """The cursor whose changes without a number have this one, without those that are loaded."""
        numbered = {q: change if change.pull else replace(change, pull=number) for q, change in self.changes.items()}
        return replace(self, changes={q: change for q, change in numbered.items() if not change.is_in(loads.get(q))})


def read_cursor(text: str | None) -> Cursor | None:
    """Read the cursor; None where there was none, or where an older version wrote it."""
    from primero_ona.primero.changes import Changes

    state = json.loads(text) if text else {}
    if state.get("version") not in {CURSOR_VERSION, _LOOK_ONLY}:
        return None
    look = Changes(state["newest"], state["total"], ahead=state["ahead"])
    pull, mapping, since = state.get("versions", ("", "", "0001-01-01T00:00:00+00:00"))
    changes = {
        Quarter.parse(quarter): Change(datetime.fromisoformat(at), number)
        for quarter, (at, number) in state.get("changes", {}).items()
    }
    return Cursor(look, Versions(pull, mapping, datetime.fromisoformat(since)), changes)


def write_cursor(cursor: Cursor) -> str:
    """Write the cursor as text."""
    look, versions = cursor.look, cursor.versions
    return json.dumps(
        {
            "version": CURSOR_VERSION,
            "newest": look.newest,
            "total": look.total,
            "ahead": look.ahead,
            "versions": [versions.pull, versions.mapping, versions.since.isoformat()],
            "changes": {
                quarter.name: [change.at.isoformat(), change.pull] for quarter, change in sorted(cursor.changes.items())
            },
        }
    )
