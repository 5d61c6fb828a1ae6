"""Indicators 4.8 and 4.11a, computed in ONA from `cases` and `services` as they are: the table `indicator_figures`.

The definitions are in `indicators/`; here are the parts that they read, and the writing of what differs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, datetime
from typing import LiteralString

import psycopg
from psycopg import sql

from primero_ona.contract.column import Table
from primero_ona.contract.derived import INDICATOR_FIGURES
from primero_ona.contract.tables import CASES, SERVICES
from primero_ona.ona.connection import lock_loads, translate_errors
from primero_ona.ona.revisions import keep_revisions, keep_state, needs_computing
from primero_ona.ona.target import Target
from primero_ona.ona.variants import Variant, dimensions, fingerprint, lists, variants
from primero_ona.quarters import PHNOM_PENH


def compute_figures(
    conn: psycopg.Connection,
    *,
    run_id: str,
    now: datetime,
    first_year: int,
    defaults: Mapping[str, str],
    always: bool = True,
) -> bool:
    """Compute all figures and write those that differ, in one transaction, while no load writes; return whether it was needed.

    `now` is aware: it ends the present periods and stamps what is written. `first_year`: where periods begin. `defaults`:
    the variant of each indicator that the views show. Unless `always`, only where rows or definitions have changed since
    the last computation, or a day began in Phnom Penh. Raises DataError where ONA lacks something, TransientError where
    a load holds the lock.
    """
    today = now.astimezone(PHNOM_PENH).date()
    definition = fingerprint(str(first_year))
    with translate_errors("computing the indicators in ONA"), conn.transaction():
        lock_loads(conn)
        target = Target.find(conn)
        target.require(conn, INDICATOR_FIGURES, INDICATOR_FIGURES.mapped_names)
        if not always and not needs_computing(conn, target, definition, defaults, today):
            return False
        conn.execute(_PLAN_BY_HASHES)
        target.run(conn, _DIFFERENCES, new_figures=_query(conn, target, first_year, today))
        keep_revisions(conn, target, run_id, definition, today)
        for statement in (_REMOVE, _UPDATE, _INSERT):
            target.run(conn, statement, now=now)
        keep_state(conn, target, definition, defaults)
    return True


def _query(conn: psycopg.Connection, target: Target, first_year: int, today: date) -> sql.Composed:
    """Build the query of all figures (columns as `indicator_figures`, without its stamp); `today` is in Phnom Penh."""
    return sql.SQL(_ALL_FIGURES).format(
        **target.names,
        today=today,
        first_year=first_year,
        case_columns=_typed(conn, target, CASES, _CASE_COLUMNS),
        service_columns=_typed(conn, target, SERVICES, _SERVICE_COLUMNS),
        placements=list(lists().placements),
        subtypes=list(lists().service_subtypes),
        dimensions=sql.SQL(dimensions()),
        figures=sql.SQL(" UNION ALL ").join(_figures(variant) for variant in variants()),
    )


def _figures(variant: Variant) -> sql.Composed:
    """Build the query of the figures of one variant: those that are counted, zeros, and how many lack a date."""
    named = {"indicator": variant.indicator, "variant": variant.name, "kinds": list(variant.periods)}
    counted = sql.SQL(_COUNTED_PERIODS if variant.by_period else _COUNTED_DAYS)
    undated = sql.SQL(_UNDATED).format(**named, children=sql.SQL(variant.undated)) if variant.undated else sql.SQL("")
    return sql.SQL(_OF_VARIANT).format(**named, counted=counted.format(events=sql.SQL(variant.sql)), undated=undated)


def _typed(conn: psycopg.Connection, target: Target, table: Table, names: Iterable[str]) -> sql.Composed:
    """The columns with the types of the contract, whatever they are in ONA; raises DataError where it lacks one."""
    found = target.require(conn, table, names)
    typed = []
    for name in names:
        column = table.column(name)
        # By its text: a timestamp becomes a date, and a number with a fraction of zero a whole one.
        cast = "{0}" if found[name] == column.type else _CASTS.get(column.type, "{0}::" + column.type)
        if name in _OF_PROFILES:
            cast = "COALESCE(NULLIF(" + cast + ", ''), '(empty)')"
        typed.append(sql.SQL(cast + " AS {0}").format(sql.Identifier(name)))
    return sql.SQL(", ").join(typed)


_CASTS: dict[str, LiteralString] = {
    "date": "NULLIF(btrim({0}::text), '')::date",
    "integer": "NULLIF(btrim({0}::text), '')::numeric::integer",
}

_OF_PROFILES = (
    "sex", "province_current", "district_current", "placement_type", "type_of_case", "case_source", "consent_status", "disabled",
    "protection_concerns", "service_type",
)  # fmt: skip
_CASE_COLUMNS = (
    "primero_id", "registration_date", "care_date", "date_of_reintegration", "date_closure", "case_status", "age",
    "age_at_registration", "age_at_placement", "age_at_reintegration", *_OF_PROFILES[:-1],
)  # fmt: skip
_SERVICE_COLUMNS = ("primero_case_id", "service_date", "age_at_service", "service_type", "service_subtypes")

# Of parts of a query the planner knows neither rows nor values: it would go on row by row, or sort for every join. Each part
# keeps its memory until the statement ends, so each gets little: 0.6 GB in all for a million cases, 1.1 GB for 100,000 otherwise.
_PLAN_BY_HASHES = """
SELECT set_config(name, value, true)
  FROM (VALUES ('enable_nestloop', 'off'), ('enable_mergejoin', 'off'), ('enable_sort', 'off'), ('work_mem', '8MB'))
    AS wanted (name, value)
