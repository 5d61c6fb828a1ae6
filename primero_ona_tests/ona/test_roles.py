"""The database's roles with real logins: each may do exactly its own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg import sql

from primero_ona.ona.bookkeeping import list_entries, quarter_status
from primero_ona.ona.connection import connect, lock_loads, lock_of_all
from primero_ona.ona.erasure import erase, note_stored_rows
from primero_ona.ona.migrations import apply, plan
from primero_ona.ona.roles import ROLES, VIEWS_SCHEMA, roles_sql
from primero_ona_tests.harness import NOW, GivenOna, Graph, small, wired

#: Whether each role may do it: owner, loader, dashboard, auditor, figures.
MAY = {
    "SELECT * FROM cases": "yynnn",
    "SELECT * FROM services": "yynnn",
    "INSERT INTO cases (case_id) VALUES ('x')": "yynnn",
    "UPDATE cases SET age = 1 WHERE false": "yynnn",
    "DELETE FROM services WHERE false": "yynnn",
    "TRUNCATE cases": "ynnnn",
    "ALTER TABLE cases ADD COLUMN more text": "ynnnn",
    "CREATE TABLE more (id int)": "ynnnn",
    "CREATE SCHEMA more": "ynnnn",
    "DROP TABLE services CASCADE": "ynnnn",
    "CREATE INDEX ON cases (age)": "ynnnn",
    "CREATE TEMPORARY TABLE more (id int)": "yynnn",
    f"SELECT * FROM {VIEWS_SCHEMA}.cases": "ynynn",
    f"SELECT * FROM {VIEWS_SCHEMA}.data_dictionary": "ynyny",
    f"SELECT primero_id FROM {VIEWS_SCHEMA}.cases": "nnnnn",
    f"SELECT age_at_registration FROM {VIEWS_SCHEMA}.cases": "ynynn",
    f"SELECT age_at_placement FROM {VIEWS_SCHEMA}.cases": "nnnnn",
    f"SELECT age_at_reintegration FROM {VIEWS_SCHEMA}.cases": "nnnnn",
    f"SELECT age_at_service FROM {VIEWS_SCHEMA}.services": "nnnnn",
    "SELECT * FROM indicator_figures": "yynnn",
    "INSERT INTO indicator_figures SELECT * FROM indicator_figures WHERE false": "yynnn",
    f"SELECT * FROM {VIEWS_SCHEMA}.indicator_figures": "ynyny",
    f"SELECT * FROM {VIEWS_SCHEMA}.indicator_4_8": "ynyny",
    f"SELECT * FROM {VIEWS_SCHEMA}.indicator_4_11a": "ynyny",
    f"SELECT * FROM {VIEWS_SCHEMA}.services": "ynynn",
    f"DELETE FROM {VIEWS_SCHEMA}.indicator_figures": "ynnnn",
    "SELECT * FROM primero_sync.indicator_history": "yynyn",
    "UPDATE primero_sync.indicator_history SET new = 0 WHERE false": "ynnnn",
    "DELETE FROM primero_sync.indicator_history WHERE false": "ynnnn",
    "INSERT INTO primero_sync.indicator_history VALUES ('4.8', 'x', 'x', now(), 'x', 'x', 0, 0, now(), 'x', 'x')": "ynnnn",
    "SELECT * FROM primero_sync.published_figures": "yynyn",
    "INSERT INTO primero_sync.published_figures (period, period_start, run_id, tables) VALUES ('year', now(), 'x', '[]')": "yynnn",
    "UPDATE primero_sync.published_figures SET tables = '[]' WHERE false": "ynnnn",
    "DELETE FROM primero_sync.published_figures WHERE false": "ynnnn",
    "UPDATE primero_sync.indicators SET variant = 'open' WHERE false": "yynnn",
    f"INSERT INTO {VIEWS_SCHEMA}.cases (case_id) VALUES ('x')": "ynnnn",
    "SELECT * FROM primero_sync.runs": "yynyn",
    "SELECT * FROM primero_sync.erasures": "yynyn",
    "SELECT * FROM primero_sync.quarantine": "yynyn",
    "DELETE FROM primero_sync.erasures WHERE false": "ynnnn",
    "DELETE FROM primero_sync.runs WHERE false": "ynnnn",
    "UPDATE primero_sync.runs SET counts = counts WHERE false": "ynnnn",
    "UPDATE primero_sync.runs SET finished_at = now() WHERE false": "ynnnn",
    "INSERT INTO primero_sync.runs VALUES ('x', '2024-Q1', now(), now() - interval '1 year', 'v', '{}')": "ynnnn",
    "INSERT INTO primero_sync.runs (run_id, quarter, started_at, counts) VALUES ('x', '2024-Q1', now(), '{}')": "yynnn",
    "UPDATE primero_sync.erasures SET subject = 'x' WHERE false": "ynnnn",
    "UPDATE primero_sync.erasures SET erased_at = now() WHERE false": "ynnnn",
    "UPDATE primero_sync.erasures SET cases = cases + 1 WHERE false": "yynnn",
    "TRUNCATE primero_sync.erasures": "ynnnn",
    "UPDATE primero_sync.quarantine SET primero_id = 'x' WHERE false": "ynnnn",
    "UPDATE primero_sync.unmapped SET count = 0 WHERE false": "ynnnn",
    "UPDATE primero_sync.exits SET primero_id = primero_id WHERE false": "ynnnn",
    "SELECT primero_id, last_updated_at FROM primero_sync.exits": "yynyn",
    "SELECT case_id FROM primero_sync.exits": "yynnn",
    "SELECT * FROM primero_sync.exits": "yynnn",
    "SELECT nextval('primero_sync.pulls')": "yynnn",
    "SELECT setval('primero_sync.pulls', 1)": "ynnnn",
    "LOCK TABLE primero_sync.load_lock IN SHARE UPDATE EXCLUSIVE MODE": "yynnn",
    "LOCK TABLE primero_sync.load_lock IN ACCESS EXCLUSIVE MODE": "yynnn",
    "INSERT INTO primero_sync.load_lock DEFAULT VALUES": "ynnnn",
    "UPDATE primero_sync.schema_version SET version = version": "ynnnn",
    "INSERT INTO primero_sync.erasures VALUES ('x', now(), 0, 0, 0)": "yynnn",
    "CREATE ROLE more": "nnnnn",
    "COPY cases TO '/tmp/primero-ona-never'": "nnnnn",
    "INSERT INTO primero_sync.refused_logins (subject) VALUES ('x')": "yynnn",
    "SELECT subject FROM primero_sync.refused_logins": "yynnn",
    "DELETE FROM primero_sync.refused_logins WHERE false": "yynnn",
    "UPDATE primero_sync.visible_cases SET accepted_at = now() WHERE false": "yynnn",
    "SELECT * FROM primero_sync.visible_cases": "yynyn",
}


MODES = (
    "ACCESS SHARE", "ROW SHARE", "ROW EXCLUSIVE", "SHARE UPDATE EXCLUSIVE", "SHARE", "SHARE ROW EXCLUSIVE", "EXCLUSIVE",
    "ACCESS EXCLUSIVE",
)  # fmt: skip


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
    return as_user(graph, f"login_{role}")


def as_user(graph: Graph, user: str) -> str:
    """The URL of the database for any login."""
    parameters = psycopg.conninfo.conninfo_to_dict(graph.url) | {"user": user}
    host = str(parameters.pop("host")).replace("/", "%2F")
    return (
        f"postgresql://{parameters['user']}@/{parameters['dbname']}?host={host}&port={parameters.get('port') or 5432}"
    )


@pytest.mark.parametrize("statement", MAY, ids=lambda text: text[:44])
@pytest.mark.proves("ona-roles", "figures-role")
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


@pytest.mark.proves("ona-roles")
def test_a_whole_sync_works_as_the_loader(graph):
    """Rights that a sync lacks are found at the quarter's end, by those who wait for the figures."""
    graph.defs = graph.wire(ona=GivenOna(login(graph, "ona_loader")))
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


