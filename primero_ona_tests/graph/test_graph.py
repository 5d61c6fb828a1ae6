"""Real runs of the whole graph: Primero's sandbox in, ONA's tables out. What the checks catch is in test_checks.py.

The truth about a quarter is computed here from the sandbox's own records, by rules written down a second time.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from typer.testing import CliRunner

from primero_ona.cli.app import app
from primero_ona.definitions import build_defs
from primero_ona.graph.assets.indicators import figure_checks
from primero_ona.graph.assets.ona import ona_assets, ona_checks
from primero_ona.graph.checks import asset_checks
from primero_ona.graph.partitions import quarterly_partitions
from primero_ona.ona.bookkeeping import quarter_status
from primero_ona.quarters import PHNOM_PENH, current_quarter
from primero_ona.settings import GraphSettings
from primero_ona_tests.harness import Q1, Q2, Graph, in_quarter, small, wired
from primero_ona_tests.reliability.oracle import age_at, age_of, registered
from primero_ona_tests.reliability.syncing import sync_plainly

REINTEGRATION = "children_undergoing_reintegration_55427"


@pytest.fixture(scope="module")
def loaded(postgres: Any) -> Iterator[Graph]:
    """300 cases in all their odd shapes, both quarters synced once; tests must leave it as it is."""
    with wired(postgres, "graph_loaded", small(300)) as graph:
        assert [graph.sync(quarter).failure for quarter in (Q1, Q2)] == [None, None]
        yield graph


@pytest.fixture
def graph(postgres: Any) -> Iterator[Graph]:
    """40 plain cases, nothing synced yet; tests change them."""
    with wired(postgres, "graph_changed", small(40, odd=False)) as graph:
        yield graph


def sets_of(case: dict[str, Any]) -> set[str]:
    """The sets a case belongs to, by the rules of the specification."""
    if not case.get("record_state", case["enabled"]):
        return {"case_exits"}
    when_registered = age_at(case, registered(case))
    kinds, age = case.get("type_of_case"), age_of(case) if when_registered is None else when_registered
    reintegration = kinds == REINTEGRATION or (isinstance(kinds, list) and REINTEGRATION in kinds)
    found = {"raw_reintegration_cases"} if reintegration else set()
    found |= {"raw_under18_cases"} if age is not None and age < 18 else set()
    return found or {"case_exits"}


def keyed(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The cases of a set that have a display id; several may have the same."""
    return [case for case in cases if (case.get("case_id_display") or "").strip() and "case_exits" not in sets_of(case)]


def services_of(case: dict[str, Any]) -> set[str]:
    """The unique_ids of the services of a case that are not marked as deleted."""
    section = case.get("services_section")
    return {
        element["unique_id"].strip()
        for element in (section if isinstance(section, list) else ())
        if isinstance(element, dict)
        and element.get("_destroy") is not True
        and (element.get("unique_id") or "").strip()
    }


def test_the_three_sets_are_those_that_the_sandbox_s_own_records_give(loaded: Graph) -> None:
    """A child in the wrong set is counted for the wrong indicator."""
    for quarter in (Q1, Q2):
        cases = in_quarter(loaded.primero, quarter)
        for asset in ("raw_reintegration_cases", "raw_under18_cases", "case_exits"):
            truth = {case["id"] for case in cases if asset in sets_of(case)}
            assert set(loaded.read(asset, quarter)["id"]) == truth, (quarter, asset)
            assert truth, "a set that is empty proves nothing"


def test_ona_holds_each_case_and_each_service_of_the_quarter_once(loaded: Graph) -> None:
    """This is what the whole project is for."""
    truth = [case for quarter in (Q1, Q2) for case in keyed(in_quarter(loaded.primero, quarter))]
    held = dict(loaded.sql("SELECT primero_id::text, case_id FROM cases"))
    assert held.keys() == {case["id"] for case in truth}
    plain = {case["id"]: case["case_id_display"].strip() for case in truth}
    assert all(held[case] in (display, f"{display}~{case[:8]}") for case, display in plain.items())
    assert {key for key in held.values() if "~" not in key} == set(plain.values()), "every plain key is borne by a case"
    services = {(case["id"], key) for case in truth for key in services_of(case)}
    in_ona = loaded.sql("SELECT primero_case_id::text, split_part(unique_id, '~', 1) FROM services")
    assert set(in_ona) == services
    assert len(services) > 100


