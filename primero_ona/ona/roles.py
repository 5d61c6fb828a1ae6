"""Who may do what in ONA's database: five roles, and views for dashboards, as SQL for ONA's administrators to run.

`ona_owner` owns the tables and changes their schema, `ona_loader` writes rows and cannot change anything else,
`ona_dashboard` reads views without the ids of Primero and with one age of past days only, `ona_auditor` reads the
bookkeeping and no child's row, `ona_figures` reads the indicators' figures and no child's row. They are groups: a login is
made a member of one. Rights that others hold already are listed and revoked, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import LiteralString

import psycopg
from psycopg import sql

from primero_ona.contract.column import Table
from primero_ona.contract.tables import TABLES
from primero_ona.ona.connection import translate_errors
from primero_ona.ona.target import BOOKKEEPING, VIEWS, Target, commas

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
_LOADING: LiteralString = "SELECT, INSERT, UPDATE, DELETE"


def roles_sql(conn: psycopg.Connection) -> str:
    """The SQL, for the schema and the database that this connection sees; every statement may be repeated."""
    with translate_errors("reading where ONA's tables are"):
        target = Target.find(conn)
        foreign = foreign_grants(conn, target)
        unlimited = conn.execute(_UNLIMITED, {"roles": list(ROLES)}).fetchall()
    text = _HEAD + "".join(part.as_string(conn) for part in _statements(target, conn.info.dbname))
    text += _FOREIGN if foreign else _NO_FOREIGN
    text += "".join(f"{_comment(held)}{revoke.as_string(conn)};\n" for held, revoke in foreign)
    return text + _ABOVE + "".join(_comment(f"{', '.join(names)} {what}") for what, names in unlimited)


def _comment(line: str) -> str:
    """A comment of one line, whatever the names in it: a line break in one would end the comment."""
    return f"-- {' '.join(line.split())}\n"


def shown_columns(table: Table) -> list[str]:
    """The columns that a dashboard sees."""
    return [column.name for column in table.columns if not column.hidden]


def _statements(target: Target, database: str) -> Iterator[sql.Composed]:
    """Make the roles, and grant each what it may do; what an older version granted goes."""
    known = {
        "db": sql.Identifier(database),
        "schema": sql.Identifier(target.schema),
        "books": sql.Identifier(BOOKKEEPING),
        "books_name": sql.Literal(BOOKKEEPING),
        "views": sql.Identifier(VIEWS_SCHEMA),
        "all": sql.SQL("PUBLIC, ona_loader, ona_dashboard, ona_auditor, ona_figures"),
        "loading": sql.SQL(_LOADING),
        # A member of a role does not inherit its settings, so this is a hint for each login.
        "hint": sql.Literal(
            f"What dashboards read. ALTER ROLE a_dashboard_login SET search_path = {VIEWS_SCHEMA}; lets queries that name the "
            f"tables of {target.schema} without a schema go on as they are."
        ),
    }

    def made(template: LiteralString, **more: sql.Composable) -> sql.Composed:
        return sql.SQL(template).format(**known, **more)

    for role in ROLES:
        yield made(_ROLE, role=sql.Identifier(role))
    yield made(_DATABASE)
    for table in TABLES:
        yield made(_TABLE, table=target.name(table))
    yield made(_BOOKS)
    for name, rights in _BOOKKEEPING.items():
        for reader, granted in zip(("ona_loader", "ona_auditor"), rights, strict=True):
            if granted:
                parts = {"table": sql.Identifier(BOOKKEEPING, name), "role": sql.Identifier(reader)}
                yield made("GRANT {granted} ON {table} TO {role};\n", granted=sql.SQL(granted), **parts)
    yield made(_DASHBOARDS)
    shown = {
        table.name: sql.SQL("SELECT {} FROM {}").format(commas(shown_columns(table)), target.name(table))
        for table in TABLES
    }
    shown |= {view.name: sql.SQL(view.query).format(**target.names) for view in VIEWS}
    for name, query in shown.items():
        readers = sql.SQL("ona_dashboard, ona_figures" if name in _FIGURES else "ona_dashboard")
        yield made(_VIEW, view=sql.Identifier(VIEWS_SCHEMA, name), query=query, readers=readers)
    yield made("COMMENT ON SCHEMA {views} IS {hint};\n")


def lacking_rights(conn: psycopg.Connection) -> list[str]:
    """Name what the session's login may not do and a sync needs, as GRANT writes it; of tables that are there."""
    with translate_errors("reading what the login may do in ONA's database"):
        target = Target.find(conn)
        needed = {(target.schema, table.name): _LOADING for table in TABLES}
        needed |= {(BOOKKEEPING, name): rights for name, (rights, _) in _BOOKKEEPING.items()}
        # One right of those texts, and the columns that it is for.
        one = re.compile(r"(SELECT|INSERT|UPDATE|DELETE)(?: \(([^)]*)\))?")
        rows = [
            (*table, right, column or None)
            for table, text in needed.items()
            for right, columns in one.findall(text)
            for column in columns.split(", ")
        ]
        arrays = zip(("schemas", "tables", "rights", "columns"), map(list, zip(*rows, strict=True)), strict=True)
        known = {**dict(arrays), "used": [target.schema, BOOKKEEPING], "bookkeeping": BOOKKEEPING}
        return list(dict.fromkeys(text for (text,) in conn.execute(_LACKING, known).fetchall()))


