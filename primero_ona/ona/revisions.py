"""What is remembered of the figures in `primero_sync`: how they were computed, which were revised and why, what was published."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import psycopg
from psycopg import sql

from primero_ona.ona.connection import translate_errors
from primero_ona.ona.target import Target

LATE, FIRST_LOAD, EXIT, UNKNOWN = "late registration", "first load of a past quarter", "exit", "unknown"
#: What may have caused a revision, in the order in which its reason names them.
_CAUSES = (LATE, FIRST_LOAD, "correction", EXIT, "mapping changed", "definition changed", UNKNOWN)


def needs_computing(
    conn: psycopg.Connection, target: Target, definition: str, defaults: Mapping[str, str], today: date
) -> bool:
    """Whether anything that decides about figures has changed since they were computed.

    `definition` is the fingerprint of now, `today` the day in Phnom Penh. Repairs and erasures, which are no loads of a
    quarter, show in the number of rows or in the newest stamp.
    """
    known = conn.execute("SELECT indicator, variant, definition, seen FROM primero_sync.indicators").fetchall()
    now = (definition, _seen(conn, target))
    if {row[0]: row[1:] for row in known} != {name: (variant, *now) for name, variant in defaults.items()}:
        return True
    return bool(conn.execute(_ANYTHING_NEW, {"today": today}).fetchall()[0][0])


def keep_revisions(conn: psycopg.Connection, target: Target, run_id: str, definition: str, today: date) -> None:
    """Keep the figures of closed periods in `changed_figures` that were another before, and why.

    Called before they are written. A period whose first figures these are has none to revise.
    """
    revised = sql.SQL(_REVISED).format(**target.names, today=today)
    if not target.run(conn, "{revised} LIMIT 1", revised=revised).fetchone():
        return
    happened = target.run(conn, _HAPPENED, definition=definition).fetchall()[0]
    causes = [cause for cause, so in zip(_CAUSES, happened, strict=True) if so]
    reasons = {"rising": _reason(causes, EXIT), "falling": _reason(causes, LATE, FIRST_LOAD), "either": _reason(causes)}
    target.run(conn, _KEEP, revised=revised, run_id=run_id, **reasons)


def keep_state(conn: psycopg.Connection, target: Target, definition: str, defaults: Mapping[str, str]) -> None:
    """Remember that all figures are computed by this definition from the present rows, and which variants the views show."""
    seen = _seen(conn, target)
    for indicator, variant in defaults.items():
        conn.execute(_KEEP_STATE, (indicator, variant, definition, seen))


def keep_published(
    conn: psycopg.Connection, period: str, start: date, tables: Sequence[Mapping[str, Any]], run_id: str
) -> None:
    """Keep the tables of the public edition of a period as they are given out; nothing where the last one was the same.

    Called before they are given out: what is not known to be published is not protected.
    """
    known = {"period": period, "start": start, "run_id": run_id, "tables": json.dumps(tables, ensure_ascii=False)}
    with translate_errors("keeping in ONA what is published"), conn.transaction():
        conn.execute(_KEEP_PUBLISHED, known)


def read_published(conn: psycopg.Connection) -> list[dict[str, Any]]:
    """All tables that were ever published, oldest edition first."""
    with translate_errors("reading from ONA what was published"), conn.transaction():
        rows = conn.execute(
            "SELECT tables FROM primero_sync.published_figures ORDER BY published_at, period, period_start"
        )
        return [table for (tables,) in rows for table in tables]


def _seen(conn: psycopg.Connection, target: Target) -> str:
    return str(target.run(conn, _SEEN).fetchall()[0][0])


def _reason(causes: Sequence[str], *excluded: str) -> str:
    """What may have caused a change, in words; where several may have, all of them."""
    return " or ".join(cause for cause in causes if cause not in excluded) or UNKNOWN


_ANYTHING_NEW = """
SELECT EXISTS (
    SELECT FROM primero_sync.indicators AS i
     WHERE (i.computed_at AT TIME ZONE 'Asia/Phnom_Penh')::date <> %(today)s
        OR EXISTS (
            SELECT FROM primero_sync.runs AS r, jsonb_each(r.counts) AS t, jsonb_each_text(t.value) AS n
             WHERE r.finished_at > i.computed_at AND n.key IN ('inserted', 'updated', 'removed') AND n.value <> '0'))
