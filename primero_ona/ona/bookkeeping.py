"""What the sync remembers of a load in the schema `primero_sync`: runs, quarantine, unmapped codes.

What belongs here: writing these tables within the load's transaction. Exits are kept where they act, in `merge.py`;
reading for people is in `status.py`. Only counts, codes and Primero's ids are kept.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import astuple, dataclass
from datetime import datetime
from typing import Any

import psycopg

from primero_ona.ona.connection import translated
from primero_ona.quarters import Quarter

Summary = Mapping[str, Any]

#: Under this name the summary of a stored quarter has the number of the pull that brought it.
PULL_NUMBER = "pull_number"


@dataclass(frozen=True)
class Origin:
    """What the rows of a load come from: the number of their pull, and the versions of the pull and of the mapping."""

    pull: int | None
    pull_version: str | None
    mapping_version: str | None


def keep_quarantine(
    conn: psycopg.Connection,
    quarter: Quarter,
    run_id: str,
    now: datetime,
    summaries: Iterable[Summary],
    only: Collection[str] | None = None,
) -> int:
    """Bring the quarter's quarantine up to date with what the mapping put there; return the open entries.

    An entry that is not seen again is resolved, and so is one of any other quarter whose case has now come with this one.
    Where `only` names cases (Primero ids), entries of other cases are left as they are.
    """
    conn.execute(_SEEN)
    entries = Counter(
        (entry["table"], entry["primero_id"], entry["reason"])
        for summary in summaries
        for entry in summary.get("quarantine", ())
    )
    with conn.cursor() as cursor, cursor.copy("COPY seen_quarantine FROM STDIN") as copy:
        for entry, count in entries.items():
            copy.write_row((*entry, count))
    covered = None if only is None else list(only)
    known = {"quarter": quarter.name, "run_id": run_id, "now": now, "covered": covered}
    conn.execute(_KEEP_ENTRIES, known)
    conn.execute(_RESOLVE_UNSEEN, known)
    conn.execute(_RESOLVE_ARRIVED, known)
    row = conn.execute(_COUNT_OPEN, known).fetchone()
    return int(row[0]) if row else 0


def keep_unmapped(conn: psycopg.Connection, quarter: Quarter, run_id: str, summaries: Iterable[Summary]) -> None:
    """Replace the quarter's unmapped codes by those of this sync."""
    counts: Counter[tuple[str, str | None]] = Counter()
    for summary in summaries:
        for finding in summary.get("findings", ()):
            counts[finding["field"], finding["code"]] += int(finding["count"])
    conn.execute("DELETE FROM primero_sync.unmapped WHERE quarter = %s", (quarter.name,))
    with conn.cursor() as cursor, cursor.copy(_COPY_UNMAPPED) as copy:
        for (field, code), count in counts.items():
            copy.write_row((quarter.name, field, code, count, run_id))


def keep_run(
    conn: psycopg.Connection,
    quarter: Quarter,
    run_id: str,
    started: datetime,
    origin: Origin,
    counts: Mapping[str, Mapping[str, int]],
) -> None:
    """Record a load; a run that loads a quarter again adds a row, and the last one counts."""
    conn.execute(_KEEP_RUN, (run_id, quarter.name, started, *astuple(origin), json.dumps(counts)))


def next_pull(conn: psycopg.Connection) -> int:
    """Take the number of a pull, before anything is asked of Primero: a pull that asks later has a higher one."""
    with translated("numbering a pull in ONA"):
        row = conn.execute("SELECT nextval('primero_sync.pulls')").fetchone()
    return int(row[0]) if row else 0


def was_loaded(conn: psycopg.Connection, quarter: Quarter, pull: int | None) -> bool:
    """Whether the quarter was loaded from this pull before: then its rows are stored, and not received just now."""
    if pull is None:
        return True
    query = "SELECT FROM primero_sync.runs WHERE quarter = %s AND pull = %s LIMIT 1"
    return conn.execute(query, (quarter.name, pull)).fetchone() is not None


_SEEN = """
CREATE TEMPORARY TABLE seen_quarantine
    (table_name text, primero_id text, reason text, entries integer) ON COMMIT DROP
"""

_KEEP_ENTRIES = """
INSERT INTO primero_sync.quarantine AS q
       (quarter, table_name, primero_id, reason, entries, run_id, first_seen, last_seen)
SELECT %(quarter)s, table_name, COALESCE(primero_id, ''), reason, sum(entries), %(run_id)s, %(now)s, %(now)s
  FROM seen_quarantine
 GROUP BY table_name, COALESCE(primero_id, ''), reason
ON CONFLICT (primero_id, quarter, table_name, reason, (COALESCE(other_id, ''))) DO UPDATE
   SET entries = excluded.entries, run_id = excluded.run_id, last_seen = excluded.last_seen, resolved_at = NULL
"""

_RESOLVE_UNSEEN = """
UPDATE primero_sync.quarantine AS q
   SET resolved_at = %(now)s
 WHERE q.quarter = %(quarter)s AND q.resolved_at IS NULL
   AND (%(covered)s::text[] IS NULL OR q.primero_id = ANY (%(covered)s))
   AND NOT EXISTS (
    SELECT FROM seen_quarantine AS s
     WHERE COALESCE(s.primero_id, '') = q.primero_id AND s.table_name = q.table_name AND s.reason = q.reason)
"""

# A case lies in one quarter only, that of its last change: what another quarter's sync said of it is over.
_RESOLVE_ARRIVED = """
UPDATE primero_sync.quarantine AS q
   SET resolved_at = %(now)s
 WHERE q.quarter <> %(quarter)s AND q.resolved_at IS NULL
   AND q.primero_id IN (
    SELECT primero_id::text FROM case_decisions WHERE decision <> 'stale'
    UNION SELECT primero_id::text FROM staged_exits
    UNION SELECT primero_id FROM seen_quarantine WHERE table_name = 'cases')
"""

_COUNT_OPEN = """
SELECT count(*) FROM primero_sync.quarantine WHERE quarter = %(quarter)s AND resolved_at IS NULL
"""

_COPY_UNMAPPED = "COPY primero_sync.unmapped (quarter, field, code, count, run_id) FROM STDIN"

# The time of the end is the server's: the loader may not name one.
_KEEP_RUN = """
INSERT INTO primero_sync.runs (run_id, quarter, started_at, pull, pull_version, mapping_version, counts)
VALUES (%s, %s, %s, %s, %s, %s, %s::jsonb)
"""
