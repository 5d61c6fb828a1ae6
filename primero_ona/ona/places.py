"""What the mapping asks of ONA: the names of places, and for which case ONA holds a contested key.

What belongs here: small reads before the mapping, and the first filling of `locations_lookup`. What does not belong
here: resolving a location (the mapping's), and the load.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import LiteralString

import pandas as pd
import psycopg
import pyarrow as pa
from psycopg import sql

from primero_ona.failures import DataFailure
from primero_ona.ona.connection import translated
from primero_ona.ona.schema import LOCATIONS_LOOKUP
from primero_ona.ona.target import Target, commas


def read_places(conn: psycopg.Connection) -> pd.DataFrame:
    """The districts that ONA knows: columns code, district, province, province_code, all text."""
    names = LOCATIONS_LOOKUP.mapped_names
    as_text = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(name)) for name in names)
    query = sql.SQL("SELECT {} FROM {} WHERE code IS NOT NULL ORDER BY 1")
    with translated("reading ONA's locations_lookup"):
        target = Target.find(conn)
        rows = conn.execute(query.format(as_text, target.name(LOCATIONS_LOOKUP))).fetchall()
    text = pd.ArrowDtype(pa.string())
    return pd.DataFrame(rows, columns=pd.Index(names), dtype=text)


def fill_places(conn: psycopg.Connection, frame: pd.DataFrame) -> int:
    """Fill `locations_lookup` where it is empty; return the rows written, 0 where ONA has places already.

    `frame` has the columns of `read_places`. Raises DataFailure where a code is missing or occurs twice.
    """
    codes = frame["code"]
    if codes.isna().any() or codes.duplicated().any():
        raise DataFailure("the places have a district without a code, or a code twice; locations_lookup was not filled")
    names = LOCATIONS_LOOKUP.mapped_names
    with translated("filling ONA's locations_lookup"), conn.transaction():
        table = Target.find(conn).name(LOCATIONS_LOOKUP)
        # Two syncs may find the table empty; the second waits here and then finds it filled. Readers are not held up.
        conn.execute(sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(table))
        if conn.execute(sql.SQL("SELECT FROM {} LIMIT 1").format(table)).fetchone() is not None:
            return 0
        statement = sql.SQL("COPY {} ({}) FROM STDIN").format(table, commas(names))
        with conn.cursor() as cursor, cursor.copy(statement) as copy:
            for row in frame[names].astype(object).where(frame[names].notna(), None).itertuples(index=False):
                copy.write_row(tuple(row))
        return len(frame)


def holders(conn: psycopg.Connection, case_ids: Collection[str]) -> dict[str, str]:
    """For each of the `case_ids` that ONA holds for a case of Primero: that case's Primero id."""
    return _held(conn, _HOLDERS, case_ids)


def service_holders(conn: psycopg.Connection, unique_ids: Collection[str]) -> dict[str, str]:
    """For each of the services' `unique_ids` that ONA holds for a case of Primero: that case's Primero id."""
    return _held(conn, _SERVICE_HOLDERS, unique_ids)


def _held(conn: psycopg.Connection, query: LiteralString, keys: Collection[str]) -> dict[str, str]:
    if not keys:
        return {}
    with translated("asking ONA which cases hold contested keys"):
        statement = sql.SQL(query).format(**Target.find(conn).names)
        return dict(conn.execute(statement, {"keys": list(keys)}).fetchall())


_HOLDERS = """
SELECT case_id, primero_id::text
  FROM {cases}
 WHERE case_id = ANY (%(keys)s) AND primero_id IS NOT NULL
"""

_SERVICE_HOLDERS = """
SELECT unique_id, primero_case_id::text
  FROM {services}
 WHERE unique_id = ANY (%(keys)s) AND primero_case_id IS NOT NULL
"""
