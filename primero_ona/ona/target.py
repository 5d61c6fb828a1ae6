"""Find ONA's tables, their schema, identifiers, columns and views, and keep the small ones up to date row by row.

People in ONA may have made those by hand, so the types of their columns are not known: everything is read as text, and sent
as text that PostgreSQL reads as the column's type.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, LiteralString, NamedTuple

import psycopg
from psycopg import sql

from primero_ona.contract.column import Column, Table
from primero_ona.contract.derived import DATA_DICTIONARY, FIGURE_COLUMNS, UNCONFIRMED
from primero_ona.contract.tables import TABLES
from primero_ona.errors import DataError, TransientError
from primero_ona.ona.connection import translate_errors

#: The schema of this project's own tables: runs, quarantine, unmapped codes, exits.
BOOKKEEPING = "primero_sync"


@dataclass(frozen=True)
class Target:
    """The schema that holds ONA's tables."""

    schema: str

    @classmethod
    def find(cls, conn: psycopg.Connection) -> Target:
        """The first schema of the search path that has one of ONA's tables, else the current schema."""
        return cls(conn.execute(_FIND_SCHEMA, {"tables": [table.name for table in TABLES]}).fetchall()[0][0])

    def name(self, table: Table) -> sql.Identifier:
        """The table's name with its schema."""
        return sql.Identifier(self.schema, table.name)

    @property
    def names(self) -> dict[str, sql.Composable]:
        """The names of ONA's tables, for the placeholders of a statement."""
        return {table.name: self.name(table) for table in TABLES}

    def names_of(self, table: Table) -> dict[str, sql.Composable]:
        """The names in a statement that is the same for both tables of children; `owner` holds Primero's id of the case."""
        return {
            "ona": self.name(table),
            "staged": sql.Identifier(f"staged_{table.name}"),
            "freed": sql.Identifier(f"freed_{table.name}"),
            "decided": sql.Identifier(f"decided_{table.name}"),
            "key": sql.Identifier(table.key),
            "owner": sql.Identifier(table.identity[0]),
        }

    def run(self, conn: psycopg.Connection, statement: LiteralString, **parts: object) -> psycopg.Cursor[Any]:
        """Execute a statement whose placeholders are ONA's tables, and SQL or values given by name."""
        return conn.execute(sql.SQL(statement).format(**self.names, **parts))

    def count(self, conn: psycopg.Connection, query: LiteralString, **parts: object) -> int:
        """The number that is all that a query returns; see `run`."""
        return int(self.run(conn, query, **parts).fetchall()[0][0])

    def size(self, conn: psycopg.Connection, table: Table) -> int:
        """How many rows the table has."""
        return self.count(conn, "SELECT count(*) FROM {table}", table=self.name(table))

    def columns(self, conn: psycopg.Connection, table: Table) -> dict[str, str]:
        """The columns that the table has in ONA with their types as SQL; empty where there is no such table."""
        found = conn.execute(_FIND_COLUMNS, {"schema": self.schema, "table": table.name})
        return dict(found.fetchall())

    def require(self, conn: psycopg.Connection, table: Table, names: Iterable[str]) -> dict[str, str]:
        """The columns as `columns` has them; raises DataError where one of these is missing."""
        found = self.columns(conn, table)
        if missing := sorted(set(names) - found.keys()):
            raise DataError(
                f"ONA's {table.name} has no {', '.join(missing)}, or is no table at all; run `primero-ona schema apply`, and "
                "`primero-ona schema plan` where something is in its way",
                see="ona-schema",
            )
        return found


_FIND_SCHEMA = """
SELECT COALESCE(
    (SELECT path.name
       FROM unnest(current_schemas(false)) WITH ORDINALITY AS path (name, place)
       JOIN pg_catalog.pg_namespace AS n ON n.nspname = path.name
       JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid
      WHERE c.relkind IN ('r', 'p') AND c.relname = ANY (%(tables)s)
      ORDER BY path.place
      LIMIT 1),
    current_schema(), 'public')
"""