def test_a_second_sync_writes_nothing_and_leaves_the_change_date_alone(graph: Graph) -> None:
    """Dashboards refresh what has a new date; a nightly sync must not make everything look new."""
    sync_plainly(graph)
    before = graph.sql("SELECT case_id, last_updated_date FROM cases ORDER BY 1")
    again = graph.sync().load
    for table in ("ona/cases", "ona/services"):
        counts = again[table]
        assert (counts["inserted"], counts["updated"], counts["removed"]) == (0, 0, 0)
        assert counts["unchanged"] == counts["received"] > 0
    assert graph.sql("SELECT case_id, last_updated_date FROM cases ORDER BY 1") == before


@pytest.mark.proves("changes-only")
def test_the_open_quarter_is_pulled_by_its_changes_and_says_so(graph: Graph) -> None:
    """What the metadata and `status` say decides whether a person trusts the figures of today, or asks for a whole walk."""
    quarter, now = current_quarter(), datetime.now(UTC)
    ids = [case["id"] for case in in_quarter(graph.primero, Q1)][:6]
    graph.clock.now = now
    for case in ids:
        graph.primero.update(case, last_updated_at=now - timedelta(minutes=90), record_state=True, age=9)
    told = []
    for whole in (False, False, True):
        assert graph.sync(quarter, whole=whole).failure is None
        record = graph.instance.get_latest_materialization_event(dg.AssetKey("raw_under18_cases"))
        metadata = record.asset_materialization.metadata
        with graph.connect() as conn:
            (status,) = quarter_status(conn)
        told.append(({name: entry.value for name, entry in metadata.items()}, status.walk))
        graph.clock.move(minutes=5)
        graph.primero.update(ids[0], sex="other")
        graph.clock.move(minutes=1)
    (first, known), (second, changes), (third, again) = told
    assert first["walked"] == "the whole quarter, since it was not pulled before"
    assert (known["since"], known["came"], known["carried"]) == (None, 6, 0)
    assert second["walked"].startswith("changes since 20")
    assert [each["cases in the window"] for each, _ in told] == [6, 6, 6]
    assert (second["cases that came"], second["carried over"]) == (changes["came"], changes["carried"])
    assert second["last whole walk"][:10] == str(now.astimezone(PHNOM_PENH).date())
    assert changes["came"] + changes["carried"] == 6
    assert changes["whole_at"] == known["whole_at"] < again["whole_at"]
    assert third["walked"] == "the whole quarter, since it was asked for"
    assert (again["since"], again["came"]) == (None, 6)


def in_ona(graph: Graph) -> list[dict[str, Any]]:
    sync_plainly(graph)
    held = {row[0] for row in graph.sql("SELECT primero_id::text FROM cases")}
    return [case for case in in_quarter(graph.primero, Q1) if case["id"] in held]


def test_an_edit_a_removed_service_and_a_disabled_case_arrive_at_the_next_sync(graph: Graph) -> None:
    """What case workers correct must not stay wrong in the dashboards."""
    # The edits are stamped inside the quarter, as late edits of a quarter are that still runs.
    graph.clock.now = Q1.end.astimezone(graph.clock.now.tzinfo).replace(hour=3)
    graph.clock.move(days=-1)
    edited, thinned, gone = [case for case in in_ona(graph) if len(case["services_section"]) > 1][:3]
    graph.primero.update(edited["id"], sex="female" if edited.get("sex") != "female" else "male")
    graph.primero.update(thinned["id"], services_section=thinned["services_section"][1:])
    graph.primero.disable(gone["id"])
    load = graph.sync().load
    # The edited case and the thinned one have a new stamp of Primero; of the services only one left, beside the gone case's.
    assert load["ona/cases"] | {"received": 0, "unchanged": 0} == dict.fromkeys(load["ona/cases"], 0) | {
        "updated": 2, "removed": 1,
    }  # fmt: skip
    assert load["ona/services"]["removed"] == 1 + len(gone["services_section"])
    assert graph.sql("SELECT sex FROM cases WHERE primero_id::text = %s", edited["id"])[0][0] in {"Female", "Male"}
    assert graph.sql("SELECT count(*) FROM cases WHERE primero_id::text = %s", gone["id"]) == [(0,)]
    removed = thinned["services_section"][0]["unique_id"]
    assert graph.sql("SELECT count(*) FROM services WHERE unique_id = %s", removed) == [(0,)]


