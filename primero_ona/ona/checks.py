"""Look for what stands in the way of a load before it, and check it afterwards, by SQL that ends in counts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import LiteralString

import psycopg
from psycopg import sql

from primero_ona.contract.column import Column, Table
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


def compare_staged(conn: psycopg.Connection, target: Target) -> dict[str, Comparison]:
    """Compare every staged row with ONA's, column by column, in the transaction that has written them; counts by table.

    What triggers and constraints of ONA's do at the end of a transaction, they do before.
    """
    conn.execute("SET CONSTRAINTS ALL IMMEDIATE")
    return {
        "cases": _compare(conn, target, _COMPARE_CASES, different(CASES, "s", "c")),
        "services": _compare(conn, target, _COMPARE_SERVICES, different(SERVICES, "s", "v")),
    }


def _count_keys(conn: psycopg.Connection, target: Target, table: Table, column: Column) -> KeyCounts:
    missing = "c IS NULL OR btrim(c::text) = ''" if not column.nullable else "false"
    query = sql.SQL(_KEYS).format(
        column=sql.Identifier(column.name), table=target.name(table), missing=sql.SQL(missing)
    )
    rows, without, repeated = conn.execute(query).fetchall()[0]
    return KeyCounts(int(rows), int(without), int(repeated))


def _compare(conn: psycopg.Connection, target: Target, query: LiteralString, differs: sql.Composed) -> Comparison:
    found: Mapping[str, int] = dict(conn.execute(sql.SQL(query).format(**target.names, differs=differs)).fetchall())
    return Comparison(rows=sum(found.values()), **found)


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


_KINDS = {"v": "a view", "m": "a materialized view", "f": "a foreign table", "S": "a sequence", "i": "an index"}


def obstacles(conn: psycopg.Connection, target: Target, unique: Collection[tuple[Table, str]]) -> list[str]:
    """One clause for each thing for which loads would fail; names of tables, columns and publications only.

    `unique` are the columns that must hold every value once.
    """
    found = conn.execute(_ENCODING).fetchall()
    clauses = [
        f"the database's encoding is {encoding}, which cannot hold Khmer, and must be UTF8" for (encoding,) in found
    ]
    for table in TABLES:
        clauses += _of_table(conn, target, table, [name for owner, name in unique if owner is table])
    return clauses


def _of_table(conn: psycopg.Connection, target: Target, table: Table, unique: Iterable[str]) -> Iterator[str]:
    asked = {"schema": target.schema, "table": table.name, "columns": [column.name for column in table.columns]}
    for (kind,) in conn.execute(_OTHER_KIND, asked).fetchall():
        yield f"{table.name} is {_KINDS.get(kind, 'no table')}, and must be a table"
    for name, required in conn.execute(_UNWRITABLE, asked).fetchall():
        if required:
            yield f"{table.name}.{name} must not be empty and has no default, and no load fills it"
        else:
            yield f"{table.name}.{name} is generated by the server, and must be a plain column"
    for column in unique:
        for (key,) in conn.execute(_PARTITIONED, {**asked, "column": column}).fetchall():
            yield f"{table.name} is partitioned by {key}, so that {column} cannot be unique in it"
    for (publication,) in conn.execute(_PUBLISHED, asked).fetchall():
        yield f"{table.name} is published by {publication} without a replica identity, so it takes no changes"
    for _ in conn.execute(_ROW_SECURITY, asked).fetchall():
        yield f"row level security hides rows of {table.name} from this login, which must be exempt from it"


_ENCODING = """
SELECT pg_encoding_to_char(encoding)
  FROM pg_catalog.pg_database
 WHERE datname = current_database() AND pg_encoding_to_char(encoding) NOT IN ('UTF8', 'SQL_ASCII')
"""

_THE_TABLE = """
  FROM pg_catalog.pg_class AS c
  JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
 WHERE n.nspname = %(schema)s AND c.relname = %(table)s
"""

_OTHER_KIND = "SELECT c.relkind" + _THE_TABLE + "AND c.relkind NOT IN ('r', 'p')"

# Of columns that are not ours those that an insert cannot leave out; of ours those that it cannot name.
_UNWRITABLE = (
    "SELECT a.attname, a.attname <> ALL (%(columns)s)"
    + _THE_TABLE.replace(
        " WHERE ",
        """  JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
 WHERE """,
    )
    + """   AND c.relkind IN ('r', 'p')
   AND CASE WHEN a.attname = ANY (%(columns)s) THEN a.attgenerated <> '' OR a.attidentity = 'a'
            ELSE a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' AND a.attgenerated = ''
       END
 ORDER BY a.attnum
"""
)

# An index of a partitioned table is unique over all partitions only where it holds the columns that part them.
_PARTITIONED = """
SELECT pg_get_partkeydef(c.oid)
  FROM pg_catalog.pg_class AS c
  JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_partitioned_table AS p ON p.partrelid = c.oid
 WHERE n.nspname = %(schema)s AND c.relname = %(table)s
   AND EXISTS (
    SELECT FROM unnest(p.partattrs) AS part (attnum)
      LEFT JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = part.attnum AND a.attnum > 0
     WHERE a.attname IS DISTINCT FROM %(column)s)
"""

_PUBLISHED = """
SELECT t.pubname
  FROM pg_catalog.pg_publication_tables AS t
  JOIN pg_catalog.pg_publication AS p ON p.pubname = t.pubname AND (p.pubupdate OR p.pubdelete)
  JOIN pg_catalog.pg_namespace AS n ON n.nspname = t.schemaname
  JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = t.tablename
 WHERE t.schemaname = %(schema)s AND t.tablename = %(table)s
   AND CASE c.relreplident
            WHEN 'f' THEN false
            WHEN 'd' THEN NOT EXISTS (SELECT FROM pg_catalog.pg_index AS i WHERE i.indrelid = c.oid AND i.indisprimary)
            WHEN 'i' THEN NOT EXISTS (SELECT FROM pg_catalog.pg_index AS i WHERE i.indrelid = c.oid AND i.indisreplident)
            ELSE true
       END
 ORDER BY t.pubname
"""

_ROW_SECURITY = (
    "SELECT 1" + _THE_TABLE + "AND c.relkind IN ('r', 'p') AND c.relrowsecurity AND row_security_active(c.oid)"
)
