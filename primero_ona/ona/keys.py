"""Which staged row bears which key in ONA: decided once, in the load, where all holders of a key are known.

Neither `case_id_display` nor a service's `unique_id` is unique in Primero, and every row has to come. The row that holds
a plain key in ONA keeps it, a free one goes to the case created first, and every other row gets a key of its own, made of
the plain one and the case's id (`c063aeb~1f2a93b0`). A row keeps its key as long as it wants the same plain one.

Staged rows arrive with plain keys and leave with those that they bear, so that no later statement needs to know the rule.
"""

from __future__ import annotations

from typing import LiteralString

import psycopg
from psycopg import sql

from primero_ona.contract.column import Table
from primero_ona.contract.tables import CASES, SERVICES
from primero_ona.ona.target import Target


def settle_keys(conn: psycopg.Connection, target: Target) -> dict[str, int]:
    """Give the staged rows the keys that they bear in ONA; return by table how many bear one of their own.

    Leaves `freed_cases` and `freed_services` (key): what staged cases have in ONA and give up in this load.
    """
    target.run(conn, _CLAIM_CASES)
    conn.execute("ANALYZE claims")
    target.run(conn, _FREE_CASES)
    own_cases = _settle(conn, target, CASES, "1")
    conn.execute(
        "UPDATE staged_services AS s SET case_id = c.case_id FROM staged_cases AS c "
        "WHERE c.primero_id = s.primero_case_id AND c.case_id <> s.case_id"
    )
    target.run(conn, _CLAIM_SERVICES)
    conn.execute("ANALYZE claims")
    target.run(conn, _LEAVE_PLAIN_KEYS)
    target.run(conn, _FREE_SERVICES)
    if target.run(conn, "SELECT FROM {services} WHERE primero_case_id IS NULL LIMIT 1").rowcount:
        target.run(conn, _FREE_LEGACY_SERVICES)
    own_services = _settle(conn, target, SERVICES, "s.place")
    conn.execute("ANALYZE staged_cases (case_id), staged_services (unique_id, case_id)")
    return {"cases": own_cases, "services": own_services}


def _settle(conn: psycopg.Connection, target: Target, table: Table, place: LiteralString) -> int:
    """Decide the `claims` to keys of a table, write the keys of their own into its staged rows, and drop the claims."""
    names = target.names_of(table)
    target.run(conn, "ANALYZE {freed}", **names)
    target.run(conn, _CONTEST, **names)
    conn.execute("ANALYZE contested")
    target.run(conn, _MAKE_KEYS, **names)
    conn.execute("ANALYZE own_keys")
    own = target.run(conn, _WRITE_KEYS, **names, place=sql.SQL(place)).rowcount
    conn.execute("DROP TABLE claims, contested, own_keys")
    return own


# The staged rows that do not have their plain key in ONA. `held`: the key of their own that they have there; `short` and
# `long`: those that they may get.
_CLAIM_CASES = """
CREATE TEMPORARY TABLE claims ON COMMIT DROP AS
SELECT s.primero_id::uuid AS owner, s.case_id AS plain, 1 AS place, s.created_at, own.short, own.long,
       CASE WHEN c.case_id IN (own.short, own.long) THEN c.case_id END AS held, c.case_id AS left_behind
  FROM staged_cases AS s
 CROSS JOIN LATERAL (
    SELECT s.case_id || '~' || left(s.primero_id::uuid::text, 8) AS short,
           s.case_id || '~' || replace(s.primero_id::uuid::text, '-', '') AS long) AS own
  LEFT JOIN {cases} AS c ON c.primero_id = s.primero_id
 WHERE c.case_id IS DISTINCT FROM s.case_id
"""

# A row of the legacy pipeline has no Primero id: it is free for the case that wants its key.
_FREE_CASES = """
CREATE TEMPORARY TABLE freed_cases ON COMMIT DROP AS
SELECT left_behind AS key FROM claims WHERE held IS NULL AND left_behind IS NOT NULL
 UNION
SELECT c.case_id
  FROM {cases} AS c
 WHERE c.primero_id IS NULL
   AND c.case_id IN (SELECT plain FROM claims UNION ALL SELECT short FROM claims)
"""

_CLAIM_SERVICES = """
CREATE TEMPORARY TABLE claims ON COMMIT DROP AS
SELECT s.primero_case_id::uuid AS owner, s.unique_id AS plain, s.place, c.created_at, own.short, own.long,
       COALESCE(a.unique_id, b.unique_id) AS held
  FROM staged_services AS s
  LEFT JOIN {services} AS v
    ON v.unique_id = s.unique_id AND s.place = 1
   AND (v.primero_case_id = s.primero_case_id OR (v.primero_case_id IS NULL AND v.case_id = s.case_id))
 CROSS JOIN LATERAL (
    SELECT s.unique_id || '~' || left(s.primero_case_id::uuid::text, 8) || again AS short,
           s.unique_id || '~' || replace(s.primero_case_id::uuid::text, '-', '') || again AS long
      FROM (SELECT CASE WHEN s.place > 1 THEN '~' || s.place ELSE '' END AS again) AS of_place) AS own
  JOIN staged_cases AS c ON c.primero_id = s.primero_case_id
  LEFT JOIN {services} AS a ON a.unique_id = own.short AND a.primero_case_id = s.primero_case_id
  LEFT JOIN {services} AS b ON b.unique_id = own.long AND b.primero_case_id = s.primero_case_id
 WHERE v.unique_id IS NULL
"""

