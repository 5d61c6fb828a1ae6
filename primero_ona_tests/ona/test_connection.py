"""Sessions and the failures that a refused, broken or misused one becomes, on a real PostgreSQL where one can refuse."""

from __future__ import annotations

import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

from primero_ona.errors import (
    ConfigError,
    DataError,
    RefusedError,
    SyncError,
    TransientError,
    database_error,
)
from primero_ona.ona.connection import connect, translate_errors
from primero_ona.ona.primero_state import note_fields, shown_fields
from primero_ona.sandbox.postgres import postgres_library

HBA = "local all postgres trust\nlocal all locked scram-sha-256\n"


@pytest.fixture(scope="module")
def strict_server() -> Iterator[Any]:
    """A server that admits `postgres`, asks `locked` for a password, and knows nobody else."""
    folder = Path(tempfile.mkdtemp(prefix="primero-ona-tests-", dir="/tmp"))
    server = postgres_library().get_server(folder, cleanup_mode="stop")
    with psycopg.connect(server.get_uri(), autocommit=True) as conn:
        conn.execute("CREATE ROLE locked LOGIN PASSWORD 'right'; CREATE ROLE stranger LOGIN")
        (folder / "pg_hba.conf").write_text(HBA)
        conn.execute("SELECT pg_reload_conf()")
    yield server
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


def test_a_session_is_in_utc_and_has_its_limits(ona_url):
    """Stamps are compared and written as UTC; a session in local time would shift them by seven hours."""
    with connect(ona_url, statement_timeout=2.5, lock_timeout=1) as conn:
        names = ("TimeZone", "statement_timeout", "lock_timeout", "application_name", "DateStyle", "client_encoding")
        found = [conn.execute("SELECT current_setting(%s)", (name,)).fetchone() for name in names]
    assert [row[0] for row in found if row] == ["UTC", "2500ms", "1s", "primero-ona", "ISO, YMD", "UTF8"]


@pytest.mark.proves("session-settings")
def test_no_setting_outlives_its_transaction(ona_url):
    """Behind a pooler the session is somebody else's a moment later: our time zone would move their dates."""
    with connect(ona_url, statement_timeout=2.5) as conn:
        with conn.transaction():
            assert conn.execute("SELECT current_setting('statement_timeout')").fetchone() == ("2500ms",)
            with conn.transaction():
                assert conn.execute("SELECT current_setting('jit')").fetchone() == ("off",)
        later = psycopg.Connection.execute(conn, "SELECT current_setting('statement_timeout'), current_setting('jit')")
        assert later.fetchone() == ("0", "on")
        assert not psycopg.Connection.execute(conn, "SELECT FROM pg_prepared_statements").fetchall()


@pytest.mark.parametrize(
    "setting", ["DateStyle=German", "TimeZone=Asia/Phnom_Penh", "idle_in_transaction_session_timeout=30"]
)
@pytest.mark.proves("session-settings")
def test_how_the_login_is_set_up_makes_no_difference(ona_url, setting):
    """The login's own settings come with each session, and neither times nor a wait for Primero may depend on them."""
    url = f"{ona_url}{'&' if '?' in ona_url else '?'}options={quote(f'-c {setting}')}"
    with connect(url) as conn, conn.transaction():
        time.sleep(0.1)
        found = conn.execute("SELECT '2024-03-01 00:00:00+07'::timestamptz, '2024-03-01'::date")
        assert found.fetchone() == (datetime(2024, 2, 29, 17, tzinfo=UTC), date(2024, 3, 1))


@pytest.mark.proves("session-settings")
def test_times_that_are_read_as_objects_are_in_utc_too(ona_url, ona):
    """`fields list` shows them without a zone."""
    note_fields(ona, ["sex"], (), datetime(2024, 2, 29, 20, tzinfo=UTC))
    url = f"{ona_url}{'&' if '?' in ona_url else '?'}options={quote('-c TimeZone=Asia/Phnom_Penh')}"
    with connect(url) as conn:
        assert [f"{field.first_seen:%Y-%m-%d %H:%M}" for field in shown_fields(conn)] == ["2024-02-29 20:00"]


def test_an_address_that_is_not_admitted_says_whom_to_ask(strict_server):
    """ONA's address list is the most likely refusal of all, and nothing on this side can mend it."""
    url = strict_server.get_uri().replace("postgres:@", "stranger:secret@")
    with pytest.raises(RefusedError, match="admit this machine's address") as caught:
        connect(url)
    assert "secret" not in str(caught.value)


def test_a_wrong_password_is_a_refusal(strict_server):
    """Trying again would lock the login; the message must not carry the password or the URL."""
    with pytest.raises(RefusedError, match="refuses the login") as caught:
        connect(strict_server.get_uri().replace("postgres:@", "locked:sesame@"))
    assert "sesame" not in str(caught.value)
    assert str(strict_server.pgdata) not in str(caught.value)


