"""`doctor`: everything that a sync needs, looked at in turn, and what to do where something is not well."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from primero_ona.cli import output
from primero_ona.cli.common import AsJson, ona_connection
from primero_ona.cli.output import exit_code
from primero_ona.diagnosis import STORAGE, Area, Diagnosis, free_space, keys_noted, storage_folder
from primero_ona.errors import ConfigError, SyncError
from primero_ona.process import described

if TYPE_CHECKING:
    from primero_ona.primero.fields import KnownFields

_SETTINGS, _DAGSTER, _ALERTS = Area("settings"), Area("Dagster"), Area("alerts")

#: Seconds that all questions to Primero may take together.
_PRIMERO_SECONDS = 60

_UNSET = "its settings have to be right first"


def doctor(*, as_json: AsJson = False) -> None:
    """Look at the settings, Primero, ONA, the storage and Dagster, and say what to do where something is not well.

    Changes nothing. The exit code is that of the worst line.
    """
    found = []
    for line in diagnose():
        found.append(line)
        if not as_json:
            output.note(f"{line.state:12}  {line.area}: {line.what}: {line.text}")
    codes = [exit_code(line.kind) for line in found]
    if as_json:
        lines = [{**asdict(line), "exit_code": code} for line, code in zip(found, codes, strict=True)]
        output.print_json({"exit_code": max(codes), "lines": lines})
    else:
        failed = sum(line.state == "failed" for line in found)
        output.note(f"{failed} of {len(found)} need something to be done." if failed else "All is well.")
    raise typer.Exit(max(codes))


def diagnose() -> Iterator[Diagnosis]:
    """Look at one area after the other; what goes wrong in one does not keep the others from being looked at."""
    lines = list(_settings())
    yield from lines
    well = {line.what for line in lines if line.state == "ok"}
    sight = _Sight()
    for area, look, needs in (
        ("ONA", sight.ona, {"ONA"}),
        ("Primero", sight.primero, {"Primero"}),
        ("storage", _storage, {"storage", "graph", "alerts"}),
        ("Dagster", _dagster, {"graph", "alerts"}),
        ("alerts", _alerts, {"alerts"}),
    ):
        if needs <= well:
            yield from _guarded(Area(area), look)
        else:
            yield Area(area).skipped("all", _UNSET)


def _guarded(area: Area, look: Callable[[], Iterator[Diagnosis]]) -> Iterator[Diagnosis]:
    """Turn what a look fails at into a line."""
    try:
        yield from look()
    except Exception as error:  # noqa: BLE001 whatever it is, its text may quote data, so it ends here
        yield Diagnosis(area.name, "look", "failed", *described(error))


def _settings() -> Iterator[Diagnosis]:
    """Each group of settings, and how its connection would be protected."""
    from primero_ona.cli.settings_docs import REFUSED, show_settings
    from primero_ona.settings import (
        AlertSettings,
        GraphSettings,
        OnaSettings,
        PrimeroSettings,
        StorageSettings,
        read_one,
    )
    from primero_ona.tls import UNPROTECTED

    unset = set()
    for name, group in (
        ("Primero", PrimeroSettings),
        ("ONA", OnaSettings),
        ("storage", StorageSettings),
        ("graph", GraphSettings),
        ("alerts", AlertSettings),
    ):
        try:
            read_one(group)
            yield _SETTINGS.ok(name, "complete")
        except ConfigError as failure:
            unset.add(name)
            yield _SETTINGS.failure(name, failure)
    for line in show_settings():
        what = line.variable.partition("connection to ")[2]
        if not what or what in unset:
            continue
        if line.value.startswith(REFUSED):
            yield _SETTINGS.failed(line.variable, line.value.removeprefix(REFUSED), ConfigError)
        elif line.value.startswith(UNPROTECTED):
            yield _SETTINGS.warning(
                line.variable, f"{line.value}; use https, or sslmode=verify-full, as soon as you can"
            )
        else:
            yield _SETTINGS.ok(line.variable, line.value)


class _Sight:
    """What the look at ONA knows and the look at Primero needs."""

    def __init__(self) -> None:
        self._known: KnownFields | None = None
        self._cases: list[str] = []

    def ona(self) -> Iterator[Diagnosis]:
        """Look at ONA's database."""
        from primero_ona.ona.diagnosis import diagnose, newest_cases
        from primero_ona.pipeline.account import known_fields
        from primero_ona.settings import OnaSettings, read_one

        settings = read_one(OnaSettings)
        lines = list(diagnose(settings.database_url.get_secret_value(), insecure=settings.insecure))
        yield from lines
        if all(line.state in {"ok", "warning"} for line in lines):
            with ona_connection() as connection:
                self._known, self._cases = known_fields(connection), newest_cases(connection)

    def primero(self) -> Iterator[Diagnosis]:
        """Look at Primero."""
        from primero_ona.graph.resources import PrimeroResource
        from primero_ona.primero.diagnosis import diagnose, scope

        with PrimeroResource().client(total=_PRIMERO_SECONDS) as client:
            lines = list(diagnose(client, self._known))
            yield from lines
            if self._cases and any(line.what == "login" and line.state == "ok" for line in lines):
                yield scope(client, self._cases)


