"""What becomes of each staged row: inserted, updated, unchanged, stale or quarantined. Decided before anything is written.

What belongs here: the rules of staleness, of changed keys and of clashes, as comparisons of staged rows with ONA's.
What does not belong here: writing (`merge.py`), and the bookkeeping (`bookkeeping.py`).

Primero's ids are compared as uuid and its stamps as timestamptz whatever ONA's columns are; where they are of these
types already, the casts cost nothing.
"""

from __future__ import annotations

import psycopg
from psycopg import sql

from primero_ona.ona.schema import CASES, SERVICES
from primero_ona.ona.target import Target, different


def find_stale(conn: psycopg.Connection, target: Target) -> None:
    """Make `stale_cases` (primero_id): staged cases of which ONA has a newer state, or knows that they left since."""
    target.run(conn, _FIND_STALE)
    conn.execute("ANALYZE stale_cases")


def decide_cases(conn: psycopg.Connection, target: Target) -> dict[str, int]:
    """Make `case_decisions` (primero_id, case_id, decision, other_id, applied); return the rows per decision.

    `other_id`: the case that holds the key of a quarantined one. `applied`: ONA has, or will have, the staged content.
    """
    find_stale(conn, target)
    # The few that are not as usual come into tables of their own, so that PostgreSQL knows how few they are.
    target.run(conn, _RENAMED_CASES)
    target.run(conn, _CONTESTED_CASES)
    conn.execute("ANALYZE renamed_cases, contested_cases")
    conn.execute(_CLASHED_CASES)
    conn.execute("ANALYZE clashed_cases")
    target.run(conn, _DECIDE_CASES, differs=different(CASES, "s", "c"))
    conn.execute("CREATE UNIQUE INDEX ON case_decisions (primero_id)")
    conn.execute("ANALYZE case_decisions")
    return _counts(conn, "case_decisions")


def decide_services(conn: psycopg.Connection, target: Target) -> dict[str, int]:
    """Make `service_decisions` (unique_id, primero_id, decision, reason, other_id); return the rows per decision.

    Unchanged services are not in it: usually nearly all are, and a table of them would cost more than the comparison.
    """
    # The one comparison of all services: whatever else is asked is asked of those that differ.
    target.run(conn, _CHANGED_SERVICES, differs=different(SERVICES, "s", "v"))
    conn.execute("ANALYZE changed_services")
    target.run(conn, _CLASHED_SERVICES)
    conn.execute("ANALYZE clashed_services")
    conn.execute(_DECIDE_SERVICES)
    conn.execute("ANALYZE service_decisions")
    return _counts(conn, "service_decisions")


def _counts(conn: psycopg.Connection, table: str) -> dict[str, int]:
    query = sql.SQL("SELECT decision, count(*) FROM {} GROUP BY decision").format(sql.Identifier(table))
    return dict(conn.execute(query).fetchall())


_FIND_STALE = """
CREATE TEMPORARY TABLE stale_cases ON COMMIT DROP AS
SELECT s.primero_id::uuid
  FROM staged_cases AS s
  JOIN {cases} AS c ON c.primero_id = s.primero_id
 WHERE c.primero_updated_at::timestamptz > s.primero_updated_at::timestamptz
UNION
SELECT s.primero_id::uuid
  FROM staged_cases AS s
  JOIN primero_sync.exits AS x ON x.primero_id = s.primero_id::uuid
 WHERE s.primero_updated_at::timestamptz < x.last_updated_at
"""

_RENAMED_CASES = """
CREATE TEMPORARY TABLE renamed_cases ON COMMIT DROP AS
SELECT s.primero_id::uuid
  FROM staged_cases AS s
  JOIN {cases} AS c ON c.primero_id = s.primero_id
 WHERE c.case_id <> s.case_id
   AND NOT EXISTS (SELECT FROM stale_cases AS stale WHERE stale.primero_id = s.primero_id::uuid)
"""

_CONTESTED_CASES = """
CREATE TEMPORARY TABLE contested_cases ON COMMIT DROP AS
SELECT s.primero_id::uuid, c.primero_id::uuid AS other_id
  FROM staged_cases AS s
  JOIN {cases} AS c ON c.case_id = s.case_id
 WHERE c.primero_id <> s.primero_id
   AND NOT EXISTS (SELECT FROM stale_cases AS stale WHERE stale.primero_id = s.primero_id::uuid)
"""

