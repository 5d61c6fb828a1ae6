"""Look at this machine: its stored partitions with their keys, DAGSTER_HOME, and the space on its disks."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path

import dagster as dg

from primero_ona.errors import Area, ConfigError, Diagnosis, SyncError, TransientError
from primero_ona.graph.diagnosis import AREA, ages, diagnose
from primero_ona.graph.resources import PartitionStorage, default_storage
from primero_ona.graph.runs import find_home, open_instance
from primero_ona.pipeline.stored import UNDER18
from primero_ona.quarters import Quarter
from primero_ona.settings import AlertSettings, GraphSettings, StorageSettings, read_one

STORAGE = Area("storage")


def look_at_storage() -> Iterator[Diagnosis]:
    """Look at the place of the stored partitions, their keys and the space, as the settings name them."""
    settings, alerts = read_one(StorageSettings), read_one(AlertSettings)
    base = None if settings.bucket else settings.folder or default_storage(None)
    try:
        stored = PartitionStorage().assets()
        quarters = stored.quarters(UNDER18)
        yield _folder(base) if base else STORAGE.ok("bucket", "it answers, and keeps no old versions")
        if quarters:
            stored.summary(UNDER18, quarters[-1])
        text = "they open the newest stored partition" if quarters else "well-formed; nothing is stored yet"
        yield STORAGE.ok("keys", text)
    except SyncError as failure:
        yield STORAGE.failure("keys and place", failure)
    yield keys_noted(settings.storage_keys.get_secret_value(), alerts.keys_backup)
    home = Path(os.environ.get("DAGSTER_HOME") or Path.cwd() / ".dagster_home")
    folders = {"DAGSTER_HOME": home, "temporary files": Path(tempfile.gettempdir())}
    folders |= {"stored partitions": base} if base else {}
    yield free_space(folders, alerts.least_space_gb)


def _folder(path: Path) -> Diagnosis:
    """Write an empty file where partitions are stored, or where their folder will be made, and remove it."""
    there = _nearest(path)
    with tempfile.TemporaryFile(dir=there):
        return STORAGE.ok("folder", f"{path}, {'can be written' if there == path else 'to be made by the first sync'}")


def free_space(folders: Mapping[str, Path], least: int) -> Diagnosis:
    """Compare the free space of the disks under these folders, each with what it is for, with `least` (GB)."""
    free = {what: shutil.disk_usage(_nearest(path)).free // 10**9 for what, path in folders.items()}
    if scarce := [what for what, gigabytes in free.items() if gigabytes < least]:
        text = f"less than {least} GB are free for {', '.join(scarce)}; free some, or move them (PRIMERO_ONA_LEAST_SPACE_GB)"
        return STORAGE.failed("space", text, TransientError, "overdue")
    return STORAGE.ok("space", ", ".join(f"{gigabytes:,} GB for {what}" for what, gigabytes in free.items()))


def _nearest(path: Path) -> Path:
    """The path where it exists, else the nearest folder above it that does."""
    return next(one for one in (path, *path.absolute().parents) if one.exists())


def fingerprint(keys: str) -> str:
    """Name the newest key of PRIMERO_ONA_STORAGE_KEYS without showing it."""
    return hashlib.sha256(keys.partition(",")[0].strip().encode()).hexdigest()[:12]


def keys_noted(keys: str, noted: str) -> Diagnosis:
    """Compare the newest key with the one of which a copy is known to be kept elsewhere."""
    newest = fingerprint(keys)
    if noted.strip() == newest:
        return STORAGE.ok("copy of the keys", f"of {newest} one is kept elsewhere")
    text = (
        f"no note says that a copy of the newest key ({newest}) is kept elsewhere, and without it stored partitions cannot be "
        f"read any more; keep one, then set PRIMERO_ONA_KEYS_BACKUP={newest}"
    )
    return STORAGE.failed("copy of the keys", text, ConfigError, "overdue")


def look_at_dagster(build_defs: Callable[[], dg.Definitions], now: datetime) -> Iterator[Diagnosis]:
    """Look at DAGSTER_HOME and, where it is there, at the instance in it; `build_defs`: makes the graph that runs in it."""
    try:
        home = find_home()
    except ConfigError as failure:
        yield AREA.failure("DAGSTER_HOME", failure)
        return
    if not home.exists():
        yield AREA.warning("DAGSTER_HOME", f"{home} is not there yet; the first sync, or `make dev`, makes it")
        return
    if not (home / "dagster.yaml").exists():
        text = f"{home} has no dagster.yaml, so Dagster's own defaults would hold; copy ours there (in production deploy/dagster.yaml)"
        yield AREA.failed("DAGSTER_HOME", text, ConfigError)
        return
    yield AREA.ok("DAGSTER_HOME", str(home))
    with open_instance() as instance:
        defs = build_defs()
        automation = [*(defs.schedules or ()), *(defs.sensors or ())]
        yield from diagnose(instance, {each.name: each.default_status.value == "RUNNING" for each in automation})
        start = Quarter.parse(read_one(GraphSettings).start)
        yield from ages(instance, start, now, read_one(AlertSettings).stale_hours)
