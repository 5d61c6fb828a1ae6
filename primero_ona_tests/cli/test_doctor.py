"""`doctor` on a whole installation, and with each thing in it broken: the line says what to do, the exit code which kind it is."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import dagster as dg
import psycopg
import pytest
from cryptography.fernet import Fernet
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import (
    InProcessCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, SensorInstigatorData
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._daemon.types import DaemonHeartbeat
from typer.testing import CliRunner

from primero_ona.cli.app import app
from primero_ona.cli.common import apply_schema, sync_quarters
from primero_ona.cli.doctor import diagnose
from primero_ona.diagnosis import Diagnosis
from primero_ona.graph.assets.raw import PRIMERO
from primero_ona.graph.runs import open_instance
from primero_ona.quarters import current_quarter
from primero_ona.sandbox.cases import Wish
from primero_ona.sandbox.primero import SandboxPrimero
from primero_ona.settings import GROUPS
from primero_ona.storage.diagnosis import fingerprint
from primero_ona_tests.certificates import Authority
from primero_ona_tests.cli.test_cli import ROOT
from primero_ona_tests.harness import database

OPEN = current_quarter()


@dataclass
class Installation:
    """A whole one: the variables, the sandbox behind them, ONA's database, and the folder of Dagster and the partitions."""

    variables: dict[str, str]
    primero: SandboxPrimero
    url: str
    home: Path

    def sql(self, *statements: str) -> None:
        with psycopg.connect(self.url, autocommit=True) as conn:
            for statement in statements:
                conn.execute(statement.encode())


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
            assert not any(outcome.exit_code for outcome in sync_quarters([OPEN.previous(), OPEN], quiet=True))
            with open_instance() as instance:
                instance.report_runless_asset_event(dg.AssetMaterialization(PRIMERO.key))
                for kind in instance.get_required_daemon_types():
                    instance.add_daemon_heartbeat(DaemonHeartbeat(time.time() + 3_600, kind, None, None))
        yield Installation(variables, primero, url, home)


@contextmanager
def variables(_: Installation, **changed: str) -> Iterator[None]:
    with mock.patch.dict(os.environ, changed):
        yield


def setting(**changed: str) -> Any:
    return lambda installation: variables(installation, **changed)


def attribute(name: str, value: Any) -> Any:
    return lambda _: mock.patch(name, value)


def ona(break_: str, mend: str) -> Any:
    """ONA's database is changed, and changed back."""

    @contextmanager
    def breaking(installation: Installation) -> Iterator[None]:
        installation.sql(break_)
        try:
            yield
        finally:
            installation.sql(mend)

    return breaking


def as_loader(revoke: str) -> Any:
    """ONA is asked by a login that may load but for one thing."""

    @contextmanager
    def breaking(installation: Installation) -> Iterator[None]:
        installation.sql(
            "DROP ROLE IF EXISTS a_loader; CREATE ROLE a_loader LOGIN; GRANT USAGE ON SCHEMA public, primero_sync TO a_loader;"
            "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public, primero_sync TO a_loader;"
            f"GRANT USAGE ON SEQUENCE primero_sync.pulls TO a_loader; {revoke}"
        )
        try:
            with variables(installation, ONA_DATABASE_URL=installation.url.replace("postgres:", "a_loader:", 1)):
                yield
        finally:
            installation.sql("DROP OWNED BY a_loader; DROP ROLE a_loader")

    return breaking


def primero(break_: Callable[[SandboxPrimero], Any]) -> Any:
    """The sandbox misbehaves."""

    @contextmanager
    def breaking(installation: Installation) -> Iterator[None]:
        break_(installation.primero)
        try:
            yield
        finally:
            installation.primero.faults.clear()
            for names in (installation.primero.role.refused, installation.primero.role.withheld):
                names.clear()
            installation.primero.role.owner = None

    return breaking


def on_disk(break_: Callable[[Path], Any], mend: Callable[[Path], Any]) -> Any:
    """Something in DAGSTER_HOME is changed, and changed back."""

    @contextmanager
    def breaking(installation: Installation) -> Iterator[None]:
        break_(installation.home)
        try:
            yield
        finally:
            mend(installation.home)

    return breaking