_FIND_COLUMNS = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod)
  FROM pg_catalog.pg_attribute AS a
  JOIN pg_catalog.pg_class AS c ON c.oid = a.attrelid
  JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
 WHERE n.nspname = %(schema)s AND c.relname = %(table)s AND c.relkind IN ('r', 'p')
   AND a.attnum > 0 AND NOT a.attisdropped
"""


def commas(names: Iterable[str], alias: str | None = None) -> sql.Composed:
    """Column names as a list, each with the table's alias where one is given."""
    return sql.SQL(", ").join(sql.Identifier(alias, name) if alias else sql.Identifier(name) for name in names)


def different(table: Table, left: str, right: str) -> sql.Composed:
    """The condition that two rows differ in a mapped column; null and null are equal, null and an empty text are not."""
    names = table.mapped_names
    return sql.SQL("ROW({}) IS DISTINCT FROM ROW({})").format(commas(names, left), commas(names, right))


class View(NamedTuple):
    """One view that this project makes in ONA: what it shows, and the query, whose placeholders are ONA's tables."""

    name: str
    description: str
    columns: tuple[Column, ...]
    query: LiteralString


_VIEW_COLUMNS = (
    *FIGURE_COLUMNS[:2],
    Column("definition", "text", "Whether the definition is confirmed", allowed=(UNCONFIRMED,)),
    *FIGURE_COLUMNS[2:],
)

_DEFAULT_FIGURES: LiteralString = """
SELECT f.indicator, f.variant, i.status AS definition, f.period, f.period_start, f.dimension, f.value, f.children, f.updated_at
  FROM {indicator_figures} AS f
  JOIN (SELECT indicator, variant, 'definition not confirmed by the ministry'::text AS status FROM primero_sync.indicators) AS i
    ON i.indicator = f.indicator AND i.variant = f.variant
 WHERE f.indicator = """

_CHOSEN = "Indicator {} by the definition that the settings choose."

VIEWS = (
    View("indicator_4_8", _CHOSEN.format("4.8"), _VIEW_COLUMNS, _DEFAULT_FIGURES + "'4.8'"),
    View("indicator_4_11a", _CHOSEN.format("4.11a"), _VIEW_COLUMNS, _DEFAULT_FIGURES + "'4.11a'"),
    View(
        "data_dicitonary",
        "The table data_dictionary, spelt as older documents spell it.",
        DATA_DICTIONARY.columns,
        "SELECT * FROM {data_dictionary}",
    ),
)

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
    rows = target.run(conn, "SELECT {columns} FROM {table}", columns=as_text, table=target.name(table))
    return [dict(zip(names, row, strict=True)) for row in rows]


def insert_rows(conn: psycopg.Connection, target: Target, table: Table, rows: Sequence[Row]) -> None:
    """Insert whole rows."""
    names = [column.name for column in table.columns]
    statement = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
        target.name(table), commas(names), sql.SQL(", ").join(map(sql.Placeholder, names))
    )
    with conn.cursor() as cursor:
        cursor.executemany(statement, rows)


def update_row(conn: psycopg.Connection, target: Target, table: Table, row: Row, changes: Row) -> None:
    """Change columns of the row whose key columns hold, as texts, what they hold in `row`."""
    keys = (table.key, *table.key_rest)
    assigned = [sql.SQL("{} = %s").format(sql.Identifier(name)) for name in changes]
    found = [sql.SQL("{}::text = %s").format(sql.Identifier(name)) for name in keys]
    statement = sql.SQL("UPDATE {} SET {} WHERE {}").format(
        target.name(table), sql.SQL(", ").join(assigned), sql.SQL(" AND ").join(found)
    )
    conn.execute(statement, [*changes.values(), *(row[name] for name in keys)])
