"""The sandbox's cases: columns that were generated, and the single cases that were edited since. Safe for several threads."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from primero_ona.sandbox.columns import ABSENT, NO_STAMP, Column, Rows, Stamps, as_uuids, moment_texts, uuid_texts
from primero_ona.texts import read_json

Mask = npt.NDArray[np.bool_]


#: Rows decoded at once while reading everything: large enough to be quick, small enough not to be felt.
_CHUNK = 2_000


class CaseStore:
    """All cases of the sandbox. A row is a case's number, which it keeps for ever.

    `ids` are 16 bytes a case, `created` and `updated` milliseconds since 1970 (`created` may be NO_STAMP).
    """

    def __init__(
        self,
        columns: Mapping[str, Column],
        ids: npt.NDArray[np.uint8],
        created: Stamps,
        updated: Stamps,
    ) -> None:
        self.lock = threading.RLock()
        self.columns = columns
        self.ids = ids
        self.created = created
        self.updated = updated
        self.alive: Mask = np.ones(len(ids), dtype=bool)
        self._generated = len(ids)
        self._edited: dict[int, dict[str, Any]] = {}
        self._sorted: dict[tuple[str, bool], tuple[Rows, Stamps]] = {}
        self._by_id: tuple[Rows, Stamps] | None = None

    def __len__(self) -> int:
        return int(self.alive.sum())

    def render(self, rows: Rows, fields: Sequence[str]) -> list[bytes]:
        """The rows as JSON objects with these fields; a field that is nowhere known is left out."""
        untouched = np.array([row for row in rows.tolist() if row not in self._edited], dtype=np.int64)
        parts = [self.columns[name].fragments(untouched) for name in fields if name in self.columns]
        texts = (b"{" + text[1:] + b"}" for text in map(b"".join, zip(*parts, strict=True)))
        return [
            _json({name: record[name] for name in fields if name in record})
            if (record := self._edited.get(row)) is not None
            else next(texts)
            for row in rows.tolist()
        ]

    def records(self, *fields: str) -> Iterator[dict[str, Any]]:
        """Every case with these fields, or with all, the personal ones too: the truth that a test compares with."""
        rows = np.flatnonzero(self.alive)
        for start in range(0, len(rows), _CHUNK):
            texts = self.render(rows[start : start + _CHUNK], fields or tuple(self.columns))
            yield from _read(b"[" + b",".join(texts) + b"]")

    def record(self, row: int) -> dict[str, Any]:
        """One case with all its fields."""
        found: dict[str, Any] = _read(self.render(np.array([row]), tuple(self.columns))[0])
        return found

    def row_of(self, case: str) -> int | None:
        """The row of the case with this id; None where there is none (any more). Raises ValueError for no UUID."""
        raw = np.frombuffer(uuid.UUID(case).bytes, dtype=np.uint8)
        if self._by_id is None:
            keys = self.id_keys()
            order = np.argsort(keys, kind="stable")
            self._by_id = (order, keys[order])
        order, keys = self._by_id
        key = int.from_bytes(raw[:8].tobytes(), "big") - 2**63
        at = int(np.searchsorted(keys, key))
        while at < len(keys) and keys[at] == key:
            row = int(order[at])
            if (self.ids[row] == raw).all():
                return row if self.alive[row] else None
            at += 1
        return None

    def id_keys(self) -> Stamps:
        """Numbers that sort as the ids do: their first eight bytes, which 60 random bits keep apart."""
        return (np.ascontiguousarray(self.ids[:, :8]).view(">u8")[:, 0].astype(np.uint64) ^ np.uint64(1 << 63)).view(
            np.int64
        )

    def update(self, row: int, changes: Mapping[str, Any], now: datetime) -> None:
        """Change fields of a case as a save does: `last_updated_at` moves to now, unless it is among the changes.

        The value ABSENT takes a key away. `record_state` and `enabled` move together.
        """
        with self.lock:
            stamp = {"last_updated_at": moment_texts(np.array([_milliseconds(now)]))[0]}
            record = self.record(row) | stamp | {name: _plain(value) for name, value in changes.items()}
            if "record_state" in changes:
                record["enabled"] = changes["record_state"]
            self._keep(row, {name: value for name, value in record.items() if value is not ABSENT})

    def delete(self, row: int) -> None:
        """Take a case away without a trace, as an operator's script does."""
        with self.lock:
            self.alive[row] = False

    def create(self, record: Mapping[str, Any], now: datetime) -> str:
        """Add a case and return its id; what is not given has the defaults of a case just registered."""
        with self.lock:
            raw = as_uuids(
                np.frombuffer(np.random.default_rng(len(self.ids)).bytes(16), dtype=np.uint8).copy()[None, :]
            )
            if "id" in record:
                raw = np.frombuffer(uuid.UUID(record["id"]).bytes, dtype=np.uint8)[None, :]
            self.ids = np.concatenate([self.ids, raw])
            self.created = np.append(self.created, NO_STAMP)
            self.updated = np.append(self.updated, NO_STAMP)
            self.alive = np.append(self.alive, True)
            fields = _fresh(uuid_texts(raw)[0], now) | {name: _plain(value) for name, value in record.items()}
            self._keep(len(self.ids) - 1, {name: value for name, value in fields.items() if value is not ABSENT})
            self._by_id = None
            return str(fields["id"])

    def _keep(self, row: int, record: dict[str, Any]) -> None:
        self._edited[row] = record
        self.created[row] = _milliseconds(record.get("created_at"))
        self.updated[row] = _milliseconds(record["last_updated_at"])
        self._sorted.clear()

    def mask(self, field: str, test: Callable[[Any], bool]) -> Mask:
        """Which rows have a value of the field that passes the test; an absent one is tested as ABSENT."""
        found = np.zeros(len(self.ids), dtype=bool)
        if field in self.columns:
            values, codes = self.columns[field].distinct()
            found[: self._generated] = np.fromiter(map(test, values), bool, len(values))[codes]
        else:
            found[: self._generated] = test(ABSENT)
        for row, record in self._edited.items():
            found[row] = test(record.get(field, ABSENT))
        return found

    def order(self, field: str, key: Callable[[Any], Any], *, descending: bool) -> tuple[Rows, Stamps]:
        """All rows in the order of a field, and the rising keys in that order; nulls last, first when descending.

        `key` makes of a value something that compares with its like, or None for null.
        """
        if (field, descending) not in self._sorted:
            keys = self._keys(field, key)
            keys = -np.maximum(keys, -np.iinfo(np.int64).max) if descending else keys
            rows = np.argsort(keys, kind="stable")
            self._sorted[field, descending] = rows, keys[rows]
        return self._sorted[field, descending]

    def _keys(self, field: str, key: Callable[[Any], Any]) -> Stamps:
        null = np.iinfo(np.int64).max
        if field in {"created_at", "last_updated_at"}:
            stamps = self.created if field == "created_at" else self.updated
            return np.where(stamps == NO_STAMP, null, stamps)
        if field in {"unique_identifier", "id"}:
            return self.id_keys()
        values, codes = (
            self.columns[field].distinct() if field in self.columns else ((ABSENT,), np.zeros(self._generated, int))
        )
        edited = {row: key(record.get(field)) for row, record in self._edited.items()}
        plain = [key(value) for value in values]
        ranks = {value: rank for rank, value in enumerate(sorted({*plain, *edited.values()} - {None}))}
        found = np.full(len(self.ids), null)
        found[: self._generated] = np.array([ranks.get(value, null) for value in plain])[codes]
        for row, value in edited.items():
            found[row] = ranks.get(value, null)
        return found


