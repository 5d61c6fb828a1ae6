"""The shipped instance, workspace and units: they load, keep quiet, and say the same as the ones for development."""

from __future__ import annotations

import configparser
import json
import os
import pwd
import re
import subprocess
import sys
import zipfile
from importlib.resources import files
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from cryptography.fernet import Fernet
from dagster._core.storage.noop_compute_log_manager import NoOpComputeLogManager
from typer.testing import CliRunner

from primero_ona.cli.app import app
from primero_ona.errors import ConfigError
from primero_ona.graph.run_guard import GuardedInstance
from primero_ona.graph.runs import ensure_home, open_instance
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


def test_the_package_has_the_very_file_of_the_checkout():
    """Two of them would differ one day, and an installation away from a checkout run without a guard."""
    assert (files("primero_ona") / "dagster.yaml").read_bytes() == (ROOT / "dagster.yaml").read_bytes()


@pytest.mark.ci
def test_the_file_is_in_what_pip_installs(tmp_path):
    """A link that is packed as a link leads nowhere."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(tmp_path),
        str(ROOT),
    ]
    subprocess.run(command, check=True, timeout=300)
    (wheel,) = tmp_path.glob("*.whl")
    assert zipfile.ZipFile(wheel).read("primero_ona/dagster.yaml") == (ROOT / "dagster.yaml").read_bytes()


#: Settings that are complete, of an installation that answers nowhere.
SETTINGS = {
    "PRIMERO_URL": "http://127.0.0.1:9", "PRIMERO_USERNAME": "a", "PRIMERO_PASSWORD": "b",
    "ONA_DATABASE_URL": "postgresql://127.0.0.1:9/ona", "PRIMERO_ONA_STORAGE_KEYS": Fernet.generate_key().decode(),
}  # fmt: skip


@pytest.mark.parametrize(
    "words",
    [
        "sync",
        "backfill --from 2024-Q1",
        "remap --from 2024-Q1",
        "reference refresh",
        "verify",
        "metrics",
        "purge --before 2024-Q1",
        "dev",
    ],
)
def test_away_from_a_checkout_no_command_runs_without_a_home(words, tmp_path, monkeypatch):
    """It ran on Dagster's defaults, in a folder of its own that nothing else looked at."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    result = CliRunner().invoke(app, words.split())
    assert isinstance(result.exception, ConfigError)
    assert "DAGSTER_HOME must be an absolute path" in str(result.exception)
    assert not list(tmp_path.iterdir())


def test_a_home_gets_our_settings_of_dagster_and_none_that_another_storage_needs(tmp_path, monkeypatch):
    """Dagster's own: telemetry is on, and what steps print is kept for all to read."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    with open_instance() as instance:
        assert isinstance(instance, GuardedInstance)
        assert isinstance(instance.compute_log_manager, NoOpComputeLogManager)
        assert not instance.telemetry_enabled
    assert (tmp_path / "home").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o077 for path in (tmp_path / "home").glob("dagster.yaml")} == {0}
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "other"))
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", "postgresql+psycopg2://dagster@/dagster")
    with pytest.raises(ConfigError, match=r"copy deploy/dagster\.yaml there"):
        ensure_home()


def test_the_command_of_an_installation_has_the_services_settings_and_user(tmp_path):
    """By hand they were typed, or forgotten; as root it left files in the services' folder that they could not read."""
    command = tmp_path / "primero-ona"
    user = pwd.getpwuid(os.geteuid()).pw_name
    text = (ROOT / "deploy" / "primero-ona").read_text()
    replaced = {
        "user=primero-ona": f"user={user}", "/etc/primero-ona/environment": f"{tmp_path}/environment",
        "code=/opt/primero-ona": f"code={tmp_path}", "home=/var/lib/primero-ona": f"home={tmp_path}/home",
    }  # fmt: skip
    for old, new in replaced.items():
        assert old in text
        text = text.replace(old, new)
    command.write_text(text)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    inner = tmp_path / ".venv" / "bin" / "primero-ona"
    inner.write_text('#!/bin/sh\nprintf "%s|" "$@" "$PLAIN" "$QUOTED" "$DAGSTER_HOME" "$(umask)" "$PWD"\n')
    for path in (command, inner):
        path.chmod(0o755)
    (tmp_path / "environment").write_text("# a comment\n\nPLAIN=$(id) a b=c\nQUOTED=\"x 'y'\"\n")
    done = subprocess.run([command, "sync", "--quarter", "a b"], capture_output=True, text=True, check=True, timeout=60)
    words = ["sync", "--quarter", "a b", "$(id) a b=c", "x 'y'", f"{tmp_path}/home", "0077", str(tmp_path)]
    assert done.stdout.split("|")[:-1] == words
    command.write_text(text.replace(f"user={user}", "user=nobody"))
    asked = subprocess.run(["/bin/sh", command], capture_output=True, text=True, check=False, timeout=60)
    assert os.geteuid() == 0 or (asked.returncode, "run this as root or as nobody" in asked.stderr) == (2, True)


def test_the_daemon_stops_before_the_code_server_and_starts_when_that_answers():
    """It launched runs into a code server that was not there, and gave up what had died with the one before."""
    code, daemon = (
        configured(ROOT / "deploy" / "systemd" / f"primero-ona-{name}.service") for name in ("code", "daemon")
    )
    assert "code-server ready" in code["Service"]["ExecStartPost"]
    assert "code-server stop" in code["Service"]["ExecStop"]
    assert int(code["Service"]["TimeoutStopSec"]) > 840
    assert daemon["Unit"]["PartOf"] == "primero-ona-code.service"
    assert "primero-ona-code.service" in daemon["Unit"]["After"].split()


def service_of(unit: Path) -> Any:
    """The section [Service] of a unit."""
    return configured(unit)["Service"]


def configured(unit: Path) -> Any:
    """A unit's sections."""
    found = configparser.ConfigParser(strict=False, interpolation=None)
    found.optionxform = str  # type: ignore[assignment, method-assign]
    found.read(unit)
    return found


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
@pytest.mark.proves("ui")
def test_each_service_listens_here_only_and_leaves_no_files_for_others(unit):
    """A webserver on 0.0.0.0 is open to the network, whatever stands before it."""
    service = service_of(unit)
    command = service["ExecStart"]
    if "metrics" in unit.stem:
        assert "--address 127.0.0.1" in command
    elif "daemon" not in unit.stem:
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
