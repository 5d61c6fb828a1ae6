"""Which values the coded fields of a synthetic case take, ordinary and odd, in the shapes that Primero really sends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from primero_ona.sandbox.columns import ABSENT, Codes
from primero_ona.sandbox.places import codes as place_codes
from primero_ona.sandbox.reference import field_options, option_ids

#: Share of the rows that get an odd value of a field: enough that a few thousand cases show every one of them, little
#: enough that the demo's numbers look like a country's.
ODD_SHARE = 0.03
REINTEGRATION = "children_undergoing_reintegration_55427"


@dataclass(frozen=True)
class Pool:
    """The values of one field: ordinary ones with their weights, and odd ones, equally rare."""

    ordinary: Sequence[Any]
    weights: Sequence[float]
    odd: Sequence[Any] = ()

    @property
    def values(self) -> list[Any]:
        """All values, the ordinary ones first."""
        return [*self.ordinary, *self.odd]

    def draw(self, rng: np.random.Generator, count: int, *, odd: bool) -> Codes:
        """A position in `values` for each of so many rows; each value occurs where there are rows enough."""
        weights = np.asarray(self.weights, dtype=float)
        found = rng.choice(len(self.ordinary), count, p=weights / weights.sum())
        if odd and self.odd:
            strange = rng.random(count) < ODD_SHARE
            found[strange] = len(self.ordinary) + rng.integers(len(self.odd), size=int(strange.sum()))
        every = len(self.values) if odd else len(self.ordinary)
        if every * 4 <= count:
            found[rng.permutation(count)[:every]] = np.arange(every)
        return found.astype(np.uint16)

    def place(self, value: Any) -> int:  # noqa: ANN401
        """The position of a value; by identity or equal type and value, since 0 and False are equal."""
        return next(
            at for at, own in enumerate(self.values) if own is value or (type(own), own) == (type(value), value)
        )


def pools(rng: np.random.Generator) -> dict[str, Pool]:
    """The pools of all fields that are drawn by themselves."""
    return {
        "type_of_case": _type_of_case(),
        "sex": Pool(
            ["male", "female", "other", None, ABSENT],
            [48, 47, 2, 1.5, 1.5],
            ["", "unknown", "Male ", ["female"], 1],
        ),
        "age": _age(),
        "disability_type": _disability(),
        "protection_concerns": _concerns(rng),
        "type_of_placement": _placement(),
        "consent_reporting": Pool(
            ["true", "false", True, False, None, ABSENT],
            [60, 12, 10, 4, 7, 7],
            ["yes", "", "not_asked", "True", 1],
        ),
        "oscar_number": Pool(
            [ABSENT, None, *(str(103_000 + 7 * number) for number in range(900))],
            [500, 140, *[0.4] * 900],
            ["", "  ", False, 0, 104_211, "OSC 77 102"],
        ),
        "location_current": _location(),
        "location_caregiver": _location(missing=0.3),
        "module_id": Pool(["primeromodule-cp", "primeromodule-gbv"], [97, 3]),
        "status": Pool(["open", "closed", "transferred", "duplicate", "identified"], [62, 30, 5, 2, 1], [None, ABSENT]),
        "record_state": Pool([True, False], [95, 5]),
        "owned_by": Pool([f"sandbox_worker_{number}" for number in range(1, 26)], [1] * 25),
        "estimated": Pool([True, False, ABSENT], [1, 2, 1]),
    }


def _type_of_case() -> Pool:
    plain = field_options("basic_identity", "type_of_case")
    others = [value for value in plain if value != REINTEGRATION]
    odd = [
        [REINTEGRATION],
        [others[0], REINTEGRATION],
        "other",
        "",
        "_",
        "children_in_community",
        44_024,
        {"id": others[0]},
    ]
    return Pool([REINTEGRATION, *others, None, ABSENT], [34, 25, 14, 12, 5, 10], odd)


def _age() -> Pool:
    minors = list(range(18))
    adults = [18, 19, 20, 22, 25]
    odd = ["7", "12.0", 12.0, 16.0, " 9 ", "17", "18", "", "unknown", -1, 131, 12.5, True, [11], "1e1"]
    return Pool([*minors, *adults, None, ABSENT], [*[4.5] * 18, 4, 2, 2, 1, 1, 4, 5], odd)


def _disability() -> Pool:
    known = option_ids("lookup-disability-type-with-no")
    odd = ["", known[:2], [], "albinism_71203", ["albinism_71203"], " both ", {"id": "both"}]
    return Pool([None, ABSENT, *known], [45, 40, *[15 / len(known)] * len(known)], odd)


def _concerns(rng: np.random.Generator) -> Pool:
    known = np.array(option_ids("lookup-protection-concerns"))
    several = [rng.choice(known, size, replace=False).tolist() for size in rng.integers(2, 6, size=400)]
    odd = [
        "refugee",
        "",
        "[]",
        ["statelessness"],
        ["refugee", "gbv_survivor"],
        [None, "caafag"],
        ["caafag", "caafag"],
        [" refugee "],
        [["caafag"]],
        [7],
        {"0": "caafag"},
        ["ក្មេងរត់ចោលផ្ទះ_40211"],
        ["x" * 120],
    ]
    singles = [[code] for code in known.tolist()]
    return Pool([[], None, ABSENT, *singles, *several], [12, 3, 5, *[1] * len(singles), *[0.1] * len(several)], odd)


def _placement() -> Pool:
    plain = list(field_options("care_arrangements", "type_of_placement"))
    odd = ["", "other", [plain[1]], [plain[0], plain[2]], [], "kinship_care", "99289"]
    return Pool([*plain, None, ABSENT], [22, 25, 12, 14, 3, 2, 10, 12], odd)


def _location(missing: float = 0.02) -> Pool:
    kinds = {"village": 70, "commune": 14, "district": 10, "province": 3}
    values: list[Any] = [None, ABSENT]
    weights = [missing * 100 / 2] * 2
    for kind, weight in kinds.items():
        found = place_codes(kind)
        values.extend(found)
        weights.extend([weight / len(found)] * len(found))
    odd = [
        10_060_802,
        6_011_101,
        12,
        "01020304",
        "06011101",
        " 1006 ",
        "0",
        "KHM",
        "NaN",
        "",
        "99",
        "1299",
        "123456789",
        "10060802.0",
    ]
    return Pool(values, weights, odd)
