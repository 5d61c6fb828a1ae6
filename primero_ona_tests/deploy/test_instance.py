"""The shipped instance, workspace and units: they load, keep quiet, and say the same as the ones for development."""

from __future__ import annotations

import configparser
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from primero_ona.errors import ConfigError
from primero_ona_tests.harness import database

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "nftables.conf"
UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))


def read(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text())


def test_the_production_instance_keeps_its_history_in_postgresql(postgres, monkeypatch, tmp_path):
    """With a plain postgresql:// Dagster fails at its first event, after everything else seemed to work."""
    with database(postgres, "dagster") as url:
        monkeypatch.setenv("DAGSTER_POSTGRES_URL", url.replace("postgresql://", "postgresql+psycopg2://"))
        (tmp_path / "dagster.yaml").write_text((ROOT / "deploy" / "dagster.yaml").read_text())

        @dg.op
        def nothing() -> None: ...

        @dg.job
        def tiny() -> None:
            nothing()

        with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
            run = tiny.execute_in_process(instance=instance)
            assert run.success
            assert instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.SUCCESS
            assert not instance.telemetry_enabled
            instance.run_storage.dispose()
            instance.event_log_storage.dispose()
            instance.schedule_storage.dispose()


@pytest.mark.proves("dagster-database")
def test_no_process_of_dagster_opens_an_unverified_connection_to_its_database(monkeypatch, tmp_path):
    """A webserver loads none of this project's graph; it, too, must not send the password in the clear."""
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", "postgresql+psycopg2://dagster:hunter2@dagster.example.org/dagster")
    (tmp_path / "dagster.yaml").write_text((ROOT / "deploy" / "dagster.yaml").read_text())
    with pytest.raises(ConfigError, match="sslmode=verify-full"):
        dg.DagsterInstance.from_config(str(tmp_path)).get_runs()


def test_production_differs_from_development_in_its_storage_only():
    """A guard that is in one of the two files only is found missing in production."""
    ours, theirs = read("deploy/dagster.yaml"), read("dagster.yaml")
    assert {name: value for name, value in ours.items() if name != "storage"} == theirs
    assert theirs["telemetry"] == {"enabled": False}
    assert theirs["compute_logs"]["class"] == "NoOpComputeLogManager"


def test_the_code_location_has_one_name_for_ever():
    """Under another name the sensor's cursor is lost, and every change of years is asked for again."""
    names = [
        next(iter(entry.values()))["location_name"]
        for path in ("workspace.yaml", "deploy/workspace.yaml")
        for entry in read(path)["load_from"]
    ]
    assert names == ["primero_ona", "primero_ona"]


def service_of(unit: Path) -> Any:
    """The section [Service] of a unit."""
    found = configparser.ConfigParser(strict=False, interpolation=None)
    found.optionxform = str  # type: ignore[assignment, method-assign]
    found.read(unit)
    return found["Service"]


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
@pytest.mark.proves("ui")
def test_each_service_listens_here_only_and_leaves_no_files_for_others(unit):
    """A webserver on 0.0.0.0 is open to the network, whatever stands before it."""
    service = service_of(unit)
    command = service["ExecStart"]
    if "daemon" not in unit.stem:
        assert "-h 127.0.0.1" in command
        assert service["ExecStartPre"] == "+/usr/sbin/nft list table inet primero_ona"
        (port,) = re.findall(r"-p (\d+)", command)
        assert re.search(rf"tcp dport ({port}|{{[^}}]*\b{port}\b[^}}]*}}) meta skuid", RULES.read_text())
    assert ("--read-only" in command) == ("viewers" in unit.stem)
    assert (service["UMask"], service["LimitCORE"]) == ("0077", "0")
    assert service["MemoryMax"].endswith("G")
    assert "DAGSTER_REDACT_USER_CODE_ERRORS=1" in service["Environment"]
    assert "PASSWORD" not in unit.read_text()


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
@pytest.mark.proves("webserver")
def test_a_webserver_reaches_no_key_no_secret_and_no_partition(unit):
    """It is the process that the network talks to."""
    service = service_of(unit)
    if "dagster-webserver" not in service["ExecStart"]:
        assert (service["User"], service["EnvironmentFile"]) == ("primero-ona", "/etc/primero-ona/environment")
        assert "DAGSTER_HOME=/var/lib/primero-ona " in service["Environment"]
        return
    assert (service["User"], service["EnvironmentFile"]) == ("primero-ona-web", "/etc/primero-ona/webserver")
    assert {"/var/lib/primero-ona", "/etc/primero-ona"} <= set(service["InaccessiblePaths"].split())
    assert "DAGSTER_HOME=/var/lib/primero-ona-web " in service["Environment"]
    assert service["StateDirectory"] == "primero-ona-web"
    # Nor does the guide give it any by the one file that it is started with.
    guide = (ROOT / "docs" / "deployment.md").read_text()
    (lines,) = re.findall(r"`/etc/primero-ona/webserver`[^`]*```\n(.*?)```", guide, re.DOTALL)
    assert [line.split("=")[0] for line in lines.split()] == ["DAGSTER_POSTGRES_URL"]


@pytest.mark.proves("password-cost")
def test_hashes_of_passwords_are_made_at_a_cost():
    """At 8 a stolen file gives up a weak password in an hour; nginx computes one for each request, so not at 12 either."""
    costs = re.findall(r"htpasswd -B -C (\d+)", (ROOT / "docs" / "deployment.md").read_text())
    assert costs
    assert all(10 <= int(cost) <= 11 for cost in costs)


@pytest.mark.ci
@pytest.mark.proves("other-accounts")
def test_other_accounts_of_the_machine_do_not_reach_the_ports():
    """The operators' webserver starts runs for each that connects: any account of the machine had an operator's rights."""
    users = {"www-data": 33, "primero-ona": 61_001, "primero-ona-web": 61_002, "nobody": 65_534}
    rules = RULES.read_text()
    for name, number in users.items():
        rules = rules.replace(f'"{name}"', str(number))
    answer = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", KNOCK, json.dumps([rules, [0, *users.values()]])],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    root, nginx, code, web, stranger = json.loads(answer.stdout)
    assert root == [3000, 3001, 4000, 5000]
    assert nginx == [3000, 3001, 5000]
    assert code == web == [4000, 5000]
    assert stranger == [5000]


#: In a network of its own: load rules, listen, and print which ports each user reaches.
KNOCK = """
import fcntl, json, os, socket, struct, subprocess, sys
rules, users = json.loads(sys.argv[1])
PORTS = [3000, 3001, 4000, 5000]
with socket.socket() as control:  # lo is down in a new network
    fcntl.ioctl(control, 0x8914, struct.pack("16sH14s", b"lo", 0x1 | 0x40, b""))
environment = {**os.environ, "PATH": "/usr/sbin:/usr/bin:/sbin"}
subprocess.run(["nft", "-f", "-"], input=rules.encode(), check=True, env=environment)
listening = [socket.create_server(("127.0.0.1", port)) for port in PORTS]
found = []
for user in users:
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.setuid(user)
        reached = [port for port in PORTS if socket.socket().connect_ex(("127.0.0.1", port)) == 0]
        os.write(writing, json.dumps(reached).encode())
        os._exit(0)
    os.close(writing)
    found.append(json.loads(os.read(reading, 1000)))
print(json.dumps(found))
"""
