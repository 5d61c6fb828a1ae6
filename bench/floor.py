"""The floor: the least that any program has to do for the same rows in ONA. One script, no Dagster, checks or storage.

It asks the same requests as primero-ona, one at a time and for the same fields, decodes them with orjson, picks columns,
and merges them by COPY and one statement for each table. What it leaves out: everything that makes a sync trustworthy.

    PRIMERO_URL=… ONA_DATABASE_URL=… python bench/floor.py 2024-01-01 2024-04-01
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import psycopg
import requests
from asked import FIELDS

#: What becomes a column of its own; the key of both tables comes first.
CASE_COLUMNS = ("id", "last_updated_at", *FIELDS.split(",")[:-1])
SERVICE_COLUMNS = ("unique_id", "case_id", "service_type", "service_subtype", "service_implemented_day_time")
TABLES = {"cases": CASE_COLUMNS, "services": SERVICE_COLUMNS}


def pages(session: requests.Session, url: str, window: str) -> Iterator[list[dict[str, Any]]]:
    """The pages of the window, newest creation first, each bounded by the smallest `created_at` before."""
    asked = {"last_updated_at": window, "order_by": "created_at", "order": "desc", "fields": FIELDS, "per": "1000"}
    while True:
        rows = orjson.loads(session.get(f"{url}/api/v2/cases", params=asked).content)["data"]
        yield rows
        created = [row["created_at"] for row in rows if row.get("created_at")]
        if len(rows) < 1000 or not created:
            return
        bound = datetime.fromisoformat(min(created)) + timedelta(milliseconds=1)
        asked["created_at"] = f"1970-01-01T00:00:00Z..{bound:%Y-%m-%dT%H:%M:%S.%fZ}"


def text(value: object) -> str | None:
    """A value as text."""
    if value is None or isinstance(value, str):
        return value
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def services(case: dict[str, Any]) -> Iterator[list[str | None]]:
    """The services of a case."""
    for service in case.get("services_section") or []:
        if isinstance(service, dict) and service.get("unique_id"):
            yield [text(service.get(name)) if name != "case_id" else case["id"] for name in SERVICE_COLUMNS]


def copy(connection: psycopg.Connection, table: str, rows: Iterator[list[str | None]]) -> None:
    """Append rows to the table's temporary twin."""
    with connection.cursor().copy(f"COPY new_{table} FROM STDIN") as writer:
        for row in rows:
            writer.write_row(row)


def merge(connection: psycopg.Connection, table: str, columns: tuple[str, ...]) -> None:
    """Insert what is new, update what differs."""
    key, *rest = columns
    connection.execute(f"""
        INSERT INTO floor.{table} AS old SELECT DISTINCT ON ({key}) * FROM new_{table}
        ON CONFLICT ({key}) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in rest)}
        WHERE ({", ".join(f"old.{name}" for name in rest)}) IS DISTINCT FROM ({", ".join(f"excluded.{name}" for name in rest)})
    """)


def main(first: str, after: str) -> None:
    """Merge the cases that were changed from one day (included) to another (excluded), in Phnom Penh."""
    zone = ZoneInfo("Asia/Phnom_Penh")
    start, end = (datetime.fromisoformat(day).replace(tzinfo=zone).astimezone(UTC) for day in (first, after))
    session = requests.Session()
    session.auth = (os.environ["PRIMERO_USERNAME"], os.environ["PRIMERO_PASSWORD"])
    with psycopg.connect(os.environ["ONA_DATABASE_URL"]) as connection:
        connection.execute("CREATE SCHEMA IF NOT EXISTS floor")
        for table, columns in TABLES.items():
            definition = ", ".join(f"{name} text" for name in columns)
            connection.execute(f"CREATE TABLE IF NOT EXISTS floor.{table} ({definition}, PRIMARY KEY ({columns[0]}))")
            connection.execute(f"CREATE TEMPORARY TABLE new_{table} ({definition})")
        for rows in pages(session, os.environ["PRIMERO_URL"], f"{start:%Y-%m-%dT%H:%M:%SZ}..{end:%Y-%m-%dT%H:%M:%SZ}"):
            copy(connection, "cases", ([text(row.get(name)) for name in CASE_COLUMNS] for row in rows))
            copy(connection, "services", (service for row in rows for service in services(row)))
        for table, columns in TABLES.items():
            merge(connection, table, columns)


if __name__ == "__main__":
    main(*sys.argv[1:])
