"""Who may do what in ONA's database: five roles, and views for dashboards, as SQL for ONA's administrators to run.

`ona_owner` owns the tables and changes their schema, `ona_loader` writes rows and cannot change anything else,
`ona_dashboard` reads views without the ids of Primero and with one age of past days only, `ona_auditor` reads the
bookkeeping and no child's row, `ona_figures` reads the indicators' figures and no child's row. They are groups: a login is
made a member of one. Rights that others hold already are listed and revoked, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import LiteralString

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from primero_ona.contract.column import Table
from primero_ona.contract.tables import TABLES
from primero_ona.ona.connection import translate_errors
from primero_ona.ona.target import BOOKKEEPING, VIEWS, Target

#: The schema of the dashboards' views. They have the tables' names, so that a dashboard needs another search path only.
VIEWS_SCHEMA = "ona_views"

ROLES = ("ona_owner", "ona_loader", "ona_dashboard", "ona_auditor", "ona_figures")

#: What `ona_figures` reads of the views: the figures, and what their columns mean.
_FIGURES = frozenset({"indicator_figures", "indicator_4_8", "indicator_4_11a", "data_dictionary"})

#: What the loader and the auditor may do with each table of the bookkeeping; a table that is not named is the owner's alone.
#: The loader adds to the history and cannot change it: no UPDATE of `runs`, of `erasures` only the counters, DELETE only where
#: a sync or an erasure deletes. UPDATE of `load_lock`, which has no row, and of `partitions` is the right to lock them.
_BOOKKEEPING: dict[str, tuple[LiteralString, LiteralString]] = {
    "runs": (
        "SELECT, INSERT (run_id, quarter, started_at, pull, pull_version, mapping_version, counts, walk)",
        "SELECT",
    ),
    "quarantine": ("SELECT, INSERT, UPDATE (entries, run_id, last_seen, resolved_at), DELETE", "SELECT"),
    "unmapped": ("SELECT, INSERT, DELETE", "SELECT"),
    "exits": ("SELECT, INSERT, UPDATE (case_id, last_updated_at), DELETE", "SELECT (primero_id, last_updated_at)"),
    "place_names": ("SELECT, INSERT, UPDATE (resolved_at, accepted)", "SELECT"),
    "fields": ("SELECT, INSERT, UPDATE (last_seen, accepted_at)", "SELECT"),
    "refused_logins": ("SELECT, INSERT (subject), DELETE", "SELECT (refused_at)"),
    "visible_cases": ("SELECT, INSERT, UPDATE (cases, seen_at, accepted_at)", "SELECT"),
    "erasures": ("SELECT, INSERT, UPDATE (cases, services, bookkeeping, stored_rows)", "SELECT"),
    "schema_version": ("SELECT", "SELECT"),
    "load_lock": ("UPDATE", ""),
    "partitions": ("SELECT, INSERT, UPDATE", "SELECT"),
    "indicators": ("SELECT, INSERT, UPDATE (variant, definition, seen, computed_at)", "SELECT"),
    "indicator_history": (
        "SELECT, INSERT (indicator, variant, period, period_start, dimension, value, old, new, run_id, reason)",
        "SELECT",
    ),
    "published_figures": ("SELECT, INSERT (period, period_start, run_id, tables)", "SELECT"),
}

#: What the loader may do with each of ONA's tables.
_LOADING: tuple[LiteralString, ...] = ("SELECT", "INSERT", "UPDATE", "DELETE")

#: One right in the texts above, and the columns that it is for.
_RIGHTS = re.compile(r"(SELECT|INSERT|UPDATE|DELETE)(?: \(([^)]*)\))?")


def roles_sql(conn: psycopg.Connection) -> str:
    """The SQL, for the schema and the database that this connection sees; every statement may be repeated."""
    with translate_errors("reading where ONA's tables are"):
        target = Target.find(conn)
        database = conn.info.dbname
        foreign = foreign_grants(conn, target)
        unlimited = _unlimited_logins(conn)
    statements = [
        *_roles(),
        *_database(database, target),
        *_tables(target),
        *_bookkeeping(),
        *_views(target),
        *_search_path(target),
    ]
    text = _HEAD + "".join(statement.as_string(conn) + ";\n" for statement in statements)
    text += _FOREIGN if foreign else _NO_FOREIGN
    text += "".join(_comment(grant.described()) + grant.revoke().as_string(conn) + ";\n" for grant in foreign)
    return text + _ABOVE + "".join(map(_comment, unlimited))


def lacking_rights(conn: psycopg.Connection) -> list[str]:
    """Name what the session's login may not do and a sync needs, as GRANT writes it; of tables that are there."""
    with translate_errors("reading what the login may do in ONA's database"):
        target = Target.find(conn)
        needed: list[tuple[str, str, str, str | None]] = [
            (target.schema, table.name, right, None) for table in TABLES for right in _LOADING
        ]
        for table, (rights, _) in _BOOKKEEPING.items():
            for right, columns in _RIGHTS.findall(rights):
                named = columns.split(", ") if columns else [None]
                needed += [(BOOKKEEPING, table, right, name) for name in named]
        known = {
            **dict(zip(("schemas", "tables", "rights", "columns"), map(list, zip(*needed, strict=True)), strict=True)),
            "used": [target.schema, BOOKKEEPING],
            "bookkeeping": BOOKKEEPING,
        }
        return [text for (text,) in conn.execute(_LACKING, known).fetchall()]


