"""Rights on ONA's tables that others than the project's roles hold, read from the catalog, which every login may read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import LiteralString

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from primero_ona.contract.tables import TABLES
from primero_ona.ona.target import BOOKKEEPING, Target

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


def foreign_grants(conn: psycopg.Connection, target: Target, views: str, roles: Sequence[str]) -> list[Grant]:
    """What others than `roles` and the owners hold on ONA's tables, their columns, views that read them, and our schemas.

    Also the right to create in the schema of ONA's tables. `views` is the schema of the dashboards' views.
    """
    known = {
        "schema": target.schema,
        "tables": [table.name for table in TABLES],
        "ours": [BOOKKEEPING, views],
        "roles": list(roles),
    }
    with conn.cursor(row_factory=class_row(Grant)) as cursor:
        return cursor.execute(_FOREIGN, known).fetchall()


def unlimited_logins(conn: psycopg.Connection, roles: Sequence[str]) -> list[str]:
    """Lines about who is above all grants, and who is a member of the roles; the administrators may not know it any more."""
    rows = conn.execute(_UNLIMITED, {"roles": list(roles)}).fetchall()
    return [f"{', '.join(names)} {what}" for what, names in rows]


# Owners are left out: the tables' owner becomes ona_owner, and with it what the old one held.
_FOREIGN = """
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
