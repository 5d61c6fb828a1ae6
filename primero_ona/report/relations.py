"""What anybody knows of published tables without their counts: sums, margins, and what cannot be more than something else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, TypeVar

from primero_ona.report.tables import Shown

#: The tables that may leave, and what their cells are labelled by; of months the total only.
PUBLIC: dict[str, tuple[str, ...]] = {
    "total": (),
    "sex": ("sex",),
    "age_group": ("age_group",),
    "sex_age": ("sex", "age_group"),
    "placement_type": ("placement_type",),
    "province": ("province",),
    "disability": ("disability",),
    "service_type": ("service_type",),
}

#: What the first of two variants counts, the second counts, too.
_INCLUDED = (
    (("4.8", "registered"), ("4.11a", "registered_or_served")),
    (("4.11a", "served"), ("4.11a", "registered_or_served")),
)

_MONTHS = {"month": 1, "quarter": 3, "year": 12}

Cell = tuple[str, ...]

Group = tuple[int, str, str, str, date]


@dataclass(frozen=True, order=True)
class Key:
    """Which table it is."""

    indicator: str
    variant: str
    period: str
    start: date
    name: str
    ago: int = 0  # in which edition, counted back; 0 is what holds now

    @property
    def group(self) -> Group:
        """Those who count the same children."""
        return self.ago, self.indicator, self.variant, self.period, self.start

    @property
    def months(self) -> set[tuple[int, int]]:
        """Its months, each with the year."""
        return {(self.start.year, self.start.month + number) for number in range(_MONTHS[self.period])}

    def of(self, name: str) -> Key:
        """Another table of the same children."""
        return replace(self, name=name)


T = TypeVar("T")

#: Tables with something for each cell.
Tables = Mapping[Key, Mapping[Cell, T]]

Place = tuple[Key, Cell]

#: The sum of some cells, each with a factor, is 0, or at most 0.
Related = tuple[Mapping[Place, int], bool]


def key_of(table: Shown) -> Key:
    """Which table it is, as of now."""
    return Key(table.indicator, table.variant, table.period, table.period_start, table.name)


def logical(relations: Iterable[Related], true: Mapping[Place, int]) -> Iterator[Related]:
    """The relations that do hold of the counts.

    Raises ValueError where a table does not add up.
    """
    for terms, equal in relations:
        if terms.keys() <= true.keys():
            total = sum(factor * true[cell] for cell, factor in terms.items())
            if equal and total:
                raise ValueError(f"the table {next(iter(terms))[0].name} does not add up")
            if total > 0:
                continue
        yield terms, equal


def relations_of(tables: Tables[Any], single: AbstractSet[Key]) -> Iterator[Related]:
    """What anybody knows of the cells of these tables without their counts."""
    for key, cells in tables.items():
        whole = key.of("total"), ()
        if key.name != "total" and whole[0] in tables:
            sum_of = {(key, cell): 1 for cell in cells}
            if key in single:
                yield sum_of | {whole: -1}, True
            else:
                yield from (({(key, cell): 1, whole: -1}, False) for cell in cells)
                if key.variant == "served":
                    # Who counts by a service has one.
                    yield {whole: 1} | dict.fromkeys(sum_of, -1), False
        yield from _margins(key, tables, single)
        yield from _longer(key, tables, single)
        for part, of in _INCLUDED:
            larger = replace(key, indicator=of[0], variant=of[1])
            if (key.indicator, key.variant) == part and larger in tables and "age_group" not in PUBLIC[key.name]:
                yield from (({(key, cell): 1, (larger, cell): -1}, False) for cell in cells if cell in tables[larger])


def _margins(key: Key, tables: Tables[Any], single: AbstractSet[Key]) -> Iterator[Related]:
    """A table by two dimensions adds up to those by one of them."""
    for number, name in enumerate(PUBLIC[key.name] if len(PUBLIC[key.name]) > 1 else ()):
        margin = key.of(name)
        if {key, margin} <= single and margin in tables:
            for (label,) in tables[margin]:
                yield {(key, cell): 1 for cell in tables[key] if cell[number] == label} | {(margin, (label,)): -1}, True


def _longer(key: Key, tables: Tables[Any], single: AbstractSet[Key]) -> Iterator[Related]:
    """Who counts in a month or a quarter counts in its year, but may be older then; who counts in the year counts in one of them.

    Not with each service of the year: there may be one in a quarter in which the child does not count.
    """
    within = [
        other
        for other in tables
        if replace(other, period=key.period, start=key.start) == key and other.months < key.months
    ]
    for cell in tables[key]:
        if "age_group" not in PUBLIC[key.name]:
            yield from (({(other, cell): 1, (key, cell): -1}, False) for other in within if cell in tables[other])
        for period in _MONTHS if key in single else ():
            parts = [other for other in within if other.period == period and cell in tables[other]]
            if set().union(*(part.months for part in parts)) == key.months:
                yield {(key, cell): 1} | {(part, cell): -1 for part in parts}, False


def is_margin(key: Key, tables: Tables[Any]) -> bool:
    """Whether a table of more dimensions adds up to it."""
    return any(key.name in PUBLIC[other] and key.of(other) in tables for other in PUBLIC if other != key.name)


def components(cells: Iterable[Place], relations: Iterable[Related]) -> Iterator[tuple[list[Place], list[Related]]]:
    """Split cells and relations where nothing connects them."""
    parts = {cell: [cell] for cell in cells}
    bound = list(relations)
    for terms, _ in bound:
        first, *others = terms
        for other in others:
            larger, smaller = parts[first], parts[other]
            if larger is not smaller:
                larger += smaller
                parts.update(dict.fromkeys(smaller, larger))
    order = {cell: number for number, cell in enumerate(parts)}
    by_part: dict[int, list[Related]] = {id(part): [] for part in parts.values()}
    for terms, equal in bound:
        by_part[id(parts[next(iter(terms))])].append((terms, equal))
    for part in {id(part): part for part in parts.values()}.values():
        yield sorted(part, key=order.__getitem__), by_part[id(part)]
