"""What ONA's bookkeeping tells of each quarter: when it was loaded last, with what result, and what is still open.

What belongs here: reading `primero_sync` for people. What does not belong here: judging whether ONA is right
(`verify.py`), and how it is shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg.rows import class_row

from primero_ona.ona.connection import translated
from primero_ona.quarters import Quarter


@dataclass(frozen=True)
class QuarterStatus:
    """The last load of one quarter. Times are aware, in UTC; `counts` are those of the load, per table.

    `loads`: how often the quarter was loaded. `changed_at`: the last load that wrote or removed a row, if any did.
    `stale`: rows of the last load that were older than ONA's. `quarantined` and `unmapped`: what is open now.
    """

    quarter: str
    loads: int
    run_id: str
    started_at: datetime
    finished_at: datetime
    changed_at: datetime | None
    pull_version: str | None
    mapping_version: str | None
    counts: dict[str, dict[str, int]]
    stale: int
    quarantined: int
    unmapped: int


def quarter_status(conn: psycopg.Connection) -> list[QuarterStatus]:
    """The status of every quarter that was ever loaded, oldest quarter first."""
    with (
        translated("reading the sync's bookkeeping in ONA"),
        conn.transaction(),
        conn.cursor(row_factory=class_row(QuarterStatus)) as cursor,
    ):
        return cursor.execute(_STATUS).fetchall()


def outdated_quarters(conn: psycopg.Connection, pull_version: str, mapping_version: str) -> dict[Quarter, str]:
    """The quarters whose last load was of another version of the pull or the mapping, with that load's run, oldest first.

    A quarter that was never loaded is not among them: what it lacks, an audit finds missing.
    """
    with translated("reading the sync's bookkeeping in ONA"):
        rows = conn.execute(_OUTDATED, (pull_version, mapping_version)).fetchall()
    return {Quarter.parse(quarter): run_id for quarter, run_id in rows}


_OUTDATED = """
SELECT quarter, run_id
  FROM (SELECT DISTINCT ON (quarter) * FROM primero_sync.runs ORDER BY quarter, finished_at DESC) AS last
 WHERE (pull_version, mapping_version) IS DISTINCT FROM (%s, %s)
 ORDER BY quarter
"""

_STATUS = """
WITH loads AS (
    SELECT *,
           (SELECT sum(n.value::bigint)
              FROM jsonb_each(counts) AS t, jsonb_each_text(t.value) AS n
             WHERE n.key IN ('inserted', 'updated', 'removed')) > 0 AS changed,
           (SELECT sum(n.value::bigint) FROM jsonb_each(counts) AS t, jsonb_each_text(t.value) AS n WHERE n.key = 'stale') AS stale
      FROM primero_sync.runs
),
last AS (
    SELECT DISTINCT ON (quarter) * FROM loads ORDER BY quarter, finished_at DESC
)
SELECT last.quarter, last.run_id, last.started_at, last.finished_at, last.pull_version, last.mapping_version,
       last.counts,
       last.stale::bigint AS stale,
       (SELECT count(*) FROM loads WHERE loads.quarter = last.quarter) AS loads,
       (SELECT max(finished_at) FROM loads WHERE loads.quarter = last.quarter AND loads.changed) AS changed_at,
       (SELECT count(*) FROM primero_sync.quarantine AS q
         WHERE q.quarter = last.quarter AND q.resolved_at IS NULL) AS quarantined,
       (SELECT COALESCE(sum(u.count), 0)::bigint FROM primero_sync.unmapped AS u WHERE u.quarter = last.quarter) AS unmapped
  FROM last
 ORDER BY last.quarter
"""
