"""Canaries in Dagster's runs: what goes well, whatever fails on either side, exceptions that quote, and Dagster in PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import dagster as dg
import pytest

from primero_ona.graph.resources import OnaDatabaseResource, PrimeroResource
from primero_ona.ona.connection import connect
from primero_ona.primero.client import PrimeroClient
from primero_ona.sandbox.faults import KINDS
from primero_ona_tests import quick
from primero_ona_tests.canary.markers import CANARY, DAY, KHMER, LONG, TEXT, VILLAGE, WHISPER
from primero_ona_tests.canary.places import Watched, dumped
from primero_ona_tests.harness import Q1, Graph
from primero_ona_tests.reliability.ona_faults import FAULTS

#: Parts of the main job, so that a fault costs the one step that it is about.
PULLED = ("raw_under18_cases", "raw_reintegration_cases", "case_exits")
MAPPED = ("mapped_cases",)
LOADED = ("ona/cases", "ona/services")


def part(watched: Watched, instance: dg.DagsterInstance, *assets: str, **resources: Any) -> Callable[[], str]:
    """A part of the graph; the function runs it for 2024-Q1, keeps all that is told of it, and gives its failure."""
    defs = watched.graph.wire(**resources)
    job = dg.define_asset_job("a_part", dg.AssetSelection.assets(*assets))
    resolved = dg.Definitions(assets=defs.assets, jobs=[job], resources=defs.resources).resolve_job_def("a_part")

    def run() -> str:
        result = resolved.execute_in_process(instance=instance, raise_on_error=False, partition_key=Q1.key)
        watched.said += map(str, instance.all_logs(result.run_id))
        failed = [event for event in result.all_events if event.event_type == dg.DagsterEventType.STEP_FAILURE]
        return str([event.step_failure_data.user_failure_data for event in failed])

    return run


def sync(watched: Watched) -> str | None:
    """Sync 2024-Q1 and keep all that is told of it; the failure, if there was one."""
    outcome = watched.graph.sync()
    watched.said += [str(outcome.as_json()), watched.graph.events(outcome.run_id)]
    return outcome.failure


@pytest.mark.proves("only-asked-fields", "date-of-birth")
def test_a_sync_leaves_what_may_be_stored_in_ona_and_in_encrypted_partitions_only(listening):
    """The plainest way is the one that runs each night."""
    assert sync(listening) is None
    graph, stored, ona = listening.graph, listening.decrypted().decode(), dumped(listening.graph.url).decode()
    assert graph.sql("SELECT count(*) FROM cases")[0][0] > 10
    assert graph.sql("SELECT count(*) FROM primero_sync.quarantine WHERE table_name = 'cases'")[0][0] >= 1
    assert graph.sql("SELECT DISTINCT age_at_registration, age_at_placement FROM cases") == [(4, 4)], (
        "birthdays were read"
    )
    for marker in (TEXT, LONG, DAY, VILLAGE, f"{WHISPER}-5", f"{WHISPER}-service-5"):
        assert marker in ona, marker
        assert marker in stored, marker
    for marker in (
        KHMER,
        f"{WHISPER} 5",
        f"{TEXT} 5",
    ):  # a consent, OSCaR's number and a concern are kept as Primero sent them
        assert marker in stored, marker


@pytest.mark.ci
@pytest.mark.proves("logs")
def test_no_fault_of_primero_leaves_a_marker(listening, production, monkeypatch):
    """Libraries quote the answer that they stumble over."""
    primero = listening.graph.primero

    def hasty(_: PrimeroResource) -> PrimeroClient:
        return PrimeroClient(primero.url, primero.username, primero.password, pause=0.0)

    for limit, value in {"TIMEOUT": (0.5, 0.2), "ANSWER_SECONDS": 0.2, "PATIENCE": 0.5}.items():
        monkeypatch.setattr(f"primero_ona.primero.client.{limit}", value)
    monkeypatch.setattr(PrimeroResource, "client", hasty)
    monkeypatch.setattr("primero_ona.primero.visible.EMPTY_PAUSE", 0.0)
    pull = part(listening, production, *PULLED)
    for kind in KINDS:
        primero.fail(kind, times=None, after=2, seconds=2, status=500)
        pull()
        primero.faults.clear()
    assert [pull(), part(listening, production, *MAPPED, "mapped_services")()] == ["[]"] * 2, (
        "the quarter is whole for the tests to come"
    )


def test_no_tick_of_the_sensor_leaves_a_marker(listening, monkeypatch):
    """Cursors, run keys and the reasons of skipped ticks are kept like anything else."""
    graph, fault = listening.graph, {"status": 502, "times": None, "path": ""}
    monkeypatch.setattr("primero_ona.primero.client.time.sleep", lambda _: None)
    sensor = graph.defs.get_sensor_def("watch_primero")
    for faulty in (False, True):
        if faulty:
            graph.primero.fail("html", **fault)
        asked = {name: graph.resources[name] for name in ("primero", "ona")}
        context = dg.build_sensor_context(instance=graph.instance, resources=asked, cursor=None)
        listening.said.append(str(sensor(context)))
    graph.primero.faults.clear()


#: What a load has to do in ONA, so that it meets each fault: change cases and a service, add some, remove one.
TO_DO = """
    UPDATE cases SET sex = 'x', primero_updated_at = primero_updated_at - interval '1 day';
    DELETE FROM services WHERE primero_case_id = '{case}' OR unique_id = 'gone since';
    DELETE FROM cases WHERE primero_id = '{case}';
    UPDATE services SET service_subtypes = 'x';
    INSERT INTO services (unique_id, case_id, primero_case_id) SELECT 'gone since', case_id, primero_id FROM cases LIMIT 1
