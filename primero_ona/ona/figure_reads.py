"""Reading the indicators' figures: national totals, and what must hold of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import psycopg

from primero_ona.ona.connection import translate_errors
from primero_ona.ona.target import Target

#: Dimensions in which each child has one value, so that their figures add up to `all`.
SINGLE_VALUED = (
    "sex", "age_group", "disability", "disability_type", "province", "district", "placement_type", "type_of_case",
    "case_source", "consent_status", "sex_age", "province_sex",
)  # fmt: skip


@dataclass(frozen=True)
class Total:
    """The children of one indicator in one quarter of the whole country, by one variant.

    `age_unknown` of them have no known age; `undated` more would count but for a date.
    """

    children: int
    age_unknown: int
    undated: int

    @property
    def coverage(self) -> float:
        """Percent of those who count or would count that have a date and a known age; 100 where there are none."""
        every = self.children + self.undated
        return 100 * (self.children - self.age_unknown) / every if every else 100.0


def quarter_totals(conn: psycopg.Connection, variants: Mapping[str, str]) -> dict[tuple[str, date], Total]:
    """The national totals of every quarter by indicator and first day, by the given variant of each indicator."""
    wanted = {"indicators": [*variants], "variants": [*variants.values()]}
    with translate_errors("reading the indicators' figures in ONA"):
        rows = Target.find(conn).run(conn, _TOTALS, **wanted).fetchall()
    return {(indicator, first_day): Total(*counts) for indicator, first_day, *counts in rows}


def unequal_sums(conn: psycopg.Connection) -> dict[str, int]:
    """By dimension how often its values do not add up to `all`; empty where they always do."""
    with translate_errors("adding up the indicators' figures in ONA"):
        return dict(Target.find(conn).run(conn, _UNEQUAL, dimensions=[*SINGLE_VALUED]).fetchall())


def figures_beyond_children(conn: psycopg.Connection) -> int:
    """How many figures are larger than the number of children in ONA."""
    with translate_errors("comparing the indicators' figures with the cases in ONA"):
        return Target.find(conn).count(conn, _BEYOND)


_TOTALS = """
SELECT f.indicator, f.period_start,
       sum(f.children) FILTER (WHERE f.dimension = 'all'),
       COALESCE(sum(f.children) FILTER (WHERE f.value = 'age unknown'), 0),
       COALESCE(sum(f.children) FILTER (WHERE f.value = 'undated'), 0)
  FROM {indicator_figures} AS f
  JOIN unnest({indicators}::text[], {variants}::text[]) AS wanted (indicator, variant) USING (indicator, variant)
 WHERE f.period = 'quarter' AND f.dimension IN ('all', 'coverage')
 GROUP BY f.indicator, f.period_start
 ORDER BY f.indicator, f.period_start
"""

_UNEQUAL = """
SELECT d.dimension, count(*)
  FROM {indicator_figures} AS f
 CROSS JOIN unnest({dimensions}::text[]) AS d (dimension)
  LEFT JOIN (
    SELECT indicator, variant, period, period_start, dimension, sum(children) AS children
      FROM {indicator_figures}
     GROUP BY indicator, variant, period, period_start, dimension) AS parts
    ON (parts.indicator, parts.variant, parts.period, parts.period_start, parts.dimension)
     = (f.indicator, f.variant, f.period, f.period_start, d.dimension)
 WHERE f.dimension = 'all' AND f.children <> COALESCE(parts.children, 0)
 GROUP BY d.dimension
"""

_BEYOND = """
SELECT count(*)
  FROM {indicator_figures}
 WHERE children > (
    SELECT count(*) FROM {cases} WHERE primero_id IS NOT NULL AND case_status IS DISTINCT FROM 'duplicate')
"""
