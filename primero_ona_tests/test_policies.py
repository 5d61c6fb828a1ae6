"""The graph under policies other than the default: what they keep out is nowhere, and counted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import dagster as dg
import pytest

from primero_ona.definitions import build_defs
from primero_ona.errors import DataError
from primero_ona.mapping.values import parse_consent
from primero_ona.ona.connection import connect
from primero_ona.pipeline.reconcile import reconcile
from primero_ona.pipeline.stored import Scope
from primero_ona.primero.client import PrimeroClient
from primero_ona.settings import GraphSettings
from primero_ona_tests.harness import Q1, START, Graph, in_quarter, small, wired
from primero_ona_tests.reliability.syncing import Place, place_of, pull, sync_plainly, sync_rooms

CP, GBV = "primeromodule-cp", "primeromodule-gbv"


@pytest.fixture
def graph(postgres: Any) -> Iterator[Graph]:
    """80 plain cases, nothing synced yet."""
    with wired(postgres, "policies", small(80, odd=False)) as graph:
        yield graph


def under(graph: Graph, **settings: str) -> str:
    """Wire the graph under other settings; the suffix of their policy."""
    wanted = GraphSettings(PRIMERO_ONA_START=START, **settings)
    rules = wanted.policy.suffix
    graph.rules = rules
    graph.defs = build_defs(settings=wanted, resources=graph.resources)
    return rules


def place_under(graph: Graph, **settings: str) -> Place:
    """Where the steps of the graph work under other settings."""
    return replace(place_of(graph), policy=GraphSettings(PRIMERO_ONA_START=START, **settings).policy)


def metadata(graph: Graph, asset: str, run_id: str) -> dict[str, Any]:
    """What the materialization of an asset in a run says, as plain values."""
    for event in graph.instance.all_logs(run_id):
        step = event.dagster_event
        if step and step.is_step_materialization and step.asset_key.to_user_string() == asset:
            return {
                name: value.value for name, value in step.step_materialization_data.materialization.metadata.items()
            }
    raise AssertionError(asset)


def reasons(graph: Graph, rules: str) -> dict[str, int]:
    """Why cases went where they went: sealed beside the rows, and in no metadata."""
    asset = "raw_under18_cases"
    return graph.opened(asset).summary["reasons"]


def ids_in_ona(graph: Graph) -> set[str]:
    return {row[0] for row in graph.sql("SELECT primero_id::text FROM cases")}


def frames(graph: Graph, asset: str, rules: str) -> list[Any]:
    return list(graph.opened(asset))


@pytest.mark.proves("location")
def test_no_location_beyond_the_precision_is_stored_or_loaded(graph):
    """The setting is worth nothing if the village still lies in the raw partitions."""
    rules = under(graph, PRIMERO_ONA_LOCATION_PRECISION="commune")
    outcome = graph.sync()
    assert outcome.failure is None
    stored = [
        json.loads(text)
        for asset in ("raw_reintegration_cases", "raw_under18_cases")
        for frame in frames(graph, asset, rules)
        for field in ("location_current", "location_caregiver")
        for text in frame[field].dropna()
    ]
    assert stored
    assert max(len(code) for code in stored) == 6
    loaded = [row[0] for row in graph.sql("SELECT location_code FROM cases WHERE location_code IS NOT NULL")]
    assert loaded
    assert max(map(len, loaded)) == 6
    assert graph.sql("SELECT count(*) FROM cases WHERE district_current IS NOT NULL")[0][0] > 0
    assert "commune" in metadata(graph, "raw_under18_cases", outcome.run_id)["policy"]


def consent_of(case: dict[str, Any]) -> str:
    return parse_consent(case.get("consent_reporting")).value[1]


@pytest.mark.parametrize(
    ("policy", "kept"),
    [
        ("exclude_refused", {"given", "not recorded"}),
        pytest.param("given_only", {"given"}, marks=pytest.mark.ci),
    ],
)
@pytest.mark.proves("consent")
def test_cases_without_the_consent_that_the_policy_asks_for_leave_ona(graph, policy, kept):
    """A refusal that only new cases feel is none."""
    sync_plainly(graph)
    before = ids_in_ona(graph)
    consents = {case["id"]: consent_of(case) for case in in_quarter(graph.primero, Q1)}
    assert {consents[case] for case in before} == {"given", "refused", "not recorded"}
    rules = under(graph, PRIMERO_ONA_CONSENT_POLICY=policy)
    outcome = graph.sync()
    assert outcome.failure is None
    assert ids_in_ona(graph) == {case for case in before if consents[case] in kept}
    gone = {case for case in before if consents[case] not in kept}
    assert graph.sql("SELECT count(*) FROM services WHERE primero_case_id::text = ANY (%s)", list(gone)) == [(0,)]
    raw = {
        case
        for asset in ("raw_reintegration_cases", "raw_under18_cases")
        for f in frames(graph, asset, rules)
        for case in f["id"]
    }
    assert not raw & gone
    window = {case["id"] for case in in_quarter(graph.primero, Q1)}
    said = metadata(graph, "case_exits", outcome.run_id)
    assert (said["cases in the window"], said["not included"]) == (len(window), len(window - raw))
    assert reasons(graph, rules)["excluded by the consent policy"] == len(gone)


@pytest.mark.proves("policies")
def test_a_policy_that_is_loosened_brings_its_cases_back(graph):
    """Nothing changed in Primero, so they come with the very stamps with which they left; they must not look outdated."""
    sync_plainly(graph)
    before, services = ids_in_ona(graph), graph.sql("SELECT count(*) FROM services")
    assert sync_rooms(place_under(graph, PRIMERO_ONA_CONSENT_POLICY="given_only", PRIMERO_ONA_MODULES=CP), Q1) == 0
    assert ids_in_ona(graph) < before
    sync_plainly(graph)
    assert (ids_in_ona(graph), graph.sql("SELECT count(*) FROM services")) == (before, services)


@pytest.mark.ci
def test_a_repair_after_a_policy_was_loosened_brings_its_cases_back(graph):
    """The same, for whoever does not want to pull every quarter anew."""
    sync_plainly(graph)
    before = ids_in_ona(graph)
    under(graph, PRIMERO_ONA_CONSENT_POLICY="given_only", PRIMERO_ONA_MODULES=CP)
    assert graph.sync().failure is None
    under(graph)
    scope, primero = Scope(Q1), graph.primero
    with PrimeroClient(primero.url, primero.username, primero.password, pause=0) as client, connect(graph.url) as conn:
        for quarter in reconcile(client, conn, scope).to_sync:
            assert graph.sync(quarter).failure is None
        found = reconcile(client, conn, scope)
    assert before <= ids_in_ona(graph)
    assert not found.total.differences


@pytest.mark.proves("gbv")
def test_cases_of_other_modules_leave_ona_and_those_that_move_there_too(graph):
    """A survivor's case that was moved to the GBV module must not stay on the dashboards because nobody asks for it."""
    cases = in_quarter(graph.primero, Q1)
    sync_plainly(graph)
    before = ids_in_ona(graph)
    gbv = {case["id"] for case in cases if case["module_id"] == GBV}
    moved = next(case for case in before - gbv)
    stamp = next(case["last_updated_at"] for case in cases if case["id"] == moved)
    graph.primero.update(moved, module_id=GBV, last_updated_at=_moment(stamp))
    rules = under(graph, PRIMERO_ONA_MODULES=CP)
    outcome = graph.sync()
    assert outcome.failure is None
    assert ids_in_ona(graph) == before - gbv - {moved}
    said = metadata(graph, "case_exits", outcome.run_id)
    assert said["cases in the window"] == len(in_quarter(graph.primero, Q1))
    assert said["not included"] == outcome.rows["case_exits"] > len(gbv | {moved})
    assert reasons(graph, rules)["removed: of a module that is not included"] == len(gbv | {moved})
    assert CP in said["policy"]


