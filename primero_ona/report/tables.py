"""Read what a report says from ONA: the indicators' figures as tables, and facts of the bookkeeping; no row of a case."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from typing import Generic, TypeVar

import psycopg
from psycopg import sql

from primero_ona.errors import DataError
from primero_ona.ona.connection import translate_errors
from primero_ona.ona.figure_reads import SINGLE_VALUED
from primero_ona.ona.reference import read_dictionary
from primero_ona.ona.revisions import FIRST_LOAD
from primero_ona.ona.target import Target
from primero_ona.ona.variants import VARIANTS
from primero_ona.quarters import Quarter
from primero_ona.report.words import AND, Words

#: A count, or where it is not given exactly a text, as the public edition has it.
Cell = int | str

#: Quarters that the lines show, the last one included.
QUARTERS = 8

#: The figures' dimensions that have a table of their own.
_TABLES = (
    *("sex_age", "sex", "age_group", "placement_type", "type_of_case", "province", "disability", "disability_type"),
    *("service_type", "case_source"),
)

_CellT_co = TypeVar("_CellT_co", bound=Cell, covariant=True)


@dataclass(frozen=True)
class Table(Generic[_CellT_co]):
    """Children of one indicator, variant and period by the labels of `dimensions`; those without dimensions have one cell.

    `cells`: exact numbers, of which none is there where it would be 0, but for the total; or the texts of the public edition.
    `adds_up`: each child has one value, so the cells add up to the total. `period_start`: its first day in Phnom Penh.
    """

    name: str
    indicator: str
    variant: str
    period: str
    period_start: date
    dimensions: tuple[str, ...]
    cells: Mapping[tuple[str, ...], _CellT_co]
    adds_up: bool


#: A table of either edition: exact numbers, or texts such as `10` and `<5`.
Shown = Table[Cell]


@dataclass(frozen=True, order=True)
class Period:
    """A quarter or a year, by its first quarter."""

    kind: str
    first: Quarter

    @classmethod
    def of_quarter(cls, quarter: Quarter) -> Period:
        """The period of one quarter."""
        return cls("quarter", quarter)

    @classmethod
    def of_year(cls, year: int) -> Period:
        """The period of the four quarters of a year."""
        return cls("year", Quarter(year, 1))

    @property
    def start(self) -> date:
        """Its first day."""
        return date.fromisoformat(self.first.key)

    @property
    def last(self) -> Quarter:
        """Its last quarter."""
        return self.first if self.kind == "quarter" else Quarter(self.first.year, 4)

    @property
    def name(self) -> str:
        """How people and files write it: `2024-Q1` or `2024`."""
        return self.first.name if self.kind == "quarter" else f"{self.first.year:04d}"

    @property
    def label(self) -> str:
        """How it is shown."""
        return self.first.label if self.kind == "quarter" else self.name

    def earlier(self) -> list[Period]:
        """What it is compared with: the quarter before, and the same quarter or year a year before."""
        year_before = Period(self.kind, Quarter(self.first.year - 1, self.first.number))
        return [Period(self.kind, self.first.previous()), year_before] if self.kind == "quarter" else [year_before]

    def quarters(self) -> list[Quarter]:
        """The quarters of the lines, oldest first."""
        found = [self.last]
        while len(found) < QUARTERS:
            found.insert(0, found[0].previous())
        return found


@dataclass(frozen=True)
class Revision:
    """A figure that became another after its period had closed, and why."""

    indicator: str
    variant: str
    period: str
    period_start: date
    dimension: str
    value: str
    old: int
    new: int
    changed_at: datetime
    reason: str


@dataclass(frozen=True)
class Facts:
    """What stands beside the figures, exact: of all of ONA, but for `revisions`. Times are aware.

    `unmapped`: by field distinct codes and rows; `quarantine`: by table and reason cases and entries.
    """

    computed_at: datetime | None
    synced_at: datetime | None
    period_synced_at: datetime | None
    legacy_rows: int
    oscar_age_zero: int
    oscar_undated: int
    keys_made: int
    unmapped: tuple[tuple[str, int, int], ...]
    quarantine: tuple[tuple[str, str, int, int], ...]
    revisions: tuple[Revision, ...]


@dataclass(frozen=True)
class Report:
    """All that a report says: its tables by the `variants` of the settings, and totals by the others."""

    period: Period
    variants: Mapping[str, str]
    tables: tuple[Table[int], ...]
    facts: Facts
    words: Words
    open: bool


def read_report(conn: psycopg.Connection, period: Period, variants: Mapping[str, str], now: datetime) -> Report:
    """Read the report of a period, all of it as of one moment; `now` is aware.

    Raises DataError where ONA has no figures of it.
    """
    with translate_errors("reading the report from ONA"), _one_moment(conn):
        return report_of(conn, period, variants, now)


def report_of(conn: psycopg.Connection, period: Period, variants: Mapping[str, str], now: datetime) -> Report:
    """As read_report, in a transaction in which no figure changes meanwhile."""
    target = Target.find(conn)
    totals = sorted({*(Period("quarter", quarter) for quarter in period.quarters()), period, *period.earlier()})
    asked = {
        "first": period.first.name,
        "last": period.last.name,
        "first_load": FIRST_LOAD,
        "kind": period.kind,
        "start": period.start,
        "kinds": [each.kind for each in totals],
        "starts": [each.start for each in totals],
        "indicators": [*variants],
        "variants": [*variants.values()],
        "dimensions": [*_TABLES, "coverage"],
    }
    found: dict[tuple[str, str, str, date, str], dict[str, int]] = {}
    for *place, value, children in conn.execute(sql.SQL(_FIGURES).format(**target.names), asked):
        found.setdefault(tuple(place), {})[value] = children
    tables = tuple(_tables(found, period, totals, variants))
    if not any(table.name == "total" and table.period_start == period.start for table in tables):
        raise DataError(
            f"ONA has no figures of {period.name}; sync it, or run the job compute_figures where PRIMERO_ONA_START admits it",
            see="figures",
        )
    return Report(
        period,
        variants,
        tables,
        _facts(conn, target, asked),
        Words(read_dictionary(conn), conn.execute(sql.SQL(_PROVINCES).format(**target.names)).fetchall()),
        open=period.last.is_open(now),
    )


@contextmanager
def _one_moment(conn: psycopg.Connection) -> Iterator[None]:
    """A transaction that only reads, and sees nothing that is committed meanwhile."""
    before = conn.isolation_level, conn.read_only
    conn.isolation_level, conn.read_only = psycopg.IsolationLevel.REPEATABLE_READ, True
    try:
        with conn.transaction():
            yield
    finally:
        conn.isolation_level, conn.read_only = before


def _tables(
    found: Mapping[tuple[str, str, str, date, str], Mapping[str, int]],
    period: Period,
    totals: Sequence[Period],
    variants: Mapping[str, str],
) -> Iterator[Table[int]]:
    """The totals by all variants, what would count but for a date, and the tables of the period."""
    for indicator, names in VARIANTS.items():
        for variant in names:
            for each in totals:
                place = indicator, variant, each.kind, each.start
                if "all" in (cells := found.get((*place, "all"), {})):
                    yield Table("total", *place, (), {(): cells["all"]}, adds_up=True)
        chosen = indicator, variants[indicator], period.kind, period.start
        undated = found.get((*chosen, "coverage"), {}).get("undated", 0)
        yield Table("undated", *chosen, (), {(): undated} if undated else {}, adds_up=True)
        for name in _TABLES:
            parts = ("sex", "age_group") if name == "sex_age" else (name,)
            cells_by = {
                tuple(value.rsplit(AND, len(parts) - 1)): count
                for value, count in found.get((*chosen, name), {}).items()
            }
            yield Table(name, *chosen, parts, cells_by, adds_up=name in SINGLE_VALUED)


def _facts(conn: psycopg.Connection, target: Target, asked: Mapping[str, object]) -> Facts:
    values = (
        *conn.execute(_TIMES, asked).fetchall()[0],
        *conn.execute(sql.SQL(_COUNTS).format(**target.names)).fetchall()[0],
        tuple(conn.execute(_UNMAPPED)),
        tuple(conn.execute(_QUARANTINE)),
        tuple(Revision(*row) for row in conn.execute(_REVISIONS, asked)),
    )
    return Facts(*values)


_FIGURES = """
SELECT indicator, variant, period, period_start, dimension, value, children
  FROM {indicator_figures} AS f
 WHERE (dimension = 'all' AND (period, period_start) IN (SELECT * FROM unnest(%(kinds)s::text[], %(starts)s::date[])))
    OR (period = %(kind)s AND period_start = %(start)s AND dimension = ANY (%(dimensions)s))
