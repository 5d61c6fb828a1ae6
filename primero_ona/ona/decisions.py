"""Decide what becomes of each staged row, before anything is written: inserted, updated, unchanged or stale.

Primero's ids are compared as uuid and its timestamps as timestamptz whatever ONA's columns are; where they are of these types
already, the casts cost nothing.
"""

from __future__ import annotations

import psycopg
from psycopg import sql

from primero_ona.contract.tables import CASES, SERVICES
from primero_ona.ona.target import Target, different


def find_stale(conn: psycopg.Connection, target: Target, pull: int | None) -> None:
    """Make `stale_cases` (primero_id): staged cases that ONA knows better, as a row or as an exit.

    `pull`: the number of the pull that received the staged rows, None where they were stored before. What was received
    wins over ONA's whatever the stamps say, unless ONA's was loaded from a later pull; what was stored wins by its stamp.
    """
    target.run(conn, _FIND_STALE, outranks=outranks(pull))
    conn.execute("ANALYZE stale_cases")


def outranks(pull: int | None) -> sql.Composable:
    """The condition, for a stamp that ONA holds (`stamp`), that its quarter was loaded from a later pull than `pull`."""
    if pull is None:
        return sql.SQL("true")
    return sql.SQL(_LATER_PULL).format(pull=sql.Literal(pull))


def decide_cases(conn: psycopg.Connection, target: Target) -> dict[str, int]:
    """Make `case_decisions` (primero_id, case_id, decision, applied); return the rows per decision.

    `applied`: ONA has, or will have, the staged content.
    """
    # The few that are not as usual come into a table of their own, so that PostgreSQL knows how few they are.
    target.run(conn, _RENAMED_CASES)
    conn.execute("ANALYZE renamed_cases")
    target.run(conn, _DECIDE_CASES, differs=different(CASES, "s", "c"))
    conn.execute("CREATE UNIQUE INDEX ON case_decisions (primero_id)")
    conn.execute("ANALYZE case_decisions")
    return _counts(conn, "case_decisions")


def decide_services(conn: psycopg.Connection, target: Target) -> dict[str, int]:
    """Make `service_decisions` (unique_id, primero_id, decision); return the rows per decision.

    Unchanged services are not in it: usually nearly all are, and a table of them would cost more than the comparison.
    """
    target.run(conn, _DECIDE_SERVICES, differs=different(SERVICES, "s", "v"))
    conn.execute("ANALYZE service_decisions")
    return _counts(conn, "service_decisions")


def _counts(conn: psycopg.Connection, table: str) -> dict[str, int]:
    query = sql.SQL("SELECT decision, count(*) FROM {} GROUP BY decision").format(sql.Identifier(table))
    return dict(conn.execute(query).fetchall())


_LATER_PULL = """
(to_char(stamp AT TIME ZONE 'Asia/Phnom_Penh', 'YYYY-"Q"Q') IN (SELECT quarter FROM primero_sync.runs WHERE pull > {pull}))
"""

_FIND_STALE = """
CREATE TEMPORARY TABLE stale_cases ON COMMIT DROP AS
SELECT DISTINCT s.primero_id::uuid
  FROM staged_cases AS s
  JOIN (SELECT primero_id::uuid AS id, primero_updated_at::timestamptz AS stamp
          FROM {cases} WHERE primero_id IS NOT NULL
         UNION ALL
        SELECT primero_id, last_updated_at FROM primero_sync.exits) AS known
    ON known.id = s.primero_id::uuid
 WHERE known.stamp > s.primero_updated_at::timestamptz AND {outranks}
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
WITH judged AS (
    SELECT s.primero_id::uuid, s.case_id,
           CASE WHEN stale.primero_id IS NOT NULL THEN 'stale'
                WHEN renamed.primero_id IS NOT NULL THEN 'updated'
                WHEN c.case_id IS NULL THEN 'inserted'
                WHEN {differs} THEN 'updated'
                ELSE 'unchanged'
           END AS decision
      FROM staged_cases AS s
      LEFT JOIN {cases} AS c
        ON c.case_id = s.case_id AND (c.primero_id IS NULL OR c.primero_id = s.primero_id)
      LEFT JOIN stale_cases AS stale ON stale.primero_id = s.primero_id::uuid
      LEFT JOIN renamed_cases AS renamed ON renamed.primero_id = s.primero_id::uuid
)
SELECT *, decision <> 'stale' AS applied FROM judged
"""

# A service that ONA does not have, or has for a case that gives it up, differs from nothing.
_DECIDE_SERVICES = """
CREATE TEMPORARY TABLE service_decisions ON COMMIT DROP AS
SELECT s.unique_id, d.primero_id,
       CASE WHEN NOT d.applied THEN 'stale'
            WHEN v.unique_id IS NULL OR v.primero_case_id <> s.primero_case_id THEN 'inserted'
            ELSE 'updated'
       END AS decision
  FROM staged_services AS s
  JOIN case_decisions AS d ON d.primero_id = s.primero_case_id::uuid
  LEFT JOIN {services} AS v ON v.unique_id = s.unique_id
 WHERE NOT d.applied OR {differs}
"""
