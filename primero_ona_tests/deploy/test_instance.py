"""The shipped instance, workspace and units: they load, keep quiet, and say the same as the ones for development."""

from __future__ import annotations

import configparser
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from primero_ona.failures import SettingsFailure
from primero_ona_tests.graph import database

ROOT = Path(__file__).parents[2]
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


def test_no_process_of_dagster_opens_an_unverified_connection_to_its_database(monkeypatch, tmp_path):
    """A webserver loads none of this project's graph; it, too, must not send the password in the clear."""
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", "postgresql+psycopg2://dagster:hunter2@dagster.example.org/dagster")
    (tmp_path / "dagster.yaml").write_text((ROOT / "deploy" / "dagster.yaml").read_text())
    with pytest.raises(SettingsFailure, match="sslmode=verify-full"):
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


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_each_service_listens_here_only_and_leaves_no_files_for_others(unit):
    """A webserver on 0.0.0.0 is open to the network, whatever stands before it."""
    found = configparser.ConfigParser(strict=False, interpolation=None)
    found.optionxform = str  # type: ignore[assignment, method-assign]
    found.read(unit)
    service = found["Service"]
    command = service["ExecStart"]
    if "daemon" not in unit.stem:
        assert "-h 127.0.0.1" in command
    assert ("--read-only" in command) == ("viewers" in unit.stem)
    assert (service["UMask"], service["LimitCORE"], service["User"]) == ("0077", "0", "primero-ona")
    assert "DAGSTER_REDACT_USER_CODE_ERRORS=1" in service["Environment"]
    assert "PASSWORD" not in unit.read_text()
