"""Places: from a location code of Primero to province and district.

Official Cambodian codes have two digits each for province, district, commune and village. Primero keeps them as numbers
written as text, so provinces 1 to 9 have lost their leading zero; codes go out without it as well. Names come from
ONA's `locations_lookup`, which holds one row for each district.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import pandas as pd

from primero_ona.mapping.values import Parsed, codes_of, decode, joined, scalar_text
from primero_ona.texts import location_digits


class Place(NamedTuple):
    """Where a location lies, as far as it is known: a location code, and names and codes of province and district."""

    location: str | None = None
    province: str | None = None
    province_code: str | None = None
    district: str | None = None
    district_code: str | None = None


@dataclass(frozen=True)
class Places:
    """The names of provinces and districts by code, codes without leading zeros."""

    provinces: Mapping[str, str | None] = field(repr=False)
    districts: Mapping[str, str | None] = field(repr=False)

    @classmethod
    def of(cls, frame: pd.DataFrame) -> Places:
        """From rows of `locations_lookup`: code, district, province, province_code; the first row of a code stands."""
        return cls(
            _names(frame["province_code"].to_list(), frame["province"].to_list()),
            _names(frame["code"].to_list(), frame["district"].to_list()),
        )

    def parse(self, value: Any) -> Parsed:  # noqa: ANN401
        """The Place of a location; a list, which Primero makes of a multi-select field, gives its places joined."""
        codes = codes_of(value)
        found = [self._find(code) for code in codes if code is not None]
        unknown = tuple(place.location for place, known in found if not known)
        together = Place(*map(joined, zip(*(place for place, _ in found), strict=True)))
        return Parsed(together, unknown + (None,) * codes.count(None))

    @cached_property
    def parse_text(self) -> Callable[[str | None], Parsed]:
        """`parse` for the JSON text of a location; remembers its answers, up to twice the 16,000 places of Cambodia."""
        return lru_cache(2**15)(lambda text: self.parse(decode(text)))

    def _find(self, code: str) -> tuple[Place, bool]:
        """The place of one code, and whether it is known as deep as the code goes."""
        province_code, district_code = split_location(code)
        province = province_code if province_code in self.provinces else None
        district = district_code if district_code in self.districts else None
        place = Place(code, self.provinces.get(province or ""), province, self.districts.get(district or ""), district)
        return place, province is not None and district == district_code


def split_location(code: str) -> tuple[str | None, str | None]:
    """Province and district code in a location code, both without leading zeros; null where it holds none."""
    digits = location_digits(code)
    if digits is None:
        return None, None
    return digits[:2].lstrip("0"), digits[:4].lstrip("0") if len(digits) >= 4 else None


def _names(codes: list[Any], names: list[Any]) -> dict[str, str | None]:
    known = [((_text(code) or "").lstrip("0"), _text(name)) for code, name in zip(codes, names, strict=True)]
    return {code: name for code, name in reversed(known) if code}


def _text(value: Any) -> str | None:  # noqa: ANN401
    return None if pd.isna(value) else scalar_text(value)
