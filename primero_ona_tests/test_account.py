"""Primero's account: a part of its scope that is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from primero_ona.cli.app import app
from primero_ona.errors import RefusedError
from primero_ona.primero.visible import KnownScope
from primero_ona_tests.harness import Q1, Q2, START, Graph, small, wired
from primero_ona_tests.reliability.syncing import home_with_settings

Command = Callable[..., Result]


@pytest.fixture
def graph(postgres: Any) -> Iterator[Graph]:
    """Sixty cases in two quarters; nothing is synced yet."""
    with wired(postgres, "account", small(60, odd=False)) as made:
        yield made


@pytest.fixture
def command(graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs `primero-ona` on the graph."""
    settings = {
        "PRIMERO_URL": graph.primero.url,
        "PRIMERO_USERNAME": graph.primero.username,
        "PRIMERO_PASSWORD": graph.primero.password,
        "ONA_DATABASE_URL": graph.url,
        "PRIMERO_ONA_STORAGE_URL": str(graph.folder),
        "PRIMERO_ONA_STORAGE_KEYS": graph.key,
        "PRIMERO_ONA_START": START,
        "DAGSTER_HOME": home_with_settings(tmp_path / "home"),
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(app, list(words))


@pytest.mark.parametrize(
    ("last", "in_ona", "accepted", "visible", "refused"),
    [
        (None, 0, False, 3, False),  # the first pull of all
        (3_000, 2_500, False, 3_000, False),
        (3_000, 2_500, False, 3_500, False),
        (3_000, 2_500, False, 2_940, False),  # two per cent
        (3_000, 2_500, False, 2_939, True),
        (3_000, 2_500, False, 3, True),
        (100, 90, False, 90, False),  # ten cases
        (100, 90, False, 89, True),
        (None, 2_500, False, 3, True),  # the first pull of a version that counts
        (3, 2_500, False, 3, True),
        (3, 2_500, True, 3, False),
        (2_000, 2_500, True, 1_900, True),  # less than was accepted
    ],
)
def test_a_fall_is_one_by_more_than_two_per_cent_and_ten_cases(
    last: int | None, in_ona: int, accepted: bool, visible: int, refused: bool
) -> None:
    """Administrators delete a few cases now and then; a role that is changed takes hundreds out of sight."""
    scope = KnownScope(last, in_ona, accepted)
    if refused:
        with pytest.raises(RefusedError, match=f"primero-ona account accept-cases {visible}`"):
            scope.check(visible)
    else:
        scope.check(visible)


def lose_scope(graph: Graph, kept: int) -> None:
    """Let the account see so many cases, as where its scope becomes its own agency."""
    for case in list(graph.primero.cases.records())[:kept]:
        graph.primero.update(case["id"], owned_by="me", last_updated_at=case["last_updated_at"])
    graph.primero.role.owner = "me"


def test_an_account_that_has_lost_a_part_of_its_scope_stores_nothing_until_an_operator_accepts_it(
    graph: Graph, command: Command
) -> None:
    """Primero says 200 and nothing else, and the quarters of those children would never change again."""
    for quarter in (Q1, Q2):
        assert graph.sync(quarter).failure is None
    stored = sorted((path, path.stat().st_mtime_ns) for path in graph.folder.rglob("*") if path.is_file())
    lose_scope(graph, 30)
    outcome = graph.sync(Q1)
    assert outcome.exit_code == 3
    assert "Primero shows this account 30 cases, where 60 were visible before" in (outcome.failure or "")
    assert sorted((path, path.stat().st_mtime_ns) for path in graph.folder.rglob("*") if path.is_file()) == stored
    assert graph.instance.get_run_by_id(outcome.run_id).tags["dagster/retry_on_asset_or_op_failure"] == "false"
    assert command("account", "accept-cases", "30").exit_code == 0
    assert [graph.sync(quarter).failure for quarter in (Q1, Q2)] == [None, None]
    graph.primero.role.owner = None
    assert graph.sync(Q1).failure is None
    assert graph.sql("SELECT cases, accepted_at FROM primero_sync.visible_cases") == [(60, None)]
    graph.primero.role.owner = "me"
    assert "where 60 were visible before" in (graph.sync(Q1).failure or ""), "what was accepted was over with the scope"


def test_what_counts_as_a_fall_is_a_setting(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small country deletes more in one day than a large one loses."""
    assert graph.sync(Q1).failure is None
    lose_scope(graph, 30)
    monkeypatch.setenv("PRIMERO_ONA_SCOPE_LOSS_CASES", "30")
    assert graph.sync(Q1).failure is None
