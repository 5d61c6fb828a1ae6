"""Figures of operation in Prometheus' format, and a health answer: counts, ages and sizes, as `metadata.py` allows them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import dagster as dg

from primero_ona.errors import SyncError
from primero_ona.graph.assets.quarterly import PRIMERO
from primero_ona.graph.diagnosis import daemon, last_check, last_materialized
from primero_ona.graph.reconciliation import COMPLETE
from primero_ona.graph.resources import OnaDatabaseResource
from primero_ona.process import machine_error, unexpected

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

    from primero_ona.ona.bookkeeping import QuarterStatus

#: Seconds that ONA may take to say what was loaded.
_ONA_SECONDS = 10

#: Seconds for which an answer serves all who ask: each asks ONA's database and Dagster's.
_KEPT_SECONDS = 10

_RUNS = {
    "queued": [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED],
    "running": [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED],
}

#: What a web server calls to answer, and what it is given for that: see WSGI.
_Start = Callable[..., Any]
_App = Callable[[dict[str, Any], _Start], Iterable[bytes]]


class _Collector:
    """Reads all figures when Prometheus' library asks for them."""

    def __init__(self, instance: dg.DagsterInstance, ona: OnaDatabaseResource) -> None:
        self._instance, self._ona = instance, ona

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client."""
        yield from _of_dagster(self._instance)
        yield from _of_ona(self._ona)


def registry(instance: dg.DagsterInstance, ona: OnaDatabaseResource) -> CollectorRegistry:
    """The figures of an installation; they are read each time they are asked for."""
    from prometheus_client import CollectorRegistry

    found = CollectorRegistry(auto_describe=False)
    found.register(_Collector(instance, ona))
    return found


def _of_dagster(instance: dg.DagsterInstance) -> Iterator[Metric]:
    """The queue, and when Primero, the daemon and the proof were last seen."""
    from prometheus_client.core import GaugeMetricFamily

    runs = GaugeMetricFamily("primero_ona_runs", "Runs that wait in Dagster's queue, or run", labels=["state"])
    for state, statuses in _RUNS.items():
        runs.add_metric([state], instance.get_runs_count(dg.RunsFilter(statuses=statuses)))
    yield runs
    beats = GaugeMetricFamily(
        "primero_ona_daemon_heartbeat_timestamp_seconds",
        "Last sign of life of a part of Dagster's daemon",
        labels=["part"],
    )
    for part, beat in instance.get_daemon_heartbeats().items():
        beats.add_metric([part.lower()], beat.timestamp)
    yield beats
    if seen := last_materialized(instance, PRIMERO.key):
        text = "When the sensor last saw Primero"
        yield GaugeMetricFamily("primero_ona_primero_seen_timestamp_seconds", text, value=seen.timestamp())
    if proof := last_check(instance, COMPLETE):
        text = "When all of Primero was last compared with all of ONA"
        yield GaugeMetricFamily("primero_ona_proof_timestamp_seconds", text, value=proof.create_timestamp)
        passed = float(proof.status.value == "SUCCEEDED")
        yield GaugeMetricFamily("primero_ona_proof_passed", "Whether that comparison found ONA complete", value=passed)


def _of_ona(ona: OnaDatabaseResource) -> Iterator[Metric]:
    """What the last load of each quarter did; only that ONA cannot be asked, where it cannot."""
    from prometheus_client.core import GaugeMetricFamily

    from primero_ona.ona.bookkeeping import quarter_status

    rows: list[QuarterStatus] = []
    reached = 1.0
    try:
        with ona.connection(statement_timeout=_ONA_SECONDS) as connection:
            rows = quarter_status(connection)
    except SyncError:
        reached = 0.0
    yield GaugeMetricFamily("primero_ona_ona_up", "Whether ONA's database says what was loaded", value=reached)
    counts = GaugeMetricFamily(
        "primero_ona_rows", "Rows of the last load, by what became of them", labels=["quarter", "table", "outcome"]
    )
    for row in rows:
        for table, outcomes in row.counts.items():
            for outcome, count in outcomes.items():
                counts.add_metric([row.quarter, table, outcome], count)
    yield counts
    figures: tuple[tuple[str, str, Callable[[QuarterStatus], float]], ...] = (
        ("last_success_timestamp_seconds", "When a quarter was last loaded", lambda row: row.finished_at.timestamp()),
        ("load_seconds", "How long its last load took", lambda row: (row.finished_at - row.started_at).total_seconds()),
        ("quarantine_entries", "Entries of a quarter that are in quarantine now", lambda row: row.quarantined),
    )
    for name, text, figure in figures:
        family = GaugeMetricFamily(f"primero_ona_{name}", text, labels=["quarter"])
        for row in rows:
            family.add_metric([row.quarter], figure(row))
        yield family


def write(instance: dg.DagsterInstance, ona: OnaDatabaseResource, path: Path) -> None:
    """Write the figures to a file for node_exporter's textfile collector, which may read it, whole or not at all."""
    from prometheus_client import write_to_textfile

    write_to_textfile(str(path), registry(instance, ona))
    path.chmod(0o644)