def alembic(version: str) -> Callable[[Path], None]:
    def change(home: Path) -> None:
        with sqlite3.connect(home / "history" / "runs.db") as conn:
            kept = conn.execute("SELECT version_num FROM alembic_version").fetchone()[0]
            (home / "kept").write_text(kept) if version else None
            conn.execute("UPDATE alembic_version SET version_num = ?", (version or (home / "kept").read_text(),))

    return change


def switched(status: InstigatorStatus) -> Callable[[Path], None]:
    def change(_: Path) -> None:
        target = LoadableTargetOrigin(module_name="primero_ona.definitions")
        origin = RemoteInstigatorOrigin(
            RemoteRepositoryOrigin(InProcessCodeLocationOrigin(target, location_name="primero_ona"), "__repository__"),
            "watch_primero",
        )
        state = InstigatorState(origin, InstigatorType.SENSOR, status, SensorInstigatorData(min_interval=900))
        with open_instance() as instance:
            known = instance.get_instigator_state(state.instigator_origin_id, state.selector_id)
            instance.update_instigator_state(state) if known else instance.add_instigator_state(state)

    return change


@contextmanager
def later(_: Installation, **by: float) -> Iterator[None]:
    """The clock of the look at ages stands in the future."""
    moment = datetime.now(UTC) + timedelta(**by)
    with mock.patch("primero_ona.cli.doctor.datetime") as clock:
        clock.now.return_value = moment
        yield


def in_future(**by: float) -> Any:
    return lambda installation: later(installation, **by)


def without_pauses(**changed: str) -> Any:
    """A setting is changed, and the pauses between attempts are none."""

    @contextmanager
    def breaking(installation: Installation) -> Iterator[None]:
        with variables(installation, **changed), mock.patch("primero_ona.primero.client.time.sleep"):
            yield

    return breaking


