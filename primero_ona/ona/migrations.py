"""Plan what ONA's database lacks, as statements that only add to its tables, and execute them.

The plan compares the database with the table contract, and with the numbered files in `migrations/` for the bookkeeping.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files

import psycopg
from psycopg import sql

from primero_ona.contract.column import Table
from primero_ona.contract.tables import SERVICES, TABLES
from primero_ona.errors import DataError
from primero_ona.ona.checks import UNIQUE, obstacles
from primero_ona.ona.connection import scalar, translate_errors
from primero_ona.ona.target import BOOKKEEPING, VIEWS, Target, View, commas

#: Columns by which a load finds a case's services.
_INDEXED = ((SERVICES, "case_id"), (SERVICES, "primero_case_id"))


@dataclass(frozen=True)
class Change:
    """One addition: a statement that can be run by hand, too, and why it is needed."""

    sql: str
    why: str


def plan(conn: psycopg.Connection) -> list[Change]:
    """The additions that ONA's database needs, in the order of their execution; empty where nothing is lacking.

    Raises DataError where a table lacks its key or holds a key twice, or where no addition would let loads through.
    """
    with translate_errors("comparing ONA's tables with the contract"):
        target = Target.find(conn)
        if found := obstacles(conn, target):
            text = f"ONA's tables cannot be loaded into: {'; '.join(found)}; nothing was changed"
            raise DataError(f"{text}; ask ONA's administrators, then plan again", see="ona-schema")
        return [
            *_bookkeeping(conn),
            *(change for table in TABLES for change in _table(conn, target, table)),
            *(change for table, name in UNIQUE for change in _index(conn, target, table, name, unique=True)),
            *(change for table, name in _INDEXED for change in _index(conn, target, table, name, unique=False)),
            *(change for view in VIEWS for change in _view(conn, target, view)),
        ]


def apply(conn: psycopg.Connection, changes: Sequence[Change]) -> None:
    """Execute the changes in one transaction: all of them or none. What another session added meanwhile is skipped."""
    with translate_errors("adding to ONA's schema"), conn.transaction():
        for change in changes:
            conn.execute(change.sql.encode())


def _bookkeeping(conn: psycopg.Connection) -> Iterator[Change]:
    if scalar(conn, "SELECT to_regnamespace(%s) IS NULL", (BOOKKEEPING,)):
        yield Change(f"CREATE SCHEMA IF NOT EXISTS {BOOKKEEPING};", "the sync keeps its own tables apart from ONA's")
    done = 0
    if scalar(conn, "SELECT to_regclass(%s) IS NOT NULL", (f"{BOOKKEEPING}.schema_version",)):
        done = scalar(conn, "SELECT COALESCE(max(version), 0) FROM primero_sync.schema_version")
    scripts = files("primero_ona.ona").joinpath("migrations").iterdir()
    for script in sorted((s for s in scripts if s.name.endswith(".sql")), key=lambda script: script.name):
        version = int(script.name[:3])
        if version > done:
            text = script.read_text(encoding="utf-8")
            recorded = (
                f"INSERT INTO {BOOKKEEPING}.schema_version (version) VALUES ({version}) ON CONFLICT DO NOTHING;\n"  # noqa: S608  # nosec B608
            )
            yield Change(text + recorded, text.splitlines()[0].removeprefix("-- "))


def _table(conn: psycopg.Connection, target: Target, table: Table) -> Iterator[Change]:
    """Create the table where it is missing, else add the columns that it lacks."""
    present = target.columns(conn, table)
    if not present:
        lines = [
            sql.SQL("{} {}" if column.nullable else "{} {} NOT NULL").format(
                sql.Identifier(column.name), sql.SQL(column.type)
            )
            for column in table.columns
        ]
        lines.append(sql.SQL("PRIMARY KEY ({})").format(commas((table.key, *table.key_rest))))
        # With room in each page: a row that changes stays there, and its entries in the indexes with it.
        create = sql.SQL("CREATE TABLE IF NOT EXISTS {} (\n    {}\n) WITH (fillfactor = 80);")
        statement = create.format(target.name(table), sql.SQL(",\n    ").join(lines))
        yield Change(statement.as_string(conn), f"ONA has no table {table.name}: {table.description}")
        return
    if table.key not in present and not table.key_rest:
        raise DataError(
            f"the table {target.schema}.{table.name} in ONA has no column {table.key}, so it is not the dashboards' table; "
            "check the database and the search path of ONA_DATABASE_URL",
            see="ona-schema",
        )
    for column in table.columns:
        if column.name not in present:
            added = sql.SQL("ALTER TABLE {} ADD COLUMN IF NOT EXISTS {} {};").format(
                target.name(table), sql.Identifier(column.name), sql.SQL(column.type)
            )
            yield Change(added.as_string(conn), f"{table.name} has no {column.name}: {column.description}")


def _view(conn: psycopg.Connection, target: Target, view: View) -> Iterator[Change]:
    """Create the view where ONA has nothing of that name; what stands there already stays as it is."""
    if not scalar(conn, _HAS_RELATION, {"schema": target.schema, "name": view.name}):
        name, query = sql.Identifier(target.schema, view.name), sql.SQL(view.query).format(**target.names)
        statement = sql.SQL("CREATE OR REPLACE VIEW {} AS {};").format(name, query)
        yield Change(statement.as_string(conn), f"ONA has no view {view.name}: {view.description}")


def _index(conn: psycopg.Connection, target: Target, table: Table, column: str, *, unique: bool) -> Iterator[Change]:
    """Index the column where no index of that kind serves; the key of a table that is still to be made has one."""
    present = target.columns(conn, table)
    asked = {"schema": target.schema, "table": table.name, "column": column}
    indexes = conn.execute(_INDEXES, asked).fetchall()
    if unique and (True, False) in indexes:  # ON CONFLICT fails on it, even where there is a usable index beside it
        raise DataError(
            f"the unique constraint on {table.name}.{column} in ONA is deferrable, so rows cannot be merged by it; "
            "ask ONA's administrators to make it NOT DEFERRABLE, then plan again",
            see="ona-schema",
        )
    if (not present and column == table.key) or (not unique and indexes) or (True, True) in indexes:
        return
    if unique and column in present:
        _refuse_repeated(conn, target, table, column)
    statement = sql.SQL("CREATE {kind} IF NOT EXISTS {name} ON {table} ({column});").format(
        kind=sql.SQL("UNIQUE INDEX" if unique else "INDEX"),
        name=sql.Identifier(f"primero_ona_{table.name}_{column}_{'key' if unique else 'idx'}"),
        table=target.name(table),
        column=sql.Identifier(column),
    )
    why = "must hold every value once" if unique else "is how the load finds a case's services"
    yield Change(statement.as_string(conn), f"{table.name}.{column} {why}")


def _refuse_repeated(conn: psycopg.Connection, target: Target, table: Table, column: str) -> None:
    query = sql.SQL("SELECT count(*) FROM (SELECT FROM {} WHERE {c} IS NOT NULL GROUP BY {c} HAVING count(*) > 1) AS r")
    if repeated := scalar(conn, query.format(target.name(table), c=sql.Identifier(column))):
        raise DataError(
            f"{repeated:,} values of {table.name}.{column} occur more than once in ONA, so the column cannot become a key; "
            "ask ONA's administrators to remove the surplus rows, then plan again",
            see="ona-schema",
        )


# Asked of the catalog, which every login may read: `to_regclass` fails where a login may not use the schema.
_HAS_RELATION = """
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_class AS c
      JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
     WHERE n.nspname = %(schema)s AND c.relname = %(name)s)
"""

# The indexes over the whole table that begin with the column, whether each is unique by it alone, and whether at once: a partial
# or an invalid one serves no query.
_INDEXES = """
SELECT i.indisunique AND i.indnkeyatts = 1, i.indimmediate
  FROM pg_catalog.pg_index AS i
  JOIN pg_catalog.pg_class AS c ON c.oid = i.indrelid
  JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
 WHERE n.nspname = %(schema)s AND c.relname = %(table)s AND a.attname = %(column)s
   AND i.indisvalid AND i.indpred IS NULL
"""