@pytest.mark.proves("ona-roles")
def test_every_table_of_the_bookkeeping_has_its_rights(graph):
    """A table that a later version adds and the roles do not name would fail the loads, or say more than it should."""
    read_by_auditor = graph.sql("""
        SELECT relname FROM pg_class WHERE relnamespace = 'primero_sync'::regnamespace AND relkind = 'r'
           AND NOT has_any_column_privilege('ona_auditor', oid, 'SELECT')
    """)
    assert read_by_auditor == [("load_lock",)]
    for role, least in (("ona_loader", "SELECT, UPDATE"), ("ona_owner", "DELETE")):
        assert (
            graph.sql(
                """
                SELECT relname FROM pg_class WHERE relnamespace = 'primero_sync'::regnamespace AND relkind = 'r'
                   AND NOT has_table_privilege(%s, oid, %s)
                """,
                role,
                least,
            )
            == []
        )


@pytest.mark.proves("erasure")
def test_an_erasure_and_an_audit_work_with_their_own_rights(graph):
    """Column grants are easily one column short, and an erasure is a promise to a family."""
    graph.defs = graph.wire(ona=GivenOna(login(graph, "ona_loader")))
    graph.sync()
    case = graph.sql("SELECT primero_id::text FROM cases ORDER BY 1 LIMIT 1")[0][0]
    with connect(login(graph, "ona_loader")) as conn:
        assert erase(conn, [case], NOW)[0].cases == 1
        assert erase(conn, [case], NOW + timedelta(days=1))[0].cases == 0
        with lock_of_all(conn):
            pass
        note_stored_rows(conn, {case: 3})
    assert graph.sql("SELECT erased_at, cases, stored_rows FROM primero_sync.erasures") == [(NOW, 1, 3)]
    with connect(login(graph, "ona_auditor")) as conn:
        assert quarter_status(conn)
        list_entries(conn)


