"""Look at the stored partitions' folder, the space around it, and the keys that open them."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from primero_ona.diagnosis import Area, Diagnosis
from primero_ona.errors import ConfigError, TransientError

AREA = Area("storage")


def folder(path: Path) -> Diagnosis:
    """Write an empty file where partitions are stored, or where their folder will be made, and remove it.

    Raises OSError as this machine does.
    """
    there = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    with tempfile.TemporaryFile(dir=there):
        return AREA.ok("folder", f"{path}, {'can be written' if there == path else 'to be made by the first sync'}")


def space(folders: Mapping[str, Path], least: int) -> Diagnosis:
    """Compare the free space of the disks under these folders, each with what it is for, with `least` (GB)."""
    free = {
        what: shutil.disk_usage(next(one for one in (path, *path.absolute().parents) if one.exists())).free // 10**9
        for what, path in folders.items()
    }
    if scarce := {what: gigabytes for what, gigabytes in free.items() if gigabytes < least}:
        text = f"less than {least} GB are free for {', '.join(scarce)}; free some, or move them (PRIMERO_ONA_LEAST_SPACE_GB)"
        return AREA.failed("space", text, TransientError, "overdue")
    return AREA.ok("space", ", ".join(f"{gigabytes:,} GB for {what}" for what, gigabytes in free.items()))


def fingerprint(keys: str) -> str:
    """Name the newest key of PRIMERO_ONA_STORAGE_KEYS without showing it."""
    return hashlib.sha256(keys.partition(",")[0].strip().encode()).hexdigest()[:12]


def keys_noted(keys: str, noted: str) -> Diagnosis:
    """Compare the newest key with the one of which a copy is known to be kept elsewhere."""
    newest = fingerprint(keys)
    if noted.strip() == newest:
        return AREA.ok("copy of the keys", f"of {newest} one is kept elsewhere")
    text = (
        f"no note says that a copy of the newest key ({newest}) is kept elsewhere, and without it stored partitions cannot be "
        f"read any more; keep one, then set PRIMERO_ONA_KEYS_BACKUP={newest}"
    )
    return AREA.failed("copy of the keys", text, ConfigError, "overdue")
