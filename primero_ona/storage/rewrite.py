"""Rewrite stored partitions: with the newest key, without single cases, or not at all.

To be called under the lock of all partitions (`ona/locks.py`). Each file is replaced as a whole, so that a kill leaves
either the old one or the new one, and nothing else that a key opens.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from primero_ona.storage.partitions import PartitionStore, Stored

#: Columns that name a case by Primero's own id, in raw cases, exits, mapped cases and mapped services.
_ID_COLUMNS = ("id", "primero_id", "primero_case_id")
#: Columns that have its Case ID: as Primero sent it (JSON), and mapped.
_RAW_CASE_ID, _CASE_ID = "case_id_display", "case_id"

_QUARTER_KEY = re.compile(r"\d{4}-\d{2}-\d{2}")


def rotate(store: PartitionStore) -> int:
    """Encrypt every stored partition again with the newest key; how many there are."""
    store.place.remove_leftovers()
    names = store.place.names()
    for name in names:
        _rewrite(store, name, frozenset())
    return len(names)


def purge(store: PartitionStore, before: str) -> int:
    """Delete the partitions of all quarters before the first day `before` (2022-01-01), and what killed runs left; how many."""
    store.place.remove_leftovers()
    names = {name: name.partition("/")[2] for name in store.place.names()}
    old = [name for name, key in names.items() if _QUARTER_KEY.fullmatch(key) and key < before]
    for name in old:
        store.place.remove(name)
    return len(old)


def forget(store: PartitionStore, ids: Collection[str]) -> tuple[Counter[str], set[str]]:
    """Take cases out of every stored partition and its summary; the rows removed by case, and the Case IDs found in them."""
    store.place.remove_leftovers()
    gone: Counter[str] = Counter()
    case_ids: set[str] = set()
    for name in store.place.names():
        found, named, in_summary = _holds(store, name, frozenset(ids))
        gone.update(found)
        case_ids |= named
        if found or in_summary:
            _rewrite(store, name, frozenset(ids))
    return gone, case_ids


def _holds(store: PartitionStore, name: str, ids: frozenset[str]) -> tuple[Counter[str], set[str], bool]:
    """How many rows of a partition each case has, their Case IDs, and whether the summary names one of the cases."""
    file = store.open_file(name)
    found: Counter[str] = Counter()
    case_ids: set[str] = set()
    column = _id_column(file.schema.names)
    if column is not None:
        named = next((name for name in (_RAW_CASE_ID, _CASE_ID) if name in file.schema.names), None)
        for table in file.tables([column, *([named] if named else [])]):
            mine = table.filter(_mine(table, column, ids))
            found.update(mine.column(column).to_pylist())
            if named:
                case_ids |= {_text(value, named) for value in mine.column(named).to_pylist() if value}
    summary = file.footer["summary"]
    return found, case_ids, _without(summary, ids) != summary


def _text(value: str, column: str) -> str:
    """A Case ID as ONA has it; in raw cases it is JSON."""
    if column == _CASE_ID:
        return value.partition("~")[0]
    try:
        return str(orjson.loads(value)).strip()
    except orjson.JSONDecodeError:
        return value.strip()


def _rewrite(store: PartitionStore, name: str, ids: frozenset[str]) -> None:
    """Store a partition again, without the rows and the entries of these cases."""
    file = store.open_file(name)
    footer = file.footer
    column = _id_column(file.schema.names)
    stored = Stored(footer["asset"], file.schema, footer["version"])
    with store.writer_at(name, stored, footer["partition"]) as writer:
        for table in file.tables():
            kept = table if column is None or not ids else table.filter(pc.invert(_mine(table, column, ids)))
            if len(kept):
                writer.write_table(kept)
        writer.commit(_without(footer["summary"], ids))


def _mine(table: pa.Table, column: str, ids: frozenset[str]) -> pa.ChunkedArray:
    """For each row whether it is of one of the cases."""
    return pc.is_in(table.column(column), value_set=pa.array(sorted(ids), pa.string()))


def _id_column(names: Collection[str]) -> str | None:
    return next((name for name in _ID_COLUMNS if name in names), None)


def _without(summary: Mapping[str, Any], ids: frozenset[str]) -> Mapping[str, Any]:
    """A summary without what names one of the cases: entries of the quarantine, and those stamped ahead."""
    kept = dict(summary)
    if "quarantine" in summary:
        kept["quarantine"] = [entry for entry in summary["quarantine"] if entry.get("primero_id") not in ids]
    if "received" in summary:
        ahead = [case for case in summary["received"]["ahead"] if case not in ids]
        kept["received"] = {**summary["received"], "ahead": ahead}
    return kept