@pytest.fixture
def strangers(graph) -> Iterator[list[str]]:
    """Three logins that are members of no role, beside the roles as they are made now."""
    names = ["stranger", "metabase", "analysts"]
    with psycopg.connect(graph.url, autocommit=True) as conn:
        conn.execute(roles_sql(conn).encode())
        for name in names:
            conn.execute(f"CREATE ROLE {name} LOGIN".encode())
    yield names
    with psycopg.connect(graph.url, autocommit=True) as conn:
        for name in names:
            conn.execute(f"DROP OWNED BY {name} CASCADE; DROP ROLE {name}".encode())


@pytest.mark.proves("lock-needs-right")
def test_who_may_only_connect_holds_no_load_up(graph, strangers):
    """A forgotten login on some laptop could otherwise stop every load, and for as long as it likes."""
    graph.defs = graph.wire(ona=GivenOna(login(graph, "ona_loader")))
    holders = [as_user(graph, "stranger"), login(graph, "ona_dashboard"), login(graph, "ona_auditor")]
    with contextlib.ExitStack() as stack:
        for url in holders:
            conn = stack.enter_context(psycopg.connect(url))
            conn.execute("SELECT pg_try_advisory_lock(31650994524090991)")
            for table in ("primero_sync.load_lock", "primero_sync.runs", "cases", f"{VIEWS_SCHEMA}.cases"):
                for mode in MODES:
                    with contextlib.suppress(psycopg.errors.InsufficientPrivilege), conn.transaction():
                        conn.execute(f"LOCK TABLE {table} IN {mode} MODE NOWAIT".encode())
        with connect(login(graph, "ona_loader"), lock_timeout=1) as conn, conn.transaction():
            lock_loads(conn)
        outcome = graph.sync()
    assert outcome.failure is None