def application(instance: dg.DagsterInstance, ona: OnaDatabaseResource) -> _App:
    """The WSGI application: `/metrics`, and `/health`, which is 200 while Dagster's daemon is alive, else 503."""
    from prometheus_client import generate_latest
    from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

    turn = threading.Lock()
    figures, kept = registry(instance, ona), (0.0, b"")

    def metrics() -> bytes:
        nonlocal kept
        with turn:
            if time.monotonic() - kept[0] > _KEPT_SECONDS or not kept[1]:
                kept = (time.monotonic(), generate_latest(figures))
            return kept[1]

    def health() -> tuple[HTTPStatus, str]:
        line = daemon(instance)
        status = HTTPStatus.OK if line.state == "ok" else HTTPStatus.SERVICE_UNAVAILABLE
        return status, f"{line.what}: {line.text}\n"

    def answer(environment: dict[str, Any], start: _Start) -> Iterable[bytes]:
        """Answer a GET or HEAD of /metrics or /health, as WSGI asks; a fault of ours is named without its text."""
        status, kind = HTTPStatus.OK, "text/plain; charset=utf-8"
        try:
            if environment["REQUEST_METHOD"] not in {"GET", "HEAD"}:
                status, body = HTTPStatus.METHOD_NOT_ALLOWED, b"only GET\n"
            elif environment["PATH_INFO"] == "/metrics":
                kind, body = CONTENT_TYPE_PLAIN_0_0_4, metrics()
            elif environment["PATH_INFO"] == "/health":
                status, text = health()
                body = text.encode()
            else:
                status, body = HTTPStatus.NOT_FOUND, b"/metrics and /health\n"
        except Exception as error:  # noqa: BLE001  whatever it is, its text may quote data
            status, body = HTTPStatus.INTERNAL_SERVER_ERROR, f"{machine_error(error) or unexpected(error)}\n".encode()
        start(f"{status.value} {status.phrase}", [("Content-Type", kind), ("Content-Length", str(len(body)))])
        return [b"" if environment["REQUEST_METHOD"] == "HEAD" else body]

    return answer


class _Quiet(WSGIRequestHandler):
    """Writes no line for each request."""

    def log_message(self, *_: Any) -> None:  # noqa: ANN401
        """See http.server."""


def serve(instance: dg.DagsterInstance, ona: OnaDatabaseResource, address: str, port: int) -> None:
    """Serve until the process is stopped; raises OSError where the address cannot be had."""
    from prometheus_client.exposition import ThreadingWSGIServer

    app: Any = application(instance, ona)
    with make_server(address, port, app, ThreadingWSGIServer, handler_class=_Quiet) as server:
        server.serve_forever()
