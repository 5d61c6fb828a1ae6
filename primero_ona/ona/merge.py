"""Write into ONA's `cases` and `services` what was decided: removed rows go, changed rows come, nothing else is touched.

Services go before their case and come after it, for a foreign key of ONA's. ON CONFLICT would lock unchanged rows and write to
the log, so they are filtered before. Rows are written in the order of their key, so that its index fills from end to end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import LiteralString
from uuid import UUID

import psycopg
from psycopg import sql

from primero_ona.contract.column import Table
from primero_ona.contract.tables import CASES, SERVICES
from primero_ona.errors import TransientError
from primero_ona.ona.target import Target, commas, different
from primero_ona.texts import is_uuid


@dataclass(frozen=True)
class Received:
    """Which pull received a staged row: the first of `spans` that reaches back to its stamp, and of none it was stored before.

    A span is the number of a pull that was not loaded yet and the earliest stamp (aware) that it received, None for all; the
    newest comes first, which also received the cases stamped `ahead` (Primero ids).
    """

    spans: Sequence[tuple[int, datetime | None]] = ()
    ahead: Sequence[str] = ()


def remove_exits(conn: psycopg.Connection, target: Target, received: Received) -> dict[str, int]:
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


def write_cases(conn: psycopg.Connection, target: Target, now: datetime, expected: int) -> None:
    """Write the cases that are new or changed, and stamp them with `now`; `expected` is their number.

    A case whose key has changed loses its old row, and the services with it, which come back with the new key. Raises
    TransientError where ONA's rows were changed by another session meanwhile.
    """
    target.run(
        conn, "DELETE FROM {services} AS v USING renamed_cases AS r WHERE v.primero_case_id::uuid = r.primero_id"
    )
    target.run(conn, "DELETE FROM {cases} AS c USING renamed_cases AS r WHERE c.primero_id::uuid = r.primero_id")
    # A literal without a type fits a column of type timestamp and one of type text alike.
    _write(conn, target, CASES, expected, _WRITE_CASES, stamp=f"{now.astimezone(UTC):%Y-%m-%d %H:%M:%S}")
    conn.execute(
        "DELETE FROM primero_sync.exits AS x USING case_decisions AS d "
        "WHERE d.decision <> 'stale' AND x.primero_id = d.primero_id"
    )


def remove_services(conn: psycopg.Connection, target: Target) -> int:
    """Remove the services that staged cases do not have any more; return their number."""
    return target.run(conn, "DELETE FROM {services} AS v USING freed_services AS f WHERE v.unique_id = f.key").rowcount


def write_services(conn: psycopg.Connection, target: Target, expected: int) -> None:
    """Write the services that are new or changed; raises as write_cases."""
    _write(conn, target, SERVICES, expected, _WRITE_SERVICES, differs=different(SERVICES, "v", "excluded"))


def _write(
    conn: psycopg.Connection, target: Target, table: Table, expected: int, statement: LiteralString, **parts: object
) -> None:
    others = [column.name for column in table.columns if column.name != table.key]
    columns = {
        "columns": commas(table.mapped_names),
        "staged": commas(table.mapped_names, "s"),
        "others": commas(others),
        "excluded": commas(others, "excluded"),
    }
    written = target.run(conn, statement, **columns, **parts).rowcount
    if written != expected:
        raise TransientError(
            f"{written:,} rows of {table.name} were written where {expected:,} should have been: another session writes into "
            "ONA at the same time, or a trigger interferes; nothing was changed, the next try may succeed",
            see="ona-busy",
        )


# The legacy pipeline's rows have no Primero id; one whose key a case of this load claims is that case's.
_LEAVING = """
CREATE TEMPORARY TABLE leaving ON COMMIT DROP AS
SELECT c.case_id
  FROM {cases} AS c
  JOIN staged_exits AS e ON e.primero_id = c.primero_id::uuid
UNION
SELECT c.case_id
  FROM {cases} AS c
  JOIN staged_exits AS e ON e.case_id = c.case_id
 WHERE c.primero_id IS NULL
   AND NOT EXISTS (SELECT FROM staged_cases AS s WHERE s.case_id = c.case_id)
"""

_REMEMBER_EXITS = """
INSERT INTO primero_sync.exits AS known (primero_id, case_id, last_updated_at)
SELECT e.primero_id, e.case_id, e.last_updated_at
  FROM staged_exits AS e
 WHERE NOT EXISTS (
    SELECT FROM primero_sync.exits AS x
     WHERE x.primero_id = e.primero_id AND x.last_updated_at = e.last_updated_at)
ON CONFLICT (primero_id) DO UPDATE
   SET case_id = excluded.case_id, last_updated_at = excluded.last_updated_at
"""

# The last condition never lets one child's row become another's, even if another session wrote it a moment ago.
_WRITE_CASES = """
INSERT INTO {cases} AS c ({columns}, last_updated_date)
SELECT {staged}, {stamp}
  FROM staged_cases AS s
  JOIN case_decisions AS d ON d.primero_id = s.primero_id::uuid
 WHERE d.decision IN ('inserted', 'updated')
 ORDER BY s.case_id
ON CONFLICT (case_id) DO UPDATE
   SET ({others}) = ROW({excluded})
 WHERE c.primero_id IS NULL OR c.primero_id = excluded.primero_id
"""

_WRITE_SERVICES = """
INSERT INTO {services} AS v ({columns})
SELECT {staged}
  FROM staged_services AS s
  JOIN service_decisions AS d ON d.unique_id = s.unique_id
 WHERE d.decision IN ('inserted', 'updated')
 ORDER BY s.unique_id
ON CONFLICT (unique_id) DO UPDATE
   SET ({others}) = ROW({excluded})
 WHERE {differs}