def _comment(line: str) -> str:
    """A comment of one line, whatever the names in it: a line break in one would end the comment."""
    return f"-- {' '.join(line.split())}\n"


_HEAD = """-- Roles of ONA's database, printed by `primero-ona schema roles`; to be run by a superuser, after `schema apply`.
-- Make each login a member of one role, in the same transaction if it must go on without a break:
--     GRANT ona_loader TO some_login;
"""

_FOREIGN = """
-- Rights on ONA's tables, on views over them and on the bookkeeping that others hold as of now. They are taken away here, so
-- that what the five roles allow is all that is allowed. Read them before: put -- before the REVOKE of a right that has to stay.
"""

_NO_FOREIGN = """
-- No one but the owners and these five roles holds a right on ONA's tables, on views over them or on the bookkeeping.
"""

_ABOVE = """
-- What no REVOKE on a table changes; it is for the administrators to know, and nothing is done about it here:
"""


def _roles() -> Iterator[sql.Composed]:
    for role in ROLES:
        yield sql.SQL("DO $$ BEGIN CREATE ROLE {} NOLOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$").format(
            sql.Identifier(role)
        )


def _database(database: str, target: Target) -> Iterator[sql.Composed]:
    """Only the owner creates anything; the loader needs temporary tables, which go with its transaction."""
    names = {"db": sql.Identifier(database), "schema": sql.Identifier(target.schema)}
    for statement in (
        "REVOKE CREATE, TEMPORARY ON DATABASE {db} FROM PUBLIC",
        "REVOKE CREATE ON SCHEMA {schema} FROM PUBLIC",
        "GRANT CREATE, TEMPORARY ON DATABASE {db} TO ona_owner",
        "GRANT TEMPORARY ON DATABASE {db} TO ona_loader",
        "GRANT USAGE, CREATE ON SCHEMA {schema} TO ona_owner",
        "GRANT USAGE ON SCHEMA {schema} TO ona_loader",
    ):
        yield sql.SQL(statement).format(**names)


def _tables(target: Target) -> Iterator[sql.Composed]:
    for table in TABLES:
        name = target.name(table)
        yield sql.SQL("ALTER TABLE {} OWNER TO ona_owner").format(name)
        yield sql.SQL("REVOKE ALL ON {} FROM PUBLIC, ona_loader, ona_dashboard, ona_auditor, ona_figures").format(name)
        yield sql.SQL("GRANT {} ON {} TO ona_loader").format(sql.SQL(", ").join(map(sql.SQL, _LOADING)), name)


