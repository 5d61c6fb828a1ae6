"""`doctor` on a whole installation, and with each thing in it broken: the line says what to do, the exit code which kind it is."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

import dagster as dg
import pytest
from cryptography.fernet import Fernet
from dagster._daemon.types import DaemonHeartbeat
from typer.testing import CliRunner

from primero_ona.cli.app import app
from primero_ona.cli.common import apply_schema, refresh_reference, sync_quarters
from primero_ona.cli.doctor import diagnose
from primero_ona.cli.output import exit_code
from primero_ona.errors import Diagnosis
from primero_ona.graph.assets.quarterly import PRIMERO
from primero_ona.graph.machine import fingerprint
from primero_ona.graph.runs import open_instance
from primero_ona.ona.diagnosis import diagnose as diagnose_ona
from primero_ona.quarters import current_quarter
from primero_ona.sandbox.cases import Wish
from primero_ona.sandbox.primero import SandboxPrimero
from primero_ona.settings import GROUPS
from primero_ona_tests import quick
from primero_ona_tests.cli.broken_installation import (
    BROKEN,
    CLOSED_PORT,
    OTHER_KEY,
    ROOT,
    Installation,
    as_loader,
)
from primero_ona_tests.harness import database

OPEN = current_quarter()


@pytest.fixture(scope="module")
def whole(postgres: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Two quarters synced, the last one closed, a daemon alive, Primero seen: all that has to be is."""
    home = tmp_path_factory.mktemp("doctor") / "home"
    home.mkdir(mode=0o700)
    shutil.copyfile(ROOT / "dagster.yaml", home / "dagster.yaml")
    key = Fernet.generate_key().decode()
    wish = Wish(60, seed=5, now=datetime.now(UTC), quarters=2, odd=False)
    with database(postgres, "doctor") as url, SandboxPrimero(wish).serve() as primero:
        variables = {
            "DAGSTER_HOME": str(home), "PRIMERO_URL": primero.url, "PRIMERO_USERNAME": primero.username,
            "PRIMERO_PASSWORD": primero.password, "ONA_DATABASE_URL": url, "PRIMERO_ONA_START": OPEN.previous().name,
            "PRIMERO_ONA_STORAGE_KEYS": key, "PRIMERO_ONA_KEYS_BACKUP": fingerprint(key),
            "PRIMERO_ONA_ALERT_URLS": "jsons://alerts.example.org/path",
        }  # fmt: skip
        with mock.patch.dict(os.environ, variables):
            apply_schema()
            assert refresh_reference().kind is None
            assert not any(outcome.kind for outcome in sync_quarters([OPEN.previous(), OPEN], quiet=True))
            with open_instance() as instance:
                instance.report_runless_asset_event(dg.AssetMaterialization(PRIMERO.key))
                for kind in instance.get_required_daemon_types():
                    instance.add_daemon_heartbeat(DaemonHeartbeat(time.time() + 3_600, kind, None, None))
        yield Installation(variables, primero, url, home)


def look(installation: Installation) -> list[Diagnosis]:
    with mock.patch.dict(os.environ, installation.variables):
        return list(diagnose())


#: Some of each area, where not all tests run.
QUICK = (
    "setting missing",
    "ONA without TLS",
    "Primero's port",
    "Primero's certificate",
    "Primero's login",
    "a field that was shown",
    "Primero's clock",
    "a table",
    "a type",
    "a right",
    "read-only",
    "the keys",
    "an open folder",
    "history of another version",
    "daemon",
    "sensor off",
    "open quarter",
    "proof",
    "an alert in the clear",
)