def _read(text: bytes) -> Any:  # noqa: ANN401
    """Decode JSON, half characters too."""
    try:
        return read_json(text)
    except ValueError:
        return json.loads(text)


def _json(record: dict[str, Any]) -> bytes:
    """A record as JSON; also one with a whole number beyond 64 bits, which Primero can hold and orjson cannot write."""
    try:
        return orjson.dumps(record)
    except TypeError:
        return json.dumps(record).encode()


def _fresh(case: str, now: datetime) -> dict[str, Any]:
    stamp = moment_texts(np.array([_milliseconds(now)]))[0]
    return {
        "id": case,
        "enabled": True,
        "last_updated_at": stamp,
        "created_at": stamp,
        "case_id": case,
        "unique_identifier": case,
        "short_id": case[-7:],
        "case_id_display": case[-7:],
        "registration_date": now.date().isoformat(),
        "module_id": "primeromodule-cp",
        "status": "open",
        "record_state": True,
        "protection_concerns": [],
        "consent_signature": None,
    }


def _plain(value: Any) -> Any:  # noqa: ANN401
    return moment_texts(np.array([_milliseconds(value)]))[0] if isinstance(value, datetime) else value


def _milliseconds(moment: datetime | str | None) -> int:
    if moment is None:
        return NO_STAMP
    moment = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    return (moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // _MILLISECOND


_MILLISECOND = datetime(1970, 1, 1, 0, 0, 0, 1_000, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)