"""

_PROVINCES = """
SELECT DISTINCT ON (province_code) province_code, province, province_km
  FROM {locations_lookup}
 WHERE province_code IS NOT NULL AND province IS NOT NULL
 ORDER BY province_code, status, code
"""

_TIMES = """
SELECT (SELECT max(computed_at) FROM primero_sync.indicators), max(finished_at),
       max(finished_at) FILTER (WHERE quarter BETWEEN %(first)s AND %(last)s)
  FROM primero_sync.runs
"""

# ONA's columns may be of other types than the contract's, so they are compared as texts. A key that was made ends with the
# case's id of Primero.
_COUNTS = """
SELECT count(*) FILTER (WHERE primero_id IS NULL),
       count(*) FILTER (WHERE case_source = 'oscar' AND btrim(age::text) = '0'),
       (SELECT count(*)
          FROM {services} AS s
          JOIN {cases} AS c ON c.primero_id::text = s.primero_case_id::text
         WHERE c.case_source = 'oscar' AND NULLIF(btrim(s.service_date::text), '') IS NULL),
       count(*) FILTER (WHERE case_id::text LIKE '%~' || left(primero_id::text, 8)
                           OR case_id::text LIKE '%~' || replace(primero_id::text, '-', ''))
  FROM {cases}
"""

_UNMAPPED = """
SELECT field, count(DISTINCT COALESCE(code, '')), sum(count)::bigint FROM primero_sync.unmapped GROUP BY field ORDER BY field
"""

_QUARANTINE = """
SELECT table_name, reason, count(DISTINCT primero_id), sum(entries)::bigint
  FROM primero_sync.quarantine
 WHERE resolved_at IS NULL
 GROUP BY table_name, reason
 ORDER BY table_name, reason
"""

# What a backfill brings is no revision: the figure was not known before.
_REVISIONS = """
SELECT h.indicator, h.variant, h.period, h.period_start, h.dimension, h.value, h.old, h.new, h.changed_at, h.reason
  FROM primero_sync.indicator_history AS h
 WHERE h.reason <> %(first_load)s
   AND ((h.dimension = 'all'
         AND (h.period, h.period_start) IN (SELECT * FROM unnest(%(kinds)s::text[], %(starts)s::date[])))
     OR (h.period = %(kind)s AND h.period_start = %(start)s AND h.dimension = ANY (%(dimensions)s)
         AND (h.indicator, h.variant) IN (SELECT * FROM unnest(%(indicators)s::text[], %(variants)s::text[]))))
 ORDER BY date_trunc('minute', h.changed_at) DESC, h.dimension <> 'all', h.period_start DESC, h.indicator, h.variant, h.dimension, h.value,
          h.changed_at DESC
"""
