"""Write into ONA's `cases` and `services` what was decided: removed rows go, changed rows come, nothing else is touched.

Services go before their case and come after it, for a foreign key of ONA's. ON CONFLICT would lock unchanged rows and write to
the log, so they are filtered before. Rows are written in the order of their key, so that its index fills from end to end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import LiteralString, NamedTuple
from uuid import UUID

import psycopg
from psycopg import sql

from primero_ona.contract.tables import CASES, SERVICES
from primero_ona.errors import TransientError
from primero_ona.ona.target import Target, commas, different
from primero_ona.texts import is_uuid


class Span(NamedTuple):
    """A `pull` that was not loaded yet, the earliest stamp that it received (aware; None: all), and the cases stamped `ahead`.

    Which pull received a staged row: the first of the spans, newest first, that reaches back to its stamp or has its case among
    those `ahead` (Primero ids). A row of no span was stored before.
    """

    pull: int
    since: datetime | None = None
    ahead: Sequence[str] = ()


def remove_exits(conn: psycopg.Connection, target: Target, received: Sequence[Span]) -> dict[str, int]:
    """Remove the staged exits' rows, unless ONA knows better, and remember the exits; return the rows per table."""
    parts = _known_better(target, received, "e.primero_id", "e.last_updated_at")
    target.run(conn, "DELETE FROM staged_exits AS e USING {known} WHERE {better}", **parts)
    target.run(conn, _LEAVING)
    services = [
        "DELETE FROM {services} AS v USING staged_exits AS e WHERE v.primero_case_id::uuid = e.primero_id",
        "DELETE FROM {services} AS v USING leaving WHERE v.primero_case_id IS NULL AND v.case_id = leaving.case_id",
    ]
    removed = sum(target.run(conn, statement).rowcount for statement in services)
    cases = target.run(conn, "DELETE FROM {cases} AS c USING leaving WHERE c.case_id = leaving.case_id")
    target.run(conn, _REMEMBER_EXITS)
    return {"cases": cases.rowcount, "services": removed}


def remove_stale(conn: psycopg.Connection, target: Target, received: Sequence[Span]) -> dict[str, int]:
    """Take cases that ONA knows better out of the staged rows, and their services with them; return the rows per table.

    What was received wins over ONA's whatever the stamps say, unless ONA's was loaded from a later pull; what was stored
    wins by its stamp.
    """
    parts = _known_better(target, received, "s.primero_id::uuid", "s.primero_updated_at::timestamptz")
    cases, services = target.run(conn, _REMOVE_STALE, **parts).fetchall()[0]
    return {"cases": cases, "services": services}


def decide(conn: psycopg.Connection, target: Target) -> dict[str, dict[str, int]]:
    """Make `decided_cases` and `decided_services` (key, decision); return the rows per table and decision.

    Unchanged rows are not in them: usually nearly all are, and a table of them would cost more than the comparison.
    """
    # The few that are not as usual come into a table of their own, so that PostgreSQL knows how few they are.
    target.run(conn, _RENAMED_CASES)
    conn.execute("ANALYZE renamed_cases")
    counts = {}
    renamed = sql.SQL("s.primero_id::uuid IN (SELECT primero_id FROM renamed_cases)")
    for table, has_row in ((CASES, renamed), (SERVICES, sql.SQL("false"))):
        names = target.names_of(table)
        target.run(conn, _DECIDE, **names, has_row=has_row, differs=different(table, "s", "o"))
        target.run(conn, "ANALYZE {decided}", **names)
        decided = target.run(conn, "SELECT decision, count(*) FROM {decided} GROUP BY decision", **names)
        counts[table.name] = dict(decided.fetchall())
    return counts


def remove_services(conn: psycopg.Connection, target: Target) -> int:
    """Remove the services that staged cases do not have any more; return their number."""
    return target.run(conn, "DELETE FROM {services} AS v USING freed_services AS f WHERE v.unique_id = f.key").rowcount


def write(conn: psycopg.Connection, target: Target, now: datetime, expected: Mapping[str, int]) -> None:
    """Write the rows that are new or changed, and stamp the cases with `now`; `expected` is their number by table.

    A case whose key has changed loses its old row, and the services with it, which come back with the new key. Raises
    TransientError where ONA's rows were changed by another session meanwhile.
    """
    target.run(
        conn, "DELETE FROM {services} AS v USING renamed_cases AS r WHERE v.primero_case_id::uuid = r.primero_id"
    )
    target.run(conn, "DELETE FROM {cases} AS c USING renamed_cases AS r WHERE c.primero_id::uuid = r.primero_id")
    # A literal without a type fits a column of type timestamp and one of type text alike.
    stamp = sql.Literal(f"{now.astimezone(UTC):%Y-%m-%d %H:%M:%S}")
    for table in (CASES, SERVICES):
        columns = {c.name: stamp if c.set_by_load else sql.Identifier("s", c.name) for c in table.columns}
        changes = [name for name in columns if name != table.key]
        written = target.run(
            conn,
            _WRITE,
            **target.names_of(table),
            columns=commas(columns),
            values=sql.SQL(", ").join(columns.values()),
            changes=commas(changes),
            excluded=commas(changes, "excluded"),
        ).rowcount
        if written != expected[table.name]:
            raise TransientError(
                f"{written:,} rows of {table.name} were written where {expected[table.name]:,} should have been: another session "
                "writes into ONA at the same time, or a trigger interferes; nothing was changed, the next try may succeed",
                see="ona-busy",
            )
    conn.execute("DELETE FROM primero_sync.exits AS x USING staged_cases AS s WHERE x.primero_id = s.primero_id::uuid")


