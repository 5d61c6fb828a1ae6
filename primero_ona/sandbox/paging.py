"""Order and pages of a list of cases, as Primero cuts them: ties fall differently at every request, page 0 is an error."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from primero_ona.sandbox.columns import ABSENT, Rows, Stamps
from primero_ona.sandbox.query import integer_of
from primero_ona.sandbox.store import CaseStore, Mask

#: What `per` is cut to, silently but for `metadata.per`, since 2.10.3.
PER_CAP = 1_000


class PageError(Exception):
    """A page that PostgreSQL refuses: a negative limit or offset, which only shows while rendering; a 500."""


@dataclass(frozen=True)
class Page:
    """Which part of a list is asked for."""

    number: int
    per: int

    @classmethod
    def of(cls, query: Mapping[str, Any], *, default: int = 20, cap: int | None = PER_CAP) -> Page:
        """Read `page` and `per`; what is no number counts as 0. Raises PageError."""
        per = _whole(query["per"]) if "per" in query else default
        page = cls(_whole(query["page"]) if "page" in query else 1, per if cap is None else min(per, cap))
        if page.number < 1 or page.per < 0:
            raise PageError
        return page

    @property
    def span(self) -> tuple[int, int]:
        """The offsets of its first row and of the one after its last."""
        return (self.number - 1) * self.per, self.number * self.per

    def metadata(self, total: int) -> dict[str, int]:
        """What the answer says of itself."""
        return {"total": total, "per": self.per, "page": self.number}


def _whole(value: Any) -> int:  # noqa: ANN401
    """A text as Ruby's `to_i` reads it."""
    match = re.match(r"\s*[-+]?\d+", value) if isinstance(value, str) else None
    return int(match[0]) if match else 0


def cut(store: CaseStore, mask: Mask, page: Page, query: Mapping[str, Any], rng: np.random.Generator) -> Rows:
    """The rows of a page, in order. Rows of equal keys come in an order that `rng` draws, a new one at every request."""
    order, keys = store.order(
        str(query.get("order_by") or "created_at"),
        _sort_key,
        descending=query.get("order", "desc") in {"desc", "DESC"},
    )
    kept = mask[order]
    rows, keys = order[kept], keys[kept]
    start, end = page.span
    if start >= len(rows) or start == end:
        return rows[:0]
    first, last = _ties(keys, start, min(end, len(rows)))
    shuffled = np.lexsort((rng.random(last - first), keys[first:last]))
    return rows[first:last][shuffled][start - first : end - first]


def _ties(keys: Stamps, start: int, end: int) -> tuple[int, int]:
    """Widen a span until it does not cut through rows of equal keys."""
    return int(np.searchsorted(keys, keys[start], "left")), int(np.searchsorted(keys, keys[end - 1], "right"))


def _sort_key(value: Any) -> Any:  # noqa: ANN401
    if value is None or value is ABSENT:
        return None
    if (number := integer_of(value)) is not None:
        return 0, number, ""
    return 1, 0, value if isinstance(value, str) else orjson.dumps(value).decode()