OLDER_GRANTS = (
    "GRANT SELECT, UPDATE ON cases TO metabase WITH GRANT OPTION",
    "GRANT SELECT (sex, age) ON cases TO analysts",
    "GRANT SELECT ON services TO analysts",
    "GRANT USAGE ON SCHEMA primero_sync TO metabase",
    "GRANT SELECT ON primero_sync.quarantine TO metabase",
    "GRANT UPDATE ON SEQUENCE primero_sync.pulls TO metabase",
    "GRANT UPDATE, DELETE ON primero_sync.runs TO ona_loader",
    "GRANT SELECT ON primero_sync.exits TO ona_auditor",
    "GRANT SELECT (primero_id) ON cases TO PUBLIC",
    "GRANT CREATE ON SCHEMA public TO metabase",
    "CREATE VIEW public.girls AS SELECT case_id FROM cases WHERE sex = 'Female'",
    "CREATE VIEW public.young_girls AS SELECT * FROM girls",
    "GRANT SELECT ON young_girls TO analysts",
)
#: What these grants allow, and no login may do once the roles were made again.
FOREIGN = (
    ("metabase", "SELECT count(*) FROM cases"),
    ("metabase", "UPDATE cases SET age = 1 WHERE false"),
    ("metabase", "SELECT count(*) FROM primero_sync.quarantine"),
    ("metabase", "SELECT setval('primero_sync.pulls', 9)"),
    ("metabase", "CREATE TABLE public.more (id int)"),
    ("analysts", "SELECT sex, age FROM cases"),
    ("analysts", "SELECT count(*) FROM services"),
    ("analysts", "SELECT count(*) FROM young_girls"),
    ("stranger", "SELECT sex FROM cases"),
    ("stranger", "SELECT primero_id FROM cases"),
    ("login_ona_loader", "DELETE FROM primero_sync.runs WHERE false"),
    ("login_ona_auditor", "SELECT case_id FROM primero_sync.exits"),
)


@pytest.mark.proves("ona-roles")
def test_older_grants_are_listed_and_revoked(graph, strangers):
    """A dashboard's login that has read the tables for years would go on, roles or not."""
    with psycopg.connect(graph.url, autocommit=True) as conn:
        for grant in OLDER_GRANTS:
            conn.execute(grant.encode())
    with psycopg.connect(as_user(graph, "metabase"), autocommit=True) as conn:
        conn.execute("GRANT SELECT ON cases TO stranger")
    for user, statement in FOREIGN:
        assert may(graph, user, statement), f"{user}: {statement}"
    with psycopg.connect(graph.url, autocommit=True) as conn:
        printed = roles_sql(conn)
        conn.execute(printed.encode())
    assert "-- metabase has SELECT, UPDATE on public.cases\n" in printed
    assert "-- analysts has SELECT (age, sex) on public.cases\n" in printed
    assert 'REVOKE ALL ON TABLE "public"."cases" FROM "metabase" CASCADE;\n' in printed
    for user, statement in FOREIGN:
        assert not may(graph, user, statement), f"{user}: {statement}"
    with psycopg.connect(graph.url, autocommit=True) as conn:
        conn.execute("DROP VIEW young_girls; DROP VIEW girls")
        assert "REVOKE ALL ON TABLE" not in (again := roles_sql(conn))
    assert "-- No one but the owners" in again


def test_names_cannot_end_a_comment(graph, strangers):
    """An administrator runs the output as a superuser."""
    evil = "x\nGRANT ona_owner TO stranger; --"
    with psycopg.connect(graph.url, autocommit=True) as conn:
        name = sql.Identifier(evil)
        conn.execute(sql.SQL("CREATE ROLE {} CREATEROLE").format(name))
        conn.execute(sql.SQL("GRANT SELECT ON cases TO {}").format(name))
        try:
            conn.execute(roles_sql(conn).encode())
            assert conn.execute("SELECT pg_has_role('stranger', 'ona_owner', 'MEMBER')").fetchone() == (False,)
        finally:
            conn.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(name))


def may(graph: Graph, user: str, statement: str) -> bool:
    """Whether a login may do it; nothing stays of it."""
    with psycopg.connect(as_user(graph, user)) as conn:
        try:
            conn.execute(statement.encode())
        except psycopg.errors.InsufficientPrivilege:
            return False
        finally:
            conn.rollback()
    return True
