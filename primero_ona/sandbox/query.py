"""What a filter selects: Primero's rules on its columns and JSON fields, both of its silent outcomes included.

A filter may be *dropped* (it selects every case), or fail in the database, which Primero answers with an empty list
(`SwallowedError`).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import numpy as np

from primero_ona.sandbox.casting import Range, cast
from primero_ona.sandbox.columns import ABSENT, NO_STAMP, Stamps
from primero_ona.sandbox.places import below
from primero_ona.sandbox.store import CaseStore, Mask

Version = tuple[int, ...]

#: Names that Primero keeps as one text: neither lists nor ranges.
IDENTIFIERS = frozenset(
    {
        "unique_identifier",
        "short_id",
        "case_id_display",
        "case_id",
        "oscar_number",
        "client_code",
        "registry_no",
        "family_number",
    },
)
_INTEGERS = frozenset({"age"})
_BOOLEANS = frozenset({"record_state", "consent_reporting"})
_TEXTS = frozenset({"status", "sex", "location_current", "module_id", "owned_by", "workflow", "risk_level"})
_TIMES = frozenset({"created_at", "registration_date", "date_closure"})
#: PostgreSQL reads these texts as booleans.
_TRUE = frozenset({"t", "true", "y", "yes", "on", "1"})
_FALSE = frozenset({"f", "false", "n", "no", "off", "0"})
_DAY = 86_400
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class SwallowedError(Exception):
    """The database refuses the filter: Primero answers 200 with `total: 0`, versions before 2.11.0.6 with 500."""


@dataclass(frozen=True)
class Engine:
    """The rules of one version, on one server. `offset` is the server's time zone, in hours from UTC."""

    store: CaseStore
    version: Version
    offset: float = 0

    @property
    def columns(self) -> bool:
        """Whether common fields have columns of their own, compared by their type (since 2.13)."""
        return self.version >= (2, 13)

    def select(self, filters: Mapping[str, Any]) -> Mask:
        """The rows that pass all filters. Raises SwallowedError."""
        found = self.store.alive.copy()
        for name, value in filters.items():
            if (mask := self._select(name, value)) is not None:
                found &= mask
        return found

    def _select(self, name: str, value: Any) -> Mask | None:  # noqa: ANN401
        if name == "or" and isinstance(value, dict):
            masks = [mask for key, part in value.items() if (mask := self._select(key, part)) is not None]
            return np.logical_or.reduce(masks) if masks else None
        if name == "not" and isinstance(value, dict):
            masks = [mask for key, part in value.items() if (mask := self._select(key, part)) is not None]
            return ~np.logical_or.reduce(masks) if masks else None
        if name in IDENTIFIERS:
            return self.store.mask(name, lambda own: own == value)
        if name.startswith("loc:"):
            codes = below(str(cast(value)))
            return self.store.mask(name[4:], lambda own: isinstance(own, str) and own in codes)
        return self._by_type(name, cast(value))

    def _by_type(self, name: str, value: Any) -> Mask | None:  # noqa: ANN401
        if isinstance(value, list) and name != "id":
            masks = [mask for part in value if (mask := self._by_type(name, part)) is not None]
            return np.logical_or.reduce(masks) if masks else None
        if isinstance(value, Range):
            return self._range(name, value)
        if value is None or isinstance(value, dict):
            raise SwallowedError
        return self._ids(value) if name == "id" else self._equal(name, value)

    def _ids(self, value: Any) -> Mask:  # noqa: ANN401
        found = np.zeros(len(self.store.ids), dtype=bool)
        for case in value if isinstance(value, list) else [value]:
            try:
                row = self.store.row_of(str(uuid.UUID(case)))
            except (ValueError, AttributeError, TypeError):
                raise SwallowedError from None
            if row is not None:
                found[row] = True
        return found

    def _equal(self, name: str, value: Any) -> Mask:  # noqa: ANN401
        if isinstance(value, str) and '"' in value:
            raise SwallowedError
        if name in _BOOLEANS:
            wanted = self._boolean(value)
            return self.store.mask(name, lambda own: boolean_of(own) is wanted)
        if self.columns and name in _TIMES:
            return self._at(name, value)
        if isinstance(value, date):
            raise SwallowedError
        if self.columns and name in _INTEGERS:
            if isinstance(value, (bool, str)):
                raise SwallowedError
            return self.store.mask(name, lambda own: integer_of(own) == value)
        if self.columns and name in _TEXTS | {"protection_concerns"} and not isinstance(value, str):
            raise SwallowedError
        return self.store.mask(name, self._json_equal(value))

    def _boolean(self, value: Any) -> bool:  # noqa: ANN401
        if isinstance(value, str) and value.strip().lower() in _TRUE | _FALSE:
            return value.strip().lower() in _TRUE
        if isinstance(value, bool):
            return value
        raise SwallowedError

    def _json_equal(self, value: Any) -> Callable[[Any], bool]:  # noqa: ANN401
        fold = self.version < (2, 11)  # Solr ignored case
        if value is False:
            return lambda own: own in (None, "false") or own is False or own is ABSENT
        if value is True:
            return lambda own: own is True or own == "true"
        return lambda own: any(_same(part, value, fold=fold) for part in (own if isinstance(own, list) else [own]))

    def _at(self, name: str, value: Any) -> Mask:  # noqa: ANN401
        if not isinstance(value, date):
            raise SwallowedError
        return self._between(name, value, value)

    def _range(self, name: str, value: Range) -> Mask | None:
        if isinstance(value.lower, bool) or not isinstance(value.lower, (int, date)):
            return None
        if isinstance(value.lower, int):
            return self._numbers(name, value.lower, value.upper)
        if value.upper is not None and not isinstance(value.upper, date):
            raise SwallowedError
        if self.columns and name in _TIMES:
            return self._between(name, value.lower, value.upper)
        if self.columns and name in _INTEGERS | _BOOLEANS | _TEXTS:
            raise SwallowedError
        return self._by_seconds(name, value.lower, value.upper)

    def _numbers(self, name: str, lower: int, upper: Any) -> Mask:  # noqa: ANN401
        if self.columns and name in _TEXTS | _BOOLEANS | _TIMES:
            raise SwallowedError
        if upper is None and not self.columns:
            return self.store.mask(name, lambda own: (number := integer_of(own)) is not None and number >= lower)
        if upper is not None and (isinstance(upper, bool) or not isinstance(upper, int)):
            raise SwallowedError
        # `age=0..` compares with NULL since 2.13, and nothing is true of that
        top = -1 if upper is None else upper
        return self.store.mask(name, lambda own: (number := integer_of(own)) is not None and lower <= number <= top)

    def _between(self, name: str, lower: date, upper: date | None) -> Mask:
        """A column with times: to the microsecond, both ends in; a date means its first instant."""
        low, high = _microseconds(lower), None if upper is None else _microseconds(upper)
        if name == "created_at":
            stamps = self.store.created
            known: Mask = stamps != NO_STAMP
            micros = np.where(known, stamps, 0) * 1_000
            return known & _within(micros, low, high)

        def inside(own: Any) -> bool:  # noqa: ANN401
            """Whether a value reads as a time from the lower end to the upper one, both included."""
            found = moment_of(own)
            return found is not None and low <= found and (high is None or found <= high)

        return self.store.mask(name, inside)

    def _by_seconds(self, name: str, lower: date, upper: date | None) -> Mask:
        """A time in JSON: cut to the second, or to the day where the lower end is a date; offsets are ignored."""
        unit = 1 if isinstance(lower, datetime) else _DAY
        low = _microseconds(lower) // 1_000_000 // unit
        high = None if upper is None else _microseconds(upper) // 1_000_000 // unit
        if name in {"created_at", "last_updated_at"}:
            stamps = self.store.created if name == "created_at" else self.store.updated
            seconds = self._written_seconds(stamps) // unit
            known: Mask = stamps != NO_STAMP
            return known & _within(seconds, low, high)

        def inside(own: Any) -> bool:  # noqa: ANN401
            """Whether a value reads as a time from the lower end to the upper one, both included."""
            found = moment_of(own)
            return (
                found is not None
                and low <= found // 1_000_000 // unit
                and (high is None or found // 1_000_000 // unit <= high)
            )

        return self.store.mask(name, inside)

    def _written_seconds(self, stamps: Stamps) -> Stamps:
        """What the database's text of a stamp says in whole seconds: the server's own time, its offset forgotten."""
        moved = round(self.offset * 3_600) if self.version >= (2, 11) else 0
        return np.where(stamps == NO_STAMP, 0, stamps) // 1_000 + moved


def _within(numbers: Stamps, low: int, high: int | None) -> Mask:
    found: Mask = numbers >= low
    return found if high is None else found & (numbers <= high)


def _same(own: Any, value: Any, *, fold: bool) -> bool:  # noqa: ANN401
    if fold and isinstance(own, str) and isinstance(value, str):
        return own.casefold() == value.casefold()
    return type(own) is type(value) and bool(own == value)


def boolean_of(own: Any) -> bool | None:  # noqa: ANN401
    """A field's value as its boolean column has it; None for null."""
    if own is True or own == "true":
        return True
    return False if own is False or own == "false" else None


def integer_of(own: Any) -> int | None:  # noqa: ANN401
    """A field's value as its integer column has it; None for null."""
    if isinstance(own, bool) or not isinstance(own, (int, float, str)):
        return None
    try:
        number = float(own)
    except ValueError:
        return None
    return int(number) if number.is_integer() else None


def moment_of(own: Any) -> int | None:  # noqa: ANN401
    """A date or time in JSON as microseconds since 1970; None where it is neither."""
    try:
        return _microseconds(datetime.fromisoformat(own)) if isinstance(own, str) else None
    except ValueError:
        return None


def _microseconds(moment: date) -> int:
    if not isinstance(moment, datetime):
        moment = datetime.combine(moment, datetime.min.time(), UTC)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    distance = moment - _EPOCH
    return (distance.days * _DAY + distance.seconds) * 1_000_000 + distance.microseconds
