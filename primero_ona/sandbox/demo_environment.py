"""What surrounds the graph in `demo` and `dev`: the settings' Primero and ONA, or the sandbox where none is set.

The sandbox is started by the command, which owns it to the end, and made known to the graph and to child processes by the same
environment variables that name a real Primero and a real ONA. Its database and its key stay between two runs.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography.fernet import Fernet

from primero_ona.errors import UsageError
from primero_ona.quarters import PHNOM_PENH, last_quarters
from primero_ona.sandbox.cases import Wish
from primero_ona.sandbox.postgres import SandboxPostgres
from primero_ona.sandbox.primero import SandboxPrimero
from primero_ona.settings import environment
from primero_ona.storage.places import write_file

#: With none of these set, in the environment or in `.env`, the sandbox serves.
_VARIABLES = ("PRIMERO_URL", "PRIMERO_USERNAME", "PRIMERO_PASSWORD", "ONA_DATABASE_URL")

#: Quarters in which the sandbox has cases, the open one included.
QUARTERS = 8

_FOLDER = Path(".sandbox")

#: Where Dagster's documentation, and ours, says that its UI is.
_PORT = 3_000


@dataclass(frozen=True)
class DemoEnvironment:
    """Whether the sandbox serves, and one sentence about it for people."""

    is_sandbox: bool
    description: str


@contextmanager
def demo_environment(*, cases: int, seed: int) -> Iterator[DemoEnvironment]:
    """Start the sandbox unless a Primero or an ONA is set; put what it offers into the environment.

    Raises ConfigError where the extra with the sandbox's parts is not installed.
    """
    named = environment()
    if any(named.get(variable) or named.get(f"{variable}_FILE") for variable in _VARIABLES):
        yield DemoEnvironment(
            is_sandbox=False, description="Using the Primero and the ONA database that the settings name."
        )
        return
    _FOLDER.mkdir(exist_ok=True, mode=0o700)
    wish = Wish(cases, seed, now=_day_made())
    with SandboxPostgres(_FOLDER) as postgres, SandboxPrimero(wish).serve() as primero:
        os.environ.update(
            PRIMERO_URL=primero.url,
            PRIMERO_USERNAME=primero.username,
            PRIMERO_PASSWORD=primero.password,
            ONA_DATABASE_URL=postgres.url("ona"),
            PRIMERO_ONA_START=os.environ.get("PRIMERO_ONA_START") or last_quarters(QUARTERS)[0].key,
        )
        if not any(named.get(f"PRIMERO_ONA_STORAGE_KEYS{kind}") for kind in ("", "_FILE")):
            os.environ["PRIMERO_ONA_STORAGE_KEYS"] = _own_key()
        yield DemoEnvironment(
            is_sandbox=True,
            description=f"Using the sandbox: a synthetic Primero with {cases:,} cases at {primero.url}, and an embedded PostgreSQL.\n"
            f"  psql '{postgres.url('ona')}'",
        )


def _own_key() -> str:
    """The sandbox's key, made once."""
    return _made_once("storage.key", lambda: Fernet.generate_key().decode())


def _day_made() -> datetime:
    """The day on which this sandbox was first started: its cases end there, so that they are the same ever after."""
    return datetime.fromisoformat(
        _made_once("made", lambda: datetime.now(PHNOM_PENH).replace(microsecond=0).isoformat())
    )


def _made_once(name: str, make: Callable[[], str]) -> str:
    """The content of a small file of the sandbox, made when it is not there; readable by its owner only."""
    path = _FOLDER / name
    if not path.exists():
        write_file(path, make().encode())
    return path.read_text()


def free_port(asked: int | None) -> int:
    """The port of 127.0.0.1 that was asked for, else 3000, else any: another user of the machine may have it.

    Raises UsageError where the one that was asked for cannot be had.
    """
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("127.0.0.1", asked or _PORT))
        except OSError as error:
            if asked:
                raise UsageError(f"port {asked} cannot be had ({error.strerror}); name another with --port") from None
            trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])