@contextmanager
def untrusted(installation: Installation) -> Iterator[None]:
    """A server with the certificate of an authority that this machine does not know."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*Authority(installation.home.parent).issue("127.0.0.1"))

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with suppress(OSError), connection:
                    context.wrap_socket(connection, server_side=True).close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        with variables(installation, PRIMERO_URL=f"https://127.0.0.1:{listener.getsockname()[1]}"):
            yield


WRONG = datetime.now(UTC) + timedelta(hours=2)
CLOSED_PORT = "postgresql://sync:s3cret@127.0.0.1:9/ona"
OTHER_KEY = Fernet.generate_key().decode()

BROKEN: dict[str, tuple[Any, str, str, int, str]] = {
    "setting missing": (setting(PRIMERO_URL=""), "settings", "Primero", 2, "PRIMERO_URL is not set"),
    "setting malformed": (setting(ONA_DATABASE_URL="mysql://x"), "settings", "ONA", 2, "must start with postgresql://"),
    "alert setting malformed": (
        setting(PRIMERO_ONA_STALE_HOURS="0"),
        "settings",
        "alerts",
        2,
        "PRIMERO_ONA_STALE_HOURS is mal",
    ),
    "Primero without TLS": (
        setting(PRIMERO_URL="http://primero.example.org"),
        "settings",
        "connection to Primero",
        2,
        "write https://",
    ),
    "ONA without TLS": (
        setting(ONA_DATABASE_URL="postgresql://u:s3cret@ona.example.org/x"),
        "settings",
        "connection to ONA",
        2,
        "sslmode=verify-full",
    ),
    "Dagster's database without TLS": (
        setting(DAGSTER_POSTGRES_URL="postgresql+psycopg2://u:s3cret@d.example.org/x"),
        "settings",
        "connection to Dagster's database",
        2,
        "sslmode=verify-full",
    ),
    "Primero's name": (setting(PRIMERO_URL="https://primero.invalid"), "Primero", "name", 3, "check the address"),
    "Primero's port": (
        without_pauses(PRIMERO_URL="http://127.0.0.1:9"),
        "Primero",
        "connection",
        3,
        "check the network",
    ),
    "Primero's certificate": (untrusted, "Primero", "connection", 3, "PRIMERO_CA_BUNDLE"),
    "Primero's login": (setting(PRIMERO_PASSWORD="s3cret"), "Primero", "login", 3, "check PRIMERO_USERNAME"),
    "Primero's cases": (primero(lambda p: p.role.refused.add("cases")), "Primero", "cases", 3, "needs read permission"),
    "Primero's scope": (primero(lambda p: setattr(p.role, "owner", "nobody")), "Primero", "cases", 3, "scope `all`"),
    "an essential field": (
        primero(lambda p: p.role.withheld.add("type_of_case")),
        "Primero",
        "fields",
        3,
        "type_of_case",
    ),
    "a field that was shown": (
        primero(lambda p: p.role.withheld.add("oscar_number")),
        "Primero",
        "fields",
        3,
        "fields accept",
    ),
    "Primero's clock": (
        attribute(
            "primero_ona.primero.client.PrimeroClient._note_time",
            lambda client, _: setattr(client, "server_time", WRONG),
        ),
        "Primero",
        "clock",
        3,
        "time server",
    ),
    "ONA's name": (
        setting(ONA_DATABASE_URL="postgresql://u:s3cret@ona.invalid/x?sslmode=verify-full"),
        "ONA",
        "name",
        3,
        "name server",
    ),
    "ONA's port": (setting(ONA_DATABASE_URL=CLOSED_PORT), "ONA", "connection", 3, "check host and port"),
    "a table": (
        ona("ALTER TABLE services RENAME TO kept", "ALTER TABLE kept RENAME TO services"),
        "ONA",
        "tables",
        1,
        "`schema apply`",
    ),
    "a column": (
        ona("ALTER TABLE cases RENAME sex TO kept", "ALTER TABLE cases RENAME kept TO sex"),
        "ONA",
        "tables",
        1,
        "cases has no sex",
    ),
    "a constraint": (
        ona(
            "DROP INDEX primero_ona_cases_primero_id_key",
            "CREATE UNIQUE INDEX primero_ona_cases_primero_id_key ON cases (primero_id)",
        ),
        "ONA",
        "tables",
        1,
        "cases.primero_id must hold every value once",
    ),
    "an obstacle": (
        ona(
            "ALTER TABLE cases ADD needed integer NOT NULL DEFAULT 0; ALTER TABLE cases ALTER needed DROP DEFAULT",
            "ALTER TABLE cases DROP needed",
        ),
        "ONA",
        "tables",
        1,
        "cases.needed must not be empty",
    ),
    "a type": (
        ona(
            "ALTER TABLE cases RENAME sex TO kept; ALTER TABLE cases ADD sex integer",
            "ALTER TABLE cases DROP sex; ALTER TABLE cases RENAME kept TO sex",
        ),
        "ONA",
        "types",
        1,
        "cases.sex is integer, not text",
    ),
    "a right": (
        as_loader("REVOKE DELETE ON services FROM a_loader"),
        "ONA",
        "rights",
        3,
        "DELETE on public.services; ask",
    ),
    "a right on the books": (
        as_loader("REVOKE INSERT ON primero_sync.runs FROM a_loader"),
        "ONA",
        "rights",
        3,
        "INSERT on primero_sync.runs",
    ),
    "the numbers of pulls": (
        as_loader("REVOKE USAGE ON SEQUENCE primero_sync.pulls FROM a_loader"),
        "ONA",
        "rights",
        3,
        "sequence primero_sync.pulls",
    ),
    "read-only": (
        lambda i: variables(i, ONA_DATABASE_URL=f"{i.url}&options=-c%20default_transaction_read_only%3Don"),
        "ONA",
        "server",
        3,
        "main server",
    ),
    "the keys": (
        setting(PRIMERO_ONA_STORAGE_KEYS=OTHER_KEY, PRIMERO_ONA_KEYS_BACKUP=fingerprint(OTHER_KEY)),
        "storage",
        "keys and folder",
        2,
        "add the key",
    ),
    "no copy of the keys": (
        setting(PRIMERO_ONA_KEYS_BACKUP=""),
        "storage",
        "copy of the keys",
        2,
        "then set PRIMERO_ONA_KEYS_BACKUP=",
    ),
    "an open folder": (
        on_disk(lambda home: (home / "partitions").chmod(0o777), lambda home: (home / "partitions").chmod(0o700)),
        "storage",
        "keys and folder",
        2,
        "chmod o-w",
    ),
    "space": (setting(PRIMERO_ONA_LEAST_SPACE_GB="1000000"), "storage", "space", 3, "free some"),
    "relative home": (setting(DAGSTER_HOME="home"), "Dagster", "DAGSTER_HOME", 2, "absolute path"),
    "no dagster.yaml": (
        on_disk(
            lambda home: (home / "dagster.yaml").rename(home / "kept.yaml"),
            lambda home: (home / "kept.yaml").rename(home / "dagster.yaml"),
        ),
        "Dagster",
        "DAGSTER_HOME",
        2,
        "copy ours there",
    ),
    "an older dagster.yaml": (
        on_disk(
            lambda home: (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n"),
            lambda home: shutil.copyfile(ROOT / "dagster.yaml", home / "dagster.yaml"),
        ),
        "Dagster",
        "dagster.yaml",
        2,
        "copy ours there",
    ),
    "history of another version": (
        on_disk(alembic("7f2b1a4ca7a5"), alembic("")),
        "Dagster",
        "storage",
        2,
        "`dagster instance migrate`",
    ),
    "daemon": (
        attribute("dagster._daemon.controller.get_current_timestamp", lambda: time.time() + 7_200),
        "Dagster",
        "daemon",
        3,
        "start it",
    ),
    "an alert in the clear": (
        setting(PRIMERO_ONA_ALERT_URLS="json://u:s3cret@alerts.example.org/path"),
        "alerts",
        "look",
        2,
        "without a verified connection",
    ),
    "sensor off": (
        on_disk(switched(InstigatorStatus.STOPPED), switched(InstigatorStatus.RUNNING)),
        "Dagster",
        "automation",
        2,
        "watch_primero; switch on",
    ),
    "Primero not seen": (in_future(hours=4), "Dagster", "Primero seen", 3, "saw Primero last at"),
    "open quarter": (in_future(hours=25), "Dagster", "newest sync", 1, "`primero-ona sync`"),
    "closing": (in_future(days=93 + 6), "Dagster", "closing", 1, "was to be closed at"),
    "proof": (in_future(days=33), "Dagster", "proof", 1, "`primero-ona verify`"),
}

WRONG = datetime.now(UTC) + timedelta(hours=2)


def look(installation: Installation) -> list[Diagnosis]:
    with mock.patch.dict(os.environ, installation.variables):
        return list(diagnose())


@pytest.mark.parametrize("name", BROKEN)
def test_each_thing_broken_is_named_with_what_to_do(whole: Installation, name: str) -> None:
    """The rest is looked at all the same, and no secret is in any line."""
    breaking, area, what, code, words = BROKEN[name]
    with mock.patch.dict(os.environ, whole.variables), breaking(whole):
        lines = list(diagnose())
    failed = [line for line in lines if line.state == "failed"]
    (line,) = [line for line in failed if (line.area, line.what) == (area, what)]
    assert (line.exit_code, words in line.text) == (code, True), line
    assert {line.area for line in lines} == {"settings", "Primero", "ONA", "storage", "Dagster", "alerts"}
    shown = json.dumps([vars(line) for line in lines])
    assert not [secret for secret in ("s3cret", whole.primero.password, OTHER_KEY) if secret in shown]


def test_a_case_out_of_the_accounts_scope_is_found_by_asking_for_it(whole: Installation) -> None:
    """Primero leaves such cases out without a word."""
    with mock.patch("primero_ona.primero.diagnosis.presence_of", side_effect=lambda *_: "out of scope"):
        (line,) = [line for line in look(whole) if line.what == "scope"]
    assert (line.exit_code, "scope `all`" in line.text) == (3, True)


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
    assert not any(line.exit_code for line in lines)
