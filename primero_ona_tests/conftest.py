"""Fixtures of all tests: one real PostgreSQL for the whole run, and an empty database for each test that asks.

Tests that need a program which a laptop may lack are skipped there in plain sight, and fail where all must run (CI).
Tests marked `ci` take seconds and have a quick one beside them: they run only there.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import settings

from primero_ona.ona.connection import connect
from primero_ona.ona.migrations import apply, plan
from primero_ona.sandbox.postgres import postgres_library
from primero_ona_tests import ALL, SCRATCH, TEMPLATE

#: By marker: the program that such tests need, and the Debian package that has it.
PROGRAMS = {"nginx": ("nginx", "nginx-light"), "chromium": ("chromium", "chromium")}

_LACKING = "tests were left out: there is no "
_CI = "tests run in .ci/run only (PRIMERO_ONA_TESTS_ALL=1)"

settings.register_profile("quick", max_examples=20, deadline=None)
settings.register_profile("all", max_examples=200, deadline=None)
settings.load_profile("all" if ALL else "quick")


def pytest_xdist_auto_num_workers() -> int:
    """One worker more than processors: tests also wait, for servers that stop and processes that start."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests whose program is not there, and those of CI elsewhere."""
    if ALL:
        return
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
    skipped = {
        marker: f"{_LACKING}{program} on this machine (Debian: apt-get install {package})"
        for marker, (program, package) in PROGRAMS.items()
        if shutil.which(program, path=path) is None
    } | {"ci": _CI}
    for item in items:
        for marker, reason in skipped.items():
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say what was left out, and how to have it."""
    reasons = Counter(
        report.longrepr[2].removeprefix("Skipped: ") for report in terminalreporter.stats.get("skipped", [])
    )
    for reason, count in reasons.items():
        if reason.startswith((_LACKING, _CI)):
            terminalreporter.write_line(f"{count} {reason}", yellow=True)


#: Ends the sessions that a test may have left open, and gives the statements that remove all it has made.
EMPTY = """
WITH ended AS (
    SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity
     WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
)
SELECT format('DROP SCHEMA %I CASCADE', nspname) FROM pg_namespace, ended
 WHERE nspname <> 'information_schema' AND nspname NOT LIKE 'pg\\_%'
"""


@pytest.fixture(scope="session")
def postgres() -> Iterator[Any]:
    """A PostgreSQL server that lives as long as the tests. It fails, and never skips, where it cannot start."""
    folder = Path(tempfile.mkdtemp(prefix="primero-ona-tests-", dir=SCRATCH))
    server = postgres_library().get_server(folder, cleanup_mode="stop")
    with psycopg.connect(server.get_uri(), autocommit=True) as conn:
        # What tests write need not survive a power cut.
        for name in ("fsync", "full_page_writes", "synchronous_commit", "autovacuum"):
            conn.execute(f"ALTER SYSTEM SET {name} = off")
        conn.execute("SELECT pg_reload_conf()")
        conn.execute(f"CREATE DATABASE {TEMPLATE}")
    with connect(server.get_uri(database=TEMPLATE)) as conn:
        apply(conn, plan(conn))
    yield server
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def ona_url(postgres: Any, request: pytest.FixtureRequest) -> str:
    """The URL of a database that is empty when the test begins, or has all tables if the test asks for `ona`, too.

    Nobody else is connected to it.
    """
    if "ona" in request.fixturenames:
        with psycopg.connect(postgres.get_uri(), autocommit=True) as conn:
            conn.execute("DROP DATABASE IF EXISTS with_tables WITH (FORCE)")
            conn.execute(f"CREATE DATABASE with_tables TEMPLATE {TEMPLATE} STRATEGY file_copy")
        return str(postgres.get_uri(database="with_tables"))
    # Emptying one database takes a tenth of the time of making one for each test.
    with psycopg.connect(postgres.get_uri(), autocommit=True) as conn:
        for (statement,) in conn.execute(EMPTY).fetchall():
            conn.execute(statement)
        conn.execute("CREATE SCHEMA public")
    return str(postgres.get_uri())


@pytest.fixture
def empty_ona(ona_url: str) -> Iterator[psycopg.Connection]:
    """A session in a database without any table."""
    with connect(ona_url, lock_timeout=5) as conn:
        yield conn


@pytest.fixture
def ona(empty_ona: psycopg.Connection) -> psycopg.Connection:
    """A session in a database to which `schema apply` has given all tables."""
    return empty_ona
