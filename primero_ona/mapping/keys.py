"""Keys: finding two children under one `case_id`, or one `unique_id` under two cases, among millions of rows.

Nothing may be merged, and memory must not grow with the country. So the rows are read twice: once for 64-bit hashes of
the keys (8 bytes a row), and once more, exactly, for the few rows whose hash occurs more than once.
What belongs here: who keeps a contested key. Keys are read as the mapping reads them, by the same functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from primero_ona.frames import Frames
from primero_ona.mapping.columns import column, read_keys, to_arrow
from primero_ona.mapping.services import SERVICE_CASE_FIELDS, Elements

#: Told the contested keys, says which of them ONA holds already, and for which case: `{key: primero id}`.
Holders = Callable[[frozenset[str]], Mapping[str, str]]

Hashes = np.ndarray[Any, np.dtype[np.uint64]]


class Claims(NamedTuple):
    """Who wants which key, row by row: key, Primero id of the case, and when the case was created (may be null)."""

    keys: pa.Array
    owners: pa.Array
    created: pa.Array


def case_clashes(cases: Frames, holders: Holders) -> dict[str, str]:
    """Cases that must not have their `case_id`: Primero id of the loser -> Primero id of the case that keeps it."""

    def claims() -> Iterator[Claims]:
        for raw in cases.read(("id", "case_id_display", "created_at")):
            table = to_arrow(raw[["id", "case_id_display", "created_at"]])
            keys = read_keys(column(table, "case_id_display"))
            yield _claims(keys, column(table, "id"), column(table, "created_at"), pc.is_valid(keys))

    return {loser: winner for (loser, _), winner in find_clashes(claims, holders).items()}


def service_clashes(
    cases: Frames, holders: Holders, excluded: frozenset[str] = frozenset()
) -> dict[tuple[str, str], str]:
    """Services that must not have their `unique_id`: (Primero id of the case, unique_id) -> Primero id of the keeper.

    The services of quarantined cases (`excluded`, or without a key) claim nothing.
    """

    def claims() -> Iterator[Claims]:
        for raw in cases.read((*SERVICE_CASE_FIELDS, "created_at")):
            elements = Elements.of(raw)
            created = column(to_arrow(raw[["created_at"]]), "created_at").take(elements.rows)
            claiming = pc.and_not(pc.is_valid(elements.keys), pa.array(elements.of_quarantined(excluded)))
            yield _claims(elements.keys, elements.owners, created, claiming)

    return find_clashes(claims, holders)


def _claims(keys: pa.Array, owners: pa.Array, created: pa.Array, claiming: pa.Array) -> Claims:
    return Claims(keys.filter(claiming), owners.filter(claiming), created.filter(claiming))


def find_clashes(claims: Callable[[], Iterable[Claims]], holders: Holders) -> dict[tuple[str, str], str]:
    """(Primero id of the loser, key) -> Primero id of the winner, for every key that two cases want.

    `claims` is called up to twice and must yield the same rows. The case that ONA holds keeps the key; else the one
    created first, where a missing creation time counts as last; else the smaller id.
    """
    repeated = _repeated(_hashes(batch.keys) for batch in claims())
    if not len(repeated):
        return {}
    contested = _contested(claims(), repeated)
    held = holders(frozenset(contested)) if contested else {}
    losers = {}
    for key, owners in contested.items():
        winner = held.get(key) or min(owners, key=lambda owner: (owners[owner], owner))
        losers.update({(owner, key): winner for owner in owners if owner != winner})
    return losers


def _hashes(keys: pa.Array) -> Hashes:
    import pandas as pd  # noqa: PLC0415

    return pd.util.hash_array(keys.to_numpy(zero_copy_only=False), categorize=False)


def _repeated(batches: Iterable[Hashes]) -> Hashes:
    """The hashes that occur more than once, sorted."""
    every = np.concatenate([np.empty(0, np.uint64), *batches])
    every.sort()
    return np.unique(every[1:][every[1:] == every[:-1]])


def _contested(claims: Iterable[Claims], repeated: Hashes) -> dict[str, dict[str, tuple[bool, Any]]]:
    """Of the keys with a repeated hash, those that more than one case wants: `{key: {owner: creation time}}`.

    The time stands behind a flag that is true where it is missing, so that missing ones come last in order.
    """
    wanted: dict[str, dict[str, tuple[bool, Any]]] = {}
    for batch in claims:
        suspect = pa.array(np.isin(_hashes(batch.keys), repeated))
        columns = (array.filter(suspect).to_pylist() for array in batch)
        for key, owner, created in zip(*columns, strict=True):
            wanted.setdefault(key, {})[owner] = (created is None, created)
    return {key: owners for key, owners in wanted.items() if len(owners) > 1}
