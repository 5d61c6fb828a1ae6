"""The services of the synthetic cases: a few bytes each, written out as `services_section` when they are asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from primero_ona.sandbox.columns import (
    ABSENT,
    CANARY,
    Codes,
    Rows,
    Stamps,
    Texts,
    as_uuids,
    fragment,
    moment_texts,
    uuid_texts,
)
from primero_ona.sandbox.reference import option_ids
from primero_ona.sandbox.shapes import Pool

DAY = 86_400_000
#: Midnight in Phnom Penh is 17:00 UTC of the day before.
_OFFSET = 7 * 3_600_000
#: What a section is when it is no list with services in it.
SECTIONS: tuple[Any, ...] = (None, ABSENT, [], "none")
#: How often a section is a list with services in it, and each of SECTIONS.
_SECTION_SHARES = (0.84, 0.04, 0.07, 0.0495, 0.0005)
#: Share of the services within 90 minutes of midnight in Phnom Penh, where UTC would give another day or quarter.
_NEAR_MIDNIGHT = 0.08
#: OSCaR sends as a service's identity that of its type, of which it has so many.
OSCAR_TYPES = 65
_IMPLEMENTED = "service_implemented_day_time"
#: How a time of delivery is written: with and without fraction, without zone, as a bare date; then what is no time.
_WRITTEN = ("{}Z", "{:.19}Z", "{:.19}", "{:.10}")
_NO_TIME = (None, ABSENT, "", "not implemented", "not_implemented", "last week")


def type_pool() -> Pool:
    """The values of `service_type`."""
    known = option_ids("lookup-service-type")
    return Pool([*known, "Other"], [*[6] * len(known), 3], [None, ABSENT, "", "food_parcels_83310", known[:2], [], 14])


def subtype_pool() -> Pool:
    """The values of `service_subtype`."""
    known = option_ids("lookup-service-subtype")
    return Pool(
        [ABSENT, None, *([code] for code in known), known[:2]], [5, 2, *[1] * (len(known) + 1)], [[], known[0], [None]]
    )


@dataclass
class Oddities:
    """What is wrong with a few services: of each, or by its number."""

    destroy: Codes  # 0 absent, 1 false, 2 true
    source: Rows  # the service whose unique_id this one has: nearly always its own
    ids: dict[int, Any] = field(default_factory=dict)
    elements: dict[int, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Drawn:
    """The services of all cases. `starts[row]` to `starts[row + 1]` are those of a case; times in milliseconds."""

    section: Codes  # 0: a list with services; else one more than the position in SECTIONS
    starts: Rows
    types: Codes
    subtypes: Codes
    times: Stamps
    written: Codes  # position in _WRITTEN, then in _NO_TIME
    odd: Oddities
    salt: int


def draw(
    rng: np.random.Generator,
    created: Stamps,
    updated: Stamps,
    average: float,
    *,
    odd: bool,
    oscar: npt.NDArray[np.bool_],
    shared_ids: bool = False,
) -> Drawn:
    """Draw the services of all cases, between their creation and their last update; OSCaR's are never delivered.

    With `shared_ids` the identities are those of OSCaR's types of service, which all cases share; each case has
    `average` services.
    """
    section, starts = _sections(rng, len(created), average, odd=odd)
    if shared_ids:
        section, starts = np.zeros(len(created), np.uint8), np.arange(len(created) + 1) * int(average)
    owner = np.repeat(np.arange(len(created)), np.diff(starts))
    types, written = _kinds(rng, oscar[owner], odd=odd)
    oddities = _oddities(rng, starts, odd=odd)
    if shared_ids:
        oddities.source = (7 * owner + np.arange(len(owner)) - starts[owner]) % OSCAR_TYPES
    return Drawn(
        section,
        starts,
        types,
        subtype_pool().draw(rng, len(owner), odd=odd),
        _times(rng, created[owner], updated[owner]),
        written,
        oddities,
        int(rng.integers(1 << 62)),
    )


def _sections(rng: np.random.Generator, count: int, average: float, *, odd: bool) -> tuple[Codes, Rows]:
    """Which shape a section has, and where each case's services start; the average is over all cases."""
    if not odd:
        return np.zeros(count, dtype=np.uint8), _starts(rng.poisson(average, count))
    section = rng.choice(len(_SECTION_SHARES), count, p=_SECTION_SHARES).astype(np.uint8)
    section[rng.permutation(count)[: len(_SECTION_SHARES)]] = np.arange(min(len(_SECTION_SHARES), count))
    more = max(average / _SECTION_SHARES[0] - 1, 0)
    return section, _starts(np.where(section == 0, 1 + rng.poisson(more, count), 0))


def _starts(numbers: Rows) -> Rows:
    return np.concatenate([[0], np.cumsum(numbers)])


