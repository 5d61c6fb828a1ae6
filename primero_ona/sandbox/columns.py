"""How the sandbox keeps one field of very many cases: a few bytes a case, and JSON fragments ready to be joined.

A column knows its distinct values, for filters and order, and the fragments of the rows asked for, for answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import orjson

Rows = npt.NDArray[np.int64]
Codes = npt.NDArray[np.integer[Any]]
Stamps = npt.NDArray[np.int64]

#: What marks that something personal leaked: it is part of every name, address, telephone number and note here.
CANARY: Final = "CANARY"
#: A few children of the sandbox were born on this day, which no living child was: the canary among the dates.
CANARY_BIRTH: Final = "1907-07-07"
#: A point in time that is null, among milliseconds since 1970.
NO_STAMP: Final = int(np.iinfo(np.int64).min)


class Absent:
    """The value of a key that a record does not have; Primero tells it from null."""

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = Absent()


class Column(Protocol):
    """One field of all cases."""

    def fragments(self, rows: Rows) -> list[bytes]:
        """For each row `,"field":value` in JSON, empty where the key is absent."""

    def distinct(self) -> tuple[Sequence[Any], Codes]:
        """The values that occur, and for each row the position of its own among them."""


def fragment(name: str, value: Any) -> bytes:  # noqa: ANN401
    """A key and its value, as they stand inside an object; empty for an absent one."""
    return b"" if value is ABSENT else b',"%s":%s' % (name.encode(), orjson.dumps(value))


class Coded:
    """A field with few distinct values: a position per row, each value in JSON once."""

    def __init__(self, name: str, values: Sequence[Any], codes: Codes) -> None:
        self._values = values
        self._codes = codes
        self._fragments = np.array([fragment(name, value) for value in values] + [b""], dtype=object)

    def fragments(self, rows: Rows) -> list[bytes]:
        """See Column."""
        found: list[bytes] = self._fragments[self._codes[rows]].tolist()
        return found

    def distinct(self) -> tuple[Sequence[Any], Codes]:
        """See Column."""
        return self._values, self._codes


class Texts:
    """A field whose text is another one in every row: a function gives the texts of the rows asked for, null for None."""

    def __init__(self, name: str, count: int) -> None:
        self.name = name
        self.count = count

    def texts(self, rows: Rows) -> list[Any]:
        """The value of each row."""
        raise NotImplementedError

    def fragments(self, rows: Rows) -> list[bytes]:
        """See Column."""
        return [fragment(self.name, value) for value in self.texts(rows)]

    def distinct(self) -> tuple[Sequence[Any], Codes]:
        """See Column."""
        every = np.arange(self.count)
        return self.texts(every), every


class Uuids(Texts):
    """Identifiers of 16 random bytes each."""

    def __init__(self, name: str, raw: npt.NDArray[np.uint8]) -> None:
        super().__init__(name, len(raw))
        self._raw = raw

    def texts(self, rows: Rows) -> list[str]:
        """See Texts."""
        return uuid_texts(self._raw[rows])


class DisplayIds(Texts):
    """The last seven characters of an identifier, `source` says whose: nearly always the case's own; a few are odd."""

    def __init__(self, name: str, raw: npt.NDArray[np.uint8], source: Rows, odd: dict[int, Any]) -> None:
        super().__init__(name, len(raw))
        self._raw = raw
        self._source = source
        self._odd = odd

    def texts(self, rows: Rows) -> list[Any]:
        """See Texts."""
        tails = (text[-7:] for text in uuid_texts(self._raw[self._source[rows]]))
        return [self._odd.get(row, tail) for row, tail in zip(rows.tolist(), tails, strict=True)]


class Moments(Texts):
    """Points in time, in milliseconds since 1970, written as Primero writes them."""

    def __init__(self, name: str, stamps: Stamps) -> None:
        super().__init__(name, len(stamps))
        self._stamps = stamps

    def texts(self, rows: Rows) -> list[str | None]:
        """See Texts."""
        return moment_texts(self._stamps[rows])


class Canaries(Texts):
    """A personal field: an obviously synthetic text that names its field and row."""

    def texts(self, rows: Rows) -> list[str]:
        """See Texts."""
        return [f"{CANARY}-{self.name}-{row}" for row in rows.tolist()]


def uuid_texts(raw: npt.NDArray[np.uint8]) -> list[str]:
    """Rows of 16 bytes as UUIDs."""
    digits = np.ascontiguousarray(raw).tobytes().hex()
    parts = (digits[start : start + 32] for start in range(0, len(digits), 32))
    return [f"{part[:8]}-{part[8:12]}-{part[12:16]}-{part[16:20]}-{part[20:]}" for part in parts]


def as_uuids(raw: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Random bytes made into UUIDs of version 4."""
    raw[:, 6] = raw[:, 6] & 0x0F | 0x40
    raw[:, 8] = raw[:, 8] & 0x3F | 0x80
    return raw


def moment_texts(stamps: Stamps) -> list[str | None]:
    """Milliseconds since 1970 as `2024-01-15T02:11:09.514Z`; None for NO_STAMP (which numpy reads as no time, too)."""
    texts = np.datetime_as_string(stamps.astype("datetime64[ms]"), unit="ms")
    return [None if text == "NaT" else text + "Z" for text in texts.tolist()]