def test_a_database_that_is_not_there_is_a_refusal(strict_server):
    """A mistyped name is not mended by waiting."""
    with pytest.raises(RefusedError, match="no such database"):
        connect(strict_server.get_uri(database="mistyped"))


def test_a_closed_port_is_transient():
    """A server that restarts is back in a minute."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        with pytest.raises(TransientError, match="not listening"):
            connect(f"postgresql://u:sesame@127.0.0.1:{port}/x")


def test_a_silent_server_is_transient_and_hints_at_the_address_list():
    """A firewall that drops us looks like this."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(TransientError, match="does not answer"):
            connect(f"postgresql://u:p@127.0.0.1:{silent.getsockname()[1]}/x", connect_timeout=2)


@pytest.mark.parametrize(
    "url", ["sesame", "postgresql://u:se same@h/x", "postgresql://h/x?foo=sesame", "postgresql://127.0.0.1:99999/x"]
)
def test_a_malformed_url_is_a_setting(url):
    """psycopg's own messages quote the part that it could not read, which may be the password."""
    with pytest.raises(ConfigError, match="ONA_DATABASE_URL") as caught:
        connect(url)
    assert "same" not in str(caught.value)


def test_a_connection_that_breaks_is_transient(ona_url, empty_ona):
    """The network between here and ONA breaks now and then; the run is tried again."""
    with connect(ona_url) as conn:
        pid = conn.info.backend_pid
        empty_ona.execute("SELECT pg_terminate_backend(%s)", (pid,))
        with pytest.raises(TransientError), translate_errors("asking"):
            conn.execute("SELECT 1")
        with pytest.raises(TransientError), translate_errors("asking"):
            conn.execute("SELECT 1")


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("SELECT * FROM nowhere", DataError),
        ("SELECT nothing FROM t", DataError),
        ("INSERT INTO t VALUES (1, 'canary')", DataError),
        ("INSERT INTO t VALUES (2, 'canary canary')", DataError),
        ("INSERT INTO t VALUES (NULL, 'canary')", DataError),
        ("INSERT INTO t VALUES (3, NULL), (3, 'canary')", DataError),
        ("SELECT 'canary'::date", DataError),
        ("SELECT 'canary'::integer", DataError),
        ("SELECT '2024-13-41'::date", DataError),
        ("canary", DataError),
        ("SELECT pg_sleep(5)", TransientError),
        ("BEGIN READ ONLY; DELETE FROM t", RefusedError),
    ],
)
def test_an_error_of_the_server_becomes_a_failure_without_values(ona_url, empty_ona, statement, kind):
    """PostgreSQL quotes the row in most of its errors; none of it may reach a log or the UI."""
    empty_ona.execute("CREATE TABLE t (id integer PRIMARY KEY, word varchar(6)); INSERT INTO t VALUES (1, NULL)")
    with (
        connect(ona_url, statement_timeout=0.2) as conn,
        pytest.raises(SyncError) as caught,
        translate_errors("trying"),
    ):
        conn.execute(statement.encode())
    assert type(caught.value) is kind
    assert str(caught.value).startswith("trying failed: ")
    assert "SQLSTATE" in str(caught.value)
    assert "canary" not in str(caught.value)
    assert "Key" not in str(caught.value)


def test_a_wait_for_a_lock_is_transient(ona_url, empty_ona):
    """Somebody works in ONA's tables; they will be done."""
    empty_ona.execute("CREATE TABLE t ()")
    with connect(ona_url, lock_timeout=0.1) as waiting, empty_ona.transaction():
        empty_ona.execute("LOCK TABLE t")
        with pytest.raises(TransientError, match="55P03"), translate_errors("trying"), waiting.transaction():
            waiting.execute("LOCK TABLE t")


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ('FATAL: no pg_hba.conf entry for host "203.0.113.5", user "u", no encryption', RefusedError),
        ("failed to resolve host 'h': [Errno -2] Name or service not known", TransientError),
        ("server does not support SSL, but SSL was required", RefusedError),
        ('server certificate for "x" does not match host name "h"', RefusedError),
        ("connection refused\nFATAL: password authentication failed for user", RefusedError),
        ("FATAL: sorry, too many clients already", TransientError),
        ("FATAL: the database system is starting up", TransientError),
    ],
)
def test_what_libpq_says_while_connecting_is_understood(said, kind):
    """libpq gives no SQLSTATE then; a refusal taken for silence would be retried for ever."""
    failure = database_error(psycopg.OperationalError(f"connection failed: {said}"), "connecting")
    assert type(failure) is kind
    assert said[:30] not in str(failure)
    assert ("it sees this machine as 203.0.113.5" in str(failure)) == ("pg_hba" in said)