def _times(rng: np.random.Generator, created: Stamps, updated: Stamps) -> Stamps:
    times = created + (rng.random(len(created)) * (updated - created)).astype(np.int64)
    near = rng.random(len(times)) < _NEAR_MIDNIGHT
    times[near] = (times[near] // DAY) * DAY - _OFFSET + rng.integers(-90, 91, size=int(near.sum())) * 60_000
    return times


def _kinds(rng: np.random.Generator, oscar: npt.NDArray[np.bool_], *, odd: bool) -> tuple[Codes, Codes]:
    total = len(oscar)
    types = type_pool().draw(rng, total, odd=odd)
    types[oscar & (rng.random(total) < 0.5)] = type_pool().place("Other")
    null = len(_WRITTEN)
    written = rng.choice([0, 1, null], total, p=[0.45, 0.3, 0.25])
    written[oscar] = null + 1
    if odd:
        strange = rng.random(total) < 0.02
        written[strange] = rng.integers(len(_WRITTEN) + len(_NO_TIME), size=int(strange.sum()))
    return types, written.astype(np.uint8)


def _oddities(rng: np.random.Generator, starts: Rows, *, odd: bool) -> Oddities:
    """A few services without an identity, with another one's, deleted ones, and elements that are no objects."""
    total = int(starts[-1])
    found = Oddities(np.zeros(total, np.uint8), np.arange(total))
    few = max(2, total // 5_000)
    if not odd or total < 20 * few:
        return found
    found.destroy[rng.random(total) < 0.02] = 1
    found.destroy[rng.random(total) < 0.01] = 2
    chosen = rng.permutation(total)[: 8 * few].tolist()
    found.ids = {chosen.pop(): value for value in (ABSENT, None, "", "  ") for _ in range(few)}
    found.elements = {chosen.pop(): None, chosen.pop(): "counselling"}
    for _ in range(few):
        found.source[chosen.pop()] = chosen.pop()  # the identity of a service of, most likely, another case
    first = starts[:-1][np.diff(starts) > 1][:few]
    found.source[first + 1] = first  # the same identity twice within a case
    return found


class Services(Texts):
    """The column `services_section`."""

    def __init__(self, drawn: Drawn) -> None:
        super().__init__("services_section", len(drawn.section))
        self._drawn = drawn
        self._sections = [b""] + [fragment(self.name, value) for value in SECTIONS]
        self._types = np.array([fragment("service_type", value) for value in type_pool().values], dtype=object)
        self._subtypes = np.array([fragment("service_subtype", value) for value in subtype_pool().values], dtype=object)
        self._destroy = np.array([b"", b',"_destroy":false', b',"_destroy":true'], dtype=object)

    def texts(self, rows: Rows) -> list[Any]:
        """See Texts."""
        found = [text.partition(b":")[2] for text in self.fragments(rows)]
        return [orjson.loads(text) if text else ABSENT for text in found]

    def fragments(self, rows: Rows) -> list[bytes]:
        """See Column."""
        drawn = self._drawn
        starts, ends = drawn.starts[rows], drawn.starts[rows + 1]
        lengths = ends - starts
        bounds = np.concatenate([[0], np.cumsum(lengths)])
        services = np.arange(bounds[-1]) + np.repeat(starts - bounds[:-1], lengths)
        written = self._written(services)
        spans = zip(drawn.section[rows].tolist(), bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)
        return [
            self._sections[section] if section else b',"services_section":[%s]' % b",".join(written[start:end])
            for section, start, end in spans
        ]

    def _written(self, services: Rows) -> list[bytes]:
        drawn = self._drawn
        parts = zip(
            self._ids(services),
            self._types[drawn.types[services]].tolist(),
            self._subtypes[drawn.subtypes[services]].tolist(),
            self._times(services),
            self._destroy[drawn.odd.destroy[services]].tolist(),
            [b',"service_referral_notes":"%s-service-notes-%d"' % (CANARY.encode(), at) for at in services.tolist()],
            strict=True,
        )
        texts = [b"{" + text[1:] + b"}" for text in map(b"".join, parts)]
        if drawn.odd.elements:
            texts = [
                orjson.dumps(drawn.odd.elements[at]) if at in drawn.odd.elements else text
                for at, text in zip(services.tolist(), texts, strict=True)
            ]
        return texts

    def _ids(self, services: Rows) -> list[bytes]:
        odd = self._drawn.odd.ids
        texts = uuid_texts(_scattered(self._drawn.odd.source[services], self._drawn.salt))
        return [
            fragment("unique_id", odd[at]) if at in odd else b',"unique_id":"%s"' % text.encode()
            for at, text in zip(services.tolist(), texts, strict=True)
        ]

    def _times(self, services: Rows) -> list[bytes]:
        """When it was asked for, when it was delivered, and whether: a service is implemented iff it has a time."""
        times = self._drawn.times[services]
        found = []
        for time, asked, form in zip(
            _bare(times),
            _bare(times - 2 * DAY),
            self._drawn.written[services].tolist(),
            strict=True,
        ):
            asked_for = f',"service_response_day_time":"{asked}Z"'.encode()
            if form < len(_WRITTEN):
                delivered = (
                    f',"service_implemented":"implemented","{_IMPLEMENTED}":"{_WRITTEN[form].format(time)}"'.encode()
                )
            else:
                delivered = b',"service_implemented":"not_implemented"' + fragment(
                    _IMPLEMENTED, _NO_TIME[form - len(_WRITTEN)]
                )
            found.append(asked_for + delivered)
        return found


def _bare(stamps: Stamps) -> list[str]:
    return [text[:-1] if text else "" for text in moment_texts(stamps)]


def _scattered(numbers: Rows, salt: int) -> npt.NDArray[np.uint8]:
    """Sixteen bytes for each number, as if random but always the same (splitmix64): no identity needs to be kept."""
    with np.errstate(over="ignore"):
        halves = [_mix(numbers.astype(np.uint64) * np.uint64(2) + np.uint64(salt + half)) for half in (0, 1)]
    return as_uuids(np.stack(halves, axis=1).view(np.uint8).reshape(len(numbers), 16))


def _mix(state: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    state = state * np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
