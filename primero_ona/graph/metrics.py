"""Figures of operation in Prometheus' format, and a health answer: counts, ages and sizes, as `metadata.py` allows them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import dagster as dg
from prometheus_client import CollectorRegistry, generate_latest, write_to_textfile
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, ThreadingWSGIServer

from primero_ona.errors import SyncError
from primero_ona.graph.assets.quarterly import PRIMERO
from primero_ona.graph.diagnosis import daemon, last_check, last_materialized
from primero_ona.graph.reconciliation import COMPLETE
from primero_ona.graph.resources import OnaDatabaseResource
from primero_ona.ona.bookkeeping import QuarterStatus, quarter_status
from primero_ona.process import machine_error, unexpected

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

_RUNS = {
    "queued": [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED],
    "running": [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED],
}


class _Figures(CollectorRegistry):
    """The figures of an installation; they are read each time they are asked for."""

    def __init__(self, instance: dg.DagsterInstance, ona: OnaDatabaseResource) -> None:
        super().__init__()
        self._instance, self._ona = instance, ona

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client."""
        yield from _of_dagster(self._instance)
        yield from _of_ona(self._ona)


def _gauge(name: str, text: str, samples: Iterable[tuple[Sequence[str], float]], *labels: str) -> Metric:
    """A figure, from the values of its labels and of itself."""
    found = GaugeMetricFamily(f"primero_ona_{name}", text, labels=labels)
    for values, figure in samples:
        found.add_metric(values, figure)
    return found


def _of_dagster(instance: dg.DagsterInstance) -> Iterator[Metric]:
    """The queue, and when Primero, the daemon and the proof were last seen."""
    runs = [([state], instance.get_runs_count(dg.RunsFilter(statuses=each))) for state, each in _RUNS.items()]
    yield _gauge("runs", "Runs that wait in Dagster's queue, or run", runs, "state")
    beats = [([part.lower()], beat.timestamp) for part, beat in instance.get_daemon_heartbeats().items()]
    text = "Last sign of life of a part of Dagster's daemon"
    yield _gauge("daemon_heartbeat_timestamp_seconds", text, beats, "part")
    if seen := last_materialized(instance, PRIMERO.key):
        text = "When the sensor last saw Primero"
        yield _gauge("primero_seen_timestamp_seconds", text, [([], seen.timestamp())])
    if proof := last_check(instance, COMPLETE):
        text = "When all of Primero was last compared with all of ONA"
        yield _gauge("proof_timestamp_seconds", text, [([], proof.create_timestamp)])
        passed = proof.status.value == "SUCCEEDED"
        yield _gauge("proof_passed", "Whether that comparison found ONA complete", [([], passed)])


def _of_ona(ona: OnaDatabaseResource) -> Iterator[Metric]:
    """What the last load of each quarter did; only that ONA cannot be asked, where it cannot."""
    rows: list[QuarterStatus] | None = None
    with suppress(SyncError), ona.connection(statement_timeout=10) as connection:
        rows = quarter_status(connection)
    yield _gauge("ona_up", "Whether ONA's database says what was loaded", [([], rows is not None)])
    rows = rows or []
    counts = [
        ((row.quarter, table, outcome), count)
        for row in rows
        for table, outcomes in row.counts.items()
        for outcome, count in outcomes.items()
    ]
    text = "Rows of the last load, by what became of them"
    yield _gauge("rows", text, counts, "quarter", "table", "outcome")
    ends = [([row.quarter], row.finished_at.timestamp()) for row in rows]
    yield _gauge("last_success_timestamp_seconds", "When a quarter was last loaded", ends, "quarter")
    took = [([row.quarter], (row.finished_at - row.started_at).total_seconds()) for row in rows]
    yield _gauge("load_seconds", "How long its last load took", took, "quarter")
    kept = [([row.quarter], row.quarantined) for row in rows]
    yield _gauge("quarantine_entries", "Entries of a quarter that are in quarantine now", kept, "quarter")


def write(instance: dg.DagsterInstance, ona: OnaDatabaseResource, path: Path) -> None:
    """Write the figures to a file for node_exporter's textfile collector, which may read it, whole or not at all."""
    write_to_textfile(str(path), _Figures(instance, ona))
    path.chmod(0o644)


def application(instance: dg.DagsterInstance, ona: OnaDatabaseResource) -> WSGIApplication:
    """The WSGI application: `/metrics`, and `/health`, which is 200 while Dagster's daemon is alive, else 503."""
    turn, figures = threading.Lock(), _Figures(instance, ona)
    read_at, kept = 0.0, b""

    def metrics() -> bytes:
        """The figures; for ten seconds an answer serves all who ask, since each reads ONA's database and Dagster's."""
        nonlocal read_at, kept
        with turn:
            if not kept or time.monotonic() - read_at > 10:
                read_at, kept = time.monotonic(), generate_latest(figures)
            return kept

    def answer(environment: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        """Answer a GET or HEAD of /metrics or /health, as WSGI asks; a fault of ours is named without its text."""
        status, kind = HTTPStatus.OK, "text/plain; charset=utf-8"
        try:
            if environment["REQUEST_METHOD"] not in {"GET", "HEAD"}:
                status, body = HTTPStatus.METHOD_NOT_ALLOWED, b"only GET\n"
            elif environment["PATH_INFO"] == "/metrics":
                kind, body = CONTENT_TYPE_PLAIN_0_0_4, metrics()
            elif environment["PATH_INFO"] == "/health":
                line = daemon(instance)
                status = HTTPStatus.OK if line.state == "ok" else HTTPStatus.SERVICE_UNAVAILABLE
                body = f"{line.what}: {line.text}\n".encode()
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
    with make_server(address, port, application(instance, ona), ThreadingWSGIServer, _Quiet) as server:
        server.serve_forever()