def foreign_grants(conn: psycopg.Connection, target: Target) -> list[tuple[str, sql.Composed]]:
    """What others than our roles and the owners hold on ONA's tables, their columns, views that read them, and our schemas.

    Also the right to create in the schema of ONA's tables. Each in words for people, with the statement that takes the rights
    away, those on columns, too, and what their holder has passed on.
    """
    known = {
        "schema": target.schema,
        "tables": [table.name for table in TABLES],
        "ours": [BOOKKEEPING, VIEWS_SCHEMA],
        "roles": list(ROLES),
    }
    found = []
    for kind, place, grantee, rights in conn.execute(_GRANTS, known).fetchall():
        revoke = sql.SQL("REVOKE {} ON {} {} FROM {} CASCADE").format(
            sql.SQL("CREATE" if rights == ["CREATE"] else "ALL"),
            sql.SQL(kind),
            sql.Identifier(*place),
            sql.SQL("PUBLIC") if grantee is None else sql.Identifier(grantee),
        )
        held = f"{grantee or 'everybody (PUBLIC)'} has {', '.join(rights)} on {'.'.join(place)}"
        found.append((held, revoke))
    return found


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

_ROLE: LiteralString = "DO $$ BEGIN CREATE ROLE {role} NOLOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;\n"

# Only the owner creates anything; the loader needs temporary tables, which go with its transaction.
_DATABASE: LiteralString = """\
REVOKE CREATE, TEMPORARY ON DATABASE {db} FROM PUBLIC;
REVOKE CREATE ON SCHEMA {schema} FROM PUBLIC;
GRANT CREATE, TEMPORARY ON DATABASE {db} TO ona_owner;
GRANT TEMPORARY ON DATABASE {db} TO ona_loader;
GRANT USAGE, CREATE ON SCHEMA {schema} TO ona_owner;
GRANT USAGE ON SCHEMA {schema} TO ona_loader;
"""

_TABLE: LiteralString = """\
ALTER TABLE {table} OWNER TO ona_owner;
REVOKE ALL ON {table} FROM {all};
GRANT {loading} ON {table} TO ona_loader;
"""

# The loader adds to its books and rewrites none; the auditor reads them, without the Case IDs of `exits`.
_BOOKS: LiteralString = """\
ALTER SCHEMA {books} OWNER TO ona_owner;
DO $$ DECLARE entry record; BEGIN
    FOR entry IN SELECT tablename FROM pg_tables WHERE schemaname = {books_name} LOOP
        EXECUTE format('ALTER TABLE %I.%I OWNER TO ona_owner', {books_name}, entry.tablename);
    END LOOP;
    FOR entry IN SELECT sequencename FROM pg_sequences WHERE schemaname = {books_name} LOOP
        EXECUTE format('ALTER SEQUENCE %I.%I OWNER TO ona_owner', {books_name}, entry.sequencename);
    END LOOP;
END $$;
REVOKE ALL ON SCHEMA {books} FROM {all};
REVOKE ALL ON ALL TABLES IN SCHEMA {books} FROM {all};
REVOKE ALL ON ALL SEQUENCES IN SCHEMA {books} FROM {all};
GRANT USAGE ON SCHEMA {books} TO ona_loader, ona_auditor;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA {books} TO ona_loader;
"""

