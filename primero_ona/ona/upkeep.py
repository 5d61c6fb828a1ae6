"""Small tables that people in ONA may have made by hand, kept up to date row by row: read, compare, write what differs.

The types of ONA's own columns are not known, so everything is read as text, and sent as text that PostgreSQL reads as the
column's type.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import LiteralString

import psycopg
from psycopg import sql

from primero_ona.contract.column import Table
from primero_ona.errors import TransientError
from primero_ona.ona.connection import translate_errors
from primero_ona.ona.target import Target, commas

Text = str | None
#: A row as texts by column; null is None.
Row = dict[str, Text]


@dataclass(frozen=True)
class Upkeep:
    """What became of the rows of a small table. Rows no longer in the source are kept and not counted."""

    inserted: int
    updated: int
    unchanged: int

    @property
    def written(self) -> int:
        """Rows inserted or updated."""
        return self.inserted + self.updated


@contextmanager
def locked(conn: psycopg.Connection, table: Table, action: str) -> Iterator[Target]:
    """Open a transaction in which no other session writes into the table; readers are not held up.

    Raises TransientError where another session keeps the table for too long.
    """
    with translate_errors(action), conn.transaction():
        target = Target.find(conn)
        try:
            conn.execute(sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(target.name(table)))
        except psycopg.errors.LockNotAvailable:
            raise TransientError(
                f"another session kept ONA's {table.name} for too long; try again later", see="ona-busy"
            ) from None
        yield target


def read_rows(conn: psycopg.Connection, target: Target, table: Table) -> list[Row]:
    """All rows of the table as texts, by the columns of the contract."""
    names = [column.name for column in table.columns]
    as_text = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(name)) for name in names)
    rows = conn.execute(sql.SQL("SELECT {} FROM {}").format(as_text, target.name(table))).fetchall()
    return [dict(zip(names, row, strict=True)) for row in rows]


def insert_rows(conn: psycopg.Connection, target: Target, table: Table, rows: Sequence[Row]) -> None:
    """Insert whole rows."""
    names = [column.name for column in table.columns]
    statement = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
        target.name(table), commas(names), sql.SQL(", ").join(sql.SQL("%s") * len(names))
    )
    with conn.cursor() as cursor:
        cursor.executemany(statement, [[row[name] for name in names] for row in rows])


def update_row(
    conn: psycopg.Connection, target: Target, table: Table, key: Mapping[str, Text], changes: Mapping[str, Text]
) -> None:
    """Change columns of the row whose key columns, as texts, are these."""
    assigned = _equations(changes, "{} = %s", ", ")
    found = _equations(key, "{}::text = %s", " AND ")
    statement = sql.SQL("UPDATE {} SET {} WHERE {}").format(target.name(table), assigned, found)
    conn.execute(statement, [*changes.values(), *key.values()])


def _equations(names: Iterable[str], pattern: LiteralString, between: LiteralString) -> sql.Composed:
    parts = [sql.SQL(pattern).format(sql.Identifier(name)) for name in names]
    return sql.SQL(between).join(parts)
