"""Reading the quarantine: which cases are set aside, why, and since when.

What belongs here: reading `primero_sync.quarantine` for people and for a retry. Writing it belongs to the load
(`bookkeeping.py`), which also resolves an entry once its case has become good.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg.rows import class_row

from primero_ona.ona.connection import translated


@dataclass(frozen=True)
class Entry:
    """One entry: so many alike rows of `table_name` of one case. Ids are Primero's; times are aware, in UTC.

    `run_id`: the run that saw it last.
    """

    quarter: str
    table_name: str
    primero_id: str
    reason: str
    entries: int
    run_id: str
    first_seen: datetime
    last_seen: datetime
    resolved_at: datetime | None


def list_entries(conn: psycopg.Connection, *, quarter: str | None = None, resolved: bool = False) -> list[Entry]:
    """The open entries, or all with `resolved`; of one quarter (`2024-Q1`) or of all, oldest quarter first."""
    with (
        translated("reading the quarantine in ONA"),
        conn.transaction(),
        conn.cursor(row_factory=class_row(Entry)) as cursor,
    ):
        return cursor.execute(_LIST, {"quarter": quarter, "resolved": resolved}).fetchall()


_LIST = """
SELECT quarter, table_name, primero_id, reason, entries, run_id, first_seen, last_seen, resolved_at
  FROM primero_sync.quarantine
 WHERE (%(quarter)s::text IS NULL OR quarter = %(quarter)s)
   AND (%(resolved)s OR resolved_at IS NULL)
 ORDER BY quarter, table_name, reason, primero_id
"""