# A key that a quarantined case holds in ONA stays with it, so a case that waits for this key is quarantined, too: hence
# the recursion. Two cases that swap their keys are not in each other's way, since both leave their old key.
_CLASHED_CASES = """
CREATE TEMPORARY TABLE clashed_cases ON COMMIT DROP AS
WITH RECURSIVE clashed AS (
    SELECT primero_id, other_id
      FROM contested_cases
     WHERE other_id NOT IN (SELECT primero_id FROM renamed_cases)
    UNION
    SELECT contested.primero_id, contested.other_id
      FROM contested_cases AS contested
      JOIN clashed ON contested.other_id = clashed.primero_id
)
SELECT * FROM clashed
"""

_DECIDE_CASES = """
CREATE TEMPORARY TABLE case_decisions ON COMMIT DROP AS
WITH judged AS (
    SELECT s.primero_id::uuid, s.case_id, clashed.other_id,
           CASE WHEN stale.primero_id IS NOT NULL THEN 'stale'
                WHEN clashed.primero_id IS NOT NULL THEN 'quarantined'
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
      LEFT JOIN clashed_cases AS clashed ON clashed.primero_id = s.primero_id::uuid
)
SELECT *, decision IN ('inserted', 'updated', 'unchanged') AS applied FROM judged
"""

# A service that ONA does not have differs from nothing. `held_by` and `held_case_id`: whose it is in ONA, if anybody's.
_CHANGED_SERVICES = """
CREATE TEMPORARY TABLE changed_services ON COMMIT DROP AS
SELECT s.unique_id, s.case_id, s.primero_case_id::uuid AS primero_id, v.unique_id IS NULL AS absent,
       v.primero_case_id::uuid AS held_by, v.case_id AS held_case_id
  FROM staged_services AS s
  LEFT JOIN {services} AS v ON v.unique_id = s.unique_id
 WHERE {differs}
"""

# Whose a service in ONA is, is told by Primero's id, or in rows of the old pipeline by the case_id. It stays where it is
# unless its case is applied in this load, whose set of services is replaced, so that it leaves.
_CLASHED_SERVICES = """
CREATE TEMPORARY TABLE clashed_services ON COMMIT DROP AS
WITH held AS (
    SELECT x.unique_id, c.primero_id::uuid, c.case_id
      FROM changed_services AS x
      JOIN {cases} AS c ON c.primero_id::uuid = x.held_by
     WHERE x.held_by <> x.primero_id
    UNION ALL
    SELECT x.unique_id, c.primero_id::uuid, c.case_id
      FROM changed_services AS x
      JOIN {cases} AS c ON c.case_id = x.held_case_id
     WHERE x.held_by IS NULL
       AND x.held_case_id <> x.case_id
       AND c.primero_id::uuid IS DISTINCT FROM x.primero_id
)
SELECT unique_id, primero_id AS other_id
  FROM held
 WHERE NOT EXISTS (SELECT FROM case_decisions AS d WHERE d.applied AND d.primero_id = held.primero_id)
   AND NOT EXISTS (SELECT FROM case_decisions AS d WHERE d.applied AND d.case_id = held.case_id)
"""

# An unchanged service is told of only where its case is not applied.
_DECIDE_SERVICES = """
CREATE TEMPORARY TABLE service_decisions ON COMMIT DROP AS
SELECT x.unique_id, d.primero_id, clashed.other_id,
       CASE WHEN d.decision = 'stale' THEN 'stale'
            WHEN d.decision = 'quarantined' OR clashed.unique_id IS NOT NULL THEN 'quarantined'
            WHEN x.absent THEN 'inserted'
            ELSE 'updated'
       END AS decision,
       CASE WHEN d.decision = 'quarantined' THEN 'case quarantined'
            WHEN clashed.unique_id IS NOT NULL THEN 'unique_id of another case'
       END AS reason
  FROM changed_services AS x
  JOIN case_decisions AS d ON d.primero_id = x.primero_id
  LEFT JOIN clashed_services AS clashed ON clashed.unique_id = x.unique_id
UNION ALL
SELECT s.unique_id, d.primero_id, NULL, d.decision, CASE WHEN d.decision = 'quarantined' THEN 'case quarantined' END
  FROM staged_services AS s
  JOIN case_decisions AS d ON d.primero_id = s.primero_case_id::uuid
 WHERE NOT d.applied
   AND NOT EXISTS (SELECT FROM changed_services AS x WHERE x.unique_id = s.unique_id)
"""