@pytest.mark.parametrize("name", quick(BROKEN, *QUICK))
@pytest.mark.proves("doctor")
def test_each_thing_broken_is_named_with_what_to_do(whole: Installation, name: str) -> None:
    """The rest is looked at all the same, and no secret is in any line."""
    breaking, area, what, code, words = BROKEN[name]
    with mock.patch.dict(os.environ, whole.variables), breaking(whole):
        lines = list(diagnose())
    failed = [line for line in lines if line.state == "failed"]
    (line,) = [line for line in failed if (line.area, line.what) == (area, what)]
    assert (exit_code(line.kind), words in line.text) == (code, True), line
    assert {line.area for line in lines} == {"settings", "Primero", "ONA", "storage", "Dagster", "alerts"}
    shown = json.dumps([vars(line) for line in lines])
    assert not [secret for secret in ("s3cret", whole.primero.password, OTHER_KEY) if secret in shown]


def test_a_case_out_of_the_accounts_scope_is_found_by_asking_for_it(whole: Installation) -> None:
    """Primero leaves such cases out without a word."""
    with mock.patch("primero_ona.primero.diagnosis.presence_of", side_effect=lambda *_: "out of scope"):
        (line,) = [line for line in look(whole) if line.what == "scope"]
    assert (exit_code(line.kind), "scope `all`" in line.text) == (3, True)


def test_the_exit_code_is_that_of_the_worst_line_and_json_has_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A script, or a health check, decides by it."""
    monkeypatch.chdir(tmp_path)
    for group in GROUPS:
        for field in group.model_fields.values():
            monkeypatch.delenv(str(field.validation_alias), raising=False)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    result = CliRunner().invoke(app, ["doctor", "--json"])
    found = json.loads(result.stdout)
    assert (result.exit_code, found["exit_code"]) == (2, 2)
    assert found["exit_code"] == max(line["exit_code"] for line in found["lines"])
    assert {line["area"] for line in found["lines"] if line["state"] == "not looked at"} == {
        "Primero",
        "ONA",
        "storage",
    }
    assert not (tmp_path / "home").exists()
    text = CliRunner().invoke(app, ["doctor"]).stdout
    assert "PRIMERO_URL is not set" in text
    assert "need something to be done" in text


def test_rights_that_others_hold_are_pointed_out_where_there_are_roles(whole: Installation) -> None:
    """A login that was granted the tables years ago reads them still."""
    with as_loader("DO $$ BEGIN CREATE ROLE ona_loader; EXCEPTION WHEN duplicate_object THEN NULL; END $$")(whole):
        lines = {line.what: line for line in diagnose_ona(whole.url, insecure=False)}
    whole.sql("DROP ROLE ona_loader")
    assert (lines["others"].state, "schema roles" in lines["others"].text) == ("warning", True)


def test_a_primero_of_a_version_that_is_not_tested_is_a_warning(whole: Installation) -> None:
    """It may work, or count otherwise; only a comparison shows it."""
    with mock.patch.object(whole.primero.switches, "version", "2.16.0"):
        (line,) = [line for line in look(whole) if (line.area, line.what) == ("Primero", "version")]
    assert (line.state, "2.16.0" in line.text, "`primero-ona verify`" in line.text) == ("warning", True, True)


@pytest.mark.proves("doctor")
def test_where_a_server_is_not_reached_the_address_to_list_is_named(whole: Installation) -> None:
    """ONA's administrators admit listed addresses only, and no operator knows that of this machine by heart."""
    with (
        mock.patch("primero_ona.ona.diagnosis.is_local", return_value=False),
        mock.patch.dict(os.environ, {**whole.variables, "ONA_DATABASE_URL": CLOSED_PORT}),
    ):
        (line,) = [line for line in diagnose() if line.what == "our address"]
    assert "goes out to 127.0.0.1 from 127.0.0.1" in line.text
    assert "that of the router on the way" in line.text


def test_after_all_that_each_line_is_well(whole: Installation) -> None:
    """Each test above has repaired what it broke; and an operator who reads a fault that is none stops reading."""
    lines = look(whole)
    assert {(line.area, line.what) for line in lines if line.state != "ok"} == {("ONA", "role")}, lines
    assert {line.area for line in lines} == {"settings", "Primero", "ONA", "storage", "Dagster", "alerts"}
    assert not any(line.kind for line in lines)
