"""Look for what stands in the way of a load before it, and check it afterwards, by SQL that ends in counts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import psycopg
from psycopg import sql

from primero_ona.contract.tables import CASES, SERVICES, TABLES
from primero_ona.ona.connection import translate_errors
from primero_ona.ona.target import Target, different


@dataclass(frozen=True)
class KeyCounts:
    """Of one column that must name each row: rows, rows where it is null or blank, and values that occur more than once."""

    rows: int
    missing: int
    repeated: int


@dataclass(frozen=True)
class Comparison:
    """How the mapped rows of one table stand in ONA; rows = equal + stale + missing + different.

    `stale`: ONA has newer, or knows a newer exit.
    """

    rows: int = 0
    equal: int = 0
    stale: int = 0
    missing: int = 0
    different: int = 0


#: Columns that must hold every value once: the keys that a load's ON CONFLICT needs, and Primero's id, so that no case
#: stands in ONA twice.
UNIQUE = ((CASES, "case_id"), (CASES, "primero_id"), (SERVICES, "unique_id"))


def check_keys(conn: psycopg.Connection) -> dict[str, KeyCounts]:
    """Count missing and repeated keys in ONA, by `table.column`.

    A case without a `primero_id` is not missing one: the legacy pipeline wrote it, and a sync of its quarter adopts it.
    """
    found = {}
    with translate_errors("checking the keys in ONA"):
        target = Target.find(conn)
        for table, name in UNIQUE:
            asked = {
                "column": sql.Identifier(name),
                "table": target.name(table),
                "may_be_null": table.column(name).nullable,
            }
            found[f"{table.name}.{name}"] = KeyCounts(*target.run(conn, _KEYS, **asked).fetchall()[0])
    return found


def count_orphan_services(conn: psycopg.Connection) -> int:
    """Count the services in ONA whose case is not there, or is another one than their Primero id says."""
    with translate_errors("looking for services without their case in ONA"):
        return Target.find(conn).count(conn, _ORPHANS)


def compare_staged(conn: psycopg.Connection, target: Target, stale: Mapping[str, int]) -> dict[str, Comparison]:
    """Compare every staged row with ONA's, column by column, in the transaction that has written them; counts by table.

    The `stale` ones, so many by table, are staged no more. What triggers and constraints of ONA's do at the end of a
    transaction, they do before.
    """
    conn.execute("SET CONSTRAINTS ALL IMMEDIATE")
    compared = {}
    for table in (CASES, SERVICES):
        counts = target.run(conn, _COMPARE, **target.names_of(table), differs=different(table, "s", "o"))
        found = {"stale": stale[table.name], **dict(counts.fetchall())}
        compared[table.name] = Comparison(rows=sum(found.values()), **found)
    return compared


_KEYS = """
WITH keys AS (SELECT {column} AS c, count(*) AS n FROM {table} GROUP BY 1)
SELECT COALESCE(sum(n), 0)::bigint,
       COALESCE(sum(n) FILTER (WHERE NOT {may_be_null} AND (c IS NULL OR btrim(c::text) = '')), 0)::bigint,
       count(*) FILTER (WHERE c IS NOT NULL AND n > 1)
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

_COMPARE = """
SELECT CASE WHEN o.{key} IS NULL THEN 'missing'
            WHEN {differs} THEN 'different'
            ELSE 'equal'
       END, count(*)
  FROM {staged} AS s
  LEFT JOIN {ona} AS o ON o.{key} = s.{key} AND o.{owner} = s.{owner}
 GROUP BY 1
"""


def obstacles(conn: psycopg.Connection, target: Target) -> list[str]:
    """One clause for each thing for which loads would fail; names of tables, columns and publications only."""
    asked = {
        "schema": target.schema,
        "columns": json.dumps({table.name: [column.name for column in table.columns] for table in TABLES}),
        "unique": json.dumps([{"relname": table.name, "name": name} for table, name in UNIQUE]),
    }
    return [clause for (clause,) in conn.execute(_OBSTACLES, asked).fetchall()]


# Of columns that are not ours those are in the way that an insert cannot leave out, of ours those that it cannot name. An index
# of a partitioned table is unique over all partitions only where it holds the columns that part them.
_OBSTACLES = """
WITH t AS (
    SELECT c.oid, c.relname, c.relkind, c.relreplident, c.relrowsecurity, n.nspname
      FROM pg_catalog.pg_class AS c
      JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
     WHERE n.nspname = %(schema)s AND %(columns)s::jsonb ? c.relname
)
SELECT 'the database''s encoding is ' || pg_encoding_to_char(encoding) || ', which cannot hold Khmer, and must be UTF8'
  FROM pg_catalog.pg_database
 WHERE datname = current_database() AND pg_encoding_to_char(encoding) NOT IN ('UTF8', 'SQL_ASCII')
 UNION ALL
SELECT relname || ' is ' || CASE relkind WHEN 'v' THEN 'a view' WHEN 'm' THEN 'a materialized view' WHEN 'f' THEN 'a foreign table'
                                         WHEN 'S' THEN 'a sequence' WHEN 'i' THEN 'an index' ELSE 'no table' END
       || ', and must be a table'
  FROM t
 WHERE relkind NOT IN ('r', 'p')
 UNION ALL
SELECT t.relname || '.' || a.attname
       || CASE WHEN %(columns)s::jsonb -> t.relname ? a.attname THEN ' is generated by the server, and must be a plain column'
               ELSE ' must not be empty and has no default, and no load fills it' END
  FROM t
  JOIN pg_catalog.pg_attribute AS a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
 WHERE t.relkind IN ('r', 'p')
   AND CASE WHEN %(columns)s::jsonb -> t.relname ? a.attname THEN a.attgenerated <> '' OR a.attidentity = 'a'
            ELSE a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' AND a.attgenerated = '' END
 UNION ALL
SELECT t.relname || ' is partitioned by ' || pg_get_partkeydef(t.oid) || ', so that ' || u.name || ' cannot be unique in it'
  FROM t
  JOIN pg_catalog.pg_partitioned_table AS p ON p.partrelid = t.oid
  JOIN jsonb_to_recordset(%(unique)s::jsonb) AS u (relname name, name text) USING (relname)
 WHERE EXISTS (
    SELECT FROM unnest(p.partattrs) AS part (attnum)
      LEFT JOIN pg_catalog.pg_attribute AS a ON a.attrelid = t.oid AND a.attnum = part.attnum AND a.attnum > 0
     WHERE a.attname IS DISTINCT FROM u.name)
 UNION ALL
SELECT t.relname || ' is published by ' || p.pubname || ' without a replica identity, so it takes no changes'
  FROM t
  JOIN pg_catalog.pg_publication_tables AS pt ON pt.schemaname = t.nspname AND pt.tablename = t.relname
  JOIN pg_catalog.pg_publication AS p ON p.pubname = pt.pubname AND (p.pubupdate OR p.pubdelete)
 WHERE CASE t.relreplident
            WHEN 'f' THEN false
            WHEN 'd' THEN NOT EXISTS (SELECT FROM pg_catalog.pg_index AS i WHERE i.indrelid = t.oid AND i.indisprimary)
            WHEN 'i' THEN NOT EXISTS (SELECT FROM pg_catalog.pg_index AS i WHERE i.indrelid = t.oid AND i.indisreplident)
            ELSE true END
 UNION ALL
SELECT 'row level security hides rows of ' || relname || ' from this login, which must be exempt from it'
  FROM t
 WHERE relkind IN ('r', 'p') AND relrowsecurity AND row_security_active(oid)
 ORDER BY 1
"""