def test_a_case_edited_in_a_later_quarter_is_updated_there_and_not_set_back_by_the_earlier_one(graph: Graph) -> None:
    """Re-running an old quarter, by hand or by a backfill, must not undo what is newer."""
    case = in_ona(graph)[0]
    graph.primero.update(case["id"], age=3)
    assert graph.sync(Q2).load["ona/cases"]["updated"] == 1
    stored_before = dg.AssetSelection.assets("ona/cases", "ona/services")
    result = graph.execute(stored_before, Q1)
    assert result.success
    assert result.asset_materializations_for_node("load_quarter")[0].metadata["stale"].value == 1
    assert graph.sql("SELECT age::text FROM cases WHERE primero_id::text = %s", case["id"]) == [("3",)]


def materializations(graph: Graph, run_id: str) -> dict[str, dict[str, Any]]:
    events = graph.instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION).records
    every = [entry.event_log_entry.asset_materialization for entry in events]
    found = [entry for entry in every if entry.partition]  # the first sync fetches the reference data too
    assert {entry.partition for entry in found} == {Q1.key}
    return {entry.asset_key.to_user_string(): dict(entry.metadata) for entry in found}


def test_every_materialization_says_rows_quarter_window_and_what_became_of_cases(graph: Graph) -> None:
    """People judge a quarter by what its page shows."""
    outcome = graph.sync()
    shown = materializations(graph, outcome.run_id)
    outcomes = {
        "raw_reintegration_cases": ("cases in the window", "not included", "excluded as erased"),
        "raw_under18_cases": ("cases in the window", "not included", "excluded as erased"),
        "case_exits": ("cases in the window", "not included", "excluded as erased"),
        "mapped_cases": ("quarantined", "labels version"),
        "mapped_services": ("quarantined", "labels version"),
        "ona/cases": ("rows by outcome", "inserted", "updated", "unchanged", "stale", "removed", "own_keys"),
        "ona/services": ("rows by outcome", "inserted", "updated", "unchanged", "stale", "removed", "own_keys"),
    }
    assert set(shown) == set(outcomes)
    for asset, metadata in shown.items():
        assert metadata["dagster/partition_row_count"].value == outcome.rows[asset]
        assert metadata["quarter"].value == "2024-Q1 (Jan–Mar)"
        assert metadata["window"].value == "2024-01-01 00:00 to 2024-04-01 00:00, Phnom Penh (end excluded)"
        assert set(outcomes[asset]) <= set(metadata), asset
        assert ("dagster/column_lineage" in metadata) == asset.startswith(("mapped_", "ona/")), asset
    rows = {asset: metadata["dagster/row_count"].value for asset, metadata in shown.items() if asset.startswith("ona/")}
    assert rows == {f"ona/{table}": graph.sql(f"SELECT count(*) FROM {table}")[0][0] for table in ("cases", "services")}


def figures_of(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    """The metadata of the figures that a run made."""
    return dict(result.asset_materializations_for_node("ona__indicator_figures")[0].metadata)


@pytest.mark.proves("figures-fresh")
def test_a_sync_computes_the_figures_where_it_wrote_something_and_a_night_computes_them_anyway(graph: Graph) -> None:
    """Figures that wait for the next edit are wrong as soon as a month begins; figures computed for nothing cost each sync."""
    figures = dg.AssetSelection.assets(dg.AssetKey(["ona", "indicator_figures"]))
    graph.sync()
    state = graph.sql("SELECT computed_at FROM primero_sync.indicators")
    assert graph.sql("SELECT count(*) > 100 FROM indicator_figures WHERE children > 0") == [(True,)]
    assert "stand" in str(figures_of(graph.execute(figures, Q1))["note"])
    assert graph.sql("SELECT computed_at FROM primero_sync.indicators") == state
    night = graph.defs.resolve_job_def("compute_figures").execute_in_process(instance=graph.instance)
    metadata = figures_of(night)
    assert graph.sql("SELECT computed_at FROM primero_sync.indicators") > state
    ended = current_quarter().previous()
    children = graph.sql(
        "SELECT children FROM indicator_4_11a WHERE period = 'quarter' AND period_start = %s AND dimension = 'all'",
        ended.key,
    )
    assert [(metadata["children in 4.11a"].value,)] == children
    assert (metadata["quarter"].value, metadata["definition"].value) == (
        ended.label,
        "4.8 by `event`, 4.11a by `served`; definition not confirmed by the ministry",
    )
    assert len(metadata["last quarters"].records) == 8


def test_all_checks_are_recorded_with_the_quarter_they_are_about(graph: Graph) -> None:
    """Without the key the check's page shows one green dot for all quarters, whatever the other ones said."""
    run_id = graph.sync().run_id
    records = graph.instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION).records
    recorded = {
        (found.asset_key.to_user_string(), found.check_name): found.partition
        for record in records
        if (found := record.event_log_entry.dagster_event.asset_check_evaluation_data)
    }
    quarters = quarterly_partitions("2023-10-01")
    made = [*asset_checks(quarters), ona_checks(quarters), ona_assets(quarters)]
    expected = {(key.asset_key.to_user_string(), key.name) for each in made for key in each.check_keys}
    of_figures = {(key.asset_key.to_user_string(), key.name) for key in figure_checks(GraphSettings()).check_keys}
    assert recorded == dict.fromkeys(expected, Q1.key) | dict.fromkeys(of_figures, None)


