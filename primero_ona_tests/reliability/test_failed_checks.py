"""Checks that fail after the load: the command and the run fail, what was loaded stays, and nothing tries it again by itself.

Real runs in an instance on disk with the project's own settings, on an ONA whose triggers spoil what was loaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._daemon.auto_run_reexecution.auto_run_reexecution import filter_runs_to_should_retry

from primero_ona.graph.due import attempts
from primero_ona_tests import quick
from primero_ona_tests.harness import Q1, Graph, home_with_settings, small, wired
from primero_ona_tests.reliability.syncing import sync_plainly, terminal_of

#: What ONA does to its own tables at commit, and the checks that then fail.
SPOILS = {
    "services emptied": ("services", "DELETE FROM services", ["ona/services: quarter_loaded"]),
    "cases changed": ("cases", "UPDATE cases SET sex = 'x'", ["ona/cases: quarter_loaded"]),
    "a case gone": (
        "services",
        "DELETE FROM cases WHERE case_id = (SELECT min(case_id) FROM services)",
        ["ona/cases: quarter_loaded"],
    ),
}


@pytest.fixture
def graph(postgres: Any, tmp_path: Path) -> Iterator[Graph]:
    """40 plain cases, nothing synced yet, in an instance on disk."""
    home = home_with_settings(tmp_path / "home")
    with wired(postgres, "failed_checks", small(40, odd=False), dg.DagsterInstance.from_config(home)) as made:
        yield made


def spoil(graph: Graph, name: str) -> list[str]:
    """Let ONA do this to itself at the commit of each load; the checks that must fail."""
    table, statement, failing = SPOILS[name]
    graph.sql(f"CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN {statement}; RETURN NULL; END$$")
    graph.sql(
        f"CREATE CONSTRAINT TRIGGER spoil AFTER INSERT ON {table} DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION spoil()"
    )
    return failing


@pytest.mark.parametrize("name", quick(SPOILS, "a case gone"))
@pytest.mark.proves("failed-check")
def test_a_check_that_fails_after_the_load_fails_the_run_and_nothing_tries_it_again(graph, name):
    """An alert sees failed runs only; an hourly repetition of what must fail hides the next failure."""
    failing = spoil(graph, name)
    outcome = graph.sync(Q1)
    assert outcome.kind == "CheckError"
    assert [f"{c.asset}: {c.name}" for c in outcome.checks if not c.passed and c.severity == "ERROR"] == failing
    assert all(f"check {text.split(': ')[1]} on {text.split(': ')[0]} failed: " in outcome.failure for text in failing)
    run = graph.instance.get_run_by_id(outcome.run_id)
    assert run.status == dg.DagsterRunStatus.FAILURE
    assert list(filter_runs_to_should_retry([run], graph.instance)) == []
    assert attempts(graph.instance, [Q1])[Q1].state == "failed for good"
    loaded = outcome.load["ona/cases"]["inserted"]
    assert loaded > 10
    assert graph.sql("SELECT count(*) FROM cases") == [(loaded - (name == "a case gone"),)]
    assert graph.sql("SELECT quarter, run_id FROM primero_sync.runs") == [("2024-Q1", outcome.run_id)]


@pytest.mark.proves("due")
def test_the_sensor_knows_what_became_of_the_last_run_of_a_quarter_whatever_it_is_called(graph):
    """It has to ask again for a quarter that a broken connection kept away, and not for one that must fail again."""
    assert attempts(graph.instance, [Q1]) == {}
    graph.primero.fail("status", status=502, times=None)
    assert graph.sync(Q1).kind == "TransientError"
    failed = attempts(graph.instance, [Q1])[Q1]
    assert (failed.state, failed.created <= failed.ended) == ("failed", True)
    graph.primero.faults.clear()
    graph.primero.role.refused.add("cases")
    assert not graph.execute(dg.AssetSelection.assets("raw_under18_cases").required_multi_asset_neighbors()).success
    assert attempts(graph.instance, [Q1])[Q1].state == "failed for good"
    graph.primero.role.refused.clear()
    outcome = graph.sync(Q1)
    assert attempts(graph.instance, [Q1])[Q1].state == "done"
    assert graph.execute(dg.AssetSelection.assets("mapped_cases")).success
    assert attempts(graph.instance, [Q1])[Q1].run_id == outcome.run_id, "a run that pulls nothing is no attempt"


@pytest.mark.parametrize("command", quick(("sync", "backfill", "remap"), "remap"))
@pytest.mark.proves("failed-check")
def test_every_command_that_loads_ends_with_one_where_a_check_fails(graph, tmp_path, monkeypatch, command):
    """A cron job reads nothing but the exit code."""
    run = terminal_of(graph, tmp_path, monkeypatch)
    if command == "remap":
        sync_plainly(graph)
        graph.sql("TRUNCATE cases, services")
    spoil(graph, "services emptied")
    options = ["--quarter", "2024-Q1"] if command == "sync" else ["--from", "2024-Q1", "--to", "2024-Q1"]
    result = run(command, *options)
    assert result.exit_code == 1
    assert "check quarter_loaded on ona/services failed" in result.output
    assert graph.sql("SELECT count(*) > 10 FROM cases") == [(True,)]