"""


def something_to_do(graph: Graph) -> None:
    """Change what ONA has of a case that the load brings back, whatever other tests have done to cases of other quarters."""
    graph.sql(TO_DO.format(case=graph.read("mapped_services")["primero_case_id"].iloc[0]))


@pytest.mark.ci
@pytest.mark.proves("logs")
def test_no_fault_of_ona_leaves_a_marker(listening, production, monkeypatch):
    """PostgreSQL quotes the row that it refuses, and the value that it cannot read, in every kind of its errors."""
    something_to_do(listening.graph)
    load = part(listening, production, *LOADED, ona=OnaDatabaseResource())
    for name, fault in FAULTS.items():
        monkeypatch.setattr("primero_ona.ona.connection.connect", partial(connect, **fault.limits))
        with fault.breaking(listening.graph.url) as url:
            monkeypatch.setenv("ONA_DATABASE_URL", url)
            told = load()
        assert fault.kind.__name__ in told, name
        assert all(word in told for word in fault.words), name


@pytest.mark.ci
def test_a_view_of_a_dashboard_takes_no_marker_anywhere(listening, production):
    """Dashboards read through views; a load must not have to touch them, nor say anything of what they hold."""
    graph = listening.graph
    something_to_do(graph)
    graph.sql("CREATE VIEW dashboard AS SELECT case_id, sex, age FROM cases")
    graph.sql("CREATE MATERIALIZED VIEW counted AS SELECT sex, count(*) FROM dashboard GROUP BY 1")
    assert part(listening, production, *LOADED)() == "[]"
    graph.sql("DROP VIEW dashboard CASCADE")


BROKEN = {
    "primero_ona.primero.walk.read_case": PULLED,
    "primero_ona.pipeline.sink.sort_cases": PULLED,
    "primero_ona.storage.partitions.PartitionWriter.write_table": PULLED,
    "primero_ona.pipeline.transform.map_cases": MAPPED,
    "primero_ona.ona.load.stage_rows": LOADED,
}


@pytest.mark.parametrize("broken", quick(BROKEN, "primero_ona.pipeline.transform.map_cases"))
def test_no_exception_that_quotes_a_row_leaves_a_marker(listening, production, monkeypatch, broken):
    """Whatever a library says, it says it in the middle of a frame of children."""
    monkeypatch.setattr(broken, quoting)
    assert "internal error KeyError" in part(listening, production, *BROKEN[broken])()


def quoting(*_: Any, **__: Any) -> Any:
    raise KeyError(f"{CANARY} lives in {VILLAGE}") from ValueError(TEXT)


@pytest.mark.ci
def test_the_history_in_postgresql_that_is_searched_is_that_of_these_runs(listening, production, monkeypatch):
    """Production keeps its history there, and dumps it every night."""
    monkeypatch.setattr(listening.graph, "instance", production)
    assert sync(listening) is None
    runs = [run.run_id for run in production.get_runs()]
    history = dumped(listening.history_url)
    assert runs
    assert all(history.count(run.encode()) > 10 for run in runs)
    assert b'"PipelineSnapshot"' in history, "what Dagster packs was unpacked"
    found = [path for path in listening.home.rglob("*") if any(run in path.name for run in runs)]
    assert not found