def _storage() -> Iterator[Diagnosis]:
    """The stored partitions, their keys, and the space on this machine's disks."""
    from primero_ona.graph.resources import PartitionStorage, default_storage
    from primero_ona.pipeline.stored import UNDER18
    from primero_ona.settings import AlertSettings, StorageSettings, read_one

    settings, alerts = read_one(StorageSettings), read_one(AlertSettings)
    base = None if settings.bucket else settings.folder or default_storage(None)
    try:
        stored = PartitionStorage().assets()
        quarters = stored.quarters(UNDER18)
        yield storage_folder(base) if base else STORAGE.ok("bucket", "it answers, and keeps no old versions")
        if quarters:
            stored.summary(UNDER18, quarters[-1])
        yield STORAGE.ok(
            "keys", "they open the newest stored partition" if quarters else "well-formed; nothing is stored yet"
        )
    except SyncError as failure:
        yield STORAGE.failure("keys and place", failure)
    yield keys_noted(settings.storage_keys.get_secret_value(), alerts.keys_backup)
    folders = {"DAGSTER_HOME": _home(), "temporary files": Path(tempfile.gettempdir())}
    folders |= {"stored partitions": base} if base else {}
    yield free_space(folders, alerts.least_space)


def _dagster() -> Iterator[Diagnosis]:
    """Dagster's instance, where one is there, and how old everything is."""
    from primero_ona.graph.runs import find_home, open_instance

    try:
        home = find_home()
    except ConfigError as failure:
        yield _DAGSTER.failure("DAGSTER_HOME", failure)
        return
    if not home.exists():
        yield _DAGSTER.warning("DAGSTER_HOME", f"{home} is not there yet; the first sync, or `make dev`, makes it")
        return
    if not (home / "dagster.yaml").exists():
        text = f"{home} has no dagster.yaml, so Dagster's own defaults would hold; copy ours there (in production deploy/dagster.yaml)"
        yield _DAGSTER.failed("DAGSTER_HOME", text, ConfigError)
        return
    yield _DAGSTER.ok("DAGSTER_HOME", str(home))
    with open_instance() as instance:
        import dagster as dg

        from primero_ona.definitions import build_defs
        from primero_ona.graph.diagnosis import ages, diagnose
        from primero_ona.quarters import Quarter
        from primero_ona.settings import AlertSettings, GraphSettings, read_one

        defs = build_defs()
        on = {schedule.name: schedule.default_status.value == "RUNNING" for schedule in defs.schedules or ()}
        on |= {sensor.name: sensor.default_status == dg.DefaultSensorStatus.RUNNING for sensor in defs.sensors or ()}
        yield from diagnose(instance, on)
        start = Quarter.parse(read_one(GraphSettings).start)
        yield from ages(instance, start, datetime.now(UTC), read_one(AlertSettings).stale_hours)


def _alerts() -> Iterator[Diagnosis]:
    """Whether faults are reported to anyone."""
    from primero_ona.pipeline.alerts import channels
    from primero_ona.settings import AlertSettings, read_one

    if to := channels(read_one(AlertSettings)):
        text = f"{', '.join(channel.name for channel in to)}; `primero-ona alerts test` sends each a message"
        yield _ALERTS.ok("addresses", text)
    else:
        yield _ALERTS.warning(
            "addresses", "faults are reported to no one; set PRIMERO_ONA_ALERT_URLS, see docs/settings.md"
        )


def _home() -> Path:
    return Path(os.environ.get("DAGSTER_HOME") or Path.cwd() / ".dagster_home")