def _moment(text: str) -> Any:
    from datetime import datetime

    return datetime.fromisoformat(text)


def gbv_check(graph: Graph, **settings: str) -> tuple[bool, str]:
    """Pull under these settings, and what the check on the module for gender-based violence says."""
    under(graph, **settings)
    pull(place_under(graph, **settings), Q1)
    result = graph.execute(dg.AssetSelection.checks_for_assets("raw_under18_cases"))
    found = next(check for check in result.get_asset_check_evaluations() if check.check_name == "gbv_agreed")
    assert found.passed or found.severity is dg.AssetCheckSeverity.WARN
    return found.passed, found.description or ""


@pytest.mark.proves("gbv")
def test_cases_of_the_module_for_gender_based_violence_warn_until_a_setting_agrees_or_excludes_them(graph):
    """They were loaded by default without a word."""
    for case in in_quarter(graph.primero, Q1):
        graph.primero.update(case["id"], module_id=CP, last_updated_at=_moment(case["last_updated_at"]))
    assert gbv_check(graph) == (True, "none is included")
    for number in range(1, 13):
        graph.primero.create(age=9, module_id=GBV, last_updated_at=Q1.start + timedelta(days=number))
        if number == 9:
            assert "fewer than 10 in this quarter" in gbv_check(graph)[1]
    passed, text = gbv_check(graph)
    assert not passed
    assert "PRIMERO_ONA_GBV_AGREED=yes" in text
    assert "about 10 in this quarter" in text
    assert reasons(graph, "")["included: of the module for gender-based violence"] == 12
    assert gbv_check(graph, PRIMERO_ONA_GBV_AGREED="yes") == (True, "agreed by PRIMERO_ONA_GBV_AGREED")
    assert gbv_check(graph, PRIMERO_ONA_MODULES=CP) == (True, "none is included")


@pytest.mark.proves("dropped-filter")
def test_a_server_that_ignores_the_filter_on_modules_is_noticed(graph):
    """Primero drops a filter that it does not like, without a word."""
    graph.primero.update(in_quarter(graph.primero, Q1)[0]["id"], module_id=GBV, last_updated_at=Q1.start)
    graph.primero.switches.dropped = {"module_id"}
    under(graph, PRIMERO_ONA_MODULES=CP)
    outcome = graph.sync()
    assert "module_id" in (outcome.failure or "")
    assert ids_in_ona(graph) == set()


@pytest.mark.proves("policies")
def test_a_partition_made_under_another_policy_is_refused_by_its_readers(graph):
    """Villages stored last year would else be mapped and loaded under a setting that forbids them."""
    sync_plainly(graph)
    rules = under(graph, PRIMERO_ONA_LOCATION_PRECISION="district")
    for asset in ("raw_under18_cases", "mapped_cases"):
        with pytest.raises(DataError, match="location=district"):
            frames(graph, asset, rules)


@pytest.mark.proves("way-from-primero")
def test_the_metadata_of_a_run_tells_how_its_connections_were_protected(graph):
    """An override must be visible in what was loaded under it."""
    outcome = graph.sync()
    assert metadata(graph, "ona/cases", outcome.run_id)["connection to ONA"] == "on this machine"
    assert metadata(graph, "raw_under18_cases", outcome.run_id)["connection to Primero"] == "on this machine"
