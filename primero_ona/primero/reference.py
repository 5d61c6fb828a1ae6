"""Read Primero's reference data as it comes: complete lists of locations, lookups and forms, with the date they were read.

A list that Primero refuses to this account (403) is not the end: the last one that was read serves, and is said to be old.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Literal, get_args

import orjson
import pandas as pd
import pyarrow as pa

from primero_ona.errors import DataError, TransientError
from primero_ona.primero.client import AnswerRefusedError, PrimeroClient
from primero_ona.storage.frames import BATCH_ROWS, Frames

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

#: Elements in storage: the list, and the element as Primero sent it, as JSON.
REFERENCE_SCHEMA = pa.schema([("list", pa.string()), ("content", pa.string())])


@dataclass(frozen=True)
class ReferenceList:
    """One list: its elements as JSON, when it was read (UTC, ISO 8601) and from which version of Primero.

    `refused`: Primero refused it at the last refresh, so these are older elements, or none (`fetched_at` null).
    """

    contents: tuple[str, ...] = field(repr=False)
    fetched_at: str | None = None
    version: str | None = None
    refused: bool = False

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """The elements, decoded on demand: there are thousands of places, and mapping needs none of them."""
        return [orjson.loads(content) for content in self.contents]

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What is known of the list beside its elements; `fingerprint` differs when an element differs."""
        return {
            "fetched_at": self.fetched_at,
            "version": self.version,
            "refused": self.refused,
            "rows": len(self.contents),
            "fingerprint": hashlib.sha256("\n".join(sorted(self.contents)).encode()).hexdigest()[:12],
        }


@dataclass(frozen=True)
class Reference:
    """The three lists together, or those that were asked for."""

    lists: Mapping[ListName, ReferenceList]

    def rows(self, name: ListName) -> list[dict[str, Any]]:
        """The elements of a list; empty where it was never read."""
        return self.lists[name].rows

    @property
    def facts(self) -> dict[str, dict[str, Any]]:
        """The facts of each list, by its name."""
        return {name: known.facts for name, known in self.lists.items()}

    @property
    def refused(self) -> list[ListName]:
        """The lists that Primero refused at the last refresh."""
        return [name for name, known in self.lists.items() if known.refused]

    def frames(self) -> Frames:
        """The reference as it is stored: rows of REFERENCE_SCHEMA; a list shares no frame with another."""

        def read(_columns: Sequence[str] | None) -> Iterator[pd.DataFrame]:
            for name in LISTS:
                contents = self.lists[name].contents
                for start in range(0, len(contents), BATCH_ROWS):
                    yield _frame(name, contents[start : start + BATCH_ROWS])

        return Frames(read, {"lists": self.facts})

    @classmethod
    def of(cls, frames: Frames, names: Sequence[ListName] = LISTS) -> Reference:
        """The reference from its stored form, or only some of its lists: reading ends where those are whole."""
        contents: dict[str, list[str]] = {name: [] for name in LISTS}
        facts = frames.summary["lists"]
        for frame in frames:
            contents[frame["list"].iloc[0]] += pa.array(frame["content"]).to_pylist()
            if all(len(contents[name]) == facts[name]["rows"] for name in names):
                break
        return cls({name: _list_of(contents[name], facts[name]) for name in names})


def _list_of(contents: Sequence[str], facts: Mapping[str, Any]) -> ReferenceList:
    return ReferenceList(tuple(contents), facts["fetched_at"], facts["version"], facts["refused"])


def _frame(name: ListName, contents: Sequence[str]) -> pd.DataFrame:
    table = pa.table({"list": [name] * len(contents), "content": contents}, schema=REFERENCE_SCHEMA)
    frame: pd.DataFrame = table.to_pandas(types_mapper=pd.ArrowDtype)
    return frame


def refresh(client: PrimeroClient, last: Reference | None, now: datetime) -> Reference:
    """Read all lists again; of a list that Primero refuses, the `last` one stays, marked.

    `now` is aware. Raises DataError where a list is empty or has not the known shape, TransientError where it is not
    whole, and any failure of the client but the refusal of a single list.
    """
    version = client.version()
    stamp = now.astimezone(UTC).isoformat(timespec="seconds")
    lists: dict[ListName, ReferenceList] = {}
    for name in LISTS:
        try:
            lists[name] = ReferenceList(contents_of(_fetch(client, name)), stamp, version)
        except AnswerRefusedError as refused:
            if refused.status != 403:
                raise
            lists[name] = replace(last.lists[name], refused=True) if last else ReferenceList((), refused=True)
    return Reference(lists)


def contents_of(rows: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """Elements as JSON, the same element always as the same text; a question mark stands for half a character."""
    return tuple(map(_content_of, rows))


def _content_of(row: Mapping[str, Any]) -> str:
    try:
        return orjson.dumps(row, option=orjson.OPT_SORT_KEYS).decode()
    except TypeError:
        return json.dumps(row, sort_keys=True, ensure_ascii=False).encode(errors="replace").decode()


def _fetch(client: PrimeroClient, name: ListName) -> list[dict[str, Any]]:
    rows = _forms(client) if name == "forms" else complete_list(client, name, _KEYS[name], _PARAMS[name])
    if not rows:
        raise DataError(
            f"Primero lists no {name}; nothing was changed; ask its administrators what became of them",
            see="places",
        )
    return rows


def _forms(client: PrimeroClient) -> list[dict[str, Any]]:
    """The forms, which have no pages and no `total`."""
    rows = client.get("forms", _PARAMS["forms"]).get("data")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError("Primero's answer to forms has no list `data`; is PRIMERO_URL a Primero v2?", see="not-primero")
    return rows


def complete_list(client: PrimeroClient, path: str, key: str, params: Mapping[str, str | int]) -> list[dict[str, Any]]:
    """Every element of a paged list, once by `key`, in the order received.

    Raises TransientError where pages and `total` do not agree, since the list was edited meanwhile; DataError as `pages`.
    """
    found: dict[str, dict[str, Any]] = {}
    # A row that goes between two pages moves the others up, one of them past the reader: the last total would not tell.
    totals: set[int] = set()
    for page in client.pages(path, params, key):
        totals.add(page.total)
        found.update((str(row.get(key)), row) for row in page.rows)
    if totals != {len(found)}:
        raise TransientError(
            f"Primero gave {len(found)} of {page.total} {path}; the list is not whole, or was edited meanwhile; try again later",
            see="moving-list",
        )
    return list(found.values())
