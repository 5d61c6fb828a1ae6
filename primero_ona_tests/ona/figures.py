"""Computing and reading figures, for the tests about them."""

from __future__ import annotations

from datetime import date
from typing import Any

import pandas as pd
import psycopg

from primero_ona.ona.figures import compute_figures
from primero_ona.ona.variants import VARIANTS
from primero_ona_tests.harness import NOW

TODAY = date(2024, 5, 15)
DEFAULTS = {indicator: names[0] for indicator, names in VARIANTS.items()}


def computed(conn: psycopg.Connection[Any], **changes: Any) -> bool:
    given = {"run_id": "run-1", "now": NOW, "first_year": 2022, "defaults": DEFAULTS, **changes}
    return compute_figures(conn, **given)


def frames(conn: psycopg.Connection[Any]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """ONA's two tables as the plain computation reads them, whatever their types."""
    found = []
    for table in ("cases", "services"):
        cursor = conn.execute(f"SELECT * FROM {table}".encode())
        names = [column.name for column in cursor.description or ()]
        rows = pd.DataFrame(cursor.fetchall(), columns=names).astype(object)
        for name in names:
            if name in ("registration_date", "service_date", "care_date", "date_of_reintegration", "date_closure"):
                rows[name] = pd.to_datetime(rows[name])
            elif name == "age" or name.startswith("age_at_"):
                rows[name] = pd.to_numeric(rows[name])
            else:
                rows[name] = rows[name].where(rows[name].notna(), None)
        found.append(rows)
    return found[0], found[1]


def stored(conn: psycopg.Connection[Any]) -> dict[tuple[Any, ...], int]:
    rows = conn.execute(
        "SELECT indicator, variant, period, period_start, dimension, value, children FROM indicator_figures"
    ).fetchall()
    return {row[:-1]: row[-1] for row in rows}
