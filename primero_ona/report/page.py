"""Make the page of a report: one HTML file with all that it needs inside, in English and Khmer, for a screen and for A4."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import cache
from importlib.resources import files
from typing import Any

import jinja2

from primero_ona.contract.derived import UNCONFIRMED
from primero_ona.ona.variants import variants
from primero_ona.quarters import Quarter, local_time
from primero_ona.report.tables import Cell, Period, Report, Shown
from primero_ona.report.words import Number, Text, both, difference, trend

#: What the public edition writes for a count below 5, zero included.
FEW = "<5"

#: Rows of one table, of which there may be more than a page should have; the page says how many more there are.
_ROWS = 40

#: By the province's code, without leading zero: row and column of its tile, roughly where it lies.
TILES = {
    "22": (1, 3), "13": (1, 4), "19": (1, 5), "16": (1, 6),
    "1": (2, 2), "17": (2, 3), "6": (2, 4), "10": (2, 5), "11": (2, 6),
    "24": (3, 1), "2": (3, 2), "15": (3, 3), "4": (3, 4), "3": (3, 5), "25": (3, 6),
    "9": (4, 2), "5": (4, 3), "12": (4, 4), "14": (4, 5), "20": (4, 6),
    "18": (5, 2), "7": (5, 3), "8": (5, 4),
    "23": (6, 3), "21": (6, 4),
}  # fmt: skip

_AGES = ("0-4", "5-9", "10-14", "15-17", "unknown")

#: Pixels of the lines' plot, below which the quarters stand.
_TOP, _HEIGHT = 26, 140


@dataclass(frozen=True)
class Bar:
    """A row of a ranked table: its bar is so many percent of the longest; a count that is not known has a hatched one."""

    label: Text
    number: Number
    share: str
    width: float
    code: str = ""
    place: int = 0


@dataclass(frozen=True)
class Point:
    """A quarter of a line: x in percent and y in pixels; y is None where there is no number.

    `change`: since the quarter before, where both are known.
    """

    quarter: Quarter
    number: Number
    change: str
    x: float
    y: float | None
    is_open: bool


@dataclass(frozen=True)
class Line:
    """Eight quarters of one indicator, with horizontal lines at `ticks` (y, text)."""

    points: Sequence[Point]
    ticks: Sequence[tuple[float, str]]
    summary: str

    @property
    def segments(self) -> list[tuple[Point, Point]]:
        """Neighbours that both have a number."""
        pairs = zip(self.points, self.points[1:], strict=False)
        return [pair for pair in pairs if all(point.y is not None for point in pair)]


@dataclass(frozen=True)
class Ranked:
    """A ranked table with its summary in words."""

    heading: Text
    bars: Sequence[Bar]
    summary: str


@dataclass(frozen=True)
class Crossed:
    """Sex by age: a row for each age with a number for each sex; the first two sexes are drawn against each other."""

    sexes: Sequence[Text]
    rows: Sequence[tuple[Text, Sequence[Bar]]]
    summary: str


@dataclass
class Figure:
    """All that the page shows of one indicator; every second part of the `definition` is a name in the code."""

    indicator: str
    variant: str
    title: str
    definition: Sequence[str]
    total: Number
    changes: Sequence[tuple[str, str]]
    age_unknown: Number
    undated: Number
    line: Line
    crossed: Crossed
    provinces: Ranked
    tiles: Mapping[str, tuple[Bar, int]]
    ranked: Mapping[str, Ranked]
    others: Sequence[tuple[str, str, Number]] = field(default_factory=list)


def page(report: Report, tables: Sequence[Shown], edition: str, now: datetime, revised: Sequence[Shown] = ()) -> str:
    """The page; `tables` are the report's own, or what is published of them, `edition` is `internal` or `public`.

    `revised`: those of the public tables that were published otherwise before.
    """
    style, script = _part("page.css") + _fonts(), _part("page.js")
    return (
        _environment()
        .get_template("page.html")
        .render(
            report=report,
            figures=[_Reader(report, tables, edition, indicator).figure() for indicator in report.variants],
            edition=edition,
            unconfirmed=UNCONFIRMED,
            made=local_time(now),
            moment=local_time,
            heading=report.words.heading,
            revisions=report.facts.revisions[:_ROWS],
            more_revisions=max(0, len(report.facts.revisions) - _ROWS),
            republished=[
                f"{_by(report, each)}, {_revised_period(each)}: {_children(report, each)}" for each in revised
            ],
            revised_by=lambda each: _by(report, each),
            revised_value=lambda each: _revised(report, each),
            revised_period=_revised_period,
            tile_places=TILES,
            style=style,
            script=script,
            style_hash=_hash(style),
            script_hash=_hash(script),
        )
    )


class _Reader:
    """Turns the tables of one indicator into what the page draws."""

    def __init__(self, report: Report, tables: Sequence[Shown], edition: str, indicator: str) -> None:
        self.report, self.words, self.edition = report, report.words, edition
        self.indicator, self.variant = indicator, report.variants[indicator]
        self.lacking: Cell = 0 if edition == "internal" else FEW
        self.tables = {
            table.name: table
            for table in tables
            if (table.indicator, table.variant, table.period, table.period_start)
            == (indicator, self.variant, report.period.kind, report.period.start)
        }
        self.totals: dict[tuple[str, str, date], Cell] = {
            (table.variant, table.period, table.period_start): table.cells[()]
            for table in tables
            if table.name == "total" and table.indicator == indicator and () in table.cells
        }
        self.total = self._total(report.period)

    def figure(self) -> Figure:
        """All that the page shows."""
        chosen = next(each for each in variants() if (each.indicator, each.name) == (self.indicator, self.variant))
        head, _, rest = chosen.words.partition("\n")
        return Figure(
            self.indicator,
            self.variant,
            title=f"{(title := head.partition(': ')[2])[:1].upper()}{title[1:]}",
            definition=rest.strip("\n").split("`"),
            total=self.total,
            changes=[self._change(before) for before in self.report.period.earlier()],
            age_unknown=self._number("age_group", "unknown"),
            undated=Number.of(self.tables["undated"].cells.get((), self.lacking)) if "undated" in self.tables else Number.of(None),
            line=self._line(),
            crossed=self._crossed(),
            provinces=(provinces := self._provinces()),
            tiles=_tiles(provinces.bars),
            ranked={
                name: self._ranked(name)
                for name in ("placement_type", "type_of_case", "disability", "disability_type", "service_type", "case_source")
                if name in self.tables
            },
            others=[
                (each.name, each.words.partition("\n")[0].partition(": ")[2], self._total(self.report.period, each.name))
                for each in variants()
                if each.indicator == self.indicator and each.name != self.variant
                and (each.name, self.report.period.kind, self.report.period.start) in self.totals
            ],
        )  # fmt: skip

    def _total(self, period: Period, variant: str | None = None) -> Number:
        return Number.of(self.totals.get((variant or self.variant, period.kind, period.start)))

    def _number(self, table: str, *labels: str) -> Number:
        return (
            Number.of(self.tables[table].cells.get(labels, self.lacking)) if table in self.tables else Number.of(None)
        )

    def _change(self, before: Period) -> tuple[str, str]:
        """Since when, with the figure of then, and by how much; a dash where one of the two is not known."""
        period, earlier = self.report.period, self._total(before)
        since = "a year before" if before == period.earlier()[-1] else "the quarter before"
        return f"since {since} ({before.name}: {earlier.text})", difference(earlier, self.total) or "–"

    def _line(self) -> Line:
        quarters = self.report.period.quarters()
        numbers = [self._total(Period.of_quarter(quarter)) for quarter in quarters]
        top = _round_up(max((number.value or 0 for number in numbers), default=0))
        points = [
            Point(
                quarter,
                number,
                difference(numbers[place - 1], number) if place else "",
                x=5 + 90 * place / (len(quarters) - 1),
                y=None if number.value is None else _TOP + _HEIGHT * (1 - number.value / top),
                is_open=self.report.open and quarter == quarters[-1],
            )
            for place, (quarter, number) in enumerate(zip(quarters, numbers, strict=True))
        ]
        ticks = [(_TOP + _HEIGHT * (1 - part), f"{top * part:,.0f}") for part in (0, 0.5, 1)]
        return Line(points, ticks, trend(quarters, numbers))

    def _ranked(self, name: str) -> Ranked:
        """All values, most first; in the order of names where they are alike."""
        table = self.tables[name]
        dimension = table.dimensions[0]
        pairs = [(self.words.value(dimension, labels[0]), Number.of(cell)) for labels, cell in table.cells.items()]
        return Ranked(self.words.heading(dimension), bars := self._bars(pairs), self._most(bars))

    def _provinces(self) -> Ranked:
        """All provinces, those of the tiles also where they have no child."""
        cells: Mapping[tuple[str, ...], Cell] = self.tables["province"].cells
        codes = {text.en: code for code, text in self.words.provinces.items()}
        named = {labels[0]: cell for labels, cell in cells.items()}
        names = dict.fromkeys([*named, *(text.en for code, text in self.words.provinces.items() if code in TILES)])
        pairs = [(self.words.value("province", name), Number.of(named.get(name, self.lacking))) for name in names]
        bars = self._bars(pairs, lambda label: codes.get(label.en, ""))
        return Ranked(self.words.heading("province"), bars, self._most(bars))

    def _bars(self, pairs: Iterable[tuple[Text, Number]], code: Callable[[Text], str] = lambda _: "") -> list[Bar]:
        ordered = sorted(pairs, key=lambda pair: (-(pair[1].value if pair[1].value is not None else -1), pair[0].en))
        most = max((number.value or 0 for _, number in ordered), default=0)
        return [
            Bar(label, number, self._share(number), _percent(number.value, most), code(label), place)
            for place, (label, number) in enumerate(ordered, start=1)
        ]

    def _share(self, number: Number) -> str:
        if number.value is None or not self.total.value:
            return ""
        share = 100 * number.value / self.total.value
        return "<1\u00a0%" if 0 < share < 0.5 else f"{share:.0f}\u00a0%"

    def _most(self, bars: Sequence[Bar]) -> str:
        """Say what is most, in words."""
        known = [bar for bar in bars if bar.number.value]
        if not known:
            return "There is no count to rank."
        named = [f"{bar.label.en} {bar.number.text}" + (f" ({bar.share})" if bar.share else "") for bar in known[:3]]
        unknown = sum(bar.number.value is None for bar in bars)
        few = f" Hatched, without a length: what is not shown exactly ({unknown})." if unknown else ""
        return f"Most children: {', '.join(named)}.{few}"

    def _crossed(self) -> Crossed:
        table = self.tables["sex_age"]
        cells: Mapping[tuple[str, ...], Cell] = table.cells
        known = list(self.words.options("sex"))
        there = dict.fromkeys(labels[0] for labels in cells)
        sexes = sorted(there, key=lambda sex: (known.index(sex) if sex in known else len(known), sex))
        numbers = {
            (age, sex): Number.of(cells.get((sex, age), self.lacking)) for age in _AGES for sex in sexes
        }  # fmt: skip
        most = max((number.value or 0 for number in numbers.values()), default=0)
        rows = [
            (
                self.words.value("age_group", age),
                [
                    Bar(self.words.value("sex", sex), n := numbers[age, sex], self._share(n), _percent(n.value, most))
                    for sex in sexes
                ],
            )
            for age in _AGES
        ]
        flat = [Bar(both((bar.label, age)), bar.number, bar.share, 0) for age, bars in rows for bar in bars]
        ordered = sorted(flat, key=lambda bar: -(bar.number.value or 0))
        return Crossed([self.words.value("sex", sex) for sex in sexes], rows, self._most(ordered))


def _tiles(bars: Sequence[Bar]) -> dict[str, tuple[Bar, int]]:
    """By code the bar of a province, and which of five shades its number has; 0 where it has none."""
    most = max((bar.number.value or 0 for bar in bars if bar.code in TILES), default=0)
    return {
        bar.code: (bar, 0 if not bar.number.value else 1 + min(4, 5 * bar.number.value // (most + 1)))
        for bar in bars
        if bar.code in TILES
    }


def _percent(value: int | None, most: int) -> float:
    return round(100 * (value or 0) / most, 2) if most else 0


def _round_up(number: int) -> int:
    """The next number of one figure, doubled or halved, so that half of it is whole."""
    step = 10
    while step * 10 < number:
        step *= 10
    return next(step * times // 10 for times in (10, 20, 40, 60, 80, 100, 200) if step * times // 10 >= number)


def _revised(report: Report, revision: Any) -> Text:  # noqa: ANN401
    """What a revised figure is of."""
    if revision.dimension == "all":
        return Text("all children")
    if revision.dimension == "sex_age":
        sex, _, age = revision.value.rpartition(" × ")
        return both((report.words.value("sex", sex), report.words.value("age_group", age)))
    named = report.words.value(revision.dimension, revision.value)
    heading = Text("Coverage") if revision.dimension == "coverage" else report.words.heading(revision.dimension)
    return Text(f"{heading.en}: {named.en}", f"{heading.km}: {named.km}" if heading.km and named.km else None)


def _by(report: Report, revised: Any) -> str:  # noqa: ANN401
    """The indicator, with the variant where it is not the one of the report."""
    chosen = report.variants[revised.indicator] == revised.variant
    return str(revised.indicator) if chosen else f"{revised.indicator} by {revised.variant}"


def _children(report: Report, table: Shown) -> str:
    return " × ".join(report.words.heading(name).en for name in table.dimensions) or "all children"


def _revised_period(revision: Any) -> str:  # noqa: ANN401
    start: date = revision.period_start
    if revision.period == "year":
        return str(start.year)
    return Quarter.parse(start.isoformat()).name if revision.period == "quarter" else f"{start:%Y-%m}"


@cache
def _environment() -> jinja2.Environment:
    """Templates of this package, in which every value is escaped."""
    return jinja2.Environment(
        loader=jinja2.FunctionLoader(_part), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )  # fmt: skip


@cache
def _part(name: str) -> str:
    return (files("primero_ona.report") / name).read_text(encoding="utf-8")


@cache
def _fonts() -> str:
    """The Khmer letters inside the page: many machines have none, and no page may ask for them."""
    rules = []
    for weight in (400, 700):
        content = (files("primero_ona.report") / "fonts" / f"noto-sans-khmer-khmer-{weight}-normal.woff2").read_bytes()
        rules.append(
            f'@font-face{{font-family:"Report Khmer";font-weight:{weight};font-display:block;unicode-range:U+1780-17FF,'
            f"U+19E0-19FF,U+200B-200D,U+25CC;src:url(data:font/woff2;base64,{base64.b64encode(content).decode()})}}"
        )
    return "\n".join(rules)


def _hash(text: str) -> str:
    """How a Content-Security-Policy names the one text that it allows."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
