"""One graph for all canaries, in places that nobody else writes to; and a listener that looks for markers after each test."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import dagster as dg
import pytest

from primero_ona.primero.fields import CASE_FIELDS
from primero_ona_tests.canary.markers import PERSONAL, mark
from primero_ona_tests.canary.places import Watched
from primero_ona_tests.harness import START, database, small, wired

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="package")
def watched(postgres: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """A graph on 60 marked cases, a server that sends more than it is asked for, and an environment that names both."""
    folder = tmp_path_factory.mktemp("watched")
    for name, source in (("home", "dagster.yaml"), ("production", "deploy/dagster.yaml"), ("temporary", None)):
        (folder / name).mkdir()
        if source:
            (folder / name / "dagster.yaml").write_text((ROOT / source).read_text())
    temporary = str(folder / "temporary")
    variables = {"DAGSTER_HOME": str(folder / "home"), "TMPDIR": temporary, "DAGSTER_REDACT_USER_CODE_ERRORS": "1"}
    with (
        mock.patch.dict(os.environ, variables),
        mock.patch.object(tempfile, "tempdir", temporary),
        database(postgres, "history") as history_url,
        dg.DagsterInstance.get() as instance,
        wired(postgres, "watched", small(60), instance) as graph,
    ):
        graph.folder = folder / "partitions"
        graph.defs = graph.wire()
        mark(graph.primero)
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
            yield Watched(graph, folder, history_url)


@pytest.fixture
def synced(watched: Watched) -> Watched:
    """The graph, with 2024-Q1 pulled, mapped and loaded at least once."""
    if not (watched.graph.folder / "mapped_services").exists():
        assert watched.graph.sync().failure is None
    return watched


@pytest.fixture
def listening(synced: Watched, caplog: Any, capfd: Any) -> Iterator[Watched]:
    """Keeps what is printed and logged during a test, and at its end asserts that no marker is where it may not be."""
    caplog.set_level("DEBUG")
    yield synced
    synced.said += [caplog.text, *capfd.readouterr()]
    assert synced.found() == {}


@pytest.fixture(scope="package")
def production(watched: Watched) -> Iterator[dg.DagsterInstance]:
    """The instance of deploy/dagster.yaml, whose history is in PostgreSQL."""
    url = watched.history_url.replace("postgresql://", "postgresql+psycopg2://")
    with (
        mock.patch.dict(os.environ, {"DAGSTER_POSTGRES_URL": url}),
        dg.DagsterInstance.from_config(str(watched.production)) as instance,
    ):
        # Connections that stay: a thousand new ones would take longer than the runs.
        instance.optimize_for_webserver(statement_timeout=60_000, pool_recycle=3_600, max_overflow=20)
        yield instance
        for storage in (instance.run_storage, instance.event_log_storage, instance.schedule_storage):
            storage.dispose()
