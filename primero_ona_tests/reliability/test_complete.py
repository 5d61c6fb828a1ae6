"""When ONA is called complete: by `verify`, and by the check of the dashboards; and what each says and does elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from typer.testing import Result

from primero_ona.graph.reconciliation import COMPLETE
from primero_ona.pipeline.stored import StoredAssets, current_versions
from primero_ona_tests import quick
from primero_ona_tests.harness import Q1, Q2, Graph, small, wired
from primero_ona_tests.reliability.syncing import place_of, sync_rooms, terminal_of

Do = Callable[[Graph], object]


@pytest.fixture
def graph(postgres: Any) -> Iterator[Graph]:
    """40 plain cases in two quarters: nothing of them is in quarantine."""
    with wired(postgres, "complete", small(40, odd=False)) as made:
        yield made


@pytest.fixture
def synced(graph: Graph) -> Graph:
    """Both quarters are in ONA, and time has passed since the last change."""
    assert [sync_rooms(place_of(graph), quarter) for quarter in (Q1, Q2)] == [0, 0]
    graph.clock.move(minutes=1)
    return graph


@pytest.fixture
def command(graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs `primero-ona` with these arguments on the sandbox."""
    place_of(graph).seed()
    return terminal_of(graph, tmp_path, monkeypatch)


def one(graph: Graph) -> str:
    """The Primero id of a case in ONA that has services."""
    return str(graph.sql("SELECT min(primero_case_id::text) FROM services")[0][0])


def edit(graph: Graph, **values: Any) -> None:
    """Change that case in Primero, and sync the quarter in which it then lies."""
    graph.primero.update(one(graph), **values)
    assert sync_rooms(place_of(graph), Q2) == 0
    graph.clock.move(minutes=5)


#: What was done; the options of `verify`; its exit code; what its sentence says.
STATES: dict[str, tuple[Do, tuple[str, ...], int, str]] = {
    "nothing": (lambda g: None, (), 0, "Complete on "),
    "missing": (lambda g: g.sql("DELETE FROM cases WHERE primero_id::text = %s", one(g)), (), 1, "1 missing"),
    "case in quarantine": (
        lambda g: edit(g, case_id_display=None), (), 1, "nothing differs, but 1 cases and 2 services are in quarantine"
    ),
    "service in quarantine": (
        lambda g: edit(g, services_section=[{"service_type": "other"}]), (), 1,
        "nothing differs, but 0 cases and 1 services are in quarantine",
    ),
    "changed just now": (
        lambda g: (g.primero.update(one(g), sex="other"), g.clock.move(minutes=5)), ("--grace", "60"), 0,
        "nothing differs, but 1 cases have just changed and come with the next sync",
    ),
    "older mapping": (
        lambda g: g.sql("UPDATE primero_sync.runs SET mapping_version = 'older' WHERE quarter = '2024-Q1'"), (), 1,
        "nothing differs, but another version of primero-ona loaded 2024-Q1 (",
    ),
    "unknown pull": (
        lambda g: g.sql("UPDATE primero_sync.runs SET pull_version = NULL"), (), 1, "loaded 2024-Q1, 2024-Q2 (",
    ),
    "older load before a newer one": (
        lambda g: g.sql("INSERT INTO primero_sync.runs SELECT 'old', quarter, started_at, finished_at - interval '1 hour',"
                        " 'older', counts, NULL FROM primero_sync.runs"), (), 0, "Complete on ",
    ),
    "older quarter before the first": (
        lambda g: g.sql("INSERT INTO primero_sync.runs SELECT 'old', '2019-Q1', started_at, finished_at, 'older', counts, NULL"
                        " FROM primero_sync.runs WHERE quarter = '2024-Q1'"), (), 0, "Complete on ",
    ),
}  # fmt: skip


@pytest.mark.parametrize("state", quick(STATES, "nothing", "case in quarantine", "unknown pull"))
@pytest.mark.proves("complete")
def test_verify_says_complete_only_where_it_is(synced, command, state):
    """Ministries decide on figures that were called complete."""
    do, options, code, text = STATES[state]
    do(synced)
    result = command("verify", "--json", *options)
    found = json.loads(result.stdout)
    assert (result.exit_code, text in found["sentence"]) == (code, True), found["sentence"]
    assert found["complete"] == found["sentence"].startswith("Complete on ") == (text == "Complete on ")
    shown = command("verify", *options)
    assert (shown.exit_code, "Complete on " in shown.stdout) == (code, found["complete"])


@pytest.mark.proves("complete")
def test_cases_that_were_not_asked_about_are_no_proof(synced, command, monkeypatch):
    """They may be children who left, or an account that lost its scope: it is not known."""
    synced.primero.delete(one(synced))
    monkeypatch.setattr("primero_ona.pipeline.reconcile.CONFIRM_MOST", 0)
    result = command("verify", "--json")
    found = json.loads(result.stdout)
    assert (result.exit_code, found["complete"], found["total"]["unconfirmed"]) == (1, False, 1)
    assert "1 of the extra ones were never asked about (too many, " in found["sentence"]
    counts = {"cases", "unstamped", "takes", "requests", "bytes", "seconds"}
    assert found["inventory"].keys() == {"settled", "latest", "fields", "ahead", *counts}, "what scripts read"


@pytest.mark.proves("verify")
def test_a_repair_syncs_the_quarters_that_differ_and_removes_what_is_gone(synced, command):
    """A cron job reads the exit code, a person the table, and an auditor the runs."""
    case, gone = (row[0] for row in synced.sql("SELECT primero_id::text FROM cases ORDER BY 1 LIMIT 2"))
    synced.sql("DELETE FROM cases WHERE primero_id::text = %s", case)
    synced.primero.delete(gone)
    repaired = command("verify", "--repair", "--json")
    found = json.loads(repaired.stdout)
    assert (repaired.exit_code, found["complete"], found["removed"]["cases"]) == (0, True, 1)
    assert len(found["synced"]) == 1


