"""A running installation to attack: the guarded webserver as its own process, on a sandbox, a database and a home of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import requests

from primero_ona_tests.harness import START, Graph

ROOT = Path(__file__).parents[2]
REPOSITORY = {"repositoryName": "__repository__", "repositoryLocationName": "primero_ona"}

ERROR = "__typename ... on PythonError { message } ... on Error { message }"
INVALID = "... on RunConfigValidationInvalid { errors { message } }"
LAUNCHED = "... on LaunchRunSuccess { run { runId } }"
LAUNCH = f"mutation($p: ExecutionParams!) {{ launchRun(executionParams: $p) {{ {ERROR} {INVALID} {LAUNCHED} }} }}"
LAUNCH_ALL = (
    "mutation($p: [ExecutionParams!]!) { launchMultipleRuns(executionParamsList: $p) "
    f"{{ __typename ... on LaunchMultipleRunsResult {{ launchMultipleRunsResult {{ {ERROR} {INVALID} }} }} }} }}"
)
REEXECUTE = (
    f"mutation($p: ReexecutionParams) {{ launchRunReexecution(reexecutionParams: $p) {{ {ERROR} {LAUNCHED} }} }}"
)
BACKFILL = (
    f"mutation($p: LaunchBackfillParams!) {{ launchPartitionBackfill(backfillParams: $p) {{ {ERROR} "
    "... on LaunchBackfillSuccess { backfillId } } }"
)


@dataclass
class Installation:
    """A webserver at `port` with its Dagster home in `folder`; `instance` looks into its storage."""

    port: int
    folder: Path
    environment: dict[str, str]
    instance: dg.DagsterInstance

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def graphql(self, query: str, parameters: Any = None, **more: Any) -> Any:
        """The data of an answer."""
        body = {"query": query, "variables": {"p": parameters}}
        # A refusal comes with status 500, as any error of Dagster does.
        found = requests.post(f"{self.url}/graphql", json=body, timeout=120, **more).json()
        assert "errors" not in found, found["errors"][0]["message"]
        return next(iter(found["data"].values()))

    def stored(self) -> tuple[int, int]:
        """How many runs and backfills there are."""
        return self.instance.get_runs_count(), len(self.instance.get_backfills())

    def holds(self, marker: str) -> list[str]:
        """The files of Dagster's home in which a text stands."""
        files = [path for path in (self.folder / "home").rglob("*") if path.is_file()]
        return [str(path) for path in files if marker.encode() in path.read_bytes()]


def execution(job: str, config: Any = None, tags: Mapping[str, str] | None = None, **selector: Any) -> dict[str, Any]:
    """The parameters of a launch; a job that has quarters is launched for 2024-Q1."""
    quarter = {"dagster/partition": "2024-01-01"} if job in ("sync_quarter", "__ASSET_JOB") else {}
    pairs = [{"key": key, "value": value} for key, value in {**quarter, **(tags or {})}.items()]
    if job == "__ASSET_JOB":
        selector = {"assetSelection": [{"path": ["mapped_cases"]}], **selector}
    return {
        "selector": {**REPOSITORY, "jobName": job, **selector},
        "runConfigData": config or {},
        "executionMetadata": {"tags": pairs},
    }


@contextlib.contextmanager
def installed(graph: Graph, folder: Path, *, daemon: bool = False, **more: str) -> Iterator[Installation]:
    """A webserver on the sandbox and the database of a graph; with `daemon`, the whole of `primero-ona dev`. `more`: settings."""
    environment = settings(graph, folder) | more
    for name in ("dagster.yaml", "workspace.yaml"):
        shutil.copyfile(ROOT / name, folder / name)
    shutil.copyfile(ROOT / "dagster.yaml", folder / "home" / "dagster.yaml")
    port = free_port()
    words = (
        ["primero_ona.cli.app", "dev", "--port", str(port)] if daemon else ["primero_ona.graph.webserver", str(port)]
    )
    with (
        dg.DagsterInstance.from_config(str(folder / "home")) as instance,
        process(words, folder, environment) as started,
    ):
        installation = Installation(port, folder, environment, instance)
        wait(installation, started)
        yield installation


def settings(graph: Graph, folder: Path) -> dict[str, str]:
    """The environment of an installation."""
    (folder / "home").mkdir(mode=0o700)
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("PRIMERO_", "ONA_", "DAGSTER_"))},
        "PRIMERO_URL": graph.primero.url,
        "PRIMERO_USERNAME": graph.primero.username,
        "PRIMERO_PASSWORD": graph.primero.password,
        "ONA_DATABASE_URL": graph.url,
        "PRIMERO_ONA_STORAGE_KEYS": graph.key,
        "PRIMERO_ONA_START": START,
        "DAGSTER_HOME": str(folder / "home"),
        "DAGSTER_DISABLE_TELEMETRY": "1",
    }


@contextlib.contextmanager
def process(words: list[str], folder: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process of ours in the folder, with its output in a file; interrupted at the end, and then gone."""
    with (folder / "output.txt").open("wb") as output:
        started = subprocess.Popen(
            [sys.executable, "-m", *words], cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            yield started
        finally:
            started.send_signal(2)
            try:
                started.wait(60)
            except subprocess.TimeoutExpired:
                started.kill()


def wait(installation: Installation, started: subprocess.Popen[bytes]) -> None:
    """Wait until the UI has loaded the graph."""
    until = time.monotonic() + 180
    query = "{ workspaceOrError { ... on Workspace { locationEntries { loadStatus locationOrLoadError { __typename } } } } }"
    while time.monotonic() < until:
        assert started.poll() is None, (installation.folder / "output.txt").read_text()
        with contextlib.suppress(requests.RequestException):
            (entry,) = installation.graphql(query)["locationEntries"]
            assert entry["locationOrLoadError"]["__typename"] == "RepositoryLocation", entry
            return
        time.sleep(0.2)
    raise AssertionError((installation.folder / "output.txt").read_text())


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])
