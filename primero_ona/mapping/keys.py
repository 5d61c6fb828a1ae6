"""Keys: finding two children under one `case_id`, or one `unique_id` under two cases, among millions of rows.

Nothing may be merged, and memory must not grow with the country. So 64-bit hashes of all keys tell the few rows that have
to be looked at exactly: those whose hash occurs more than once.
What belongs here: who keeps a contested key. Keys are read as the mapping reads them, by the same functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
Rows = np.ndarray[Any, np.dtype[np.unsignedinteger[Any]]]

#: The field by which the older of two cases is told.
CREATED = "created_at"


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


@dataclass(frozen=True)
class Key:
    """A kind of key: the `fields` that tell who wants which, and the `claims` of a raw frame that has them."""

    fields: tuple[str, ...]
    claims: Callable[[pd.DataFrame], Claims]


def case_key() -> Key:
    """The `case_id` of cases."""

    def claims(raw: pd.DataFrame) -> Claims:
        table = to_arrow(raw, fields)
        keys = read_keys(column(table, "case_id_display"))
        rows = pa.array(np.arange(len(keys)))
        return Claims(keys, column(table, "id"), column(table, "created_at"), rows).where(pc.is_valid(keys))

    fields = ("id", "case_id_display", CREATED)
    return Key(fields, claims)


def service_key(excluded: frozenset[str] = frozenset()) -> Key:
    """The `unique_id` of services; those of quarantined cases (`excluded`, or without a key) claim nothing."""

    def claims(raw: pd.DataFrame) -> Claims:
        elements = Elements.of(raw)
        created = column(to_arrow(raw, [CREATED]), CREATED).take(elements.rows)
        claiming = pc.and_not(pc.is_valid(elements.keys), pa.array(elements.of_quarantined(excluded)))
        return Claims(elements.keys, elements.owners, created, elements.rows).where(claiming)

    return Key((*SERVICE_KEY_FIELDS, CREATED), claims)


def suspects(cases: Frames, key: Key) -> list[Rows]:
    """For each raw frame the rows that want a key which others may want too: its hash occurs more than once.

    Nobody else can clash, so `find_clashes` need only be told of these.
    """
    seen = [_Seen.of(key.claims(raw)) for raw in cases.read(key.fields)]
    repeated = _repeated([each.hashes for each in seen])
    return [each.rows_of(repeated) for each in seen]


def find_clashes(raw: pd.DataFrame, key: Key, holders: Holders) -> dict[tuple[str, str], str]:
    """(Primero id of the loser, key) -> Primero id of the winner, for every key that two cases of a raw frame want.

    The case that ONA holds keeps the key; else the one created first, where a missing creation time counts as last; else
    the smaller id.
    """
    wanted: dict[str, dict[str, tuple[bool, Any]]] = {}
    keys, owners, times, _ = (array.to_pylist() for array in key.claims(raw))
    for text, owner, created in zip(keys, owners, times, strict=True):
        wanted.setdefault(text, {})[owner] = (created is None, created)
    contested = {text: owners for text, owners in wanted.items() if len(owners) > 1}
    held = holders(frozenset(contested)) if contested else {}
    losers = {}
    for text, rivals in contested.items():
        winner = held.get(text) or min(rivals, key=lambda owner: (rivals[owner], owner))
        losers.update({(owner, text): winner for owner in rivals if owner != winner})
    return losers


class _Seen(NamedTuple):
    """What is kept of the claims of a frame: 10 bytes of each, while a frame has no more rows than 16 bits can count."""

    hashes: Hashes
    rows: Rows

    @classmethod
    def of(cls, claims: Claims) -> _Seen:
        rows = claims.rows.to_numpy()
        return cls(claims.hashes(), rows.astype(np.min_scalar_type(rows.max(initial=0))))

    def rows_of(self, repeated: Hashes) -> Rows:
        """The rows with a claim whose hash is repeated, each once."""
        return np.unique(self.rows[np.isin(self.hashes, repeated)])


def _repeated(batches: Sequence[Hashes]) -> Hashes:
    """The hashes that occur more than once, sorted."""
    every = np.concatenate([np.empty(0, np.uint64), *batches])
    every.sort()
    return np.unique(every[1:][every[1:] == every[:-1]])
