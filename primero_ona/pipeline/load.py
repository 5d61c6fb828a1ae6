"""Load a stored quarter into ONA."""

from __future__ import annotations

from datetime import datetime

import psycopg

from primero_ona.contract.tables import CASES, SERVICES
from primero_ona.ona.connection import translate_errors
from primero_ona.ona.load import LoadResult, load_quarter
from primero_ona.ona.target import Target
from primero_ona.pipeline.stored import EXITS, MAPPED_CASES, MAPPED_SERVICES, StoredAssets
from primero_ona.quarters import Quarter


def load_stored_quarter(
    conn: psycopg.Connection, stored: StoredAssets, quarter: Quarter, run_id: str, now: datetime
) -> LoadResult:
    """Load the mapped rows and the exits of a quarter in one transaction; raises as `load_quarter` and `StoredAssets.open`."""
    return load_quarter(
        conn,
        quarter=quarter,
        run_id=run_id,
        cases=stored.open(MAPPED_CASES, quarter),
        services=stored.open(MAPPED_SERVICES, quarter),
        exits=stored.open(EXITS, quarter),
        now=now,
    )


def table_sizes(conn: psycopg.Connection) -> dict[str, int]:
    """How many rows ONA's tables of children have, by table."""
    with translate_errors("counting the rows of ONA's tables"):
        target = Target.find(conn)
        return {table.name: target.size(conn, table) for table in (CASES, SERVICES)}
