"""Runs in pods of their own: Dagster's queue and launcher as they are, a stand-in for the cluster, and nothing shared but data.

Dagster's history and ONA are in PostgreSQL, partitions in a bucket; see `cluster.py` and `pods.py` for what stands in for Kubernetes.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest
import yaml
from cryptography.fernet import Fernet
from psycopg import sql

from primero_ona.contract.tables import CASES, SERVICES
from primero_ona.ona.connection import connect
from primero_ona.ona.migrations import apply, plan
from primero_ona.pipeline.stored import REFERENCE, UNDER18
from primero_ona.quarters import Quarter
from primero_ona.sandbox.cases import Wish
from primero_ona.sandbox.primero import SandboxPrimero
from primero_ona_tests.deploy import chart
from primero_ona_tests.harness import Clock, database
from primero_ona_tests.reliability.syncing import Place, sync_rooms
from primero_ona_tests.storage.buckets import BucketServer, bucket_server

pytestmark = pytest.mark.ci

QUARTERS = [Quarter(year, number) for year in (2022, 2023) for number in (1, 2, 3, 4)]
#: Of eight runs the third is killed, once it has asked Primero.
KILLED = 3

LAUNCH = """
mutation Launch($parameters: ExecutionParams!) {
  launchRun(executionParams: $parameters) { __typename ... on PythonError { message } }
}
"""


@dataclass
class Installed:
    """The chart's installation; `primero` notes which pod asked."""

    context: Any
    instance: dg.DagsterInstance
    cluster: Any
    primero: Any
    server: dict[str, Any]

    def launch(self, job: str, *, quarter: Quarter | None = None) -> None:
        """Start a run as the UI does."""
        from dagster_graphql.cli import execute_query

        tags = [{"key": "dagster/partition", "value": quarter.key}] if quarter else []
        parameters = {
            "selector": {
                "jobName": job,
                "repositoryName": "__repository__",
                "repositoryLocationName": "primero_ona",
            },
            "executionMetadata": {"tags": tags},
        }
        answer = execute_query(self.context, LAUNCH, {"parameters": parameters})
        assert answer["data"]["launchRun"]["__typename"] == "LaunchRunSuccess", answer

    def command(self, *arguments: str) -> str:
        """Run a command in the code server's pod, as `kubectl exec` does; what it printed."""
        container = {**self.server["containers"][0], "args": ["primero-ona", *arguments]}
        pod = self.cluster.run("command", {**self.server, "containers": [container]})
        try:
            assert pod.process.wait(120) == 0, pod.output()[-3_000:]
            return pod.output()
        finally:
            pod.remove()

    def work(self, within: float = 1_200) -> list[dg.DagsterRun]:
        """Do what the daemon does for runs, until none is left to do; all runs, oldest first."""
        from dagster._daemon.auto_run_reexecution.event_log_consumer import EventLogConsumerDaemon
        from dagster._daemon.monitoring.run_monitoring import execute_run_monitoring_iteration
        from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon

        queue, retries = QueuedRunCoordinatorDaemon(interval_seconds=1), EventLogConsumerDaemon()
        until, idle = time.monotonic() + within, 0
        while idle < 3:
            assert time.monotonic() < until, "runs do not end"
            list(queue.run_iteration(self.context))
            list(execute_run_monitoring_iteration(self.context, logging.getLogger("monitoring")))
            list(retries.run_iteration(self.context))
            runs = self.instance.get_runs()
            idle = idle + 1 if all(run.is_finished for run in runs) else 0
            time.sleep(0.3)
        return runs[::-1]


