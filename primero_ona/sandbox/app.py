"""The sandbox's endpoints: what an honest Primero answers to a GET, without faults and without a network."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from primero_ona.sandbox import reference
from primero_ona.sandbox.access import Login, Role
from primero_ona.sandbox.casting import cast, parse
from primero_ona.sandbox.changes import ReferenceData
from primero_ona.sandbox.columns import Rows
from primero_ona.sandbox.faults import Fault
from primero_ona.sandbox.paging import PER_CAP, Page, PageError, cut
from primero_ona.sandbox.query import IDENTIFIERS, Engine, SwallowedError
from primero_ona.sandbox.store import CaseStore, Mask

#: The version that the sandbox says it is, and behaves as.
LATEST = "2.15.2.1"
JSON = "application/json"
#: Names that are no filters.
_FIXED = frozenset(
    [
        "fields",
        "order",
        "order_by",
        "page",
        "per",
        "total",
        "id_search",
        "query",
        "query_scope",
        "phonetic",
        "phone_number",
        "format",
    ]
)


@dataclass(frozen=True)
class Answer:
    """An HTTP answer before it is compressed and sent."""

    status: int
    body: bytes = b""
    type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Switches:
    """What can be set on a sandbox while it runs.

    `version`: 2.10.3, 2.11.0, 2.12.0, 2.13.0 or LATEST, or any other. `latency_ms`: added to each request. `per_cap`: the
    most rows of a page. `server_offset`: hours of the server's time zone, in which stamps are stored. `dropped`: filters
    ignored as if their form was not granted. `gateway`: whether nginx's limits hold (1 KB request lines, no HEAD).
    """

    version: str = LATEST
    latency_ms: float = 0
    per_cap: int = PER_CAP
    server_offset: float = 0
    dropped: set[str] = field(default_factory=set)
    gateway: bool = True
    role: Role = field(default_factory=Role)

    @property
    def numbers(self) -> tuple[int, ...]:
        """The version as numbers that compare."""
        return tuple(int(part) for part in self.version.split("."))


class Endpoints:
    """Answers to GET requests from a store of cases; `random` draws the order of ties."""

    def __init__(self, store: CaseStore, switches: Switches, login: Login) -> None:
        self.store = store
        self.switches = switches
        self.login = login
        self.random = np.random.default_rng()
        self.reference = ReferenceData()
        self._ranked: dict[str, tuple[Sequence[dict[str, Any]], Rows]] = {}
        self._routes: dict[str, Callable[[Mapping[str, Any]], Answer]] = {
            "/api/v2/cases": self._cases,
            "/api/v2/lookups": self._lookups,
            "/api/v2/locations": self._locations,
            "/api/v2/forms": self._forms,
            "/api/v2/system_settings": self._settings,
        }

    def answer(self, path: str, query: str, authorization: str | None, fault: Fault | None = None) -> Answer:
        """The answer to a GET. Only `swallow`, `wrong total` and `short page` are faults of this layer."""
        path = path.removesuffix(".json")
        if path == "/health":
            return Answer(204)
        if path == "/api/v2/primero":
            return _data({"sandbox_ui": False, "locales": list(reference.LOCALES), "default_locale": "en"})
        route = self._route(path)
        if route is None:
            return Answer(404, type="text/html")
        if refusal := self.login.refusal(authorization):
            realm = {"WWW-Authenticate": 'Bearer realm="Primero" charset="UTF8"'}
            return Answer(401, orjson.dumps({"error": refusal}), headers=realm)
        if path.split("/")[3] in self.switches.role.refused:
            return error(403, path, "Forbidden")
        return self._guarded(route, path, parse(query), fault)

    def _route(self, path: str) -> Callable[[Mapping[str, Any]], Answer] | None:
        head, _, case = path.rpartition("/")
        if head == "/api/v2/cases" and case:
            return lambda query: self._case(case, query)
        return self._routes.get(path)

    def _guarded(
        self,
        route: Callable[[Mapping[str, Any]], Answer],
        path: str,
        query: Mapping[str, Any],
        fault: Fault | None,
    ) -> Answer:
        try:
            with self.store.lock:
                return self._cases(query, fault) if route == self._cases else route(query)
        except PageError:
            return error(500, path, "PG::InvalidRowCountInResultOffsetClause: ERROR:  OFFSET must not be negative")

    def _cases(self, query: Mapping[str, Any], fault: Fault | None = None) -> Answer:
        kind = fault.kind if fault else None
        permitted = frozenset(self.switches.role.permitted()) - self.switches.dropped
        filters = {name: value for name, value in query.items() if _may_filter(name, permitted)}
        page = Page.of(query, cap=self.switches.per_cap if self.switches.numbers >= (2, 10, 3) else None)
        try:
            mask = self._selected(filters, kind)
        except SwallowedError:
            if self.switches.numbers < (2, 11, 0, 6) and kind != "swallow":
                return error(500, "/api/v2/cases", "PG::UndefinedFunction: ERROR:  operator does not exist")
            return _list([], page.metadata(0))
        rows = cut(self.store, mask, page, query, self.random)
        total = int(mask.sum()) + (fault.by if fault and kind == "wrong total" else 0)
        rows = rows[: max(len(rows) - fault.by, 0)] if fault and kind == "short page" else rows
        return _list(self.store.render(rows, self._shown(query)), page.metadata(total))

    def _selected(self, filters: Mapping[str, Any], kind: str | None) -> Mask:
        if kind == "swallow":
            raise SwallowedError
        return self._engine().select(filters) & self._in_scope()

    def _case(self, case: str, query: Mapping[str, Any]) -> Answer:
        path = f"/api/v2/cases/{case}"
        try:
            row = self.store.row_of(str(uuid.UUID(case)))
        except ValueError:
            row = None
        if row is None:
            return error(404, path, "Not Found", f"Couldn't find Child with 'id'={case}")
        if not self._in_scope()[row]:
            return error(403, path, "Forbidden")
        return Answer(200, b'{"data":' + self.store.render(_rows(row), self._shown(query))[0] + b"}")

    def _engine(self) -> Engine:
        return Engine(self.store, self.switches.numbers, self.switches.server_offset)

    def _shown(self, query: Mapping[str, Any]) -> tuple[str, ...]:
        return self.switches.role.shown(query)

    def _in_scope(self) -> Mask:
        owner = self.switches.role.owner
        return self.store.alive if owner is None else self.store.mask("owned_by", lambda own: own == owner)

    def _lookups(self, query: Mapping[str, Any]) -> Answer:
        page = Page.of(query)
        return self._listed(self.reference.lookups(), page, query)

    def _locations(self, query: Mapping[str, Any]) -> Answer:
        page = Page.of(query, default=100, cap=None)
        if query.get("order_by", "code") not in {"code", "name", "hierarchy", "id"}:
            return error(500, "/api/v2/locations", "PG::UndefinedColumn: ERROR:  column does not exist")
        found = self.reference.locations(hierarchy=query.get("hierarchy") == "true")
        wanted = cast(query.get("disabled", ""))
        if wanted is not None:
            kept = wanted if isinstance(wanted, list) else [wanted]
            found = [row for row in found if row["disabled"] in kept]
        return self._listed(found, page, query)

    def _listed(self, rows: Sequence[dict[str, Any]], page: Page, query: Mapping[str, Any]) -> Answer:
        """A page of a list that has no order unless one is asked for."""
        order = self.random.permutation(len(rows))
        if name := query.get("order_by"):
            ranks = self._ranks(rows, name)
            order = np.lexsort((order, -ranks if query.get("order") == "desc" else ranks))
        start, end = page.span
        return _list([orjson.dumps(rows[at]) for at in order[start:end]], page.metadata(len(rows)))

    def _ranks(self, rows: Sequence[dict[str, Any]], name: str) -> Rows:
        """The place of each row in the order of a column; equal values have equal places. Kept while the rows are the same."""
        known = self._ranked.get(name)
        if known is None or known[0] is not rows:
            keys = np.array([orjson.dumps(row.get(name)) for row in rows], dtype=object)
            known = self._ranked[name] = rows, np.unique(keys, return_inverse=True)[1]
        return known[1]

    def _forms(self, query: Mapping[str, Any]) -> Answer:
        found = [
            row
            for row in reference.forms()
            if query.get("record_type", "case") == "case"
            and query.get("module_id", row["module_ids"][0]) in row["module_ids"]
            and query.get("unique_id", row["unique_id"]) == row["unique_id"]
            and not (query.get("exclude_subforms") == "true" and row["is_nested"])
        ]
        return _data(found)

    def _settings(self, query: Mapping[str, Any]) -> Answer:
        return _data(reference.settings(self.switches.version, extended=query.get("extended") == "true"))


def error(status: int, resource: str, message: str, detail: str | None = None) -> Answer:
    """An error in Primero's shape: `status` (the documentation says `code`), `resource`, `message`, perhaps `detail`."""
    entry: dict[str, Any] = {"status": status, "resource": resource, "message": message}
    return Answer(status, orjson.dumps({"errors": [entry | ({"detail": detail} if detail else {})]}))


def _may_filter(name: str, permitted: frozenset[str]) -> bool:
    if name in _FIXED:
        return False
    plain = name.removeprefix("loc:")
    return plain in permitted or name in {"or", "not"} or (name in IDENTIFIERS & {"unique_identifier", "short_id"})


def _rows(row: int) -> Rows:
    return np.array([row])


def _data(value: Any) -> Answer:  # noqa: ANN401
    return Answer(200, orjson.dumps({"data": value}))


def _list(rows: Sequence[bytes], metadata: Mapping[str, int]) -> Answer:
    return Answer(200, b'{"data":[' + b",".join(rows) + b'],"metadata":' + orjson.dumps(metadata) + b"}")
