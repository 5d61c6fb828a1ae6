"""What tests of runs share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from primero_ona.graph import queue
from primero_ona.graph.runs import open_instance
from primero_ona_tests.graph.queued import beat
from primero_ona_tests.harness import home_with_settings


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """Our settings of Dagster, and a daemon that has just given a sign of life."""
    monkeypatch.setenv("DAGSTER_HOME", home_with_settings(tmp_path / "home"))
    monkeypatch.setattr(queue, "_LOOK_EVERY", 0.01)
    with open_instance() as instance:
        beat(instance)
        yield instance
