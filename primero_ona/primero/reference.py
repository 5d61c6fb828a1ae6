"""Primero's reference data as it comes: locations, lookups and forms, complete lists with the date they were read.

What belongs here: reading the lists, and their shape in storage. What they mean is told in `catalogue.py`. A list that
Primero refuses to this account (403) is not the end: the last one that was read serves, and is said to be old.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal, get_args

import orjson
import pandas as pd
import pyarrow as pa

from primero_ona.failures import DataFailure, TransientFailure
from primero_ona.frames import BATCH_ROWS, Frames
from primero_ona.primero.client import PAGE_ROWS, AnswerRefusedFailure, PrimeroClient

ListName = Literal["lookups", "forms", "locations"]
LISTS: tuple[ListName, ...] = get_args(ListName)

#: What identifies an element of each list.
_KEYS: Mapping[ListName, str] = {"lookups": "unique_id", "forms": "unique_id", "locations": "code"}

#: How each list is asked for. Neither locations nor lookups have an order of their own, and pages of a list without an
#: order lose and repeat rows. Disabled values are wanted: old cases use them.
_PARAMS: Mapping[ListName, Mapping[str, str | int]] = {
    "lookups": {"order_by": "unique_id", "order": "asc"},
    "forms": {"record_type": "case"},
    "locations": {"hierarchy": "true", "order_by": "code", "order": "asc"},
}

#: Elements in storage: the list, the key, and the element as Primero sent it, as JSON.
REFERENCE_SCHEMA = pa.schema([("list", pa.string()), ("key", pa.string()), ("content", pa.string())])


@dataclass(frozen=True)
class ReferenceList:
    """One list: its elements, when it was read (UTC, ISO 8601) from which version of Primero.

    `refused`: Primero refused it at the last refresh, so these are older elements, or none (`fetched_at` null).
    """

    rows: list[dict[str, Any]]
    fetched_at: str | None = None
    version: str | None = None
    refused: bool = False

    def facts(self) -> dict[str, Any]:
        """What is known of the list beside its elements; `fingerprint` differs when an element differs."""
        content = orjson.dumps(sorted(orjson.dumps(row, option=orjson.OPT_SORT_KEYS).decode() for row in self.rows))
        return {
            "fetched_at": self.fetched_at,
            "version": self.version,
            "refused": self.refused,
            "rows": len(self.rows),
            "fingerprint": hashlib.sha256(content).hexdigest()[:12],
        }


@dataclass(frozen=True)
class Reference:
    """The three lists together."""

    lists: Mapping[ListName, ReferenceList]

    def rows(self, name: ListName) -> list[dict[str, Any]]:
        """The elements of a list; empty where it was never read."""
        return self.lists[name].rows

    @property
    def facts(self) -> dict[str, dict[str, Any]]:
        """The facts of each list, by its name."""
        return {name: self.lists[name].facts() for name in LISTS}

    @property
    def refused(self) -> list[ListName]:
        """The lists that Primero refused at the last refresh."""
        return [name for name in LISTS if self.lists[name].refused]

    def frames(self) -> Frames:
        """The reference as it is stored: rows of REFERENCE_SCHEMA, a list never shares a frame with another."""

        def read(_columns: Sequence[str] | None) -> Iterator[pd.DataFrame]:
            for name in LISTS:
                rows = self.rows(name)
                for start in range(0, len(rows), BATCH_ROWS):
                    yield _frame(name, rows[start : start + BATCH_ROWS])

        return Frames(read, lambda: {"lists": self.facts})

    @classmethod
    def of(cls, frames: Frames) -> Reference:
        """The reference from its stored form."""
        rows: dict[str, list[dict[str, Any]]] = {name: [] for name in LISTS}
        for frame in frames:
            for name, content in zip(frame["list"].to_list(), frame["content"].to_list(), strict=True):
                rows[name].append(orjson.loads(content))
        facts = frames.summary["lists"]
        return cls({name: _list_of(rows[name], facts[name]) for name in LISTS})


def _list_of(rows: list[dict[str, Any]], facts: Mapping[str, Any]) -> ReferenceList:
    return ReferenceList(rows, facts["fetched_at"], facts["version"], facts["refused"])


def _frame(name: ListName, rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    columns = {
        "list": [name] * len(rows),
        "key": [str(row.get(_KEYS[name])) for row in rows],
        "content": [orjson.dumps(row).decode() for row in rows],
    }
    frame: pd.DataFrame = pa.table(columns, schema=REFERENCE_SCHEMA).to_pandas(types_mapper=pd.ArrowDtype)
    return frame


def refresh(client: PrimeroClient, last: Reference | None, now: datetime) -> Reference:
    """Read all lists anew; of a list that Primero refuses, the `last` one stays, marked.

    `now` is aware. Raises DataFailure where a list is empty or has not the known shape, TransientFailure where it is not
    whole, and any failure of the client but the refusal of a single list.
    """
    version = client.version()
    stamp = now.astimezone(UTC).isoformat(timespec="seconds")
    lists: dict[ListName, ReferenceList] = {}
    for name in LISTS:
        try:
            lists[name] = ReferenceList(_fetch(client, name), stamp, version)
        except AnswerRefusedFailure as refused:
            if refused.status != 403:
                raise
            lists[name] = replace(last.lists[name], refused=True) if last else ReferenceList([], refused=True)
    return Reference(lists)


def _fetch(client: PrimeroClient, name: ListName) -> list[dict[str, Any]]:
    rows = _forms(client) if name == "forms" else complete_list(client, name, _KEYS[name], _PARAMS[name])
    if not rows:
        raise DataFailure(f"Primero lists no {name}; nothing was changed; ask its administrators what became of them")
    return rows


def _forms(client: PrimeroClient) -> list[dict[str, Any]]:
    """The forms, which have no pages and no `total`."""
    rows = client.get("forms", _PARAMS["forms"]).get("data")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataFailure("Primero's answer to forms has no list `data`; is PRIMERO_URL a Primero v2?")
    return rows


def complete_list(client: PrimeroClient, path: str, key: str, params: Mapping[str, str | int]) -> list[dict[str, Any]]:
    """Every element of a paged list, once by `key`, in the order received.

    Raises TransientFailure where pages and `total` do not agree: somebody edited the list meanwhile.
    """
    found: dict[str, dict[str, Any]] = {}
    # A row that goes between two pages moves the others up, one of them past the reader: the last total would not tell.
    totals: set[int] = set()
    number = 1
    while True:
        page = client.page(path, {**params, "per": PAGE_ROWS, "page": number})
        totals.add(page.total)
        found.update((str(row.get(key)), row) for row in page.rows)
        if len(page.rows) < page.per or page.per <= 0:
            break
        number += 1
    if totals != {len(found)}:
        raise TransientFailure(
            f"Primero gave {len(found)} of {page.total} {path}; the list is not whole, or was edited meanwhile; try again later"
        )
    return list(found.values())
