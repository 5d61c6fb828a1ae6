"""Figures for Prometheus and the health answer, over HTTP from a real installation."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest
import requests
from dagster._core.storage.dagster_run import DagsterRun
from dagster._daemon.types import DaemonHeartbeat
from prometheus_client.parser import text_string_to_metric_families

from primero_ona.graph import metrics
from primero_ona.graph.assets.quarterly import PRIMERO
from primero_ona_tests.harness import Q1, GivenOna, Graph, small, wired


@pytest.fixture(scope="module")
def graph(postgres: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Graph]:
    """One quarter loaded, another waiting, on an instance on disk, which has daemons."""
    home = tmp_path_factory.mktemp("home")
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    instance = dg.DagsterInstance.from_config(str(home))
    with wired(postgres, "metrics", small(40), instance) as graph:
        assert graph.sync(Q1).kind is None
        instance.add_run(DagsterRun("sync_quarter", status=dg.DagsterRunStatus.NOT_STARTED))
        instance.report_runless_asset_event(dg.AssetMaterialization(PRIMERO.key))
        yield graph


@pytest.fixture(scope="module")
def url(graph: Graph) -> str:
    """Where it is served."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    arguments = (graph.instance, GivenOna(graph.url), "127.0.0.1", port)
    threading.Thread(target=metrics.serve, args=arguments, daemon=True).start()
    until = time.monotonic() + 20
    while time.monotonic() < until:
        with socket.socket() as trial:
            if trial.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.02)
    return f"http://127.0.0.1:{port}"


def samples(text: str) -> dict[tuple[str, ...], float]:
    return {
        (sample.name.removeprefix("primero_ona_"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_the_figures_are_those_of_the_installation(graph: Graph, url: str) -> None:
    """An alert on a figure that is wrong is worse than none."""
    answer = requests.get(f"{url}/metrics", timeout=30)
    found = samples(answer.text)
    query = "SELECT extract(epoch FROM finished_at)::float, extract(epoch FROM finished_at - started_at)::float"
    ((finished, took),) = graph.sql(f"{query} FROM primero_sync.runs")
    assert found["last_success_timestamp_seconds", "2024-Q1"] == pytest.approx(finished)
    assert found["load_seconds", "2024-Q1"] == pytest.approx(took, abs=1e-3)
    assert found["rows", "inserted", "2024-Q1", "cases"] == graph.sql("SELECT count(*) FROM cases")[0][0]
    assert found["quarantine_entries", "2024-Q1"] == graph.sql("SELECT count(*) FROM primero_sync.quarantine")[0][0] > 0
    assert (found["runs", "queued"], found["runs", "running"], found["ona_up",]) == (1, 0, 1)
    assert abs(found["primero_seen_timestamp_seconds",] - time.time()) < 600
    assert answer.headers["Content-Type"].startswith("text/plain")


@pytest.mark.proves("alerts-and-metrics")
def test_only_figures_of_operation_are_shown(url: str) -> None:
    """Counts by value, codes, reasons and ids stand in ONA behind its roles."""
    labels = {
        (name, value)
        for family in text_string_to_metric_families(requests.get(f"{url}/metrics", timeout=30).text)
        for sample in family.samples
        for name, value in sample.labels.items()
    }
    assert {name for name, _ in labels} == {"quarter", "table", "outcome", "state"}
    outcomes = {"inserted", "updated", "unchanged", "stale", "removed", "quarantined", "received", "own_keys"}
    assert {value for name, value in labels if name == "outcome"} <= outcomes
    others = {value for name, value in labels if name != "outcome"}
    assert others == {"2024-Q1", "cases", "services", "queued", "running"}


@pytest.mark.proves("dead-daemon")
def test_health_follows_the_daemon(graph: Graph, url: str) -> None:
    """A load balancer, and a monitor that knows no Prometheus, decide by the status."""
    asleep = requests.get(f"{url}/health", timeout=30)
    assert (asleep.status_code, "has not run here yet" in asleep.text) == (503, True)
    for kind in graph.instance.get_required_daemon_types():
        graph.instance.add_daemon_heartbeat(DaemonHeartbeat(time.time(), kind, None, None))
    alive = requests.get(f"{url}/health", timeout=30)
    assert (alive.status_code, alive.text) == (200, "daemon: alive\n")
    assert requests.get(f"{url}/other", timeout=30).status_code == 404
    assert requests.post(f"{url}/metrics", timeout=30).status_code == 405


def test_an_ona_that_cannot_be_asked_leaves_the_other_figures(graph: Graph, tmp_path: Any) -> None:
    """And a file for node_exporter has the same as the page."""
    path = tmp_path / "figures.prom"
    metrics.write(graph.instance, GivenOna("postgresql://u:s3cret@127.0.0.1:9/x"), path)
    found = samples(path.read_text())
    assert (found["ona_up",], found["runs", "queued"]) == (0, 1)
    assert not [name for name in found if name[0] == "rows"]
    assert "s3cret" not in path.read_text()


def test_a_fault_of_ours_is_named_without_what_it_saw(graph: Graph, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prometheus keeps, and shows, what a page answers."""

    def broken(*_: object) -> None:
        raise KeyError("a-name-that-must-not-be-read")

    monkeypatch.setattr(metrics, "daemon", broken)
    answer = requests.get(f"{url}/health", timeout=30)
    assert (answer.status_code, "a-name" in answer.text) == (500, False)