_DASHBOARDS: LiteralString = """\
CREATE SCHEMA IF NOT EXISTS {views};
ALTER SCHEMA {views} OWNER TO ona_owner;
GRANT USAGE ON SCHEMA {views} TO ona_dashboard, ona_figures;
"""

# Read with the owner's rights.
_VIEW: LiteralString = """\
CREATE OR REPLACE VIEW {view} WITH (security_barrier) AS {query};
ALTER VIEW {view} OWNER TO ona_owner;
GRANT SELECT ON {view} TO {readers};
"""

_LACKING = """
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
SELECT n.privilege || ' on ' || n.schema || '.' || n.name
  FROM unnest(%(schemas)s::text[], %(tables)s::text[], %(rights)s::text[], %(columns)s::text[])
  WITH ORDINALITY AS n (schema, name, privilege, column_name, place)
  JOIN pg_catalog.pg_namespace AS s ON s.nspname = n.schema
  JOIN pg_catalog.pg_class AS c ON c.relnamespace = s.oid AND c.relname = n.name
  LEFT JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attname = n.column_name AND a.attnum > 0
 WHERE CASE WHEN n.column_name IS NULL THEN NOT has_table_privilege(c.oid, n.privilege)
            ELSE a.attnum IS NOT NULL AND NOT has_column_privilege(c.oid, a.attnum, n.privilege)
       END
 ORDER BY n.place)
"""

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
    SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS kind, ARRAY[n.nspname, c.relname] AS place,
           c.relowner AS owner, a.grantee, a.privilege_type AS privilege, acl.column_name
      FROM relations AS r
      JOIN pg_catalog.pg_class AS c ON c.oid = r.oid
      JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
     CROSS JOIN LATERAL (
        SELECT c.relacl AS acl, NULL::name AS column_name
        UNION ALL
        SELECT t.attacl, t.attname FROM pg_catalog.pg_attribute AS t WHERE t.attrelid = c.oid AND NOT t.attisdropped) AS acl,
           aclexplode(acl.acl) AS a
    UNION ALL
    SELECT 'SCHEMA', ARRAY[n.nspname], n.nspowner, a.grantee, a.privilege_type, NULL
      FROM pg_catalog.pg_namespace AS n, aclexplode(n.nspacl) AS a
     WHERE n.nspname = ANY (%(ours)s) OR (n.nspname = %(schema)s AND a.privilege_type = 'CREATE')
),
foreign_held AS (
    SELECT h.kind, h.place, g.rolname AS grantee,
           h.privilege || COALESCE(' (' || string_agg(h.column_name, ', ' ORDER BY h.column_name) || ')', '') AS granted
      FROM held AS h
      LEFT JOIN pg_catalog.pg_roles AS g ON g.oid = h.grantee
     WHERE h.grantee <> h.owner AND (g.rolname IS NULL OR g.rolname <> ALL (%(roles)s))
     GROUP BY h.kind, h.place, g.rolname, h.privilege
)
SELECT kind, place, grantee, array_agg(granted ORDER BY granted) AS rights
  FROM foreign_held
 GROUP BY kind, place, grantee
 ORDER BY grantee NULLS FIRST, kind, place
"""

_UNLIMITED = """
SELECT what, array_agg(quote_ident(rolname) ORDER BY rolname)
  FROM (
    SELECT 1 AS place, 'may do everything (superuser)' AS what, rolname FROM pg_catalog.pg_roles WHERE rolsuper
    UNION ALL
    SELECT 2, 'may make itself a member of other roles (CREATEROLE)', rolname
      FROM pg_catalog.pg_roles WHERE rolcreaterole AND NOT rolsuper
    UNION ALL
    SELECT m.place, m.what || p.rolname, r.rolname
      FROM (VALUES (3, 'reads or writes all tables by membership of ', ARRAY['pg_read_all_data', 'pg_write_all_data']),
                   (4, 'is a member of ', %(roles)s)) AS m (place, what, roles)
      JOIN pg_catalog.pg_roles AS p ON p.rolname = ANY (m.roles)
      JOIN pg_catalog.pg_roles AS r ON pg_has_role(r.oid, p.oid, 'MEMBER') AND r.oid <> p.oid AND NOT r.rolsuper) AS found
 GROUP BY place, what
 ORDER BY place, what
"""