def test_a_blocking_check_that_fails_stops_the_load(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that break the contract must not reach the dashboards."""
    monkeypatch.setattr("primero_ona.pipeline.contract.KeyCheck.repeated", 2)
    outcome = graph.sync()
    assert outcome.kind == "CheckError"
    assert "identity_unique_and_present on mapped_cases failed: 2 × row occurs again" in (outcome.failure or "")
    assert outcome.load.keys().isdisjoint({"ona/cases", "ona/services"})
    assert graph.sql("SELECT count(*) FROM cases") == [(0,)]


@pytest.mark.proves("other-version")
def test_a_partition_made_by_other_rules_is_refused_by_the_load(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows mapped by an older version must not be loaded as if the present rules had made them."""
    graph.sync()
    monkeypatch.setattr("primero_ona.pipeline.stored.MAPPING_VERSION", "another version")
    result = graph.execute(dg.AssetSelection.assets("ona/cases", "ona/services"))
    failed = next(event for event in result.all_events if event.is_step_failure)
    assert "does not fit: version is" in (failed.step_failure_data.user_failure_data.description or "")


def test_the_graph_can_be_built_with_no_variable_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """The UI must start, and say what is missing where it is missed, instead of showing an empty page."""
    for name in ("PRIMERO_URL", "PRIMERO_USERNAME", "PRIMERO_PASSWORD", "ONA_DATABASE_URL", "PRIMERO_ONA_STORAGE_KEYS"):
        monkeypatch.delenv(name, raising=False)
    dg.Definitions.validate_loadable(build_defs(settings=GraphSettings()))


def test_the_sandbox_s_time_is_not_the_machine_s(loaded: Graph) -> None:
    """The tests would otherwise mean something else next year."""
    newest = max(datetime.fromisoformat(case["last_updated_at"]) for case in loaded.primero.cases.records())
    assert newest < Q2.end


def test_a_quarter_s_report_is_written_and_its_two_figures_are_shown(
    graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The UI links the page, and plots the national figures by quarter; it shows no other count."""
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    graph.sync()
    result = graph.execute(dg.AssetSelection.assets(dg.AssetKey("indicator_report")), Q1)
    metadata = result.asset_materializations_for_node("indicator_report")[0].metadata
    page = Path(str(metadata["report"].value))
    assert page == tmp_path / "reports" / "primero-ona-2024-Q1-internal.html"
    assert page.stat().st_mode & 0o777 == 0o600
    totals = graph.sql(
        "SELECT '4.8', children FROM indicator_4_8 WHERE period = 'quarter' AND period_start = %s AND dimension = 'all' "
        "UNION ALL SELECT '4.11a', children FROM indicator_4_11a WHERE period = 'quarter' AND period_start = %s AND dimension = 'all'",
        Q1.key,
        Q1.key,
    )
    assert {name: metadata[f"children in {name}"].value for name, _ in totals} == dict(totals)
    assert {each for each in metadata if isinstance(metadata[each].value, int)} == {
        "children in 4.8",
        "children in 4.11a",
    }


def test_a_report_is_not_written_where_its_files_would_go_with_the_run(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A materialization with a path would be all that is left of it."""
    monkeypatch.setenv("ONA_DATABASE_URL", graph.url)
    monkeypatch.setenv("DAGSTER_CURRENT_IMAGE", "registry/image:1")
    result = graph.execute(dg.AssetSelection.assets(dg.AssetKey("indicator_report")), Q1)
    failed = next(event for event in result.all_events if event.is_step_failure)
    assert "let PRIMERO_ONA_REPORTS name" in (failed.step_failure_data.user_failure_data.description or "")
    assert not result.asset_materializations_for_node("indicator_report")
    shown = CliRunner().invoke(app, ["report", "--quarter", "2024-Q1"])
    assert shown.exit_code != 0
    assert "let PRIMERO_ONA_REPORTS name" in str(shown.exception)
