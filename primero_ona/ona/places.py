"""What the mapping asks of ONA: the names of places.

What does not belong here: resolving a location (the mapping's), keeping `locations_lookup` up to date (`lookup.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

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