"""


def find_stale(conn: psycopg.Connection, target: Target, received: Received) -> None:
    """Make `stale_cases` (primero_id): staged cases that ONA knows better, as a row or as an exit.

    What was received wins over ONA's whatever the stamps say, unless ONA's was loaded from a later pull; what was stored
    wins by its stamp.
    """
    parts = _known_better(target, received, "s.primero_id::uuid", "s.primero_updated_at::timestamptz")
    target.run(conn, _FIND_STALE, **parts)
    conn.execute("ANALYZE stale_cases")


def _known_better(
    target: Target, received: Received, case: LiteralString, stamp: LiteralString
) -> dict[str, sql.Composable]:
    """`known`: what ONA holds of cases, as rows or as exits. `better`: the condition that it is newer than a staged row.

    And that its quarter was loaded from a later pull than the staged row, unless no pull received that. `case` and `stamp`
    are the staged row's in SQL.
    """
    whens = []
    if received.spans:
        ahead = [UUID(each) for each in received.ahead if is_uuid(each)]
        whens.append(sql.SQL("WHEN " + case + " = ANY ({}) THEN " + _LATER_PULL).format(ahead, received.spans[0][0]))
    for pull, since in received.spans:
        whens.append(sql.SQL("WHEN " + stamp + " >= {} THEN " + _LATER_PULL).format(since or "-infinity", pull))
    later = sql.SQL("CASE {} ELSE true END").format(sql.SQL(" ").join(whens)) if whens else sql.SQL("true")
    better = sql.SQL("known.id = " + case + " AND known.stamp > " + stamp + " AND {}").format(later)
    return {"known": sql.SQL(_KNOWN).format(**target.names), "better": better}


def decide_cases(conn: psycopg.Connection, target: Target) -> dict[str, int]:
    """Make `case_decisions` (primero_id, decision); return the rows per decision."""
    # The few that are not as usual come into a table of their own, so that PostgreSQL knows how few they are.
    target.run(conn, _RENAMED_CASES)
    conn.execute("ANALYZE renamed_cases")
    target.run(conn, _DECIDE_CASES, differs=different(CASES, "s", "c"))
    conn.execute("CREATE UNIQUE INDEX ON case_decisions (primero_id)")
    conn.execute("ANALYZE case_decisions")
    return dict(conn.execute("SELECT decision, count(*) FROM case_decisions GROUP BY 1").fetchall())


def decide_services(conn: psycopg.Connection, target: Target) -> dict[str, int]:
    """Make `service_decisions` (unique_id, decision); return the rows per decision.

    Unchanged services are not in it: usually nearly all are, and a table of them would cost more than the comparison.
    """
    target.run(conn, _DECIDE_SERVICES, differs=different(SERVICES, "s", "v"))
    conn.execute("ANALYZE service_decisions")
    return dict(conn.execute("SELECT decision, count(*) FROM service_decisions GROUP BY 1").fetchall())


_KNOWN = """
(SELECT primero_id::uuid AS id, primero_updated_at::timestamptz AS stamp FROM {cases} WHERE primero_id IS NOT NULL
  UNION ALL
 SELECT primero_id, last_updated_at FROM primero_sync.exits) AS known
"""

_LATER_PULL: LiteralString = """
(to_char(known.stamp AT TIME ZONE 'Asia/Phnom_Penh', 'YYYY-"Q"Q') IN (SELECT quarter FROM primero_sync.runs WHERE pull > {}))
"""

_FIND_STALE = """
CREATE TEMPORARY TABLE stale_cases ON COMMIT DROP AS
SELECT DISTINCT s.primero_id::uuid FROM staged_cases AS s JOIN {known} ON {better}
"""

_RENAMED_CASES = """
CREATE TEMPORARY TABLE renamed_cases ON COMMIT DROP AS
SELECT s.primero_id::uuid
  FROM staged_cases AS s
  JOIN {cases} AS c ON c.primero_id = s.primero_id
 WHERE c.case_id <> s.case_id
   AND NOT EXISTS (SELECT FROM stale_cases AS stale WHERE stale.primero_id = s.primero_id::uuid)
"""

_DECIDE_CASES = """
CREATE TEMPORARY TABLE case_decisions ON COMMIT DROP AS
SELECT s.primero_id::uuid,
       CASE WHEN stale.primero_id IS NOT NULL THEN 'stale'
            WHEN renamed.primero_id IS NOT NULL THEN 'updated'
            WHEN c.case_id IS NULL THEN 'inserted'
            WHEN {differs} THEN 'updated'
            ELSE 'unchanged'
       END AS decision
  FROM staged_cases AS s
  LEFT JOIN {cases} AS c ON c.case_id = s.case_id AND (c.primero_id IS NULL OR c.primero_id = s.primero_id)
  LEFT JOIN stale_cases AS stale ON stale.primero_id = s.primero_id::uuid
  LEFT JOIN renamed_cases AS renamed ON renamed.primero_id = s.primero_id::uuid
"""

# A service that ONA does not have, or has for a case that gives it up, differs from nothing.
_DECIDE_SERVICES = """
CREATE TEMPORARY TABLE service_decisions ON COMMIT DROP AS
SELECT s.unique_id,
       CASE WHEN d.decision = 'stale' THEN 'stale'
            WHEN v.unique_id IS NULL OR v.primero_case_id <> s.primero_case_id THEN 'inserted'
            ELSE 'updated'
       END AS decision
  FROM staged_services AS s
  JOIN case_decisions AS d ON d.primero_id = s.primero_case_id::uuid
  LEFT JOIN {services} AS v ON v.unique_id = s.unique_id
 WHERE d.decision = 'stale' OR {differs}
"""
