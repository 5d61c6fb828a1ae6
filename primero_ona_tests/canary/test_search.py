"""The proof of the search itself: the markers are in Primero's answers, the search finds one wherever it lies."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import psycopg
import pytest
import requests

from primero_ona.primero.fields import CASE_FIELDS, SERVICE_FIELDS
from primero_ona.primero.raw import EXIT_SCHEMA
from primero_ona.quarters import Quarter
from primero_ona.sandbox.columns import CANARY, CANARY_BIRTH
from primero_ona_tests.canary.markers import DAY, PERSONAL, UNSAID, VILLAGE, WHISPER
from primero_ona_tests.canary.places import Watched, dumped
from primero_ona_tests.harness import table

#: Fields of a case that cannot carry a marker: numbers, flags and the time of registration, by which quarters are told.
UNMARKED = {"age", "record_state", "created_at"}


@pytest.fixture(scope="module")
def answered(watched: Watched) -> list[dict[str, Any]]:
    """What Primero answers to the very questions of the pull."""
    primero = watched.graph.primero
    asked = {"fields": ",".join(CASE_FIELDS), "per": 1000, "last_updated_at": "1970-01-01T00:00:00Z.."}
    login = (primero.username, primero.password)
    rows: list[dict[str, Any]] = requests.get(
        f"{primero.url}/api/v2/cases", params=asked, auth=login, timeout=30
    ).json()["data"]
    assert len(rows) == 60
    return rows


def test_what_nobody_asks_for_is_in_the_answers(answered):
    """Zero hits would mean nothing if Primero had never sent a marker."""
    for name in PERSONAL:
        assert all(CANARY in row[name] for row in answered if row.get(name) is not None), name
        assert any(row.get(name) for row in answered), name
    assert all(row.get("date_of_birth") == CANARY_BIRTH for row in answered)
    assert CANARY.encode() in orjson.dumps([row.get("services_section") for row in answered])


@pytest.mark.parametrize("name", sorted({*CASE_FIELDS} - UNMARKED))
def test_every_field_that_is_asked_for_carries_a_marker(answered, name):
    """A field that is added to the allow-list must be watched from its first day."""
    assert sum(bool(UNSAID.search(orjson.dumps(row.get(name)))) for row in answered) >= 58


@pytest.mark.parametrize("name", sorted({*SERVICE_FIELDS} - {"_destroy"}))
def test_every_field_of_a_service_that_is_kept_carries_a_marker(answered, name):
    """A nested field is as personal as any other."""
    assert all(UNSAID.search(orjson.dumps(row["services_section"][0][name])) for row in answered)


Plant = Callable[[], Callable[[], object]]


def test_the_search_finds_a_marker_wherever_one_lies(watched):
    """A search that looks in the wrong place finds nothing for ever."""
    graph = watched.graph
    planted: list[tuple[str, Plant]] = [
        ("DAGSTER_HOME", lambda: _in_sqlite(watched.home / "planted.db", CANARY)),
        ("DAGSTER_HOME", lambda: _in_sqlite(watched.home / "planted.db", DAY)),
        ("DAGSTER_HOME", lambda: _in_sqlite(watched.home / "planted.db", zlib.compress(WHISPER.encode()))),
        ("DAGSTER_HOME", lambda: _in_file(watched.home / f"{WHISPER}.txt", "")),
        ("DAGSTER_HOME in production", lambda: _in_file(watched.production / "planted", f"at {VILLAGE}.")),
        ("Dagster's PostgreSQL", lambda: _in_postgres(watched.history_url, WHISPER)),
        ("Dagster's PostgreSQL", lambda: _in_postgres(watched.history_url, zlib.compress(CANARY.encode()))),
        ("partitions as they lie", lambda: _in_file(graph.folder / "planted", WHISPER)),
        ("partitions in clear", lambda: _in_partition(watched, CANARY)),
        ("partitions in clear", lambda: _in_partition(watched, CANARY_BIRTH)),
        ("temporary files", lambda: _in_file(watched.temporary / "planted", CANARY_BIRTH)),
        ("ONA", lambda: _in_postgres(graph.url, CANARY)),
        ("ONA", lambda: _in_postgres(graph.url, CANARY_BIRTH)),
        ("ONA's bookkeeping", lambda: _in_postgres(graph.url, WHISPER, "primero_sync.planted")),
        ("what was printed", lambda: _in_words(watched)),
    ]
    for place, plant in planted:
        take_away = plant()
        assert list(watched.found()) == [place]
        take_away()
    assert watched.found() == {}


def test_nobody_is_found_where_only_what_may_be_stored_lies(watched):
    """A search that finds everything everywhere would be switched off."""
    take_away = _in_postgres(watched.graph.url, WHISPER)
    assert WHISPER.encode() in dumped(watched.graph.url)
    assert watched.found() == {}
    take_away()


def _in_file(path: Path, content: str) -> Callable[[], object]:
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    return path.unlink


def _in_sqlite(path: Path, value: str | bytes) -> Callable[[], object]:
    with sqlite3.connect(path) as conn:
        conn.execute("CREATE TABLE t (v)")
        conn.execute("INSERT INTO t VALUES (?)", (value,))
    return path.unlink


def _in_postgres(url: str, value: str | bytes, name: str = "planted") -> Callable[[], object]:
    kind = "text" if isinstance(value, str) else "bytea"
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(f"CREATE TABLE {name} (v {kind})".encode())
        conn.execute(f"INSERT INTO {name} VALUES (%s)".encode(), (value,))

    def take_away() -> None:
        with psycopg.connect(url, autocommit=True) as conn:
            conn.execute(f"DROP TABLE {name}".encode())

    return take_away


def _in_partition(watched: Watched, text: str) -> Callable[[], object]:
    stored = watched.graph.stored
    with stored.writer("case_exits", Quarter(2019, 1)) as writer:
        writer.write(table([{"id": "x", "case_id_display": text}], EXIT_SCHEMA))
        writer.commit({})
    return stored.store.place.path("case_exits/2019-01-01").unlink


def _in_words(watched: Watched) -> Callable[[], object]:
    watched.said.append(WHISPER)
    return watched.said.pop