def _bookkeeping() -> Iterator[sql.Composed]:
    """The loader adds to its books and rewrites none; the auditor reads them, without the Case IDs of `exits`."""
    schema = sql.Identifier(BOOKKEEPING)
    for statement in (
        "ALTER SCHEMA {schema} OWNER TO ona_owner",
        _OWN_ALL,
        # From all of them, so that what an older version granted goes.
        "REVOKE ALL ON SCHEMA {schema} FROM PUBLIC, ona_loader, ona_dashboard, ona_auditor, ona_figures",
        "REVOKE ALL ON ALL TABLES IN SCHEMA {schema} FROM PUBLIC, ona_loader, ona_dashboard, ona_auditor, ona_figures",
        "REVOKE ALL ON ALL SEQUENCES IN SCHEMA {schema} FROM PUBLIC, ona_loader, ona_dashboard, ona_auditor, ona_figures",
        "GRANT USAGE ON SCHEMA {schema} TO ona_loader, ona_auditor",
        "GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO ona_loader",
    ):
        yield sql.SQL(statement).format(schema=schema, name=sql.Literal(BOOKKEEPING))
    for table, rights in _BOOKKEEPING.items():
        for role, granted in zip(("ona_loader", "ona_auditor"), rights, strict=True):
            if granted:
                name = sql.Identifier(BOOKKEEPING, table)
                yield sql.SQL("GRANT {} ON {} TO {}").format(sql.SQL(granted), name, sql.Identifier(role))


def _views(target: Target) -> Iterator[sql.Composed]:
    schema = sql.Identifier(VIEWS_SCHEMA)
    yield sql.SQL("CREATE SCHEMA IF NOT EXISTS {schema}").format(schema=schema)
    yield sql.SQL("ALTER SCHEMA {schema} OWNER TO ona_owner").format(schema=schema)
    yield sql.SQL("GRANT USAGE ON SCHEMA {schema} TO ona_dashboard, ona_figures").format(schema=schema)
    for table in TABLES:
        columns = sql.SQL(", ").join(map(sql.Identifier, shown_columns(table)))
        yield from _view(table.name, sql.SQL("SELECT {} FROM {}").format(columns, target.name(table)))
    for view in VIEWS:
        yield from _view(view.name, sql.SQL(view.query).format(**target.names))


def _view(name: str, query: sql.Composed) -> Iterator[sql.Composed]:
    """A view of the dashboards' schema, read with the owner's rights."""
    view = sql.Identifier(VIEWS_SCHEMA, name)
    yield sql.SQL("CREATE OR REPLACE VIEW {} WITH (security_barrier) AS {}").format(view, query)
    yield sql.SQL("ALTER VIEW {} OWNER TO ona_owner").format(view)
    yield sql.SQL("GRANT SELECT ON {} TO {}").format(
        view, sql.SQL("ona_dashboard, ona_figures" if name in _FIGURES else "ona_dashboard")
    )


def shown_columns(table: Table) -> list[str]:
    """The columns that a dashboard sees."""
    return [column.name for column in table.columns if not column.hidden]


def _search_path(target: Target) -> Iterator[sql.Composed]:
    """A member of a role does not inherit its settings, so this is a hint for each login."""
    yield sql.SQL("COMMENT ON SCHEMA {} IS {}").format(
        sql.Identifier(VIEWS_SCHEMA),
        sql.Literal(
            f"What dashboards read. ALTER ROLE a_dashboard_login SET search_path = {VIEWS_SCHEMA}; lets queries that name the "
            f"tables of {target.schema} without a schema go on as they are."
        ),
    )


_OWN_ALL = """DO $$ DECLARE entry record; BEGIN
    FOR entry IN SELECT tablename FROM pg_tables WHERE schemaname = {name} LOOP
        EXECUTE format('ALTER TABLE %I.%I OWNER TO ona_owner', {name}, entry.tablename);
    END LOOP;
    FOR entry IN SELECT sequencename FROM pg_sequences WHERE schemaname = {name} LOOP
        EXECUTE format('ALTER SEQUENCE %I.%I OWNER TO ona_owner', {name}, entry.sequencename);
    END LOOP;
END $$"""

