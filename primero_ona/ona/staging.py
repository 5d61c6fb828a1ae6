"""Stream mapped frames into temporary tables with the column types found in ONA, and refuse rows that no load could take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, LiteralString

import psycopg
import pyarrow as pa
from psycopg import sql
from pyarrow import csv

from primero_ona.contract.tables import CASES, SERVICES
from primero_ona.errors import DataError
from primero_ona.ona.erasure import remove_erased
from primero_ona.ona.target import Target, commas
from primero_ona.storage.frames import Frames, prefetch
from primero_ona.texts import UUID

if TYPE_CHECKING:
    import pandas as pd

EXITS = pa.schema({"id": pa.string(), "case_id_display": pa.string(), "last_updated_at": pa.timestamp("ms", "UTC")})

#: Bytes that libpq is given at once: it copies them, so a whole frame would be held twice.
_BLOCK = 1 << 18


def stage_rows(conn: psycopg.Connection, target: Target, cases: Frames, services: Frames) -> dict[str, int]:
    """Fill `staged_cases` and `staged_services` in the running transaction; return the rows per table.

    The columns have the types that ONA's have, text or typed, so that comparing is comparing like with like. Keys are the
    plain ones.
    """
    make_staged(conn, target)
    rows = {CASES.name: 0, SERVICES.name: 0}
    for table, frames in ((CASES, cases), (SERVICES, services)):
        schema = table.arrow_schema()
        # One COPY per frame: a frame that cannot be read never breaks off a COPY, whose reason the server would log.
        for count, text in prefetch((len(frame), to_csv(frame, schema, table.name)) for frame in frames):
            copy_csv(conn, f"staged_{table.name}", schema.names, text)
            rows[table.name] += count
    for name, erased in remove_erased(conn).items():
        rows[name] -= erased
    analyze_staged(conn)
    return rows


def analyze_staged(conn: psycopg.Connection) -> None:
    """Tell the planner about the staged rows; only what is joined by: all columns would take as long as the joins."""
    conn.execute(
        "ANALYZE staged_cases (case_id, primero_id, primero_updated_at), "
        "staged_services (unique_id, case_id, primero_case_id, place)"
    )


def make_staged(conn: psycopg.Connection, target: Target) -> None:
    """Make the temporary tables for mapped rows, empty, with ONA's types.

    Not from the tables themselves: that would lock them as long as the transaction lasts, and those who change them would
    wait. Raises DataError where ONA lacks a column.
    """
    for table in (CASES, SERVICES):
        types = target.require(conn, table, table.mapped_names)
        types |= {column.name: column.type for column in table.deciding}
        columns = [sql.Identifier(name) + sql.SQL(f" {types[name]}") for name in table.arrow_schema().names]
        make = sql.SQL("CREATE TEMPORARY TABLE {} ({}) ON COMMIT DROP")
        conn.execute(make.format(sql.Identifier(f"staged_{table.name}"), sql.SQL(", ").join(columns)))


def stage_exits(conn: psycopg.Connection, exits: Frames) -> None:
    """Fill `staged_exits` (primero_id, case_id, last_updated_at) in the running transaction, each case once."""
    conn.execute(
        "CREATE TEMPORARY TABLE received_exits (id text, case_id_display text, last_updated_at timestamptz) ON COMMIT DROP"
    )
    for frame in exits.read(EXITS.names):
        copy_csv(conn, "received_exits", EXITS.names, to_csv(frame, EXITS, "exits"))
    # The display id is the JSON text that Primero sent, so quotes stand around it, or none around a number. Of a case whose
    # id is no UUID nothing can be in ONA, so nothing has to leave.
    conn.execute(
        sql.SQL("""
        CREATE TEMPORARY TABLE staged_exits ON COMMIT DROP AS
        SELECT DISTINCT ON (id) id::uuid AS primero_id, btrim(btrim(case_id_display, '"')) AS case_id, last_updated_at
          FROM received_exits
         WHERE id ~ {uuid} AND last_updated_at IS NOT NULL
         ORDER BY id, last_updated_at DESC
    """).format(uuid=UUID)
    )
    conn.execute("ANALYZE staged_exits")


def to_csv(frame: pd.DataFrame, schema: pa.Schema, what: str) -> memoryview:
    """A frame as the text that COPY reads; raises DataError where it does not have the schema. `what` names its rows."""
    sink = pa.BufferOutputStream()
    # Every value that is not null in quotes, so that COPY distinguishes an empty text from null.
    options = csv.WriteOptions(include_header=False, quoting_style="all_valid")
    try:
        # In one piece: pyarrow 26 writes rubbish where the first of several pieces is empty.
        table = pa.Table.from_pandas(frame, schema=schema, preserve_index=False, nthreads=1)
        csv.write_csv(table.combine_chunks(), sink, options)
    except (pa.ArrowException, KeyError, TypeError, ValueError):
        raise DataError(
            f"a frame of {what} does not have the columns and types of the table contract; map the quarter again",
            see="stored-partition",
        ) from None
    return memoryview(sink.getvalue())


def copy_csv(conn: psycopg.Connection, name: str, columns: Sequence[str], rows: memoryview) -> None:
    """Copy rows made by `to_csv` into a temporary table."""
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT csv)").format(sql.Identifier(name), commas(columns))
    with conn.cursor() as cursor, cursor.copy(statement) as copy:
        for start in range(0, len(rows), _BLOCK):
            copy.write(rows[start : start + _BLOCK])


def refuse_unusable(conn: psycopg.Connection) -> None:
    """Refuse staged rows that occur twice, lack what identifies them, or hold a service without its case.

    Raises DataError. The checks before the load look for the same, so there should be none.
    """
    for problem, rows in _UNUSABLE.items():
        if count := conn.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.SQL(rows))).fetchall()[0][0]:
            raise DataError(
                f"{count:,} times among the mapped rows, {problem}; nothing was loaded, map the quarter again",
                see="stored-partition",
            )


_UNUSABLE: dict[str, LiteralString] = {
    "a Primero id occurs more than once": "(SELECT FROM staged_cases GROUP BY primero_id HAVING count(*) > 1) AS repeated",
    "a service of a case occurs more than once": """
        (SELECT FROM staged_services GROUP BY primero_case_id, unique_id, place HAVING count(*) > 1) AS repeated
    """,
    "a case lacks its case_id, its Primero id or the time of its last change": """
        staged_cases WHERE case_id IS NULL OR primero_id IS NULL OR primero_updated_at IS NULL
    """,
    "a service lacks its unique_id or its place": "staged_services WHERE unique_id IS NULL OR place IS NULL",
    "a service belongs to no mapped case": """
        staged_services AS s WHERE NOT EXISTS (
            SELECT FROM staged_cases AS c WHERE c.primero_id::uuid = s.primero_case_id::uuid AND c.case_id = s.case_id)
    """,
}