"""

# All figures in one statement: a temporary table for each part would cost more than the part itself.
_ALL_FIGURES = """
WITH
-- Months are counted from the first: a quarter is three of them, a year twelve. `first_month` is the first of a period.
periods AS MATERIALIZED (
    SELECT (row_number() OVER ())::smallint AS period_id, kind AS period, first::date AS first_day,
           (first + length)::date AS next_first_day,
           ((EXTRACT(YEAR FROM first) - {first_year}) * 12 + EXTRACT(MONTH FROM first) - 1)::integer AS first_month
      FROM (VALUES ('month', interval '1 month'), ('quarter', interval '3 months'), ('year', interval '1 year'))
        AS kinds (kind, length),
           generate_series(make_date({first_year}, 1, 1)::timestamp, {today}::timestamp, length) AS first
),
quarters_and_years AS MATERIALIZED (SELECT * FROM periods WHERE period <> 'month'),
calendar AS MATERIALIZED (
    SELECT day::date, (12 * (EXTRACT(YEAR FROM day) - EXTRACT(YEAR FROM first)) + EXTRACT(MONTH FROM day) - 1)::integer AS month
      FROM (SELECT min(first_day) AS first, max(next_first_day) AS next FROM periods) AS known,
           generate_series(first::timestamp, next - interval '1 day', interval '1 day') AS day
),
month_periods AS MATERIALIZED (
    SELECT month, period_id, period
      FROM (SELECT DISTINCT month FROM calendar) AS months
      JOIN periods ON month - first_month BETWEEN 0 AND CASE period WHEN 'month' THEN 0 WHEN 'quarter' THEN 2 ELSE 11 END
),
-- The legacy pipeline's rows have no Primero id.
case_rows AS MATERIALIZED (
    SELECT {case_columns}, placement_type::text AS placement
      FROM {cases}
     WHERE primero_id IS NOT NULL AND case_status IS DISTINCT FROM 'duplicate'
),
-- Profiles: children are counted by these few numbers, and not by texts. Those of places leave eight for each, for the age
-- groups; the others lie between them.
places AS MATERIALIZED (
    SELECT (row_number() OVER ())::integer * 8 AS place, *
      FROM (SELECT DISTINCT sex, province_current, district_current FROM case_rows) AS known
),
cares AS MATERIALIZED (
    SELECT (row_number() OVER ())::integer * 8 + 5 AS care, *
      FROM (SELECT DISTINCT placement_type, type_of_case, case_source, consent_status, disabled FROM case_rows) AS known
),
concern_sets AS MATERIALIZED (
    SELECT (row_number() OVER ())::integer * 8 + 6 AS concerns, * FROM (SELECT DISTINCT protection_concerns FROM case_rows) AS known
),
-- `registration_month`: the first month, counted as in `periods`, that begins on the day of registration or later; negative
-- before the first.
children AS MATERIALIZED (
    SELECT (row_number() OVER ())::integer AS child, r.primero_id,
           r.registration_date, r.care_date, r.date_of_reintegration, r.date_closure,
           ((EXTRACT(YEAR FROM r.registration_date) - {first_year}) * 12
               + EXTRACT(MONTH FROM r.registration_date) - 1)::integer
               + (EXTRACT(DAY FROM r.registration_date) > 1)::integer AS registration_month,
           r.case_status, r.placement AS placement_type, r.type_of_case,
           COALESCE(string_to_array(r.placement, ', ') && {placements}, false) AS placed_in_family,
           r.age, r.age_at_registration, r.age_at_placement, r.age_at_reintegration,
           p.place, c.care, s.concerns
      FROM case_rows AS r
      JOIN places AS p USING (sex, province_current, district_current)
      JOIN cares AS c USING (placement_type, type_of_case, case_source, consent_status, disabled)
      JOIN concern_sets AS s USING (protection_concerns)
),
service_rows AS MATERIALIZED (SELECT {service_columns} FROM {services} WHERE primero_case_id IS NOT NULL),
service_types AS MATERIALIZED (
    SELECT (row_number() OVER ())::integer AS type, * FROM (SELECT DISTINCT service_type FROM service_rows) AS known
),
type_labels AS MATERIALIZED (
    SELECT DISTINCT type, dense_rank() OVER (ORDER BY part)::integer * 8 + 7 AS service_label, part AS service_type
      FROM service_types, unnest(string_to_array(service_type, ', ')) AS part
),
child_services AS MATERIALIZED (
    SELECT c.child, r.service_date, r.age_at_service, c.age, t.type,
           COALESCE(string_to_array(r.service_subtypes, ', ') && {subtypes}, false) AS into_family
      FROM service_rows AS r
      JOIN children AS c ON c.primero_id = r.primero_case_id
      JOIN service_types AS t USING (service_type)
),
-- A month is there once for each child and label; whether it is the first of its quarter and of its year with it, is marked.
given_labels AS MATERIALIZED (
    SELECT child, service_label, month, first_of_quarter, first_of_year
      FROM (SELECT child, service_label, month, lag(month) OVER earlier IS DISTINCT FROM month AS first_of_month,
                   lag(month / 3) OVER earlier IS DISTINCT FROM month / 3 AS first_of_quarter,
                   lag(month / 12) OVER earlier IS DISTINCT FROM month / 12 AS first_of_year
              FROM child_services
              JOIN calendar ON day = service_date
              JOIN type_labels USING (type)
            WINDOW earlier AS (PARTITION BY child, service_label ORDER BY month)) AS given
     WHERE first_of_month
),
named_values AS MATERIALIZED ({dimensions}),
known_values AS MATERIALIZED (
    SELECT (row_number() OVER ())::integer AS value_id, * FROM (SELECT DISTINCT dimension, value FROM named_values) AS named
),
profile_values AS MATERIALIZED (SELECT profile, value_id FROM named_values JOIN known_values USING (dimension, value))
{figures}
"""

# The first event that counts gives the age; of several on one day the lowest, unknown last. A month is there once for each
# child; whether its event is the first of the quarter and of the year, too, is marked.
_COUNTED_DAYS = """
SELECT child, month, age, first_of_quarter, first_of_year
  FROM (SELECT child, month, age, lag(month) OVER earlier IS DISTINCT FROM month AS first_of_month,
               lag(month / 3) OVER earlier IS DISTINCT FROM month / 3 AS first_of_quarter,
               lag(month / 12) OVER earlier IS DISTINCT FROM month / 12 AS first_of_year
          FROM ({events}) AS event
          JOIN calendar USING (day)
         WHERE COALESCE(age, 0) < 18
        WINDOW earlier AS (PARTITION BY child ORDER BY day, age NULLS LAST)) AS event
 WHERE first_of_month