def adapted(values: Any, primero: int, postgres: int, bucket: BucketServer, kubeconfig: Path) -> Any:
    """Our values with what they leave to the installation."""
    values["postgresql"] |= {"postgresqlHost": "127.0.0.1", "postgresqlUsername": "postgres", "postgresqlParams": {}}
    values["postgresql"]["service"] = {"port": postgres}
    launcher = values["runLauncher"]["config"]["k8sRunLauncher"]
    launcher |= {"loadInclusterConfig": False, "kubeconfigFile": str(kubeconfig)}
    values["dagsterDaemon"]["runMonitoring"]["pollIntervalSeconds"] = 1
    deployment = values["dagster-user-deployments"]["deployments"][0]
    replaced = {
        "PRIMERO_URL": f"http://127.0.0.1:{primero}",
        "PRIMERO_USERNAME": SandboxPrimero.username,
        "PRIMERO_ONA_STORAGE_URL": bucket.url,
        "AWS_ENDPOINT_URL": bucket.environment["AWS_ENDPOINT_URL"],
        "AWS_EC2_METADATA_DISABLED": "true",
        "PRIMERO_ONA_START": str(QUARTERS[0]),
    }
    kept = [each for each in deployment["env"] if each["name"] not in replaced and "ALERT" not in each["name"]]
    deployment["env"] = kept + [{"name": name, "value": value} for name, value in replaced.items()]
    return values


@contextmanager
def installed(
    primero_url: str, socket: str, ona: str, key: str, bucket: BucketServer, folder: Path, patch: pytest.MonkeyPatch
) -> Iterator[Installed]:
    """Install the chart, as far as runs need it: the code server in a pod, the queue in this process."""
    from dagster._core.workspace.context import WorkspaceProcessContext
    from dagster._core.workspace.load_target import GrpcServerTarget

    from primero_ona_tests.deploy.cluster import Cluster
    from primero_ona_tests.deploy.pods import Forwarder, Objects

    objects = Objects()
    cluster = Cluster(objects, chart.NAMESPACE)
    with ExitStack() as stack:
        kubeconfig = stack.enter_context(cluster.serve(folder))
        primero = Forwarder(int(primero_url.rpartition(":")[2]), cluster.owner)
        postgres = Forwarder(socket)
        stack.callback(primero.close)
        stack.callback(postgres.close)
        values = adapted(chart.values(), primero.port, postgres.port, bucket, kubeconfig)
        instance_yaml = yaml.safe_dump(chart.instance_of(values))
        objects.secrets |= {
            chart.PASSWORD_SECRET: {"postgresql-password": "not-asked-for"},
            "primero-ona": {
                "primero-password": SandboxPrimero.password,
                "ona-url": f"postgresql://postgres@127.0.0.1:{postgres.port}/{ona}",
                "storage-keys": key,
                "aws-credentials": "[default]\naws_access_key_id = test\naws_secret_access_key = test\n",
            },
        }
        objects.config_maps |= {
            "dagster-instance": {"dagster.yaml": instance_yaml},
            "dagster-primero-ona-user-env": {},
        }
        deployment = chart.deployment_of(values)
        port = _free_port()
        server = _server(values, deployment, port)
        code = cluster.run("code", server)
        stack.callback(code.remove)
        patch.setenv("DAGSTER_PG_PASSWORD", "not-asked-for")
        (folder / "dagster.yaml").write_text(instance_yaml)
        _wait_for(port, code)
        instance = stack.enter_context(dg.DagsterInstance.from_config(str(folder)))
        target = GrpcServerTarget(host="127.0.0.1", port=port, socket=None, location_name="primero_ona")
        context = stack.enter_context(WorkspaceProcessContext(instance, target))
        yield Installed(context, instance, cluster, primero, server)
        for storage in (instance.run_storage, instance.event_log_storage, instance.schedule_storage):
            storage.dispose()


def _server(values: Any, deployment: Any, port: int) -> dict[str, Any]:
    """The pod of the code server."""
    context = json.dumps(chart.container_context_of(values))
    return {
        "securityContext": deployment["podSecurityContext"],
        "volumes": deployment["volumes"],
        "containers": [
            {
                "name": "code",
                "args": [
                    "dagster",
                    "api",
                    "grpc",
                    "-h",
                    "127.0.0.1",
                    "-p",
                    str(port),
                    *deployment["dagsterApiGrpcArgs"],
                ],
                "env": [
                    {"name": "DAGSTER_CURRENT_IMAGE", "value": chart.image_of(deployment["image"])},
                    {"name": "DAGSTER_CLI_API_GRPC_CONTAINER_CONTEXT", "value": context},
                    {"name": "DAGSTER_PG_PASSWORD", "value": "not-asked-for"},
                    {"name": "DAGSTER_HOME", "value": chart.DAGSTER_HOME},
                    *deployment["env"],
                ],
                "volumeMounts": deployment["volumeMounts"],
            }
        ],
    }


