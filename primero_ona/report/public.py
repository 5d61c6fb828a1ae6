"""The public edition: a few tables, rounded so that no count below 5 can be worked out from all that is published."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass, replace
from datetime import date
from functools import cache
from itertools import product
from typing import Any

from primero_ona.mapping.labels import Labels
from primero_ona.report.disclosure import ANY, MOST, Interval, Known, Relation, disclose, rounded
from primero_ona.report.relations import (
    PUBLIC,
    Cell,
    Group,
    Key,
    Place,
    Related,
    Tables,
    components,
    is_margin,
    key_of,
    logical,
    relations_of,
)
from primero_ona.report.tables import Shown, Table

#: Whatever the dictionary does not have, and what is not recorded.
OTHER = "other"

_PROVINCES = (
    "Banteay Meanchey", "Battambang", "Kampong Cham", "Kampong Chhnang", "Kampong Speu", "Kampong Thom", "Kampot", "Kandal",
    "Kep", "Koh Kong", "Kratie", "Mondul Kiri", "Otdar Meanchey", "Pailin", "Phnom Penh", "Preah Vihear", "Prey Veng", "Pursat",
    "Ratanak Kiri", "Siemreap", "Sihanoukville", "Stung Treng", "Svay Rieng", "Takeo", "Tboung Khmum",
)  # fmt: skip


@dataclass(frozen=True)
class PublicTable(Table[str]):
    """A table as it is published. All labels have a cell: `10`, `<5`, or where that gave something away `8–17`, `≥53`, `…`."""

    def to_json(self) -> dict[str, Any]:
        """As JSON has it."""
        cells = [[list(labels), shown] for labels, shown in self.cells.items()]
        return asdict(self) | {"period_start": self.period_start.isoformat(), "cells": cells}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> PublicTable:
        """The table that to_json made this of."""
        return cls(
            **{name: content[name] for name in ("name", "indicator", "variant", "period", "adds_up")},
            period_start=date.fromisoformat(content["period_start"]),
            dimensions=tuple(content["dimensions"]),
            cells={tuple(labels): shown for labels, shown in content["cells"]},
        )


@cache
def public_labels() -> Mapping[str, tuple[str, ...]]:
    """By dimension all labels that its tables have, in the order of the dictionary; all else is `other`."""
    known = Labels.load()
    return {
        "sex": (*dict.fromkeys(known.all_of("sex").values()), OTHER),
        "age_group": ("0-4", "5-9", "10-14", "15-17", "unknown"),
        "placement_type": (
            *("biological family", "kinship care", "foster care", "residential care"),
            *("supported independent living", "adoption", OTHER),
        ),
        "province": (*_PROVINCES, OTHER),
        "disability": ("recorded", "not recorded"),
        "service_type": (*dict.fromkeys(known.all_of("service_type").values()), OTHER),
    }


def publish(
    tables: Sequence[Table[int]],
    published_before: Sequence[PublicTable],
    labels: Mapping[str, Sequence[str]] | None = None,
) -> Sequence[PublicTable]:
    """The tables as they may be published, beside all that was published before, oldest first; others are left out.

    A cell that was published and still holds is repeated as it was. `labels`: by dimension those that differ from
    public_labels(), such as the provinces' names in ONA. Raises ValueError where a table that adds up does not.
    """
    by_dimension = {**public_labels(), **(labels or {})}
    new = {key_of(table): table for table in tables if _allowed(table)}
    counts = {key: _counts(table, by_dimension, new.get(key_of(table).of("total"))) for key, table in new.items()}
    years = {key.start.year for key in new}
    published = [table for table in published_before if _allowed(table) and table.period_start.year in years]
    single = {key for key, table in new.items() if table.adds_up} | {
        key_of(table) for table in published if table.adds_up
    }
    shown = _publish(counts, _editions(published), single)
    return [
        PublicTable(
            *(table.name, table.indicator, table.variant, table.period, table.period_start, table.dimensions),
            {cell: text_of(shown[key, cell]) for cell in counts[key]},
            table.adds_up,
        )
        for key, table in new.items()
    ]


def revised(tables: Sequence[Shown], published_before: Sequence[PublicTable]) -> list[Shown]:
    """Those of the tables in which a cell is another than in an edition before."""
    texts = defaultdict(set)
    for table in published_before:
        for cell, text in table.cells.items():
            texts[key_of(table), cell].add(text)
    return [
        table
        for table in tables
        if any(texts.get((key_of(table), cell), {shown}) != {shown} for cell, shown in table.cells.items())
    ]


def text_of(interval: Interval) -> str:
    """How an interval is published."""
    low, high = interval
    if high >= MOST:
        return f"≥{low}" if low else "…"
    if low == 0:
        return f"<{high + 1}"
    return str((low + 2) // 5 * 5) if interval == rounded(low) else f"{low}–{high}"


def bounds(text: str) -> Interval:
    """The counts that a published text stands for, from the least to the greatest."""
    if text == "…":
        return ANY
    if text.startswith("≥"):
        return int(text[1:]), MOST
    if text.startswith("<"):
        return 0, int(text[1:]) - 1
    low, _, high = text.partition("–")
    return (int(low), int(high)) if high else rounded(int(low))


def _allowed(table: Shown) -> bool:
    return PUBLIC.get(table.name) == table.dimensions and (table.period != "month" or table.name == "total")


def _counts(table: Table[int], labels: Mapping[str, Sequence[str]], total: Table[int] | None) -> dict[Cell, int]:
    """The table with a cell for each label, and those without a label under `other`.

    There a child that has several of them counts for each, but no more children than there are.
    """
    counts: dict[Cell, int] = dict.fromkeys(product(*(labels[name] for name in table.dimensions)), 0)
    for cell, count in table.cells.items():
        known = tuple(
            label if label in labels[name] else OTHER for name, label in zip(table.dimensions, cell, strict=True)
        )
        if known not in counts:
            raise ValueError(f"the table {table.name} has a label of its own")
        counts[known] += count
    if total is not None and not table.adds_up:
        return {cell: min(count, total.cells.get((), 0)) for cell, count in counts.items()}
    return counts


def _editions(published: Sequence[PublicTable]) -> list[Tables[Interval]]:
    """The newest tables as of each edition, the oldest edition first; one ends where a table comes again."""
    editions: list[Tables[Interval]] = []
    newest: dict[Key, Mapping[Cell, Interval]] = {}
    seen: set[Key] = set()
    for table in published:
        if (key := key_of(table)) in seen:
            editions.append(dict(newest))
            seen.clear()
        newest[key] = {cell: bounds(text) for cell, text in table.cells.items()}
        seen.add(key)
    return [*editions, newest]


def _publish(
    counts: Tables[int], editions: Sequence[Tables[Interval]], single: AbstractSet[Key]
) -> dict[Place, Interval]:
    """The intervals as which the counts are published. `single`: the tables whose cells add up."""
    before = editions[-1]
    tables = {key: {**before, **counts}[key] for key in sorted(before.keys() | counts.keys())}
    places = _places(tables)
    true = {(key, cell): count for key, cells in counts.items() for cell, count in cells.items()}
    kept = {
        (key, cell): interval
        for key, cells in before.items()
        for cell, interval in cells.items()
        if key not in counts or interval[0] <= counts[key].get(cell, -1) <= interval[1]
    }
    relations = list(logical(relations_of(tables, single), true))
    earlier, intervals = _earlier(editions, tables, single, true, kept)
    kept |= intervals
    shown: dict[Place, Interval] = {}
    for cells, related in components([*places, *intervals], [*relations, *earlier]):
        if not true.keys().isdisjoint(cells):
            shown |= _publish_together(cells, related, true, kept)
    return shown


def _publish_together(
    cells: Sequence[Place],
    relations: Sequence[Related],
    true: Mapping[Place, int],
    kept: Mapping[Place, Interval],
) -> dict[Place, Interval]:
    """As _publish, for cells that no relation binds to others."""
    numbers = {cell: number for number, cell in enumerate(cells)}
    rows = _rows(cells, relations)
    kept = {cell: kept[cell] for cell in cells if cell in kept}
    # What was published of other data says nothing about these.
    for group in _outdated(cells, rows, true, kept):
        kept = {cell: interval for cell, interval in kept.items() if cell in true or cell[0].group != group}
    known = Known([kept.get(cell, ANY) for cell in cells], rows)
    free: defaultdict[Key, list[int]] = defaultdict(list)
    for number, cell in enumerate(cells):
        if cell in true and cell not in kept:
            free[cell[0]].append(number)
    order = list(PUBLIC)
    tables = [free[key] for key in sorted(free, key=lambda key: (order.index(key.name), key))]
    disclose(known, [true.get(cell) for cell in cells], tables)
    return {cell: known.intervals[numbers[cell]] for cell in cells if cell in true}


def _earlier(
    editions: Sequence[Tables[Interval]],
    tables: Tables[Any],
    single: AbstractSet[Key],
    true: Mapping[Place, int],
    kept: Mapping[Place, Interval],
) -> tuple[list[Related], dict[Place, Interval]]:
    """What earlier editions say together with the present one: relations, and the intervals of cells that hold no more.

    Late entries change a few cells; all others are taken to be the same children as before, and bind one edition to the other.
    """
    stated: list[Related] = []
    intervals: dict[Place, Interval] = {}
    later: Mapping[Place, Interval | None] = {place: kept.get(place) for place in _places(tables)}
    labels: Tables[Any] = tables
    present = {place: place for place in later}
    for ago, edition in enumerate(reversed(editions), start=1):
        old = {(key, cell): interval for key, cells in edition.items() for cell, interval in cells.items()}
        # Where a table has other labels now, all the rest is another rest.
        same = {
            (key, cell)
            for (key, cell), interval in old.items()
            if later.get((key, cell)) == interval and (OTHER not in cell or labels[key].keys() == edition[key].keys())
        }
        present = {place: present[place] if place in same else _ago(place, ago) for place in old}
        relations = [related for related in relations_of(edition, single) if not related[0].keys() <= same]
        for wide in (False, True):
            part = [related for related in relations if (len({key.group for key, _ in related[0]}) > 1) == wide]
            for cells, related in components(dict.fromkeys(place for terms, _ in part for place in terms), part):
                # Where one cell alone has changed, so has the sum, however it is shown; and a cell may have changed and back.
                sums = {(key, cell) for key, cell in cells if key.name == "total" or is_margin(key, edition)}
                gone = {place for place in cells if present[place] not in true}
                for apart in (set[Place](), sums & same, (sums | gone) & same):
                    names = {place: _ago(place, ago) if place in apart else present[place] for place in cells}
                    found = [({names[place]: n for place, n in terms.items()}, equal) for terms, equal in related]
                    known = intervals | {name: old[place] for place, name in names.items() if name[0].ago}
                    if _possible([*stated, *found], true, {**kept, **known}):
                        stated, intervals, present = [*stated, *found], known, present | names
                        break
        later, labels = old, edition
    return stated, intervals


def _ago(place: Place, ago: int) -> Place:
    return replace(place[0], ago=ago), place[1]


def _places(tables: Tables[Any]) -> list[Place]:
    return [(key, cell) for key, cells in tables.items() for cell in cells]


def _possible(relations: Sequence[Related], true: Mapping[Place, int], known: Mapping[Place, Interval]) -> bool:
    """Whether the relations may hold of the true counts, and of others as they are known."""
    cells = list(dict.fromkeys(place for terms, _ in relations for place in terms))
    intervals = [(true[cell], true[cell]) if cell in true else known.get(cell, ANY) for cell in cells]
    return Known(intervals, _rows(cells, relations)).possible()


def _rows(cells: Sequence[Place], relations: Iterable[Related]) -> list[Relation]:
    """The relations between cells by their numbers."""
    numbers = {cell: number for number, cell in enumerate(cells)}
    return [
        Relation(tuple((numbers[cell], factor) for cell, factor in terms.items()), equal) for terms, equal in relations
    ]


def _outdated(
    cells: Sequence[Place], rows: Sequence[Relation], true: Mapping[Place, int], kept: Mapping[Place, Interval]
) -> Iterator[Group]:
    """Those who count the same children as tables published before whose counts cannot be true any more, newest last."""
    known = Known([(true[cell], true[cell]) if cell in true else ANY for cell in cells], rows)
    groups = sorted({cell[0].group for cell in kept if cell not in true})
    for group in groups:
        places = [number for number, cell in enumerate(cells) if cell[0].group == group and cell not in true]
        for number in places:
            known.put(number, kept.get(cells[number], ANY))
        if not known.possible():
            yield group
            for number in places:
                known.put(number, ANY)
