"""Synthetic mapped rows, the old pipeline's tables, and loads in one line, for the tests of `ona/`."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import pandas as pd
import psycopg
import pyarrow as pa
from psycopg.rows import dict_row

from primero_ona.contract.column import Table
from primero_ona.contract.tables import CASES, SERVICES
from primero_ona.ona.bookkeeping import PULL_NUMBER, RECEIVED
from primero_ona.ona.load import LoadResult, TableCounts, load_quarter
from primero_ona.ona.migrations import apply, plan
from primero_ona.primero.raw import EXIT_SCHEMA
from primero_ona.quarters import Quarter
from primero_ona.storage.frames import Frames

Q1, Q2 = Quarter(2024, 1), Quarter(2024, 2)
T0 = datetime(2024, 2, 1, 8, 30, 15, 250_000, tzinfo=UTC)
NOW = datetime(2024, 7, 5, 12, 0, 0, 999_999, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)


def at(minutes: float) -> datetime:
    """A time of last change, so many minutes after T0."""
    return T0 + timedelta(minutes=minutes)


def id_of(number: int) -> str:
    """Primero's id of the case with this number."""
    return str(UUID(int=(number << 96) + 0xA000_0000))


def own(key: str, number: int, *, digits: int = 8, place: int = 1) -> str:
    """The key of its own of the case with this number, or of one of its services."""
    return f"{key}~{id_of(number).replace('-', '')[:digits]}" + (f"~{place}" if place > 1 else "")


def case(number: int, **changes: Any) -> dict[str, Any]:
    """A mapped case; `changes` replace single columns."""
    row = dict.fromkeys(CASES.arrow_schema().names) | {
        "case_id": f"case-{number}",
        "registration_date": date(2024, 1, 15),
        "case_source": "primero",
        "sex": "Female",
        "age": 9,
        "protection_concerns": "",
        "consent_for_reporting": "true",
        "province_current": "Kratie",
        "province_current_code": "10",
        "primero_id": id_of(number),
        "primero_updated_at": T0,
        "age_group": "5-9",
        "created_at": T0,
    }
    return row | changes


def service(number: int, of: int, **changes: Any) -> dict[str, Any]:
    """A mapped service of case `of`."""
    row = dict.fromkeys(SERVICES.arrow_schema().names) | {
        "unique_id": f"service-{number}",
        "case_id": f"case-{of}",
        "service_type": "Counselling",
        "service_date": date(2024, 2, 2),
        "primero_case_id": id_of(of),
        "place": 1,
    }
    return row | changes


def left(number: int, minutes: float = 0, **changes: Any) -> dict[str, Any]:
    """An exit as the pull keeps it: the display id is JSON text."""
    row = {"id": id_of(number), "case_id_display": f'"case-{number}"', "last_updated_at": at(minutes)}
    return row | changes


def frame(rows: list[dict[str, Any]], schema: pa.Schema) -> pd.DataFrame:
    """Rows as a pandas frame with Arrow dtypes."""
    table = pa.Table.from_pylist(rows, schema=pa.schema([pa.field(f.name, f.type) for f in schema]))
    return table.to_pandas(types_mapper=pd.ArrowDtype)


def frames(table: Table, rows: list[dict[str, Any]], summary: dict[str, Any] | None = None, size: int = 2) -> Frames:
    """Rows as a stream of small frames, so that every load crosses a border between frames."""
    schema = table.arrow_schema()
    pieces = [frame(rows[start : start + size], schema) for start in range(0, len(rows), size)]
    return Frames.of(*(pieces or [frame([], schema)]), summary=summary)


def load(
    conn: psycopg.Connection,
    cases: list[dict[str, Any]],
    services: list[dict[str, Any]] | None = None,
    exits: list[dict[str, Any]] | None = None,
    *,
    quarter: Quarter = Q1,
    now: datetime = NOW,
    run_id: str = "run-1",
    cases_summary: dict[str, Any] | None = None,
    services_summary: dict[str, Any] | None = None,
    pull: int | None = None,
    received: dict[str, Any] | None = None,
) -> LoadResult:
    """Load rows as a quarter; those of the `pull` with this number, or stored ones; `received` as a summary has it."""
    numbered = {PULL_NUMBER: pull}
    return load_quarter(
        conn,
        quarter=quarter,
        run_id=run_id,
        cases=frames(CASES, cases, {**(cases_summary or {}), **numbered}),
        services=frames(SERVICES, services or [], {**(services_summary or {}), **numbered}),
        exits=Frames.of(
            frame(exits or [], EXIT_SCHEMA), summary={**numbered, **({RECEIVED: received} if received else {})}
        ),
        now=now,
    )


def read(url: str, query: str) -> list[dict[str, Any]]:
    """What a second connection sees: only what was committed."""
    with psycopg.connect(url, row_factory=dict_row) as conn:
        return conn.execute(query.encode()).fetchall()


def case_ids(url: str) -> dict[str, str | None]:
    """`{case_id: Primero id}` as committed."""
    rows = read(url, "SELECT case_id, primero_id::text FROM cases ORDER BY 1")
    return {row["case_id"]: row["primero_id"] for row in rows}


def service_ids(url: str) -> dict[str, str]:
    """`{unique_id: case_id}` as committed."""
    return {row["unique_id"]: row["case_id"] for row in read(url, "SELECT unique_id, case_id FROM services ORDER BY 1")}


def quarantine(url: str) -> list[tuple[Any, ...]]:
    """The open entries: table, Primero id, reason, quarter."""
    query = """
        SELECT table_name, primero_id, reason, quarter FROM primero_sync.quarantine
         WHERE resolved_at IS NULL ORDER BY 1, 2, 3
    """
    return [tuple(row.values()) for row in read(url, query)]


def make_tables(conn: psycopg.Connection, kind: str) -> None:
    """ONA's tables in one of the shapes that a database may have, then what `schema apply` adds.

    `none`: no tables. `old`: those of the old pipeline, typed. `text`: those of the old pipeline, all text.
    `all text`: everything is text, what this project adds, too.
    """
    if kind != "none":
        for table in (CASES, SERVICES):
            columns = [c for c in table.columns if kind == "all text" or not c.added]
            typed = [f"{c.name} {c.type if kind == 'old' else 'text'}" for c in columns]
            conn.execute(f"CREATE TABLE {table.name} ({', '.join(typed)}, PRIMARY KEY ({table.key}))".encode())
    apply(conn, plan(conn))


SHAPES = ("none", "old", "text", "all text")


def counts(received: int = 0, **others: int) -> TableCounts:
    names = ("inserted", "updated", "unchanged", "stale", "removed", "own_keys")
    return TableCounts(received, **{name: others.get(name, 0) for name in names})


def stamps(url: str) -> dict[str, datetime]:
    return {
        row["case_id"]: row["last_updated_date"] for row in read(url, "SELECT case_id, last_updated_date FROM cases")
    }


def old_row(conn: psycopg.Connection, number: int) -> None:
    """A case and a service as the old pipeline left them: without Primero's ids."""
    conn.execute("INSERT INTO cases (case_id, sex) VALUES (%s, 'Male')", (f"case-{number}",))
    conn.execute("INSERT INTO services (unique_id, case_id) VALUES (%s, %s)", (f"old-{number}", f"case-{number}"))
