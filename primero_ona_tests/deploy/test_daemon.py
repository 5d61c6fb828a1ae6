"""A code server and a daemon as in production, and commands beside them: who executes a run, and what becomes of it.

Real processes on a real Primero server and a real PostgreSQL; what is killed is killed with -9.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from cryptography.fernet import Fernet
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus
from dagster._core.storage.tags import GRPC_INFO_TAG, REPOSITORY_LABEL_TAG

from primero_ona.sandbox.primero import SandboxPrimero
from primero_ona_tests.cli.test_cli import Result, Terminal
from primero_ona_tests.harness import database, small

pytestmark = pytest.mark.ci


@dataclass
class Services:
    """The processes that the units of an installation start."""

    terminal: Terminal
    primero: SandboxPrimero
    port: int
    workspace: Path
    code: subprocess.Popen[bytes] | None = None
    daemon: subprocess.Popen[bytes] | None = None

    @property
    def instance(self) -> dg.DagsterInstance:
        return dg.DagsterInstance.from_config(self.terminal.variables["DAGSTER_HOME"])

    def start_code(self) -> None:
        """As the unit does."""
        words = ("code-server", "start", "-h", "127.0.0.1", "-p", str(self.port), "-m", "primero_ona.definitions")
        self.code = self._start("dagster", *words)
        ready = self.terminal.run("code-server", "ready", "-p", str(self.port))
        assert ready.code == 0, ready.err

    def start_daemon(self) -> None:
        self.daemon = self._start("dagster._daemon", "run", "-w", str(self.workspace))

    def _start(self, *words: str) -> subprocess.Popen[bytes]:
        environment = {**os.environ, **self.terminal.variables, "DAGSTER_DISABLE_TELEMETRY": "1"}
        log = (self.terminal.folder / f"{words[0]}.log").open("ab")
        return subprocess.Popen(
            [sys.executable, "-m", *words], env=environment, cwd=self.terminal.folder, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip

    def ask(self, *words: str) -> subprocess.Popen[str]:
        """Start a command that goes on while others run."""
        return subprocess.Popen(
            [sys.executable, "-m", "primero_ona.cli.app", *words], env=self.terminal.environment({}),
            cwd=self.terminal.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def kill(self, process: subprocess.Popen[bytes] | None) -> None:
        """Everything that a unit's process has started dies with it, as in a unit, or in a power cut."""
        if process:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def runs(self, *statuses: dg.DagsterRunStatus) -> list[dg.DagsterRun]:
        with self.instance as instance:
            return list(instance.get_runs(dg.RunsFilter(statuses=statuses or None)))

    def wait_for_run_under_way(self) -> dg.DagsterRun:
        """A run that asks Primero."""
        wait_for(lambda: self.runs(dg.DagsterRunStatus.STARTED))
        time.sleep(1)
        (run,) = self.runs(dg.DagsterRunStatus.STARTED)
        return run


def finish(command: subprocess.Popen[str]) -> Result:
    out, err = command.communicate(timeout=180)
    return Result(command.returncode, out, err)


def wait_for(met: Callable[[], Any], within: float = 90) -> None:
    until = time.monotonic() + within
    while not met():
        assert time.monotonic() < until
        time.sleep(0.1)


@pytest.fixture(scope="module")
def services(postgres: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """Both processes, and commands with the same settings, away from any checkout."""
    folder = tmp_path_factory.mktemp("services")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = {"host": "127.0.0.1", "port": port, "location_name": "primero_ona"}
    (folder / "workspace.yaml").write_text(yaml.safe_dump({"load_from": [{"grpc_server": server}]}))
    with database(postgres, "services") as url, SandboxPrimero(small(40, odd=False)).serve() as primero:
        variables = {
            "DAGSTER_HOME": str(folder / "home"),
            "PRIMERO_URL": primero.url,
            "PRIMERO_USERNAME": primero.username,
            "PRIMERO_PASSWORD": primero.password,
            "ONA_DATABASE_URL": url,
            "PRIMERO_ONA_START": "2023-Q4",
            "PRIMERO_ONA_STORAGE_KEYS": Fernet.generate_key().decode(),
        }
        found = Services(Terminal(folder, variables), primero, port, folder / "workspace.yaml")
        assert found.terminal.run("schema", "apply").code == 0
        found.start_code()
        with found.instance as instance:
            # Only what the commands ask for is to run.
            repository = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("primero_ona"), "__repository__")
            sensor = repository.get_instigator_origin("watch_primero")
            instance.add_instigator_state(InstigatorState(sensor, InstigatorType.SENSOR, InstigatorStatus.STOPPED))
            found.start_daemon()
            wait_for(lambda: "QUEUED_RUN_COORDINATOR" in instance.get_daemon_heartbeats())
        assert found.terminal.run("reference", "refresh").code == 0
        yield found
        for process in (found.daemon, found.code):
            found.kill(process)


