"""Check a load afterwards, by SQL that ends in counts: keys, services without their case, and each mapped row against ONA's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import LiteralString

import psycopg
from psycopg import sql

from primero_ona.contract.column import Column, Table
from primero_ona.contract.tables import CASES, SERVICES
from primero_ona.ona.connection import translate_errors
from primero_ona.ona.decisions import find_stale
from primero_ona.ona.keys import settle_keys
from primero_ona.ona.staging import stage_rows
from primero_ona.ona.target import Target, different
from primero_ona.storage.frames import Frames


@dataclass(frozen=True)
class KeyCounts:
    """Of one column that must name each row: rows, rows where it is null or blank, and values that occur more than once."""

    rows: int
    missing: int
    repeated: int


@dataclass(frozen=True)
class Comparison:
    """How the mapped rows of one table stand in ONA; rows = equal + stale + missing + different.

    `stale`: ONA has newer, or knows a newer exit. `own_keys`, of these rows: those that bear a key of their own, since
    another row has the plain one.
    """

    rows: int = 0
    equal: int = 0
    stale: int = 0
    missing: int = 0
    different: int = 0
    own_keys: int = 0


def check_keys(conn: psycopg.Connection) -> dict[str, KeyCounts]:
    """Count missing and repeated keys in ONA, by `table.column`.

    A case without a `primero_id` is not missing one: the legacy pipeline wrote it, and a sync of its quarter adopts it.
    """
    keys = ((CASES, "case_id"), (CASES, "primero_id"), (SERVICES, "unique_id"))
    with translate_errors("checking the keys in ONA"):
        target = Target.find(conn)
        return {f"{table.name}.{name}": _count_keys(conn, target, table, table.column(name)) for table, name in keys}


def count_orphan_services(conn: psycopg.Connection) -> int:
    """Count the services in ONA whose case is not there, or is another one than their Primero id says."""
    with translate_errors("looking for services without their case in ONA"):
        row = conn.execute(sql.SQL(_ORPHANS).format(**Target.find(conn).names)).fetchone()
    return int(row[0]) if row else 0


def compare_quarter(conn: psycopg.Connection, cases: Frames, services: Frames) -> dict[str, Comparison]:
    """Compare every mapped row with ONA's, column by column; returns counts for `cases` and `services`.

    `conn` is in no transaction.
    """
    with translate_errors("comparing the mapped rows with ONA"), conn.transaction(force_rollback=True):
        target = Target.find(conn)
        stage_rows(conn, target, cases, services)
        find_stale(conn, target, pull=None)
        own = settle_keys(conn, target)
        return {
            "cases": _compare(conn, target, _COMPARE_CASES, different(CASES, "s", "c"), own["cases"]),
            "services": _compare(conn, target, _COMPARE_SERVICES, different(SERVICES, "s", "v"), own["services"]),
        }


def _count_keys(conn: psycopg.Connection, target: Target, table: Table, column: Column) -> KeyCounts:
    missing = "c IS NULL OR btrim(c::text) = ''" if not column.nullable else "false"
    query = sql.SQL(_KEYS).format(
        column=sql.Identifier(column.name), table=target.name(table), missing=sql.SQL(missing)
    )
    rows, without, repeated = conn.execute(query).fetchall()[0]
    return KeyCounts(int(rows), int(without), int(repeated))


def _compare(
    conn: psycopg.Connection, target: Target, query: LiteralString, differs: sql.Composed, own: int
) -> Comparison:
    found: Mapping[str, int] = dict(conn.execute(sql.SQL(query).format(**target.names, differs=differs)).fetchall())
    return Comparison(rows=sum(found.values()), **found, own_keys=own)


_KEYS = """
WITH keys AS (SELECT {column} AS c, count(*) AS n FROM {table} GROUP BY 1)
SELECT COALESCE(sum(n), 0), COALESCE(sum(n) FILTER (WHERE {missing}), 0), count(*) FILTER (WHERE c IS NOT NULL AND n > 1)
  FROM keys
"""

_ORPHANS = """
SELECT count(*)
  FROM {services} AS v
 WHERE NOT EXISTS (
    SELECT FROM {cases} AS c
     WHERE c.case_id = v.case_id
       AND (v.primero_case_id IS NULL OR c.primero_id::uuid = v.primero_case_id::uuid))
"""

_COMPARE_CASES = """
SELECT CASE WHEN stale.primero_id IS NOT NULL THEN 'stale'
            WHEN c.case_id IS NULL THEN 'missing'
            WHEN {differs} THEN 'different'
            ELSE 'equal'
       END, count(*)
  FROM staged_cases AS s
  LEFT JOIN {cases} AS c ON c.case_id = s.case_id AND c.primero_id = s.primero_id
  LEFT JOIN stale_cases AS stale ON stale.primero_id = s.primero_id::uuid
 GROUP BY 1
"""

_COMPARE_SERVICES = """
SELECT CASE WHEN stale.primero_id IS NOT NULL THEN 'stale'
            WHEN v.unique_id IS NULL THEN 'missing'
            WHEN {differs} THEN 'different'
            ELSE 'equal'
       END, count(*)
  FROM staged_services AS s
  LEFT JOIN {services} AS v ON v.unique_id = s.unique_id AND v.primero_case_id = s.primero_case_id
  LEFT JOIN stale_cases AS stale ON stale.primero_id = s.primero_case_id::uuid
 GROUP BY 1
"""