@pytest.mark.proves("other-version")
@pytest.mark.ci
def test_a_repair_syncs_the_quarters_that_another_version_loaded(graph, command, monkeypatch):
    """After an update the old quarters stay as the old rules made them, until they are synced."""
    assert command("backfill", "--from", "2024-Q1", "--to", "2024-Q2").exit_code == 0
    graph.clock.move(minutes=1)
    assert graph.sql("SELECT DISTINCT pull_version, mapping_version FROM primero_sync.runs") == [current_versions("")]
    assert [row["outdated"] for row in json.loads(command("status", "--json").stdout)] == [False, False]
    graph.sql("UPDATE primero_sync.runs SET pull_version = 'older' WHERE quarter = '2024-Q1'")
    assert [row["outdated"] for row in json.loads(command("status", "--json").stdout)] == [True, False]
    repaired = command("verify", "--repair", "--json")
    found = json.loads(repaired.stdout)
    assert (repaired.exit_code, found["complete"], found["removed"]["cases"]) == (0, True, 0)
    assert [outcome["quarter"] for outcome in found["synced"]] == ["2024-Q1"]
    assert graph.sql("SELECT quarter, count(*) FROM primero_sync.runs GROUP BY 1 ORDER BY 1") == [
        ("2024-Q1", 2), ("2024-Q2", 1),
    ]  # fmt: skip


@pytest.mark.ci
def test_a_quarter_that_was_never_loaded_is_told_by_what_it_lacks(graph, command):
    """An empty quarter is none to ask for; the cases of another one are missing, and a repair brings them."""
    assert sync_rooms(place_of(graph), Q1) == 0
    graph.clock.move(minutes=1)
    found = json.loads(command("verify", "--json").stdout)
    assert (found["outdated"], found["total"]["missing"] > 5) == ([], True)
    assert json.loads(command("verify", "--repair", "--json").stdout)["complete"]


def test_rows_mapped_from_an_older_pull_are_refused_by_the_load(monkeypatch):
    """The load records one version of the pull, that of the exits; the mapped rows must be of the same."""
    before = assets_of("")
    monkeypatch.setattr("primero_ona.pipeline.stored.PULL_VERSION", "another version")
    assert assets_of("") != before


def assets_of(rules: str) -> str:
    return StoredAssets(lambda: None, rules).assets["mapped_cases"].version  # type: ignore[arg-type,return-value]


def checked(graph: Graph) -> tuple[dg.AssetCheckEvaluation, dg.DagsterRun]:
    """Run the job of the check; its answer and its run."""
    result = graph.defs.resolve_job_def("reconcile_ona").execute_in_process(
        instance=graph.instance, raise_on_error=False
    )
    (found,) = result.get_asset_check_evaluations()
    run = graph.instance.get_run_by_id(result.run_id)
    assert run is not None
    assert found.asset_check_key == COMPLETE
    return found, run


@pytest.mark.parametrize(
    ("state", "passed", "severity", "status"),
    [
        pytest.param(
            "nothing", True, None, dg.DagsterRunStatus.SUCCESS, marks=pytest.mark.ci
        ),  # the button's test sees it
        ("missing", False, dg.AssetCheckSeverity.ERROR, dg.DagsterRunStatus.FAILURE),
        pytest.param(
            "older mapping", False, dg.AssetCheckSeverity.ERROR, dg.DagsterRunStatus.FAILURE, marks=pytest.mark.ci
        ),
        ("case in quarantine", False, dg.AssetCheckSeverity.WARN, dg.DagsterRunStatus.SUCCESS),
    ],
)
@pytest.mark.proves("complete")
def test_the_check_of_the_dashboards_says_the_same_and_fails_its_run_where_ona_is_wrong(
    synced, state, passed, severity, status
):
    """The UI is where people look, and an alert sees failed runs only; the audit is not repeated at once."""
    do, _, _, text = STATES[state]
    do(synced)
    found, run = checked(synced)
    assert (found.passed, text in (found.description or "")) == (passed, True)
    assert run.status == status
    if not passed:
        assert found.severity == severity
    if status == dg.DagsterRunStatus.FAILURE:
        assert run.tags["dagster/retry_on_asset_or_op_failure"] == "false"


@pytest.mark.proves("no-chance-audit")
def test_the_button_of_the_check_runs_it_and_a_materialization_of_the_tables_does_not(synced):
    """An audit reads all of Primero: a backfill of four quarters took four of them, each red in the middle of the backfill."""
    everything = synced.defs.resolve_implicit_global_asset_job_def()
    tables = everything.get_subset(asset_selection={dg.AssetKey(["ona", "cases"]), dg.AssetKey(["ona", "services"])})
    loaded = tables.execute_in_process(instance=synced.instance, partition_key=Q1.key, raise_on_error=False)
    assert loaded.success
    assert {"load_quarter", "check_ona"} == {node.name for node in tables.nodes}
    for name in ("sync_quarter", "remap_quarter"):
        assert "ona_dashboards_complete" not in {node.name for node in synced.defs.resolve_job_def(name).nodes}
    monthly = synced.defs.resolve_schedule_def("verify_monthly").job_name
    assert [node.name for node in synced.defs.resolve_job_def(monthly).nodes] == ["ona_dashboards_complete"]
    button = everything.get_subset(asset_selection=set(), asset_check_selection={COMPLETE})
    (found,) = button.execute_in_process(instance=synced.instance).get_asset_check_evaluations()
    assert (found.asset_check_key, found.passed) == (COMPLETE, True)