"""

# Quarters and years stand at their first months.
_COUNTED_PERIODS = """
SELECT child, first_month AS month, age, period = 'quarter' AS first_of_quarter, period = 'year' AS first_of_year
  FROM ({events}) AS event
  JOIN periods USING (period_id)
 WHERE COALESCE(age, 0) < 18
"""

_OF_VARIANT = """
(WITH counted AS MATERIALIZED (
{counted}
),
-- Children by month and profile; those of a quarter or a year stand at the month that marks it. Of the services those that were
-- given in the period, whatever the child counts by.
cells AS MATERIALIZED (
    SELECT month, COALESCE(place, care, concerns) AS profile, count(*) AS in_month,
           count(*) FILTER (WHERE first_of_quarter) AS in_quarter, count(*) FILTER (WHERE first_of_year) AS in_year
      FROM (SELECT n.month, n.first_of_quarter, n.first_of_year, c.care, c.concerns,
                   c.place + CASE WHEN n.age < 5 THEN 0 WHEN n.age < 10 THEN 1 WHEN n.age < 15 THEN 2 WHEN n.age < 18 THEN 3 ELSE 4
                             END AS place
              FROM counted AS n
              JOIN children AS c USING (child)) AS found
     GROUP BY GROUPING SETS ((month, place), (month, care), (month, concerns))
    UNION ALL
    SELECT c.month, g.service_label, count(*) FILTER (WHERE g.month = c.month),
           count(*) FILTER (WHERE c.first_of_quarter AND g.first_of_quarter AND g.month / 3 = c.month / 3),
           count(*) FILTER (WHERE c.first_of_year AND g.first_of_year)
      FROM counted AS c
      JOIN given_labels AS g ON g.child = c.child AND g.month / 12 = c.month / 12
     GROUP BY c.month, g.service_label
),
figures AS MATERIALIZED (
    SELECT {indicator} AS indicator, {variant} AS variant, p.period, p.first_day AS period_start, k.dimension, k.value,
           f.children::integer AS children
      FROM (SELECT m.period_id, v.value_id,
                   sum(CASE m.period WHEN 'month' THEN v.in_month WHEN 'quarter' THEN v.in_quarter ELSE v.in_year END) AS children
              FROM (SELECT month, value_id, sum(in_month) AS in_month, sum(in_quarter) AS in_quarter, sum(in_year) AS in_year
                      FROM cells
                      JOIN profile_values USING (profile)
                     GROUP BY month, value_id) AS v
              JOIN month_periods AS m USING (month)
             WHERE m.period = ANY ({kinds})
             GROUP BY m.period_id, v.value_id) AS f
      JOIN known_values AS k USING (value_id)
      JOIN periods AS p USING (period_id)
     WHERE f.children > 0
)
SELECT * FROM figures
 UNION ALL
SELECT {indicator}, {variant}, period, first_day, 'all', 'all', 0
  FROM periods
 WHERE period = ANY ({kinds})
   AND (period, first_day) NOT IN (SELECT period, period_start FROM figures WHERE dimension = 'all')
{undated})
"""

_UNDATED = """
 UNION ALL