_LACKING = """
WITH needed AS (
    SELECT * FROM unnest(%(schemas)s::text[], %(tables)s::text[], %(rights)s::text[], %(columns)s::text[])
        WITH ORDINALITY AS n (schema, name, privilege, column_name, place)
)
SELECT 'TEMPORARY on the database' WHERE NOT has_database_privilege(current_database(), 'TEMPORARY')
UNION ALL
SELECT 'USAGE on the schema ' || nspname
  FROM pg_catalog.pg_namespace
 WHERE nspname = ANY (%(used)s) AND NOT has_schema_privilege(oid, 'USAGE')
UNION ALL
SELECT 'USAGE on the sequence ' || n.nspname || '.' || c.relname
  FROM pg_catalog.pg_class AS c
  JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
 WHERE n.nspname = %(bookkeeping)s AND c.relname = 'pulls' AND c.relkind = 'S' AND NOT has_sequence_privilege(c.oid, 'USAGE')
UNION ALL (
SELECT lacking.privilege || ' on ' || lacking.schema || '.' || lacking.name
  FROM (
    SELECT n.schema, n.name, n.privilege, min(n.place) AS place
      FROM needed AS n
      JOIN pg_catalog.pg_namespace AS s ON s.nspname = n.schema
      JOIN pg_catalog.pg_class AS c ON c.relnamespace = s.oid AND c.relname = n.name
      LEFT JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attname = n.column_name AND a.attnum > 0
     WHERE CASE WHEN n.column_name IS NULL THEN NOT has_table_privilege(c.oid, n.privilege)
                ELSE a.attnum IS NOT NULL AND NOT has_column_privilege(c.oid, a.attnum, n.privilege)
           END
     GROUP BY n.schema, n.name, n.privilege) AS lacking
 ORDER BY lacking.place)
"""


#: What stands before a name in REVOKE.
_KINDS: dict[str, LiteralString] = {"TABLE": "TABLE", "SEQUENCE": "SEQUENCE", "SCHEMA": "SCHEMA"}


@dataclass(frozen=True)
class Grant:
    """The rights that one login or role holds on one table, view, sequence or schema.

    `kind`: TABLE, SEQUENCE or SCHEMA; `name` is empty for a schema. `grantee` is None for PUBLIC. `rights` are as GRANT
    writes them, those on single columns with the columns.
    """

    kind: str
    schema: str
    name: str
    grantee: str | None
    rights: list[str]

    def described(self) -> str:
        """A sentence for people."""
        place = ".".join(filter(None, [self.schema, self.name]))
        return f"{self.grantee or 'everybody (PUBLIC)'} has {', '.join(self.rights)} on {place}"

    def revoke(self) -> sql.Composed:
        """The statement that takes the rights away, those on columns, too, and what their holder has passed on."""
        return sql.SQL("REVOKE {} ON {} {} FROM {} CASCADE").format(
            sql.SQL("CREATE" if self.rights == ["CREATE"] else "ALL"),
            sql.SQL(_KINDS[self.kind]),
            sql.Identifier(*filter(None, [self.schema, self.name])),
            sql.Identifier(self.grantee) if self.grantee is not None else sql.SQL("PUBLIC"),
        )


def foreign_grants(conn: psycopg.Connection, target: Target) -> list[Grant]:
    """What others than our roles and the owners hold on ONA's tables, their columns, views that read them, and our schemas.

    Also the right to create in the schema of ONA's tables.
    """
    known = {
        "schema": target.schema,
        "tables": [table.name for table in TABLES],
        "ours": [BOOKKEEPING, VIEWS_SCHEMA],
        "roles": list(ROLES),
    }
    with conn.cursor(row_factory=class_row(Grant)) as cursor:
        return cursor.execute(_GRANTS, known).fetchall()


def _unlimited_logins(conn: psycopg.Connection) -> list[str]:
    """Lines about who is above all grants, and who is a member of the roles; the administrators may not know it any more."""
    rows = conn.execute(_UNLIMITED, {"roles": list(ROLES)}).fetchall()
    return [f"{', '.join(names)} {what}" for what, names in rows]


