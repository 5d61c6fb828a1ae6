"""What a look at one part of an installation found, in a line for people and for scripts; and looks at this machine itself."""

from __future__ import annotations

import hashlib
import shutil
import socket
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Literal

from primero_ona.errors import Anchor, ConfigError, SyncError, TransientError

State = Literal["ok", "warning", "failed", "not looked at"]

#: Seconds that a name server may take; looking up a name knows no time limit of its own.
_NAME_SECONDS = 10.0


@dataclass(frozen=True)
class Diagnosis:
    """One thing of an installation: whether it is well, what was found, and what to do where it is not.

    `kind` is that of the failure, as `errors.py` names it, where `state` is `failed`.
    """

    area: str
    what: str
    state: State
    text: str
    kind: str | None = None


@dataclass(frozen=True)
class Area:
    """Makes the lines of one area."""

    name: str

    def ok(self, what: str, text: str) -> Diagnosis:
        """Make a line about what is well."""
        return Diagnosis(self.name, what, "ok", text)

    def warning(self, what: str, text: str) -> Diagnosis:
        """Make a line about what works and should be looked into."""
        return Diagnosis(self.name, what, "warning", text)

    def failed(self, what: str, text: str, kind: type[SyncError], see: Anchor | None = None) -> Diagnosis:
        """Make a line about what has to change; the text says how. `see`: as of SyncError."""
        return self.failure(what, kind(text, see=see))

    def failure(self, what: str, failure: SyncError) -> Diagnosis:
        """Make the line of a failure, whose message says what to do."""
        return Diagnosis(self.name, what, "failed", failure.shown, failure.kind)

    def skipped(self, what: str, why: str) -> Diagnosis:
        """Make a line about what cannot be looked at as long as something else is not well."""
        return Diagnosis(self.name, what, "not looked at", why)


def resolve(host: str) -> list[str]:
    """Look up the addresses of a host name; none where it is not known, or the name server does not answer in time."""
    found: list[str] = []

    def look_up() -> None:
        with suppress(OSError, UnicodeError):
            found.extend(str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))

    thread = Thread(target=look_up, daemon=True)
    thread.start()
    thread.join(_NAME_SECONDS)
    return list(dict.fromkeys(found))


def own_address(address: str) -> str | None:
    """Find the address of this machine on the way to another address; nothing is sent. None where no way is known."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))
            return str(probe.getsockname()[0])
    except OSError:
        return None


STORAGE = Area("storage")


def storage_folder(path: Path) -> Diagnosis:
    """Write an empty file where partitions are stored, or where their folder will be made, and remove it.

    Raises OSError as this machine does.
    """
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