SELECT {indicator}, {variant}, p.period, p.first_day, 'coverage', 'undated', count(*)
  FROM ({children}) AS u
  JOIN children AS c USING (child)
  JOIN calendar AS d ON d.day = c.registration_date
  JOIN month_periods AS m USING (month)
  JOIN periods AS p USING (period_id)
 WHERE COALESCE(c.age_at_registration, c.age, 0) < 18 AND p.period = ANY ({kinds})
 GROUP BY p.period, p.first_day
"""

_DIFFERENCES = """
CREATE TEMPORARY TABLE changed_figures ON COMMIT DROP AS
SELECT indicator, variant, period, period_start, dimension, value, f.children AS old, n.children AS new
  FROM {indicator_figures} AS f
  FULL JOIN ({new_figures}) AS n USING (indicator, variant, period, period_start, dimension, value)
 WHERE f.children IS DISTINCT FROM n.children
"""

_REMOVE = """
DELETE FROM {indicator_figures} AS f
 USING changed_figures AS c
 WHERE c.new IS NULL
   AND (f.indicator, f.variant, f.period, f.period_start, f.dimension, f.value)
     = (c.indicator, c.variant, c.period, c.period_start, c.dimension, c.value)
"""

# Without ON CONFLICT: a table that was restored without its key has its figures, too.
_UPDATE = """
UPDATE {indicator_figures} AS f
   SET children = c.new, updated_at = {now}
  FROM changed_figures AS c
 WHERE c.old IS NOT NULL AND c.new IS NOT NULL
   AND (f.indicator, f.variant, f.period, f.period_start, f.dimension, f.value)
     = (c.indicator, c.variant, c.period, c.period_start, c.dimension, c.value)
"""

_INSERT = """
INSERT INTO {indicator_figures} (indicator, variant, period, period_start, dimension, value, children, updated_at)
SELECT indicator, variant, period, period_start, dimension, value, new, {now} FROM changed_figures WHERE old IS NULL
"""
