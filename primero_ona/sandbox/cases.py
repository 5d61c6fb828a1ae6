"""Synthetic cases by seed: the same arguments give the same cases, on every machine."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from primero_ona.quarters import Quarter
from primero_ona.sandbox import births, services
from primero_ona.sandbox.columns import (
    ABSENT,
    NO_STAMP,
    Canaries,
    Coded,
    Codes,
    Column,
    DisplayIds,
    Moments,
    Stamps,
    Uuids,
    as_uuids,
)
from primero_ona.sandbox.shapes import REINTEGRATION, Pool, pools
from primero_ona.sandbox.store import CaseStore

#: Cases unless asked otherwise: a demo that loads in seconds, and still shows every odd shape.
DEFAULT_CASES = 3_000
#: The quarters that the cases lie in unless asked otherwise: two years, the open quarter included.
DEFAULT_QUARTERS = 8
#: Share of the cases that were imported in blocks of one creation time each; the biggest block has half of them.
_IMPORTED = 0.04
#: The biggest block unless asked otherwise. Above 1,000, a page, it makes a walk fall back to paging inside one instant;
#: a test that wants that says so, a demo need not be slowed down by it.
_BLOCK = 400
DAY = services.DAY
_OFFSET = 7 * 3_600_000
_PERSONAL = ("name", "address_current", "telephone_current", "name_caregiver", "telephone_caregiver", "notes_section")


@dataclass(frozen=True)
class Wish:
    """What cases are wanted. `now` is aware, default the clock; `odd` False leaves all odd shapes out.

    The cases lie in the last `quarters` up to now, or all in `quarter`; `import_block` cases share one `created_at`.
    `shared_ids`: services have the ids of their types, as OSCaR's have.
    """

    cases: int = DEFAULT_CASES
    seed: int = 0
    now: datetime | None = None
    quarters: int = DEFAULT_QUARTERS
    quarter: Quarter | None = None
    services: float = 3.0
    import_block: int | None = None
    odd: bool = True
    shared_ids: bool = False

    def window(self) -> tuple[int, int]:
        """First millisecond of `last_updated_at`, and the first one after the last."""
        now = self.now or datetime.now(UTC)
        last = self.quarter or Quarter.of(now)
        first = last
        for _ in range(self.quarters - 1 if self.quarter is None else 0):
            first = first.previous()
        end = min(now, last.end)
        return _milliseconds(first.start), _milliseconds(end if end > last.start else last.end)

    def borders(self) -> list[int]:
        """The milliseconds at which quarters begin inside the window."""
        start, end = self.window()
        quarter, found = Quarter.of(datetime.fromtimestamp(start / 1000, UTC)), []
        while _milliseconds(quarter.start) < end:
            found.append(_milliseconds(quarter.start))
            quarter = quarter.next()
        return found


def generate(wish: Wish) -> CaseStore:
    """The cases that are wished for."""
    rng = np.random.Generator(np.random.PCG64(wish.seed))
    ids = as_uuids(np.frombuffer(rng.bytes(16 * wish.cases), dtype=np.uint8).reshape(-1, 16).copy())
    created, updated = _times(rng, wish)
    drawn = pools(rng)
    codes = {name: pool.draw(rng, wish.cases, odd=wish.odd) for name, pool in drawn.items()}
    oscar = _known_to_oscar(rng, drawn, codes)
    columns: dict[str, Column] = {"id": Uuids("id", ids)}
    columns |= {name: Coded(name, pool.values, codes[name]) for name, pool in drawn.items()}
    columns["enabled"] = Coded("enabled", drawn["record_state"].values, codes["record_state"])
    columns |= _dates(rng, drawn, codes, created, updated, odd=wish.odd)
    section = services.draw(rng, created, updated, wish.services, odd=wish.odd, oscar=oscar, shared_ids=wish.shared_ids)
    columns["services_section"] = services.Services(section)
    columns["date_of_birth"] = births.draw(
        np.random.Generator(np.random.PCG64([wish.seed, 1])),  # its own, so that all else is drawn as without it
        ages=drawn["age"].values,
        codes=codes["age"],
        created=(created + _OFFSET) // DAY,
        saved=(updated + _OFFSET) // DAY,
        unknown=oscar & (codes["age"] == drawn["age"].place(0)),
        odd=wish.odd,
    )
    if wish.odd:
        created[rng.permutation(wish.cases)[: 1 + wish.cases // 1_500]] = NO_STAMP
    columns |= _identities(rng, ids, odd=wish.odd) | _personal(wish.cases)
    columns |= {"created_at": Moments("created_at", created), "last_updated_at": Moments("last_updated_at", updated)}
    return CaseStore(columns, ids, created, updated)


def _times(rng: np.random.Generator, wish: Wish) -> tuple[Stamps, Stamps]:
    start, end = wish.window()
    updated = np.sort(rng.integers(start, end, size=wish.cases))
    created = updated - (rng.exponential(200, size=wish.cases) * DAY).astype(np.int64)
    never_edited = rng.random(wish.cases) < 0.1
    created[never_edited] = updated[never_edited]
    if wish.odd:
        _at_borders(rng, wish, created, updated)
        _import(rng, wish, created, start)
    return np.maximum(created, start - 1_500 * DAY), updated


def _at_borders(rng: np.random.Generator, wish: Wish, created: Stamps, updated: Stamps) -> None:
    """Move a few last updates to the last and first milliseconds of each quarter."""
    start, end = wish.window()
    instants = [border + step for border in wish.borders() for step in (-1_000, -1, 0, 999, 1_000)]
    wanted = np.array([instant for instant in instants if start <= instant < end] + [end - 1], dtype=np.int64)
    if len(wanted) * 4 > wish.cases:
        return
    chosen = rng.permutation(wish.cases)[: len(wanted)]
    updated[chosen] = wanted
    created[chosen] = np.minimum(created[chosen], wanted)


def _import(rng: np.random.Generator, wish: Wish, created: Stamps, start: int) -> None:
    """Give blocks of cases one creation time, as an import does, and one block a single second."""
    biggest = wish.import_block if wish.import_block is not None else min(_BLOCK, int(wish.cases * _IMPORTED / 2))
    sizes = [biggest, biggest // 2, biggest // 4, biggest // 4]
    chosen = rng.permutation(wish.cases)
    for number, size in enumerate(sizes):
        block, chosen = chosen[:size], chosen[size:]
        instant = start - int(rng.integers(1, 900)) * DAY + int(rng.integers(DAY))
        last = number == len(sizes) - 1
        created[block] = instant // 1_000 * 1_000 + rng.integers(1_000, size=len(block)) if last else instant


def _known_to_oscar(
    rng: np.random.Generator,
    drawn: dict[str, Pool],
    codes: dict[str, Codes],
) -> npt.NDArray[np.bool_]:
    """Cases that OSCaR wrote: type and consent were never asked, age 0 stands for unknown. Changes `codes`."""
    count = len(codes["sex"])
    numbered = codes["oscar_number"] >= 2
    theirs: npt.NDArray[np.bool_] = numbered & (rng.random(count) < 0.7)
    for name, value, share in (
        ("type_of_case", ABSENT, 0.9),
        ("consent_reporting", ABSENT, 0.9),
        ("age", 0, 0.15),
        ("sex", "other", 0.05),
    ):
        codes[name][theirs & (rng.random(count) < share)] = drawn[name].place(value)
    return theirs


def _dates(
    rng: np.random.Generator,
    drawn: dict[str, Pool],
    codes: dict[str, Codes],
    created: Stamps,
    updated: Stamps,
    *,
    odd: bool,
) -> dict[str, Column]:
    """The calendar dates of a case, in Phnom Penh, each where its other fields call for it."""
    count = len(created)
    born, saved = (created + _OFFSET) // DAY, (updated + _OFFSET) // DAY
    between = born + (rng.random(count) * (saved - born)).astype(np.int64)
    placed = codes["type_of_placement"] < drawn["type_of_placement"].place(None)
    returned = (codes["type_of_case"] == drawn["type_of_case"].place(REINTEGRATION)) & (rng.random(count) < 0.5)
    closed = codes["status"] == drawn["status"].place("closed")
    return {
        "registration_date": _days(
            rng, "registration_date", born - rng.integers(0, 5, size=count), np.ones(count, bool), odd=odd
        ),
        "care_date": _days(rng, "care_date", between, placed, odd=odd),
        "date_of_reintegration": _days(
            rng, "date_of_reintegration", np.minimum(between + 20, saved), returned, odd=odd
        ),
        "date_closure": _days(rng, "date_closure", saved - rng.integers(0, 3, size=count), closed, odd=odd),
    }


def _days(
    rng: np.random.Generator, name: str, days: npt.NDArray[np.int64], given: npt.NDArray[np.bool_], *, odd: bool
) -> Column:
    every = np.arange(days.min(), days.max() + 1) if len(days) else days
    first = int(every[0]) if len(every) else 0
    values: list[Any] = np.datetime_as_string(every.astype("datetime64[D]")).tolist()
    plain = len(values)
    values += [ABSENT, None, "", "31/03/2024", "2024-03-31T20:00:00.000Z", "2024-02-30", 20_240_331]
    codes = np.where(given, days - first, plain + rng.integers(2, size=len(days)))
    if odd:
        strange = rng.random(len(days)) < 0.008
        codes[strange] = plain + rng.integers(7, size=int(strange.sum()))
    return Coded(name, values, codes.astype(np.uint16))


def _identities(rng: np.random.Generator, ids: npt.NDArray[np.uint8], *, odd: bool) -> dict[str, Column]:
    """The identifiers, a few display ids shared by two children, missing or blank."""
    count = len(ids)
    source, strange = np.arange(count), {}
    if odd and count >= 40:
        few = max(3, count // 3_000)
        chosen = rng.permutation(count)[: 2 * few + 4].tolist()
        strange = {chosen.pop(): value for value in (None, "", "   ", ABSENT)}
        source[chosen[:few]] = chosen[few:]
    columns: dict[str, Column] = {
        "case_id_display": DisplayIds("case_id_display", ids, source, strange),
        "short_id": DisplayIds("short_id", ids, np.arange(count), {}),
    }
    return columns | {name: Uuids(name, ids) for name in ("case_id", "unique_identifier")}


def _personal(count: int) -> dict[str, Column]:
    columns: dict[str, Column] = {name: Canaries(name, count) for name in _PERSONAL}
    always = np.zeros(count, dtype=np.uint8)
    return columns | {
        "consent_signature": Coded("consent_signature", [None], always),
    }


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
