"""What the mapping asks of ONA: the names of places, and for which case ONA holds a contested key.

What belongs here: small reads before the mapping. What does not belong here: resolving a location (the mapping's),
keeping `locations_lookup` up to date (`lookup.py`), and the load.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, LiteralString

import psycopg
import pyarrow as pa
from psycopg import sql

from primero_ona.ona.connection import translated
from primero_ona.ona.schema import LOCATIONS_LOOKUP
from primero_ona.ona.target import Target

if TYPE_CHECKING:
    import pandas as pd


def read_places(conn: psycopg.Connection) -> pd.DataFrame:
    """The districts that ONA knows: columns code, district, province, province_code, all text."""
    names = [column.name for column in LOCATIONS_LOOKUP.columns if not column.added]
    as_text = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(name)) for name in names)
    query = sql.SQL("SELECT {} FROM {} WHERE code IS NOT NULL ORDER BY 1")
    with translated("reading ONA's locations_lookup"):
        target = Target.find(conn)
        rows = conn.execute(query.format(as_text, target.name(LOCATIONS_LOOKUP))).fetchall()
    import pandas as pd  # noqa: PLC0415

    text = pd.ArrowDtype(pa.string())
    return pd.DataFrame(rows, columns=pd.Index(names), dtype=text)


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
