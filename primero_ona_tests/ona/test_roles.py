"""The database's roles with real logins: each may do exactly its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from primero_ona.ona.connection import connect
from primero_ona.ona.migrations import apply, plan
from primero_ona.ona.roles import ROLES, VIEWS_SCHEMA, roles_sql
from primero_ona.resources import OnaDatabaseResource
from primero_ona_tests.graph import Graph, small, wired

#: Whether each role may do it: owner, loader, dashboard, auditor.
MAY = {
    "SELECT * FROM cases": "yynn",
    "SELECT * FROM services": "yynn",
    "INSERT INTO cases (case_id) VALUES ('x')": "yynn",
    "UPDATE cases SET age = 1 WHERE false": "yynn",
    "DELETE FROM services WHERE false": "yynn",
    "TRUNCATE cases": "ynnn",
    "ALTER TABLE cases ADD COLUMN more text": "ynnn",
    "CREATE TABLE more (id int)": "ynnn",
    "CREATE SCHEMA more": "ynnn",
    "DROP TABLE services CASCADE": "ynnn",
    "CREATE INDEX ON cases (age)": "ynnn",
    "CREATE TEMPORARY TABLE more (id int)": "yynn",
    f"SELECT * FROM {VIEWS_SCHEMA}.cases": "ynyn",
    f"SELECT * FROM {VIEWS_SCHEMA}.data_dictionary": "ynyn",
    f"SELECT primero_id FROM {VIEWS_SCHEMA}.cases": "nnnn",
    f"SELECT age_at_registration FROM {VIEWS_SCHEMA}.cases": "ynyn",
    f"SELECT age_at_placement FROM {VIEWS_SCHEMA}.cases": "nnnn",
    f"SELECT age_at_reintegration FROM {VIEWS_SCHEMA}.cases": "nnnn",
    f"SELECT age_at_service FROM {VIEWS_SCHEMA}.services": "nnnn",
    f"INSERT INTO {VIEWS_SCHEMA}.cases (case_id) VALUES ('x')": "ynnn",
    "SELECT * FROM primero_sync.runs": "yyny",
    "SELECT * FROM primero_sync.erasures": "yyny",
    "SELECT * FROM primero_sync.quarantine": "yyny",
    "DELETE FROM primero_sync.erasures WHERE false": "ynnn",
    "DELETE FROM primero_sync.runs WHERE false": "ynnn",
    "UPDATE primero_sync.schema_version SET version = version": "ynnn",
    "INSERT INTO primero_sync.erasures VALUES ('x', now(), 0, 0, 0)": "yynn",
    "CREATE ROLE more": "nnnn",
    "COPY cases TO '/tmp/primero-ona-never'": "nnnn",
}


@pytest.fixture(scope="module")
def graph(postgres: Any) -> Iterator[Graph]:
    """A database with roles, each with one login of the name login_<role>."""
    with wired(postgres, "roles", small(40, odd=False)) as graph:
        with psycopg.connect(graph.url, autocommit=True) as conn:
            for _ in range(2):
                conn.execute(roles_sql(conn).encode())
            for role in ROLES:
                conn.execute(f"CREATE ROLE login_{role} LOGIN INHERIT IN ROLE {role}".encode())
        yield graph
        with psycopg.connect(graph.url, autocommit=True) as conn:
            for role in (*[f"login_{role}" for role in ROLES], *ROLES):
                conn.execute(f"DROP OWNED BY {role} CASCADE".encode())
                conn.execute(f"DROP ROLE {role}".encode())


def login(graph: Graph, role: str) -> str:
    """The URL of the database for the login of a role."""
    parameters = psycopg.conninfo.conninfo_to_dict(graph.url) | {"user": f"login_{role}"}
    host = str(parameters.pop("host")).replace("/", "%2F")
    return (
        f"postgresql://{parameters['user']}@/{parameters['dbname']}?host={host}&port={parameters.get('port') or 5432}"
    )


@pytest.mark.parametrize("statement", MAY, ids=lambda text: text[:44])
def test_each_role_may_do_exactly_this(graph, statement):
    """A dashboard's password lies on many machines; the loader's would otherwise drop tables when it leaks."""
    answers = MAY[statement].replace(" ", "")
    for role, answer in zip(ROLES, answers, strict=True):
        with psycopg.connect(login(graph, role)) as conn:
            try:
                conn.execute(statement.encode())
            except psycopg.errors.InsufficientPrivilege:
                assert answer == "n", f"{role} may not: {statement}"
            except psycopg.errors.UndefinedColumn:
                assert answer == "n"
            else:
                assert answer == "y", f"{role} may: {statement}"
            conn.rollback()


def test_a_whole_sync_works_as_the_loader(graph):
    """Rights that a sync lacks are found at the quarter's end, by those who wait for the figures."""
    graph.defs = graph.wire(ona=OnaDatabaseResource(url=login(graph, "ona_loader")))
    outcome = graph.sync()
    assert outcome.failure is None
    assert graph.sql("SELECT count(*) FROM cases")[0][0] > 10
    with psycopg.connect(login(graph, "ona_dashboard")) as conn:
        conn.execute(f"SET search_path = {VIEWS_SCHEMA}".encode())
        assert conn.execute("SELECT count(*) FROM cases").fetchone()[0] > 10


def test_schema_apply_works_as_the_owner(graph):
    """An upgrade must not need a superuser."""
    graph.sql("ALTER TABLE cases DROP COLUMN age_group CASCADE")
    with connect(login(graph, "ona_owner")) as conn:
        changes = plan(conn)
        assert changes
        apply(conn, changes)
        assert plan(conn) == []
