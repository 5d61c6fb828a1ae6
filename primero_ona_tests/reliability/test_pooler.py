"""Behind a pooler that gives each transaction another session (PgBouncer): everything works, and nothing of ours leaks."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from primero_ona.errors import ConfigError, RefusedError
from primero_ona.ona.bookkeeping import list_entries, quarter_status
from primero_ona.ona.connection import connect
from primero_ona.ona.diagnosis import diagnose
from primero_ona.ona.migrations import plan
from primero_ona.pipeline.reconcile import reconcile
from primero_ona.pipeline.reference import scope_in_use
from primero_ona.pipeline.stored import Scope
from primero_ona.primero.client import PrimeroClient
from primero_ona_tests.harness import Q1, Q2, Graph, run_unpartitioned

_PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")

pytestmark = pytest.mark.ci

#: Each transaction goes to the session that waited longest, so that no two in a row are the same while there are several.
CONFIGURATION = """
[databases]
* = host={host} user=postgres

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {sessions}
server_round_robin = 1
"""
SESSIONS = 3


@contextmanager
def pooled(host: str, database: str) -> Iterator[str]:
    """A PgBouncer before the PostgreSQL whose socket is in the folder `host`; the URL of the database through it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    owner = Path(host).stat()  # it refuses to run as root, and nobody else may reach the socket
    with tempfile.TemporaryDirectory(prefix="primero-ona-pooler-", dir="/tmp") as folder:
        file = Path(folder) / "pgbouncer.ini"
        file.write_text(CONFIGURATION.format(host=host, port=port, sessions=SESSIONS))
        os.chown(folder, owner.st_uid, owner.st_gid)
        os.chown(file, owner.st_uid, owner.st_gid)
        other = (
            {} if os.geteuid() == owner.st_uid else {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
        )
        process = subprocess.Popen([str(_PGBOUNCER), "-q", str(file)], stderr=subprocess.DEVNULL, **other)
        try:
            yield _reached(f"postgresql://postgres@127.0.0.1:{port}/{database}", process)
        finally:
            process.terminate()
            process.wait(10)


def _reached(url: str, process: subprocess.Popen[bytes]) -> str:
    until = time.monotonic() + 10
    while process.poll() is None and time.monotonic() < until:
        try:
            psycopg.connect(url, connect_timeout=2).close()
        except psycopg.OperationalError:
            time.sleep(0.05)
        else:
            return url
    raise AssertionError("PgBouncer did not start")


@pytest.fixture
def behind(graph: Graph, postgres: Any) -> Iterator[Graph]:
    """The graph, whose ONA is reached through a pooler with several sessions open."""
    with pooled(str(postgres.pgdata), graph.url.rpartition("?")[0].rpartition("/")[2]) as url:
        with ExitStack() as several:
            for _ in range(SESSIONS):
                several.enter_context(psycopg.connect(url)).execute("SELECT 1")
        graph.url = url
        graph.defs = graph.wire()
        yield graph


def sessions(url: str) -> list[tuple[Any, ...]]:
    """What somebody else finds in each session of the pool: its settings, and how much of ours stands around."""
    query = """
        SELECT pg_backend_pid(), current_setting('TimeZone'), current_setting('statement_timeout'),
               current_setting('lock_timeout'), current_setting('row_security'), current_setting('jit'),
               (SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()),
               (SELECT count(*) FROM pg_prepared_statements)
    """
    with psycopg.connect(url, autocommit=True, prepare_threshold=None) as conn:
        return [conn.execute(query.encode()).fetchall()[0] for _ in range(SESSIONS)]


@pytest.mark.proves("session-settings")
def test_syncs_verify_repair_and_refresh_work_and_leave_nothing_behind(behind, is_right):
    """Our time zone and limits would become those of the dashboards; temporary tables of one session are not in the next."""
    untouched = sessions(behind.url)
    assert len({row[0] for row in untouched}) == SESSIONS, "each transaction must get another session"
    assert [behind.sync(quarter).failure for quarter in (Q1, Q2)] == [None, None]
    behind.clock.move(minutes=1)
    is_right()
    assert run_unpartitioned(behind.defs.resolve_job_def("refresh_reference"), behind.instance).failure is None
    behind.sql("DELETE FROM services WHERE unique_id = (SELECT min(unique_id) FROM services)")
    primero, scope = behind.primero, scope_in_use(Scope(Q1), behind.stored)
    with (
        PrimeroClient(primero.url, primero.username, primero.password, pause=0) as client,
        connect(behind.url) as conn,
    ):
        found = reconcile(client, conn, scope)
        assert found.total.services == found.total.differences == 1
        assert [behind.sync(quarter).failure for quarter in found.to_sync] == [None]
        assert reconcile(client, conn, scope).total.differences == 0
        assert plan(conn) == []
        assert len(quarter_status(conn)) == 2
        assert list_entries(conn)
    assert sorted(sessions(behind.url)) == sorted(untouched)
    lines = {line.what: line for line in diagnose(behind.url, insecure=False)}
    assert "a pooler" in lines["in between"].text
    assert not [line for line in lines.values() if line.state == "failed"]


@pytest.mark.proves("session-settings")
def test_what_the_pooler_itself_refuses_is_told(behind):
    """Its words are not PostgreSQL's."""
    with pytest.raises(ConfigError, match="takes no `options`"):
        connect(f"{behind.url}?options=-c%20jit%3Doff")
    with pytest.raises(RefusedError, match="no such database"), connect(behind.url.rpartition("/")[0] + "/nowhere"):
        pass
