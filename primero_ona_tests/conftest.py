"""Fixtures of all tests: one real PostgreSQL for the whole run, and an empty database for each test that asks.

Tests that need a program which a laptop may lack are skipped there in plain sight, and fail where all must run (CI).
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

from primero_ona.ona.connection import connect
from primero_ona.ona.migrations import apply, plan
from primero_ona.sandbox.postgres import postgres_library

#: By marker: the program that such tests need, and the Debian package that has it.
PROGRAMS = {"nginx": ("nginx", "nginx-light"), "chromium": ("chromium", "chromium")}

#: Set by `.ci/run`, which installs the programs first: then a missing one is a failure.
ALL = "PRIMERO_ONA_TESTS_ALL"

_LACKING = "left out: there is no "


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests whose program is not there."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
    for marker, (program, package) in PROGRAMS.items():
        if not os.environ.get(ALL) and shutil.which(program, path=path) is None:
            reason = f"{_LACKING}{program} on this machine (Debian: apt-get install {package})"
            for item in items:
                if item.get_closest_marker(marker):
                    item.add_marker(pytest.mark.skip(reason=reason))
    for item in items:
        if not os.environ.get(ALL) and item.get_closest_marker("ci"):
            item.add_marker(pytest.mark.skip(reason="runs in .ci/run only (PRIMERO_ONA_TESTS_ALL=1)"))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say what was left out, and how to have it."""
    reasons = Counter(report.longrepr[2] for report in terminalreporter.stats.get("skipped", []))
    for reason, count in reasons.items():
        if _LACKING in reason:
            terminalreporter.write_line(f"{count} tests were {reason.removeprefix('Skipped: ')}", yellow=True)


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
    folder = Path(tempfile.mkdtemp(prefix="primero-ona-tests-", dir="/tmp"))
    server = postgres_library().get_server(folder, cleanup_mode="stop")
    with psycopg.connect(server.get_uri(), autocommit=True) as conn:
        # What tests write need not survive a power cut.
        conn.execute("ALTER SYSTEM SET fsync = off")
        conn.execute("SELECT pg_reload_conf()")
    yield server
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def ona_url(postgres: Any) -> str:
    """The URL of a database that is empty when the test begins, and that nobody else is connected to."""
    # Emptying one database takes a tenth of the time of making one for each test.
    with psycopg.connect(postgres.get_uri(), autocommit=True) as conn:
        for (statement,) in conn.execute(EMPTY).fetchall():
            conn.execute(statement)
        conn.execute("CREATE SCHEMA public")
    return str(postgres.get_uri())


@pytest.fixture
def empty_ona(ona_url: str) -> Iterator[psycopg.Connection]:
    """A session in a database without any table."""
    with connect(ona_url, application_name="tests", lock_timeout=5) as conn:
        yield conn


@pytest.fixture
def ona(empty_ona: psycopg.Connection) -> psycopg.Connection:
    """A session in a database to which `schema apply` has given all tables."""
    apply(empty_ona, plan(empty_ona))
    return empty_ona
