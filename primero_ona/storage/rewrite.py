"""Upkeep of stored partitions: re-encrypting them with the newest key, deleting old ones, and taking single cases out.

Each partition is rewritten as a new generation, whose manifest replaces the old one by rename, so that whatever is killed
leaves either the old partition or the new one. What does not belong here: which runs read and write partitions.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from upath import UPath

from primero_ona.errors import TransientError
from primero_ona.quarters import Quarter
from primero_ona.storage.partitions import MANIFEST, PartitionStore, new_generation, read_manifest, remove, write_whole

#: Columns that name a case by Primero's own id, in raw cases, exits, mapped cases and mapped services.
_ID_COLUMNS = ("id", "primero_id", "primero_case_id")

_QUARTER_KEY = re.compile(r"\d{4}-\d{2}-\d{2}")

#: Given the clear content of a part: the content to store instead, and its rows; None for nothing.
Change = Callable[[bytes, int], tuple[bytes, int] | None]
Summary = Mapping[str, Any]


def stored_partitions(base: UPath) -> Iterator[UPath]:
    """Every partition that exists, unpartitioned assets among them, in the order of their names."""
    for asset in sorted(base.iterdir(), key=lambda path: path.name) if base.exists() else ():
        if not asset.is_dir():
            continue
        for path in (asset, *sorted((entry for entry in asset.iterdir()), key=lambda path: path.name)):
            if (path / MANIFEST).exists():
                yield path


def rotate(store: PartitionStore) -> int:
    """Re-encrypt every stored partition with the newest key; how many there are. Then older keys open nothing any more."""
    count = 0
    for path in stored_partitions(store.base):
        _rewrite(store, path, lambda clear, rows: (clear, rows), lambda summary: summary)
        count += 1
    return count


def purge(base: UPath, before: Quarter) -> int:
    """Delete the stored partitions of all quarters before `before`, unfinished ones too; how many. No key is needed."""
    count = 0
    for asset in list(base.iterdir()) if base.exists() else ():
        for path in list(asset.iterdir()) if asset.is_dir() else ():
            if _QUARTER_KEY.fullmatch(path.name) and Quarter.parse(path.name) < before:
                remove(path)
                count += 1
    return count


def forget(store: PartitionStore, ids: Collection[str]) -> Counter[str]:
    """Take cases out of every stored partition, and out of what the summaries say of quarantine; rows gone, by case."""
    gone: Counter[str] = Counter()
    for path in stored_partitions(store.base):
        before = sum(gone.values())
        found = _holds(store, path, ids)
        gone.update(found)
        summary = store.summary_of(read_manifest(path))
        if sum(gone.values()) > before or _without(summary, ids) != summary:
            _rewrite(store, path, lambda clear, rows: _cut(clear, rows, ids), lambda old: _without(old, ids))
    return gone


def _holds(store: PartitionStore, path: UPath, ids: Collection[str]) -> Counter[str]:
    """How many rows of a partition each of the cases has."""
    manifest = read_manifest(path)
    column = next((name for name in _ID_COLUMNS if name in manifest["columns"]), None)
    found: Counter[str] = Counter()
    if column is None:
        return found
    for part in manifest["parts"]:
        clear = store.unseal(path / manifest["generation"] / part["name"], part)
        values = pq.read_table(pa.BufferReader(clear), columns=[column]).column(column)
        for entry in pc.value_counts(values.filter(pc.is_in(values, value_set=pa.array(list(ids))))).to_pylist():
            found[entry["values"]] += entry["counts"]
    return found


def _cut(clear: bytes, rows: int, ids: Collection[str]) -> tuple[bytes, int] | None:
    table = pq.read_table(pa.BufferReader(clear))
    column = next((name for name in _ID_COLUMNS if name in table.column_names), None)
    if column is None:
        return clear, rows
    kept = table.filter(pc.invert(pc.is_in(table.column(column), value_set=pa.array(list(ids)))))
    if not len(kept):
        return None
    content = io.BytesIO()
    pq.write_table(kept, content, compression="zstd")
    return content.getvalue(), len(kept)


def _without(summary: Summary, ids: Collection[str]) -> Summary:
    """A summary without the entries of the quarantine that name one of the cases."""
    if "quarantine" not in summary:
        return summary
    return {**summary, "quarantine": [entry for entry in summary["quarantine"] if entry.get("primero_id") not in ids]}


def _rewrite(store: PartitionStore, path: UPath, change: Change, summarize: Callable[[Summary], Summary]) -> None:
    """Store a partition as a new generation; raises TransientError where a run replaced it meanwhile."""
    manifest = read_manifest(path)
    folder = path / new_generation()
    parts: list[dict[str, Any]] = []
    try:
        for part in manifest["parts"]:
            changed = change(store.unseal(path / manifest["generation"] / part["name"], part), part["rows"])
            if changed is None:
                continue
            sealed = store.seal(changed[0])
            write_whole(folder / part["name"], sealed)
            parts.append({"name": part["name"], "rows": changed[1], "sha256": hashlib.sha256(sealed).hexdigest()})
        _require_generation(path, manifest["generation"])
    except BaseException:
        remove(folder)
        raise
    renewed = {
        **manifest,
        "generation": folder.name,
        "parts": parts,
        "rows": sum(part["rows"] for part in parts),
        "summary": store.seal_summary(summarize(store.summary_of(manifest))),
    }
    write_whole(path / MANIFEST, orjson.dumps(renewed, option=orjson.OPT_INDENT_2))
    remove(path / manifest["generation"])


def _require_generation(path: UPath, generation: str) -> None:
    if read_manifest(path)["generation"] != generation:
        raise TransientError("a run stored a partition while it was being rewritten; try again when no run is at work")