@pytest.mark.proves("queue")
def test_commands_hand_their_runs_to_the_daemon_and_say_what_came_of_them(services: Services) -> None:
    """Executed in the command's own process they were on no job's page, beside the queue, and never tried again."""
    done = services.terminal.run("backfill", "--from", "2024-Q1", "--to", "2024-Q2", "--json")
    assert done.code == 0, done.err
    outcomes = json.loads(done.out)
    assert [outcome["quarter"] for outcome in outcomes] == ["2024-Q1", "2024-Q2"]
    assert outcomes[0]["load"]["ona/cases"]["inserted"] > 0
    assert all(check["passed"] for outcome in outcomes for check in outcome["checks"] if check["severity"] == "ERROR")
    page = dg.RunsFilter(job_name="sync_quarter", tags={REPOSITORY_LABEL_TAG: "__repository__@primero_ona"})
    with services.instance as instance:
        launched = {run.run_id: run.tags for run in instance.get_runs(page)}
    assert all(GRPC_INFO_TAG in launched[outcome["run_id"]] for outcome in outcomes)
    done = services.terminal.run("remap", "--from", "2024-Q1", "--to", "2024-Q1", "--json")
    assert (done.code, json.loads(done.out)[0]["load"]["ona/cases"]["inserted"]) == (0, 0)


@pytest.mark.parametrize("ended", ["killed", "terminated"])
@pytest.mark.proves("code-server")
def test_a_run_that_died_with_its_code_server_is_tried_again_when_that_is_back(services: Services, ended: str) -> None:
    """A power cut left the run as started for half a day, and the queue waiting for it."""
    services.primero.fail("silence", seconds=30)
    following = services.ask("sync", "--quarter", "2024-Q1", "--json")
    dead = services.wait_for_run_under_way()
    if ended == "killed":
        services.kill(services.code)
        assert services.runs(dg.DagsterRunStatus.STARTED)
    else:
        os.killpg(services.code.pid, signal.SIGTERM)
        services.code.wait()
    services.primero.faults.clear()
    services.start_code()
    done = finish(following)
    assert done.code == 0, done.err
    (outcome,) = json.loads(done.out)
    runs = {run.run_id: run for run in services.runs()}
    assert runs[dead.run_id].status == dg.DagsterRunStatus.FAILURE
    assert runs[outcome["run_id"]].parent_run_id == dead.run_id
    assert not services.runs(dg.DagsterRunStatus.STARTED)


@pytest.mark.proves("code-server")
def test_stopping_the_code_server_waits_for_the_run_under_way(services: Services) -> None:
    """A restart after a change of the settings must not cost a pull of half an hour."""
    services.primero.fail("silence", seconds=6)
    following = services.ask("sync", "--quarter", "2024-Q1", "--json")
    run = services.wait_for_run_under_way()
    stopped = services.terminal.run("code-server", "stop", "-p", str(services.port))
    assert stopped.code == 0, stopped.err
    services.code.wait(20)
    assert services.runs(dg.DagsterRunStatus.SUCCESS)[0].run_id == run.run_id
    assert finish(following).code == 0
    services.start_code()


@pytest.mark.proves("queue")
def test_an_interrupted_command_says_that_its_run_goes_on_and_where(services: Services) -> None:
    """An operator who presses Ctrl-C believes that nothing is loaded any more."""
    services.primero.fail("silence", seconds=5)
    following = services.ask("sync", "--quarter", "2024-Q1")
    run = services.wait_for_run_under_way()
    following.send_signal(signal.SIGINT)
    done = finish(following)
    assert done.code == 130
    assert "goes on with what was asked" in done.err
    assert f"http://127.0.0.1:3000/runs/{run.run_id}" in done.err
    wait_for(lambda: services.runs(dg.DagsterRunStatus.SUCCESS)[0].run_id == run.run_id)