def _free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _wait_for(port: int, code: Any) -> None:
    """As the deployment's probes do."""
    check = [sys.executable, "-m", "dagster", "api", "grpc-health-check", "-p", str(port)]
    for _ in range(60):
        assert code.process.poll() is None, code.output()[-3_000:]
        if subprocess.run(check, capture_output=True, check=False).returncode == 0:
            return
        time.sleep(0.5)
    raise AssertionError(code.output()[-3_000:])


def tables(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """What the dashboards read, row by row, without the column that says when a row was loaded."""
    with psycopg.connect(url) as conn:
        return {
            table.name: conn.execute(
                sql.SQL("SELECT {} FROM {} ORDER BY 1, 2, 3, 4").format(
                    sql.SQL(", ").join(sql.Identifier(each.name) for each in table.columns if not each.set_by_load),
                    sql.Identifier(table.name),
                )
            ).fetchall()
            for table in (CASES, SERVICES)
        }


@pytest.mark.proves("pods")
def test_eight_quarters_in_pods_end_as_in_one_process_and_primero_is_asked_by_one(
    postgres: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On several machines nothing is shared by accident: what a run stored must be found, and Primero bears one reader."""
    clock = Clock(Quarter(2024, 1).start)
    wish = Wish(240, seed=3, now=clock.now, quarters=9)
    key = Fernet.generate_key().decode()
    with (
        database(postgres, "dagster") as history,
        database(postgres, "pods") as pods,
        database(postgres, "alone") as alone,
        bucket_server() as bucket,
        SandboxPrimero(wish, clock=clock).serve() as primero,
    ):
        for url in (pods, alone):
            with connect(url) as conn:
                apply(conn, plan(conn))
        place = Place(primero.url, primero.username, primero.password, alone, str(tmp_path / "alone"), key)
        assert [sync_rooms(place, quarter) for quarter in QUARTERS] == [0] * len(QUARTERS)

        socket = f"{psycopg.conninfo.conninfo_to_dict(history)['host']}/.s.PGSQL.5432"
        with installed(primero.url, socket, "pods", key, bucket, tmp_path, monkeypatch) as it:
            it.launch("refresh_reference")
            assert [run.status for run in it.work()] == [dg.DagsterRunStatus.SUCCESS], outputs(it)

            killed: list[str] = []

            def kill_third(pod: Any) -> None:
                if list(it.cluster.pods).index(pod.name) == KILLED and not killed:
                    killed.append(pod.name)
                    pod.kill()

            it.primero.arrived = kill_third
            for quarter in QUARTERS:
                it.launch("sync_quarter", quarter=quarter)
            runs = it.work()
            assert it.primero.together
            assert not any(it.primero.together), "two pods asked Primero at the same time"
            failed = [run for run in runs if run.status != dg.DagsterRunStatus.SUCCESS]
            assert [run.tags["dagster/partition"] for run in failed] == [QUARTERS[KILLED - 1].key], outputs(it)
            assert len(killed) == 1
            assert len(it.cluster.jobs) == len(runs) == 1 + len(QUARTERS) + 1
            assert it.cluster.refused == []
            asked = {visit.pod.name for visit in it.primero.visits if visit.pod}
            assert asked == set(it.cluster.pods)
            assert tables(pods) == tables(alone)
            with psycopg.connect(pods) as conn:
                (lost,) = conn.execute(
                    "SELECT primero_id::text FROM cases WHERE primero_id IS NOT NULL LIMIT 1"
                ).fetchone()
            assert "erased 1 rows of cases" in it.command("forget", "--primero-id", lost)
            assert "re-encrypted" in it.command("keys", "rotate")
        found = {Path(name).stem for name in bucket.names() if UNDER18 in name}
        assert found == {quarter.key for quarter in QUARTERS}
        assert any(REFERENCE in name for name in bucket.names())
        assert bucket.unfinished() == []


def outputs(it: Installed) -> str:
    """What to look at where a run failed: no data, the sandbox's are synthetic."""
    return "\n".join(f"{name}: {pod.output()[-2_000:]}" for name, pod in it.cluster.pods.items())