def _known_better(
    target: Target, received: Sequence[Span], case: LiteralString, stamp: LiteralString
) -> dict[str, sql.Composable]:
    """`known`: what ONA holds of cases, as rows or as exits. `better`: the condition that it is newer than a staged row.

    And that its quarter was loaded from a later pull than the staged row, unless no pull received that. `case` and `stamp`
    are the staged row's in SQL.
    """
    when = "WHEN " + stamp + " >= {} OR " + case + " = ANY ({}) THEN " + _LATER_PULL
    whens = [
        sql.SQL(when).format(since or "-infinity", [UUID(each) for each in ahead if is_uuid(each)], pull)
        for pull, since, ahead in received
    ]
    later = sql.SQL("CASE {} ELSE true END").format(sql.SQL(" ").join(whens)) if whens else sql.SQL("true")
    better = sql.SQL("known.id = " + case + " AND known.stamp > " + stamp + " AND {}").format(later)
    return {"known": sql.SQL(_KNOWN).format(**target.names), "better": better}


_KNOWN = """
(SELECT primero_id::uuid AS id, primero_updated_at::timestamptz AS stamp FROM {cases} WHERE primero_id IS NOT NULL
  UNION ALL
 SELECT primero_id, last_updated_at FROM primero_sync.exits) AS known
"""

_LATER_PULL: LiteralString = """
(to_char(known.stamp AT TIME ZONE 'Asia/Phnom_Penh', 'YYYY-"Q"Q') IN (SELECT quarter FROM primero_sync.runs WHERE pull > {}))
"""

# The legacy pipeline's rows have no Primero id; one whose key a case of this load claims is that case's.
_LEAVING = """
CREATE TEMPORARY TABLE leaving ON COMMIT DROP AS
SELECT c.case_id FROM {cases} AS c JOIN staged_exits AS e ON e.primero_id = c.primero_id::uuid
 UNION
SELECT c.case_id
  FROM {cases} AS c
  JOIN staged_exits AS e ON e.case_id = c.case_id
 WHERE c.primero_id IS NULL
   AND NOT EXISTS (SELECT FROM staged_cases AS s WHERE s.case_id = c.case_id)
"""

_REMEMBER_EXITS = """
INSERT INTO primero_sync.exits (primero_id, case_id, last_updated_at)
SELECT primero_id, case_id, last_updated_at
  FROM staged_exits AS e
 WHERE NOT EXISTS (
    SELECT FROM primero_sync.exits AS x WHERE x.primero_id = e.primero_id AND x.last_updated_at = e.last_updated_at)
ON CONFLICT (primero_id) DO UPDATE
   SET case_id = excluded.case_id, last_updated_at = excluded.last_updated_at
"""

_REMOVE_STALE = """
WITH stale AS (DELETE FROM staged_cases AS s USING {known} WHERE {better} RETURNING s.primero_id::uuid),
services AS (DELETE FROM staged_services AS s USING stale WHERE s.primero_case_id::uuid = stale.primero_id RETURNING s.place)
SELECT (SELECT count(*) FROM stale), (SELECT count(*) FROM services)
"""

_RENAMED_CASES = """
CREATE TEMPORARY TABLE renamed_cases ON COMMIT DROP AS
SELECT s.primero_id::uuid FROM staged_cases AS s JOIN {cases} AS c ON c.primero_id = s.primero_id WHERE c.case_id <> s.case_id
"""

# What ONA does not have under this key, or has there of a case that gives it up, differs from nothing.
_DECIDE = """
CREATE TEMPORARY TABLE {decided} ON COMMIT DROP AS
SELECT s.{key} AS key,
       CASE WHEN {has_row} THEN 'updated'
            WHEN o.{key} IS NULL OR o.{owner} <> s.{owner} THEN 'inserted'
            ELSE 'updated'
       END AS decision
  FROM {staged} AS s
  LEFT JOIN {ona} AS o ON o.{key} = s.{key}
 WHERE {differs}
"""

# The last condition never lets one child's row become another's, even if another session wrote it a moment ago.
_WRITE = """
INSERT INTO {ona} AS o ({columns})
SELECT {values}
  FROM {staged} AS s
  JOIN {decided} AS d ON d.key = s.{key}
 ORDER BY s.{key}
ON CONFLICT ({key}) DO UPDATE
   SET ({changes}) = ROW({excluded})
 WHERE o.{owner} IS NULL OR o.{owner} = excluded.{owner}
"""