# Owners are left out: the tables' owner becomes ona_owner, and with it what the old one held.
_GRANTS = """
WITH RECURSIVE relations AS (
    SELECT c.oid
      FROM pg_catalog.pg_class AS c
      JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
       AND ((n.nspname = %(schema)s AND c.relname = ANY (%(tables)s)) OR n.nspname = ANY (%(ours)s))
    UNION
    SELECT reader.oid
      FROM relations AS r
      JOIN LATERAL (
        SELECT w.ev_class AS oid
          FROM pg_catalog.pg_depend AS d
          JOIN pg_catalog.pg_rewrite AS w ON w.oid = d.objid
         WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = r.oid
        UNION ALL
        SELECT i.inhrelid FROM pg_catalog.pg_inherits AS i WHERE i.inhparent = r.oid) AS reader ON true
),
held AS (
    SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS kind,
           n.nspname AS schema, c.relname AS name, c.relowner AS owner, a.grantee,
           a.privilege_type AS privilege, NULL::name AS column_name
      FROM relations AS r
      JOIN pg_catalog.pg_class AS c ON c.oid = r.oid
      JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace, aclexplode(c.relacl) AS a
    UNION ALL
    SELECT 'TABLE', n.nspname, c.relname, c.relowner, a.grantee, a.privilege_type, t.attname
      FROM relations AS r
      JOIN pg_catalog.pg_class AS c ON c.oid = r.oid
      JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
      JOIN pg_catalog.pg_attribute AS t ON t.attrelid = c.oid AND NOT t.attisdropped, aclexplode(t.attacl) AS a
    UNION ALL
    SELECT 'SCHEMA', n.nspname, '', n.nspowner, a.grantee, a.privilege_type, NULL
      FROM pg_catalog.pg_namespace AS n, aclexplode(n.nspacl) AS a
     WHERE n.nspname = ANY (%(ours)s) OR (n.nspname = %(schema)s AND a.privilege_type = 'CREATE')
),
foreign_held AS (
    SELECT h.kind, h.schema, h.name, g.rolname AS grantee,
           h.privilege || COALESCE(' (' || string_agg(h.column_name, ', ' ORDER BY h.column_name) || ')', '') AS granted
      FROM held AS h
      LEFT JOIN pg_catalog.pg_roles AS g ON g.oid = h.grantee
     WHERE h.grantee <> h.owner AND (g.rolname IS NULL OR g.rolname <> ALL (%(roles)s))
     GROUP BY h.kind, h.schema, h.name, g.rolname, h.privilege
)
SELECT kind, schema, name, grantee, array_agg(granted ORDER BY granted) AS rights
  FROM foreign_held
 GROUP BY kind, schema, name, grantee
 ORDER BY grantee NULLS FIRST, kind, schema, name
"""

_UNLIMITED = """
SELECT what, array_agg(quote_ident(rolname) ORDER BY rolname)
  FROM (
    SELECT 1 AS place, 'may do everything (superuser)' AS what, rolname FROM pg_catalog.pg_roles WHERE rolsuper
    UNION ALL
    SELECT 2, 'may make itself a member of other roles (CREATEROLE)', rolname
      FROM pg_catalog.pg_roles WHERE rolcreaterole AND NOT rolsuper
    UNION ALL
    SELECT 3, 'reads or writes all tables by membership of ' || p.rolname, r.rolname
      FROM pg_catalog.pg_roles AS p
      JOIN pg_catalog.pg_roles AS r ON pg_has_role(r.oid, p.oid, 'MEMBER') AND r.oid <> p.oid AND NOT r.rolsuper
     WHERE p.rolname IN ('pg_read_all_data', 'pg_write_all_data')
    UNION ALL
    SELECT 4, 'is a member of ' || p.rolname, r.rolname
      FROM pg_catalog.pg_roles AS p
      JOIN pg_catalog.pg_roles AS r ON pg_has_role(r.oid, p.oid, 'MEMBER') AND r.oid <> p.oid AND NOT r.rolsuper
     WHERE p.rolname = ANY (%(roles)s)) AS found
 GROUP BY place, what
 ORDER BY place, what
"""
