"""Keys: finding two children under one `case_id`, or one `unique_id` under two cases, among millions of rows.

Nothing may be merged, and memory must not grow with the country. So the rows are read twice: once for 64-bit hashes of
the keys, and once more, exactly, for the few rows whose hash occurs more than once.
What belongs here: who keeps a contested key. Keys are read as the mapping reads them, by the same functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from primero_ona.frames import Frames
from primero_ona.mapping.columns import column, read_keys, to_arrow
from primero_ona.mapping.services import SERVICE_KEY_FIELDS, Elements

if TYPE_CHECKING:
    import pandas as pd

#: Told the contested keys, says which of them ONA holds already, and for which case: `{key: primero id}`.
Holders = Callable[[frozenset[str]], Mapping[str, str]]

Hashes = np.ndarray[Any, np.dtype[np.uint64]]


class Claims(NamedTuple):
    """Who wants which key: key, Primero id of the case, when the case was created (may be null), and its row in the frame."""

    keys: pa.Array
    owners: pa.Array
    created: pa.Array
    rows: pa.Array

    def where(self, flagged: pa.Array) -> Claims:
        """The claims whose flag is set; one boolean for each claim."""
        return Claims(*(array.filter(flagged) for array in self))

    def hashes(self) -> Hashes:
        """64-bit hashes of the keys."""
        import pandas as pd  # noqa: PLC0415

        return pd.util.hash_array(self.keys.to_numpy(zero_copy_only=False), categorize=False)


def case_clashes(cases: Frames, holders: Holders) -> dict[str, str]:
    """Cases that must not have their `case_id`: Primero id of the loser -> Primero id of the case that keeps it."""

    def claims(raw: pd.DataFrame) -> Claims:
        table = to_arrow(raw, fields)
        keys = read_keys(column(table, "case_id_display"))
        rows = pa.array(np.arange(len(keys)))
        return Claims(keys, column(table, "id"), column(table, "created_at"), rows).where(pc.is_valid(keys))

    fields = ("id", "case_id_display", "created_at")
    return {loser: winner for (loser, _), winner in find_clashes(cases, fields, claims, holders).items()}


def service_clashes(
    cases: Frames, holders: Holders, excluded: frozenset[str] = frozenset()
) -> dict[tuple[str, str], str]:
    """Services that must not have their `unique_id`: (Primero id of the case, unique_id) -> Primero id of the keeper.

    The services of quarantined cases (`excluded`, or without a key) claim nothing.
    """

    def claims(raw: pd.DataFrame) -> Claims:
        elements = Elements.of(raw)
        created = column(to_arrow(raw, ["created_at"]), "created_at").take(elements.rows)
        claiming = pc.and_not(pc.is_valid(elements.keys), pa.array(elements.of_quarantined(excluded)))
        return Claims(elements.keys, elements.owners, created, elements.rows).where(claiming)

    return find_clashes(cases, (*SERVICE_KEY_FIELDS, "created_at"), claims, holders)


def find_clashes(
    cases: Frames, fields: Sequence[str], claims: Callable[[pd.DataFrame], Claims], holders: Holders
) -> dict[tuple[str, str], str]:
    """(Primero id of the loser, key) -> Primero id of the winner, for every key that two cases want.

    `claims` tells of a raw frame with `fields` who wants what in it. The case that ONA holds keeps the key; else the one
    created first, where a missing creation time counts as last; else the smaller id.
    """
    seen = [_Seen.of(claims(raw)) for raw in cases.read(fields)]
    repeated = _repeated([each.hashes for each in seen])
    if not len(repeated):
        return {}
    suspects = [each.rows_of(repeated) for each in seen]
    del seen
    few = (raw.iloc[rows] for raw, rows in zip(cases.read(fields), suspects, strict=True))
    contested = _contested(few, claims, repeated)
    held = holders(frozenset(contested)) if contested else {}
    losers = {}
    for key, owners in contested.items():
        winner = held.get(key) or min(owners, key=lambda owner: (owners[owner], owner))
        losers.update({(owner, key): winner for owner in owners if owner != winner})
    return losers


class _Seen(NamedTuple):
    """What is kept of the claims of a frame: 10 bytes of each, while a frame has no more rows than 16 bits can count."""

    hashes: Hashes
    rows: np.ndarray[Any, np.dtype[np.unsignedinteger[Any]]]

    @classmethod
    def of(cls, claims: Claims) -> _Seen:
        rows = claims.rows.to_numpy()
        return cls(claims.hashes(), rows.astype(np.min_scalar_type(rows.max(initial=0))))

    def rows_of(self, repeated: Hashes) -> np.ndarray[Any, np.dtype[Any]]:
        """The rows with a claim whose hash is repeated, each once."""
        return np.unique(self.rows[np.isin(self.hashes, repeated)])


def _repeated(batches: Sequence[Hashes]) -> Hashes:
    """The hashes that occur more than once, sorted."""
    every = np.concatenate([np.empty(0, np.uint64), *batches])
    every.sort()
    return np.unique(every[1:][every[1:] == every[:-1]])


def _contested(
    frames: Iterable[pd.DataFrame], claims: Callable[[pd.DataFrame], Claims], repeated: Hashes
) -> dict[str, dict[str, tuple[bool, Any]]]:
    """Of the keys with a repeated hash, those that more than one case wants: `{key: {owner: creation time}}`.

    The time stands behind a flag that is true where it is missing, so that missing ones come last in order.
    """
    wanted: dict[str, dict[str, tuple[bool, Any]]] = {}
    for raw in frames:
        every = claims(raw)
        keys, owners, times, _ = (
            array.to_pylist() for array in every.where(pa.array(np.isin(every.hashes(), repeated)))
        )
        for key, owner, created in zip(keys, owners, times, strict=True):
            wanted.setdefault(key, {})[owner] = (created is None, created)
    return {key: owners for key, owners in wanted.items() if len(owners) > 1}
