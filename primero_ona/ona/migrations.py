"""Plan what ONA's database lacks, as statements that only add to its tables, and execute them.

The plan compares the database with the table contract, and with the numbered files in `migrations/` for the bookkeeping.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files

import psycopg
from psycopg import sql

from primero_ona.contract.column import Column, Table
from primero_ona.contract.tables import SERVICES, TABLES
from primero_ona.errors import DataError
from primero_ona.ona.checks import UNIQUE, obstacles
from primero_ona.ona.connection import translate_errors
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
            raise DataError(
                f"ONA's tables cannot be loaded into: {'; '.join(found)}; nothing was changed; ask ONA's administrators, then "
                "plan again",
                see="ona-schema",
            )
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
    known = conn.execute("SELECT to_regnamespace(%s) IS NOT NULL", (BOOKKEEPING,)).fetchone()
    if known != (True,):
        yield Change(f"CREATE SCHEMA IF NOT EXISTS {BOOKKEEPING};", "the sync keeps its own tables apart from ONA's")
    done = _schema_version(conn)
    scripts = files("primero_ona.ona").joinpath("migrations").iterdir()
    for script in sorted((s for s in scripts if s.name.endswith(".sql")), key=lambda script: script.name):
        version = int(script.name[:3])
        if version > done:
            text = script.read_text(encoding="utf-8")
            recorded = (
                f"INSERT INTO {BOOKKEEPING}.schema_version (version) VALUES ({version}) ON CONFLICT DO NOTHING;\n"  # noqa: S608  # nosec B608
            )
            yield Change(text + recorded, text.splitlines()[0].removeprefix("-- "))


def _schema_version(conn: psycopg.Connection) -> int:
    name = f"{BOOKKEEPING}.schema_version"
    if conn.execute("SELECT to_regclass(%s) IS NULL", (name,)).fetchone() == (True,):
        return 0
    query = sql.SQL("SELECT COALESCE(max(version), 0) FROM {}").format(sql.Identifier(BOOKKEEPING, "schema_version"))
    row = conn.execute(query).fetchone()
    return int(row[0]) if row else 0


def _table(conn: psycopg.Connection, target: Target, table: Table) -> Iterator[Change]:
    """Create the table where it is missing, else add the columns that it lacks."""
    present = target.columns(conn, table)
    if not present:
        columns = sql.SQL(",\n    ").join([*(_declared(column, table) for column in table.columns), *_joint_key(table)])
        # With room in each page: a row that changes stays there, and its entries in the indexes with it.
        create = sql.SQL("CREATE TABLE IF NOT EXISTS {} (\n    {}\n) WITH (fillfactor = 80);").format(
            target.name(table), columns
        )
        yield Change(create.as_string(conn), f"ONA has no table {table.name}: {table.description}")
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


def _declared(column: Column, table: Table) -> sql.Composed:
    parts = [sql.Identifier(column.name), sql.SQL(column.type)]
    if column.name == table.key and not table.key_rest:
        parts.append(sql.SQL("PRIMARY KEY"))
    elif not column.nullable:
        parts.append(sql.SQL("NOT NULL"))
    return sql.SQL(" ").join(parts)


def _joint_key(table: Table) -> list[sql.Composed]:
    """The key of a table that needs more than one column for it."""
    if not table.key_rest:
        return []
    return [sql.SQL("PRIMARY KEY ({})").format(commas((table.key, *table.key_rest)))]


def _view(conn: psycopg.Connection, target: Target, view: View) -> Iterator[Change]:
    """Create the view where ONA has nothing of that name; what stands there already stays as it is."""
    name = sql.Identifier(target.schema, view.name)
    if conn.execute(_FIND_RELATION, {"schema": target.schema, "name": view.name}).fetchone() is None:
        query = sql.SQL(view.query).format(**target.names)
        statement = sql.SQL("CREATE OR REPLACE VIEW {} AS {};").format(name, query)
        yield Change(statement.as_string(conn), f"ONA has no view {view.name}: {view.description}")


def _index(conn: psycopg.Connection, target: Target, table: Table, column: str, *, unique: bool) -> Iterator[Change]:
    """Index the column where no index of that kind serves; the key of a table that is still to be made has one."""
    present = target.columns(conn, table)
    if unique:
        _refuse_deferrable(conn, target, table, column)
    if (not present and column == table.key) or _is_indexed(conn, target, table, column, unique=unique):
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


def _is_indexed(conn: psycopg.Connection, target: Target, table: Table, column: str, *, unique: bool) -> bool:
    names = {"schema": target.schema, "table": table.name, "column": column}
    return conn.execute(_USABLE_INDEX if unique else _ANY_INDEX, names).fetchone() == (True,)


def _refuse_deferrable(conn: psycopg.Connection, target: Target, table: Table, column: str) -> None:
    """Refuse a constraint that ON CONFLICT fails on, even where there is a usable index beside it."""
    names = {"schema": target.schema, "table": table.name, "column": column}
    if conn.execute(_DEFERRABLE_INDEX, names).fetchone() == (True,):
        raise DataError(
            f"the unique constraint on {table.name}.{column} in ONA is deferrable, so rows cannot be merged by it; "
            "ask ONA's administrators to make it NOT DEFERRABLE, then plan again",
            see="ona-schema",
        )


def _refuse_repeated(conn: psycopg.Connection, target: Target, table: Table, column: str) -> None:
    query = sql.SQL("SELECT count(*) FROM (SELECT FROM {} WHERE {c} IS NOT NULL GROUP BY {c} HAVING count(*) > 1) AS r")
    row = conn.execute(query.format(target.name(table), c=sql.Identifier(column))).fetchone()
    if row and row[0]:
        raise DataError(
            f"{row[0]:,} values of {table.name}.{column} occur more than once in ONA, so the column cannot become a key; "
            "ask ONA's administrators to remove the surplus rows, then plan again",
            see="ona-schema",
        )


#: Asked of the catalog, which every login may read: `to_regclass` fails where a login may not use the schema.
_FIND_RELATION = """
SELECT 1
  FROM pg_catalog.pg_class AS c
  JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
 WHERE n.nspname = %(schema)s AND c.relname = %(name)s
"""

#: An index over the whole table that begins with the column; a partial or invalid one serves no query.
_ANY_INDEX = """
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_index AS i
      JOIN pg_catalog.pg_class AS c ON c.oid = i.indrelid
      JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
      JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
     WHERE n.nspname = %(schema)s AND c.relname = %(table)s AND a.attname = %(column)s
       AND i.indisvalid AND i.indpred IS NULL)
"""

_UNIQUE_INDEX = _ANY_INDEX.removesuffix(")\n") + "       AND i.indisunique AND i.indnkeyatts = 1"

#: One that ON CONFLICT accepts, and one that it fails on.
_USABLE_INDEX = _UNIQUE_INDEX + " AND i.indimmediate)"
_DEFERRABLE_INDEX = _UNIQUE_INDEX + " AND NOT i.indimmediate)"
