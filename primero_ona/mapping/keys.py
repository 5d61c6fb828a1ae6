"""Keys: finding two children under one `case_id`, or one `unique_id` under two cases, among millions of rows.

Nothing may be merged, and memory must not grow with the country. So hashes of all keys tell the few rows that have
to be looked at exactly: those whose hash occurs more than once.
What belongs here: who keeps a contested key. Keys are read as the mapping reads them, by the same functions.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from primero_ona.frames import Frames
from primero_ona.mapping.columns import column, read_keys, to_arrow
from primero_ona.mapping.membership import quarter_cases
from primero_ona.mapping.services import SERVICE_KEY_FIELDS, Elements
from primero_ona.mapping.version import MAPPING_VERSION

if TYPE_CHECKING:
    import pandas as pd

#: Told the contested keys, says which of them ONA holds already, and for which case: `{key: primero id}`.
Holders = Callable[[frozenset[str]], Mapping[str, str]]

Hashes = np.ndarray[Any, np.dtype[np.uint64]]
ShortHashes = np.ndarray[Any, np.dtype[np.uint32]]

#: The field by which the older of two cases is told.
CREATED = "created_at"

#: Under this name a summary of raw cases has what `SuspectSearch.told` gives.
SUSPECTS = "suspects"


class Claims(NamedTuple):
    """Who wants which key: key, Primero id of the case, when the case was created (may be null), and its row in the frame."""

    keys: pa.Array
    owners: pa.Array
    created: pa.Array
    rows: pa.Array

    def where(self, flagged: pa.Array) -> Claims:
        """The claims whose flag is set; one boolean for each claim."""
        return Claims(*(array.filter(flagged) for array in self))

    def hashes(self) -> ShortHashes:
        """32-bit hashes of the keys."""
        import pandas as pd  # noqa: PLC0415

        return pd.util.hash_array(self.keys.to_numpy(zero_copy_only=False), categorize=False).astype(np.uint32)


@dataclass(frozen=True)
class Key:
    """The key of a `table` of ONA: the `fields` that tell who wants which, and the `claims` of a raw frame that has them."""

    table: str
    fields: tuple[str, ...]
    claims: Callable[[pd.DataFrame], Claims]


def _case_claims(raw: pd.DataFrame) -> Claims:
    table = to_arrow(raw, CASE_KEY.fields)
    keys = read_keys(column(table, "case_id_display"))
    rows = pa.array(np.arange(len(keys)))
    return Claims(keys, column(table, "id"), column(table, CREATED), rows).where(pc.is_valid(keys))


#: The `case_id` of cases.
CASE_KEY = Key("cases", ("id", "case_id_display", CREATED), _case_claims)


def service_key(excluded: frozenset[str] = frozenset()) -> Key:
    """The `unique_id` of services; those of quarantined cases (`excluded`, or without a key) claim nothing."""

    def claims(raw: pd.DataFrame) -> Claims:
        elements = Elements.of(raw)
        created = column(to_arrow(raw, [CREATED]), CREATED).take(elements.rows)
        claiming = pc.and_not(pc.is_valid(elements.keys), pa.array(elements.of_quarantined(excluded)))
        return Claims(elements.keys, elements.owners, created, elements.rows).where(claiming)

    return Key("services", (*SERVICE_KEY_FIELDS, CREATED), claims)


class SuspectSearch:
    """Looks, while raw frames pass, for the cases that want a key whose hash occurs more than once.

    All cases that clash are among them, so `find_clashes` need only be told of these. Keeps 6 bytes of each claim, while a
    frame has no more rows than 16 bits can count, and 8 of each case. 32 bits of a hash are enough: of three million keys
    they suspect two thousand that do not clash.
    """

    def __init__(self, *keys: Key) -> None:
        self._keys = keys
        self._cases: list[Hashes] = []
        self._wanted: dict[str, list[_Wanted]] = {key.table: [] for key in keys}

    def add(self, raw: pd.DataFrame) -> None:
        """Look at one raw frame that has the fields of the keys."""
        self._cases.append(case_hashes(raw["id"]))
        for key in self._keys:
            self._wanted[key.table].append(_Wanted.of(key.claims(raw)))

    def found(self) -> dict[str, Hashes]:
        """By table the `case_hashes` of the suspects among all frames so far."""
        return {table: self._suspects(wanted) for table, wanted in self._wanted.items()}

    def told(self, pull: str) -> dict[str, Any]:
        """What is found, as JSON, for the summaries of what one pull stores; `pull` is a name that no other pull has."""
        by_table = {table: found.tolist() for table, found in self.found().items()}
        return {"pull": pull, "mapping_version": MAPPING_VERSION, "by_table": by_table}

    def _suspects(self, wanted: Sequence[_Wanted]) -> Hashes:
        repeated = _repeated([each.keys for each in wanted])
        suspects = [cases[each.rows_of(repeated)] for cases, each in zip(self._cases, wanted, strict=True)]
        found: Hashes = np.unique(np.concatenate([np.empty(0, np.uint64), *suspects]))
        return found


def case_hashes(ids: Sequence[str] | pd.Series[str]) -> Hashes:
    """64-bit hashes of the Primero ids of cases."""
    import pandas as pd  # noqa: PLC0415

    return pd.util.hash_array(np.asarray(ids, object), categorize=False)


def suspects_of(reintegration: Frames, under18: Frames, key: Key) -> Hashes:
    """The suspects of a quarter's raw cases, as the one pull that made both streams told them; else they are searched for.

    More suspects than there are do no harm, fewer would: they have to be told of all the cases, by keys as they are read now.
    """
    told = under18.summary.get(SUSPECTS)
    if told and told == reintegration.summary.get(SUSPECTS) and told["mapping_version"] == MAPPING_VERSION:
        return np.array(told["by_table"][key.table], np.uint64)
    search = SuspectSearch(key)
    for raw in quarter_cases(reintegration, under18).read(key.fields):
        search.add(raw)
    return search.found()[key.table]


def without_suspects(told: Mapping[str, Any], ids: Collection[str]) -> dict[str, Any]:
    """What a summary tells of suspects, without the cases of some Primero ids."""
    gone = set(case_hashes(list(ids)).tolist())
    kept = {table: [case for case in cases if case not in gone] for table, cases in told["by_table"].items()}
    return {**told, "by_table": kept}


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


class _Wanted(NamedTuple):
    """What is kept of the claims of a frame: of each 32 bits of the key's hash, and the row that wants it."""

    keys: ShortHashes
    rows: np.ndarray[Any, np.dtype[np.unsignedinteger[Any]]]

    @classmethod
    def of(cls, claims: Claims) -> _Wanted:
        rows = claims.rows.to_numpy()
        return cls(claims.hashes(), rows.astype(np.min_scalar_type(rows.max(initial=0))))

    def rows_of(self, repeated: ShortHashes) -> np.ndarray[Any, np.dtype[Any]]:
        """The rows that want a key whose hash is repeated."""
        return self.rows[np.isin(self.keys, repeated)]


def _repeated(batches: Sequence[ShortHashes]) -> ShortHashes:
    """The hashes that occur more than once, sorted."""
    every = np.concatenate([np.empty(0, np.uint32), *batches])
    every.sort()
    return np.unique(every[1:][every[1:] == every[:-1]])
