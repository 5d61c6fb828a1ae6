"""A whole installation, and each thing in it that the tests of `doctor` break: how, and what its line must say."""

from __future__ import annotations

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

import psycopg
from cryptography.fernet import Fernet
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import (
    InProcessCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, SensorInstigatorData
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

from primero_ona.graph.machine import fingerprint
from primero_ona.graph.runs import open_instance
from primero_ona.sandbox.primero import SandboxPrimero
from primero_ona_tests.certificates import Authority


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


@contextmanager
def variables(_: Installation, **changed: str) -> Iterator[None]:
    with mock.patch.dict(os.environ, changed):
        yield


def setting(**changed: str) -> Any:
    return lambda installation: variables(installation, **changed)


def attribute(name: str, value: Any) -> Any:
    return lambda _: mock.patch(name, value)


def ona(break_: str, repair: str) -> Any:
    """ONA's database is changed, and changed back."""

    @contextmanager
    def breaking(installation: Installation) -> Iterator[None]:
        installation.sql(break_)
        try:
            yield
        finally:
            installation.sql(repair)

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


def on_disk(break_: Callable[[Path], Any], repair: Callable[[Path], Any]) -> Any:
    """Something in DAGSTER_HOME is changed, and changed back."""

    @contextmanager
    def breaking(installation: Installation) -> Iterator[None]:
        break_(installation.home)
        try:
            yield
        finally:
            repair(installation.home)

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


ROOT = Path(__file__).parents[2]
CLOSED_PORT = "postgresql://sync:s3cret@127.0.0.1:9/ona"
OTHER_KEY = Fernet.generate_key().decode()

BROKEN: dict[str, tuple[Any, str, str, int, str]] = {
    "setting missing": (setting(PRIMERO_URL=""), "settings", "Primero", 2, "PRIMERO_URL is not set"),
    "setting malformed": (setting(ONA_DATABASE_URL="mysql://x"), "settings", "ONA", 2, "must start with postgresql://"),
    "alert setting malformed": (
        setting(PRIMERO_ONA_STALE_HOURS="0"),
        "settings", "alerts", 2, "PRIMERO_ONA_STALE_HOURS is mal",
    ),
    "Primero without TLS": (
        setting(PRIMERO_URL="http://primero.example.org"),
        "settings", "connection to Primero", 2, "write https://",
    ),
    "ONA without TLS": (
        setting(ONA_DATABASE_URL="postgresql://u:s3cret@ona.example.org/x"),
        "settings", "connection to ONA", 2, "sslmode=verify-full",
    ),
    "Dagster's database without TLS": (
        setting(DAGSTER_POSTGRES_URL="postgresql+psycopg2://u:s3cret@d.example.org/x"),
        "settings", "connection to Dagster's database", 2, "sslmode=verify-full",
    ),
    "Primero's name": (setting(PRIMERO_URL="https://primero.invalid"), "Primero", "name", 3, "check the address"),
    "Primero's port": (without_pauses(PRIMERO_URL="http://127.0.0.1:9"), "Primero", "connection", 3, "check the network"),
    "Primero's certificate": (untrusted, "Primero", "connection", 3, "PRIMERO_CA_BUNDLE"),
    "Primero's login": (setting(PRIMERO_PASSWORD="s3cret"), "Primero", "login", 3, "check PRIMERO_USERNAME"),
    "Primero's cases": (primero(lambda p: p.role.refused.add("cases")), "Primero", "cases", 3, "needs read permission"),
    "Primero's scope": (primero(lambda p: setattr(p.role, "owner", "nobody")), "Primero", "cases", 3, "scope `all`"),
    "an essential field": (primero(lambda p: p.role.withheld.add("type_of_case")), "Primero", "fields", 3, "type_of_case"),
    "a field that was shown": (
        primero(lambda p: p.role.withheld.add("oscar_number")),
        "Primero", "fields", 3, "fields accept",
    ),
    "Primero's clock": (
        lambda i: mock.patch.object(i.primero, "clock", return_value=datetime.now(UTC) + timedelta(hours=2)),
        "Primero", "clock", 3, "time server",
    ),
    "ONA's name": (
        setting(ONA_DATABASE_URL="postgresql://u:s3cret@ona.invalid/x?sslmode=verify-full"),
        "ONA", "name", 3, "name server",
    ),
    "ONA's port": (setting(ONA_DATABASE_URL=CLOSED_PORT), "ONA", "connection", 3, "check host and port"),
    "a table": (
        ona("ALTER TABLE services RENAME TO kept", "ALTER TABLE kept RENAME TO services"),
        "ONA", "tables", 1, "`schema apply`",
    ),
    "a column": (
        ona("ALTER TABLE cases RENAME sex TO kept", "ALTER TABLE cases RENAME kept TO sex"),
        "ONA", "tables", 1, "cases has no sex",
    ),
    "a constraint": (
        ona(
            "DROP INDEX primero_ona_cases_primero_id_key",
            "CREATE UNIQUE INDEX primero_ona_cases_primero_id_key ON cases (primero_id)",
        ),
        "ONA", "tables", 1, "cases.primero_id must hold every value once",
    ),
    "an obstacle": (
        ona(
            "ALTER TABLE cases ADD needed integer NOT NULL DEFAULT 0; ALTER TABLE cases ALTER needed DROP DEFAULT",
            "ALTER TABLE cases DROP needed",
        ),
        "ONA", "tables", 1, "cases.needed must not be empty",
    ),
    "a type": (
        ona(
            "ALTER TABLE cases RENAME sex TO kept; ALTER TABLE cases ADD sex integer",
            "ALTER TABLE cases DROP sex; ALTER TABLE cases RENAME kept TO sex",
        ),
        "ONA", "types", 1, "cases.sex is integer, not text",
    ),
    "a right": (as_loader("REVOKE DELETE ON services FROM a_loader"), "ONA", "rights", 3, "DELETE on public.services; ask"),
    "a right on the books": (
        as_loader("REVOKE INSERT ON primero_sync.runs FROM a_loader"),
        "ONA", "rights", 3, "INSERT on primero_sync.runs",
    ),
    "the numbers of pulls": (
        as_loader("REVOKE USAGE ON SEQUENCE primero_sync.pulls FROM a_loader"),
        "ONA", "rights", 3, "sequence primero_sync.pulls",
    ),
    "read-only": (
        lambda i: variables(i, ONA_DATABASE_URL=f"{i.url}&options=-c%20default_transaction_read_only%3Don"),
        "ONA", "server", 3, "main server",
    ),
    "the keys": (
        setting(PRIMERO_ONA_STORAGE_KEYS=OTHER_KEY, PRIMERO_ONA_KEYS_BACKUP=fingerprint(OTHER_KEY)),
        "storage", "keys and place", 2, "add the key",
    ),
    "no copy of the keys": (
        setting(PRIMERO_ONA_KEYS_BACKUP=""),
        "storage", "copy of the keys", 2, "then set PRIMERO_ONA_KEYS_BACKUP=",
    ),
    "an open folder": (
        on_disk(lambda home: (home / "partitions").chmod(0o777), lambda home: (home / "partitions").chmod(0o700)),
        "storage", "keys and place", 2, "chmod o-w",
    ),
    "space": (setting(PRIMERO_ONA_LEAST_SPACE_GB="1000000"), "storage", "space", 3, "free some"),
    "relative home": (setting(DAGSTER_HOME="home"), "Dagster", "DAGSTER_HOME", 2, "absolute path"),
    "no dagster.yaml": (
        on_disk(
            lambda home: (home / "dagster.yaml").rename(home / "kept.yaml"),
            lambda home: (home / "kept.yaml").rename(home / "dagster.yaml"),
        ),
        "Dagster", "DAGSTER_HOME", 2, "copy ours there",
    ),
    "an older dagster.yaml": (
        on_disk(
            lambda home: (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n"),
            lambda home: shutil.copyfile(ROOT / "dagster.yaml", home / "dagster.yaml"),
        ),
        "Dagster", "dagster.yaml", 2, "copy ours there",
    ),
    "history of another version": (
        on_disk(alembic("7f2b1a4ca7a5"), alembic("")),
        "Dagster", "storage", 2, "`dagster instance migrate`",
    ),
    "daemon": (
        attribute("dagster._daemon.controller.get_current_timestamp", lambda: time.time() + 7_200),
        "Dagster", "daemon", 3, "start it",
    ),
    "an alert in the clear": (
        setting(PRIMERO_ONA_ALERT_URLS="json://u:s3cret@alerts.example.org/path"),
        "alerts", "look", 2, "without a verified connection",
    ),
    "sensor off": (
        on_disk(switched(InstigatorStatus.STOPPED), switched(InstigatorStatus.RUNNING)),
        "Dagster", "automation", 2, "watch_primero; switch on",
    ),
    "Primero not seen": (in_future(hours=4), "Dagster", "Primero seen", 3, "saw Primero last at"),
    "open quarter": (in_future(hours=25), "Dagster", "newest sync", 1, "`primero-ona sync`"),
    "closing": (in_future(days=93 + 6), "Dagster", "closing", 1, "was to be closed at"),
    "proof": (in_future(days=33), "Dagster", "proof", 1, "`primero-ona verify`"),
}  # fmt: skip