# A key of its own that is the plain one of another service of the case, an id in Primero that looks like it, is not held.
_LEAVE_PLAIN_KEYS = """
UPDATE claims
   SET held = (SELECT v.unique_id FROM {services} AS v
                WHERE v.unique_id = claims.long AND v.primero_case_id::uuid = claims.owner AND claims.held <> claims.long)
  FROM staged_services AS s
 WHERE claims.held = s.unique_id AND claims.owner = s.primero_case_id::uuid AND s.place = 1
"""

_FREE_SERVICES = """
CREATE TEMPORARY TABLE freed_services ON COMMIT DROP AS
SELECT v.unique_id AS key
  FROM {services} AS v
  JOIN staged_cases AS c ON c.primero_id = v.primero_case_id
 WHERE NOT EXISTS (
    SELECT FROM staged_services AS s
     WHERE s.unique_id = v.unique_id AND s.primero_case_id = v.primero_case_id AND s.place = 1)
   AND NOT EXISTS (SELECT FROM claims WHERE claims.held = v.unique_id)
"""

# Whose a service of the legacy pipeline is, the key of its case says.
_FREE_LEGACY_SERVICES = """
INSERT INTO freed_services
SELECT v.unique_id
  FROM {services} AS v
  JOIN staged_cases AS c ON c.case_id = v.case_id
 WHERE v.primero_case_id IS NULL
   AND NOT EXISTS (
    SELECT FROM staged_services AS s WHERE s.unique_id = v.unique_id AND s.case_id = v.case_id AND s.place = 1)
"""

# The claims to a plain key that several have, or that another row keeps. A plain key that looks like a long key of
# another row's own is not given away.
_CONTEST = """
CREATE TEMPORARY TABLE contested ON COMMIT DROP AS
WITH taken AS (
    SELECT o.{key} AS plain
      FROM {ona} AS o
     WHERE o.{key} IN (SELECT plain FROM claims) AND NOT EXISTS (SELECT FROM {freed} AS f WHERE f.key = o.{key})
     UNION
    SELECT plain FROM claims WHERE strpos(plain, '~') > 0 AND plain ~ '~[0-9a-f]{{32}}(~[0-9]+)?$'
),
several AS (
    SELECT plain FROM claims WHERE held IS NULL GROUP BY plain HAVING count(*) > 1
)
SELECT plain, true AS taken FROM taken
 UNION ALL
SELECT plain, false FROM several WHERE NOT EXISTS (SELECT FROM taken WHERE taken.plain = several.plain)
"""

# Claims are millions in a first load: they are joined, since a condition of a row would read all of them for each.
_MAKE_KEYS = """
CREATE TEMPORARY TABLE own_keys ON COMMIT DROP AS
WITH ranked AS (
    SELECT claims.*, contested.taken OR claims.place > 1 OR row_number() OVER (
               PARTITION BY claims.plain ORDER BY claims.place > 1, claims.created_at NULLS LAST, claims.owner) > 1 AS loses
      FROM claims
      LEFT JOIN contested ON contested.plain = claims.plain
     WHERE claims.held IS NULL AND (contested.plain IS NOT NULL OR claims.place > 1)
),
losing AS (
    SELECT *, row_number() OVER (PARTITION BY short ORDER BY created_at NULLS LAST, owner) AS turn
      FROM ranked
     WHERE loses
),
wanted AS (
    SELECT short FROM losing WHERE short IN (SELECT plain FROM claims)
)
SELECT owner, plain, place,
       CASE WHEN turn > 1 OR strpos(plain, '~') > 0 OR short IN (SELECT short FROM wanted)
              OR EXISTS (SELECT FROM {ona} AS o
                          WHERE o.{key} = losing.short AND NOT EXISTS (SELECT FROM {freed} AS f WHERE f.key = o.{key}))
            THEN long ELSE short END AS key
  FROM losing
 UNION ALL
SELECT owner, plain, place, held FROM claims WHERE held IS NOT NULL
"""

_WRITE_KEYS = """
UPDATE {staged} AS s
   SET {key} = k.key
  FROM own_keys AS k
 WHERE s.{owner}::uuid = k.owner AND s.{key} = k.plain AND {place} = k.place
"""
