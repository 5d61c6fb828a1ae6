"""The public edition: no count below 5 can be worked out from all that is published, whoever knows how it was made."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date
from itertools import product
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from primero_ona.ona.revisions import keep_published, read_published
from primero_ona.report import disclosure
from primero_ona.report.disclosure import ANY, Known, Relation, disclose
from primero_ona.report.public import OTHER, PublicTable, bounds, public_labels, publish, text_of
from primero_ona.report.relations import PUBLIC
from primero_ona.report.tables import Table
from primero_ona_tests.conftest import ALL

START = date(2024, 1, 1)
SAMPLES = 300 if ALL else 8
#: Two or three labels, so that all that is possible can be counted out.
FEW = {"sex": ("Female", "Male"), "age_group": ("0-4", "5-9"), "disability": ("yes", "no"), "service_type": ("a", "b")}

Cells = Mapping[tuple[str, ...], int]


def table(name: str, cells: Cells, period: str = "quarter", start: date = START) -> Table:
    return Table(name, "4.8", "event", period, start, PUBLIC[name], cells, adds_up=name != "service_type")


def shown(published: Sequence[PublicTable], name: str, period: str = "quarter") -> list[str]:
    return [text for each in published if (each.name, each.period) == (name, period) for text in each.cells.values()]


def plain(text: str) -> bool:
    return text == "<5" or text.isdigit()


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        # Rounded alone, the three could only be 12, 12 and 4.
        ((12, 12, 4), ["30", "10", "8–17", "<5"]),
        ((12, 13, 4), ["30", "10", "8–17", "<5"]),
        ((13, 13, 4), ["30", "15", "15", "<5"]),
        ((0, 0, 0), ["<5", "<5", "<5", "<5"]),
        ((7, 2, 0), ["10", "5", "<5", "<5"]),
        ((812, 1205, 3), ["2020", "803–812", "1205", "<5"]),
    ],
)
def test_rounding_gives_way_where_it_would_give_a_small_count_away(counts, expected):
    """And the neighbours of what gave way look the same: otherwise its being wide would say what it is."""
    labels = {"sex": ("Female", "Male", "Other")}
    cells = {(label,): count for label, count in zip(labels["sex"], counts, strict=True)}
    published = publish([table("total", {(): sum(counts)}), table("sex", cells)], [], labels)
    assert shown(published, "total") + shown(published, "sex") == expected


# --- all that is possible, counted out, without the solver -----------------------------------------------------------------


def of_one_period(crossed: Cells, yes: int, services: Sequence[int]) -> list[Table]:
    total = sum(crossed.values())
    margins = [Counter(), Counter()]
    for cell, count in crossed.items():
        for margin, label in zip(margins, cell, strict=True):
            margin[label,] += count
    return [
        table("total", {(): total}),
        table("sex", margins[0]),
        table("age_group", margins[1]),
        table("sex_age", crossed),
        table("disability", {("yes",): yes, ("no",): total - yes}),
        table("service_type", {(label,): count for label, count in zip("ab", services, strict=True)}),
    ]


def possible(published: Sequence[PublicTable]) -> Iterator[tuple[Cells, list[int], list[list[int]]]]:
    """All counts of one period that look like what is published: crossed, how many with `yes`, by type of service.

    Of the last two, each count that may stand beside the first.
    """
    seen = {each.name: {cell: bounds(text) for cell, text in each.cells.items()} for each in published}
    most = seen["total"][()][1]
    ranges = [range(low, min(high, most) + 1) for low, high in seen["sex_age"].values()]
    yes, no = seen["disability"].values()
    for counts in product(*ranges):
        tables = of_one_period(dict(zip(seen["sex_age"], counts, strict=True)), 0, (0, 0))[:4]
        if all(low <= each.cells[c] <= high for each in tables for c, (low, high) in seen[each.name].items()):
            total = sum(counts)
            disabled = [n for n in range(total + 1) if yes[0] <= n <= yes[1] and no[0] <= total - n <= no[1]]
            services = [list(range(low, min(high, total) + 1)) for low, high in seen["service_type"].values()]
            if disabled and all(services):
                yield tables[3].cells, disabled, services


small = st.one_of(st.integers(0, 4), st.integers(0, 13))


@settings(max_examples=SAMPLES, deadline=None)
@given(
    st.lists(small, min_size=4, max_size=4),
    st.integers(0, 40),
    st.lists(st.integers(0, 3), min_size=2, max_size=2),
    st.data(),
)
@pytest.mark.proves("public-edition")
def test_no_count_below_5_can_be_worked_out(counts, yes, services, data):
    """Nor by somebody who knows the algorithm: whatever looks like what is published is published like that."""
    crossed = dict(zip(product(FEW["sex"], FEW["age_group"]), counts, strict=True))
    total = sum(counts)
    tables = of_one_period(crossed, min(yes, total), [min(each, total) for each in services])
    published = publish(tables, [], FEW)
    values = defaultdict(set)
    others = list(possible(published))
    for found, disabled, of_services in others:
        for each in of_one_period(found, disabled[0], (0, 0))[:4]:
            for cell, count in each.cells.items():
                values[each.name, cell].add(count)
        values["yes"].update(disabled)
        values["no"].update(sum(found.values()) - count for count in disabled)
        for label, possible_counts in zip("ab", of_services, strict=True):
            values[label].update(possible_counts)
    assert all(len(each) > 1 or min(each) >= 5 for each in values.values())
    assert crossed in [found for found, _, _ in others]
    found, disabled, of_services = data.draw(st.sampled_from(others))
    like = of_one_period(
        found, data.draw(st.sampled_from(disabled)), [data.draw(st.sampled_from(n)) for n in of_services]
    )
    assert publish(like, [], FEW) == published


def test_a_search_that_loses_its_way_is_made_again():
    """Of these counts the simplex method found none from its last solution, and nothing would be published."""
    crossed = dict(zip(product(FEW["sex"], FEW["age_group"]), (12, 11, 3, 3), strict=True))
    assert publish(of_one_period(crossed, 0, [0, 0]), [], FEW)


@settings(max_examples=SAMPLES, deadline=None)
@example([4, 7, 7], 18, 9, 0)  # rounded, 20 would need the most of each month
@given(st.lists(small, min_size=3, max_size=3), st.integers(0, 39), st.integers(0, 39), st.integers(0))
def test_nor_from_months_that_were_published_before_their_quarter(months, total, yes, pick):
    """A quarter has each child of its months, and no other."""
    starts = [date(2024, month, 1) for month in (1, 2, 3)]
    before = publish([table("total", {(): n}, "month", d) for n, d in zip(months, starts, strict=True)], [])
    total = min(max(total, *months), sum(months))
    yes = min(yes, total)
    after = publish(
        [table("total", {(): total}), table("disability", {("yes",): yes, ("no",): total - yes})], before, FEW
    )
    known = [bounds(text) for text in (*shown(before, "total", "month"), *shown(after, "disability"))]
    low, high = bounds(*shown(after, "total"))
    values = [set() for _ in range(6)]
    others = []
    for *of_months, has, has_not in product(*(range(low, min(high, 60) + 1) for low, high in known)):
        if low <= has + has_not <= high and max(of_months) <= has + has_not <= sum(of_months):
            others.append((has, has_not))
            for found, count in zip(values, (*of_months, has, has_not, has + has_not), strict=True):
                found.add(count)
    assert all(len(found) > 1 or min(found) >= 5 for found in values)
    has, has_not = others[pick % len(others)]
    like = [table("total", {(): has + has_not}), table("disability", {("yes",): has, ("no",): has_not})]
    assert publish(like, before, FEW) == after


# --- tables as large as the sandbox's ---------------------------------------------------------------------------------------


def population(random: Random, children: int) -> list[tuple[dict[str, tuple[str, ...]], dict[int, set[str]]]]:
    """Children with their labels, and their types of service by quarter."""
    labels = public_labels()
    found = []
    for _ in range(children):
        sex = random.choices(labels["sex"], (50, 48, 1, 1))[0]
        age = random.choices(labels["age_group"], (10, 20, 30, 30, 1))[0]
        of = {name: (random.choice(labels[name]),) for name in ("placement_type", "disability")}
        of["province"] = (random.choices(labels["province"], [1 / (n + 1) for n in range(26)])[0],)
        services = defaultdict(set)
        for _ in range(random.choice((1, 1, 2))):
            services[random.randrange(4)].add(random.choice(labels["service_type"]))
        found.append((of | {"sex": (sex,), "age_group": (age,), "sex_age": (sex, age)}, services))
    return found


def counted(children, quarters: Sequence[int], period: str, start: date) -> list[Table]:
    cells = {name: Counter() for name in PUBLIC}
    for labels, services in children:
        types = set().union(*(services[quarter] for quarter in quarters if quarter in services))
        if types:
            for name, cell in (labels | {"total": ()}).items():
                cells[name][cell] += 1
            cells["service_type"].update((label,) for label in types)
    return [table(name, found, period, start) for name, found in cells.items()]


def logical(published: Sequence[PublicTable]) -> Iterator[tuple[list[tuple], tuple, bool]]:
    """Cells, the one that they add up to or at least do not exceed, and which of the two."""
    for each in published:
        place = each.name, each.period_start.month, each.period
        total = ("total", *place[1:], ())
        if each.name == "service_type":
            yield from (([(*place, cell)], total, False) for cell in each.cells)
        elif each.name != "total":
            yield [(*place, cell) for cell in each.cells], total, True
        for number, margin in enumerate(("sex", "age_group") if each.name == "sex_age" else ()):
            for label in public_labels()[margin]:
                yield (
                    [(*place, cell) for cell in each.cells if cell[number] == label],
                    (margin, *place[1:], (label,)),
                    True,
                )
        if each.period == "quarter" and "age_group" not in PUBLIC[each.name]:
            yield from (([(*place, cell)], (each.name, 1, "year", cell), False) for cell in each.cells)


def narrowed(published: Sequence[PublicTable]) -> list[tuple[int, int]]:
    """What sums and comparisons alone say of each cell, drawn until they say no more: never more than can be worked out."""
    known = {
        (each.name, each.period_start.month, each.period, cell): bounds(text)
        for each in published
        for cell, text in each.cells.items()
    }
    rules = list(logical(published))
    while True:
        before = dict(known)
        for parts, whole, equal in rules:
            lows, highs = (sum(known[part][side] for part in parts) for side in (0, 1))
            low, high = known[whole]
            known[whole] = max(low, lows), min(high, highs) if equal else high
            for part in parts:
                least, most = known[part]
                rest = (low - highs + most, high - lows + least) if equal else (0, high)
                known[part] = max(least, rest[0]), min(most, rest[1])
        if known == before:
            return list(known.values())


@pytest.mark.parametrize("children", [100] if not ALL else [10, 30, 60, 100, 300, 900, 3000])
def test_four_quarters_and_their_year(children):
    """As many tables as a report has; few of their cells are wider than rounded."""
    found = population(Random(children), children)
    published: list[PublicTable] = []
    for quarter in range(4):
        published += publish(counted(found, [quarter], "quarter", date(2024, quarter * 3 + 1, 1)), published)
    year = counted(found, range(4), "year", START)
    published += publish(year, published)
    texts = [text for each in published for text in each.cells.values()]
    assert all(low < high for low, high in narrowed(published) if low < 5)
    assert sum(not plain(text) for text in texts) <= len(texts) / 50
    # The same once more, and whatever the order.
    assert publish(year[::-1], published) == published[-len(year) :][::-1]


def test_all_labels_are_there_and_all_else_is_other():
    """That a label has a row says nothing; what the dictionary does not know is not shown by its name."""
    cells = {("Kep",): 4, ("(empty)",): 3, ("Atlantis",): 9}
    (published,) = publish([table("province", cells)], [])
    assert list(published.cells) == [(label,) for label in public_labels()["province"]]
    assert len(published.cells) == 26
    assert {cell[0]: text for cell, text in published.cells.items() if text != "<5"} == {OTHER: "10"}
    assert set(public_labels()["sex"]) == {"Male", "Female", "Other", OTHER}
    assert len(public_labels()["service_type"]) == 15
    # A child with several unknown labels is one child.
    services = publish([table("total", {(): 9}), table("service_type", {("x",): 8, ("y",): 7, ("Other",): 6})], [])[1]
    assert {cell[0]: text for cell, text in services.cells.items() if text != "<5"} == {"Other": "5", OTHER: "10"}


@pytest.mark.proves("public-edition")
def test_only_the_fixed_tables_leave():
    """Of months the total only, and nothing by district, by several dimensions of place, or by what is not in the list."""
    tables = [
        Table("district", "4.8", "event", "quarter", START, ("district",), {("Kep / Kep",): 9}, adds_up=True),
        Table(
            "province_sex", "4.8", "event", "quarter", START, ("province", "sex"), {("Kep", "Male"): 9}, adds_up=True
        ),
        Table("sex", "4.8", "event", "quarter", START, ("district",), {("Kep / Kep",): 9}, adds_up=True),
        table("sex", {("Male",): 9}, "month"),
        table("total", {(): 9}, "month"),
    ]
    assert [(each.name, each.period) for each in publish(tables, [])] == [("total", "month")]
    assert not {name for name, dimensions in PUBLIC.items() if {"district"} & {name, *dimensions}}


@pytest.mark.proves("published-before")
def test_what_was_published_is_repeated_until_it_does_not_hold():
    """Each other way to say the same would say more."""
    labels = {"sex": ("Female", "Male", "Other")}

    def tables(*counts: int) -> list[Table]:
        cells = {(label,): count for label, count in zip(labels["sex"], counts, strict=True)}
        return [table("total", {(): sum(counts)}), table("sex", cells)]

    first = publish(tables(12, 12, 4), [], labels)
    again = [PublicTable.from_json(json.loads(json.dumps(each.to_json()))) for each in first]
    assert again == first
    assert publish(tables(11, 15, 3), again, labels) == first
    revised = publish(tables(11, 15, 9), again, labels)
    # With 13, the three first would have been 12, 12 and 4.
    assert shown(revised, "total") + shown(revised, "sex") == ["35", "10", "8–17", "8–17"]
    # What an older version gave away is no reason to publish nothing.
    given = [replace(each, cells={("Female",): "10", ("Male",): "10", ("Other",): "<5"}) for each in first[1:]]
    both = publish(
        [*tables(12, 12, 4), table("disability", {("recorded",): 9, ("not recorded",): 19})], [first[0], *given], labels
    )
    assert shown(both, "sex") + shown(both, "disability") == ["10", "10", "<5", "10", "20"]
    # A year that cannot have the quarter that was published before has another, later one.
    year = publish([table("total", {(): 2}, "year")], first, labels)
    assert shown(year, "total", "year") == ["<5"]


#: By name the counts of two editions: placement types, of which the late entries change some.
EDITIONS = {
    "one rises": ((12, 12, 12, 12, 12, 4, 4), (20, 12, 12, 12, 12, 4, 4)),
    "one rises, the total looks the same": ((12, 12, 12, 12, 12, 4, 4), (13, 12, 12, 12, 12, 4, 4)),
    "one falls": ((20, 12, 12, 12, 12, 4, 4), (12, 12, 12, 12, 12, 4, 4)),
    "a small one rises": ((12, 12, 12, 12, 12, 4, 4), (12, 12, 12, 12, 12, 9, 4)),
    "a child moves": ((12, 12, 12, 12, 12, 4, 4), (12, 12, 12, 12, 13, 3, 4)),
    "two rise": ((8, 8, 8, 8, 8, 0, 0), (8, 8, 8, 20, 30, 0, 0)),
    "what it was is bound by the others": ((12, 12, 4), (12, 12, 13)),
}


@pytest.mark.parametrize("counts", EDITIONS.values(), ids=EDITIONS)
@pytest.mark.proves("published-before")
def test_two_editions_together_give_no_small_count_away(counts):
    """Most children of a revised quarter are the same as before: who lays both editions side by side knows twice as much."""
    kinds = public_labels()["placement_type"][: len(counts[0])]
    published: list[PublicTable] = []
    all_counts = (*counts, counts[0])
    for each in all_counts:
        cells = {(kind,): count for kind, count in zip(kinds, each, strict=True)}
        tables = [table("total", {(): sum(each)}), table("placement_type", cells)]
        published += publish(tables, published, {"placement_type": kinds})
    editions = [published[:2], published[2:4], published[4:]]
    for numbers in ((0, 1), (1, 2)):
        texts = [[*shown(editions[number], "placement_type"), *shown(editions[number], "total")] for number in numbers]
        before, after = ([*all_counts[number], sum(all_counts[number])] for number in numbers)
        # Of the first edition and then of the second; a count that is the same is one cell, which both texts speak of.
        intervals = [bounds(text) for text in (*texts[0], *texts[1])]
        whole = len(kinds)
        second = list(range(whole + 1, 2 * whole + 2))
        for cell in range(whole + 1):
            if before[cell] == after[cell]:
                second[cell] = cell
                lows, highs = zip(intervals[cell], intervals[whole + 1 + cell], strict=True)
                intervals[cell] = max(lows), min(highs)
        rules = [
            Relation((*((cell, 1) for cell in each[:-1]), (each[-1], -1)), True) for each in (range(whole + 1), second)
        ]
        assert not Known(intervals, rules).unproven({*range(whole + 1), *second}), texts


def test_the_first_of_three_editions_gives_no_small_count_away():
    """Also where the one between them had a count that was shown like the first, and a total that was not."""
    kinds = public_labels()["placement_type"][:4]
    published: list[PublicTable] = []
    for count in (4, 3, 8):
        cells = {(kind,): each for kind, each in zip(kinds, (7, count, 22, 0), strict=True)}
        tables = [table("total", {(): sum(cells.values())}), table("placement_type", cells)]
        published += publish(tables, published, {"placement_type": kinds})
    first, _, last = published[0::2]
    cells = [each.cells for each in published[1::2]]
    # All but the second cell are the same in the first and in the last edition.
    intervals = [*map(bounds, (*cells[0].values(), *first.cells.values(), cells[2][(kinds[1],)], *last.cells.values()))]
    terms = [((0, 1), (place, 1), (2, 1), (3, 1), (whole, -1)) for place, whole in ((1, 4), (5, 6))]
    assert not Known(intervals, [Relation(each, equal=True) for each in terms]).unproven(range(7))


def test_a_label_more_changes_no_other_cell():
    """A province that ONA has now and did not have is no reason to publish the others otherwise."""
    counts = {("A",): 12, ("B",): 12, (OTHER,): 4}
    first = publish([table("total", {(): 28}), table("province", counts)], [], {"province": ("A", "B", OTHER)})
    assert shown(first, "province") == ["10", "8–17", "<5"]
    tables = [table("total", {(): 58}), table("province", counts | {("C",): 30})]
    assert shown(publish(tables, first, {"province": ("A", "B", "C", OTHER)}), "province") == ["10", "8–17", "30", "<5"]


def test_tables_that_do_not_add_up_are_refused():
    """What follows from such tables cannot be known."""
    with pytest.raises(ValueError, match="sex does not add up"):
        publish([table("total", {(): 9}), table("sex", {("Male",): 8})], [])
    with pytest.raises(ValueError, match="age_group has a label of its own"):
        publish([table("age_group", {("18+",): 8})], [])


@pytest.mark.parametrize(
    "interval", [(0, 4), (0, 7), (5, 7), (5, 12), (8, 12), (8, 17), (1203, 1207), (53, ANY[1]), ANY]
)
def test_a_text_stands_for_its_interval(interval):
    assert bounds(text_of(interval)) == interval


def test_a_count_that_only_whole_numbers_give_away_is_covered():
    """Three odd sums of pairs: with fractions each count could be another."""
    # The steps look at fractions; the last look does not.
    relations = [Relation(((a, 1), (b, 1), (c, -1)), equal=True) for a, b, c in ((0, 1, 3), (1, 2, 4), (0, 2, 5))]
    known = Known([ANY] * 6, relations)
    counts = [4, 3, 2, 7, 5, 6]
    disclose(known, counts, [range(6)])
    intervals = [range(low, min(high, 30) + 1) for low, high in known.intervals]
    values = [set() for _ in range(6)]
    for a, b, c in product(*intervals[:3]):
        found = (a, b, c, a + b, b + c, a + c)
        if all(count in interval for count, interval in zip(found, intervals, strict=True)):
            for kept, count in zip(values, found, strict=True):
                kept.add(count)
    assert all(len(kept) > 1 or min(kept) >= 5 for kept in values)


def test_the_smallest_counts_go_where_the_steps_miss_something(monkeypatch):
    """The last look does not rely on the steps, which might take a table with fractions for a possible one."""
    monkeypatch.setattr(disclosure, "_gives_away", lambda *_: False)
    relation = Relation(((0, 1), (1, 1), (2, 1), (3, -1)), equal=True)
    known = Known([ANY] * 4, [relation])
    disclose(known, [12, 12, 4, 28], [range(4)])
    assert known.intervals == [ANY, (8, 12), (0, 4), (28, 32)]
    assert not known.unproven(range(4))


@pytest.mark.proves("published-before")
def test_what_is_published_is_kept(ona):
    """The next editions are made beside it; the same edition once more is no other."""
    first = publish([table("total", {(): 28})], [])
    for edition, run in ((first, "run-1"), (first, "run-2"), (publish([table("total", {(): 40})], []), "run-3")):
        keep_published(ona, "quarter", START, [each.to_json() for each in edition], run)
    kept = [PublicTable.from_json(content) for content in read_published(ona)]
    assert [each.cells for each in kept] == [{(): "30"}, {(): "40"}]
    assert kept[0] == first[0]
    assert ona.execute("SELECT run_id FROM primero_sync.published_figures ORDER BY published_at").fetchall() == [
        ("run-1",),
        ("run-3",),
    ]