"""

# The `all` of a period is there from its first computation on.
_REVISED = """
SELECT c.*
  FROM changed_figures AS c
 WHERE (c.period_start + CASE c.period WHEN 'month' THEN interval '1 month' WHEN 'quarter' THEN interval '3 months'
                         ELSE interval '1 year' END)::date <= {today}
   AND EXISTS (
    SELECT FROM {indicator_figures} AS f
     WHERE f.indicator = c.indicator AND f.variant = c.variant AND f.period = c.period
       AND f.period_start = c.period_start AND f.dimension = 'all')
"""

# A case that comes makes no figure smaller, but of ages: a service may come that was given at an earlier one, or that has a
# day. A case that leaves makes none larger.
_KEEP = """
INSERT INTO primero_sync.indicator_history
       (indicator, variant, period, period_start, dimension, value, old, new, run_id, reason)
SELECT indicator, variant, period, period_start, dimension, value, COALESCE(old, 0), COALESCE(new, 0), {run_id},
       CASE WHEN COALESCE(new, 0) > COALESCE(old, 0) THEN {rising}
            WHEN dimension IN ('age_group', 'sex_age', 'coverage') THEN {either}
            ELSE {falling}
       END
  FROM ({revised}) AS revised
"""

_SEEN = """
SELECT concat_ws(' ', c.number, c.newest, (SELECT count(*) FROM {services}))
  FROM (SELECT count(*) AS number, max(last_updated_date::text) AS newest FROM {cases}) AS c
"""

# The time is the server's: the loader may not name one.
_KEEP_PUBLISHED = """
INSERT INTO primero_sync.published_figures (period, period_start, run_id, tables)
SELECT %(period)s, %(start)s, %(run_id)s, %(tables)s::jsonb
 WHERE %(tables)s::jsonb IS DISTINCT FROM (
    SELECT tables FROM primero_sync.published_figures
     WHERE period = %(period)s AND period_start = %(start)s
     ORDER BY published_at DESC LIMIT 1)
"""

_KEEP_STATE = """
INSERT INTO primero_sync.indicators (indicator, variant, definition, seen, computed_at)
VALUES (%s, %s, %s, %s, clock_timestamp())
ON CONFLICT (indicator) DO UPDATE
   SET variant = excluded.variant, definition = excluded.definition, seen = excluded.seen, computed_at = excluded.computed_at
"""

# What has happened since the last computation, as far as loads and erasures have recorded it, in the order of the causes; nothing
# where there was none. A load stamps each case that it writes with the time at which it began; repairs and other hands do not
# record theirs.
_HAPPENED = """
WITH last AS (SELECT min(computed_at) AS at, min(definition) AS definition FROM primero_sync.indicators),
loads AS (
    SELECT finished_at, mapping_version,
           row_number() OVER of_quarter = 1
               AND make_date(left(quarter, 4)::integer, right(quarter, 1)::integer * 3 - 2, 1) + interval '3 months'
                   <= finished_at AT TIME ZONE 'Asia/Phnom_Penh' AS first_of_past,
           lag(mapping_version) OVER of_quarter AS mapping_before,
           (counts #>> '{{cases,inserted}}')::bigint + (counts #>> '{{services,inserted}}')::bigint AS inserted,
           (counts #>> '{{cases,updated}}')::bigint + (counts #>> '{{services,updated}}')::bigint AS updated,
           (counts #>> '{{cases,removed}}')::bigint AS removed,
           (counts #>> '{{services,removed}}')::bigint AS services_removed
      FROM primero_sync.runs
    WINDOW of_quarter AS (PARTITION BY quarter ORDER BY finished_at)
)
SELECT bool_or(inserted > 0 AND NOT first_of_past),
       bool_or(inserted > 0 AND first_of_past),
       bool_or(updated > 0 OR (services_removed > 0 AND removed = 0)),
       COALESCE(bool_or(removed > 0), false)
           OR EXISTS (SELECT FROM primero_sync.erasures WHERE erased_at >= (SELECT at FROM last)),
       bool_or(mapping_before IS DISTINCT FROM mapping_version AND mapping_before IS NOT NULL),
       (SELECT definition <> {definition} FROM last),
       EXISTS (
        SELECT FROM {cases} AS c
         WHERE NULLIF(btrim(c.last_updated_date::text), '')::timestamp > (SELECT at AT TIME ZONE 'UTC' FROM last)
           AND NULLIF(btrim(c.last_updated_date::text), '')::timestamp NOT IN (
            SELECT date_trunc('second', started_at AT TIME ZONE 'UTC')
              FROM primero_sync.runs
             WHERE finished_at > (SELECT at FROM last)))
  FROM loads
 WHERE finished_at > (SELECT at FROM last)
"""
