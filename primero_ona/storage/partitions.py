"""Stored partitions: a folder of numbered, encrypted Parquet parts and a manifest, streamed in and out.

A partition is written into a folder of its own generation, and the manifest, written last and by rename, says which
generation counts. So a write that was killed changes nothing, and a folder without a manifest does not exist. Nothing
lies on disk in the clear: a part is a Parquet file in memory, encrypted as a whole, and so is the summary of what is
known beside the rows. The rest of the manifest is what a reader needs before it decrypts: rows, columns, version, names.
"""

from __future__ import annotations

import hashlib
import io
import re
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from upath import UPath

from primero_ona.errors import ConfigError, DataError, TransientError
from primero_ona.storage.files import write_file
from primero_ona.storage.frames import Frames

if TYPE_CHECKING:
    import pandas as pd

#: Raised when the layout of parts or manifest changes; older partitions are then refused and have to be made again.
STORE_FORMAT = 1

#: The file of a partition that says what counts.
MANIFEST = "manifest.json"

#: A generation without a manifest is taken for abandoned after this time. The longest pull of a country takes hours; a
#: shorter time could take the parts away from a run that is still writing them.
_ABANDONED = timedelta(days=1)


@dataclass(frozen=True)
class Stored:
    """What a partition of one asset must be: its columns and types, and the version of what made it."""

    schema: pa.Schema
    version: str


class PartitionStore:
    """Reads and writes partitions under one folder or bucket. Keys are Fernet keys, newest first."""

    def __init__(self, base: UPath, keys: str) -> None:
        try:
            self._fernet = MultiFernet([Fernet(key.strip()) for key in keys.split(",") if key.strip()])
        except ValueError:
            raise ConfigError(
                "PRIMERO_ONA_STORAGE_KEYS is malformed: it takes Fernet keys, separated by commas; make one with `primero-ona keys new`"
            ) from None
        if base.protocol in {"", "file"}:
            refuse_open_storage(Path(base.path))
        self.base = base

    def writer(self, path: UPath, stored: Stored) -> PartitionWriter:
        """Begin a new generation of the partition at `path`; nothing counts before its `commit`."""
        return PartitionWriter(path, stored, self._fernet)

    def open(self, path: UPath, stored: Stored) -> Frames:
        """The partition at `path` as a stream that can be read many times; its summary tells its version, too.

        Raises FileNotFoundError where it does not exist, DataError where its manifest does not fit `stored`.
        """
        manifest = read_manifest(path)
        _require_fit(manifest, stored, path)
        summary = self.summary_of(manifest)

        def read(columns: Sequence[str] | None) -> Iterator[pd.DataFrame]:
            for part in manifest["parts"]:
                yield self._read_part(path / manifest["generation"] / part["name"], part, columns)

        return Frames(read, lambda: {**summary, "stored_version": manifest["version"]})

    def _read_part(self, path: UPath, part: Mapping[str, Any], columns: Sequence[str] | None) -> pd.DataFrame:
        clear = self.unseal(path, part)
        # Without threads: a part is small, and starting them takes longer.
        with pq.ParquetFile(pa.BufferReader(clear)) as file:
            table = file.read(columns=list(columns) if columns is not None else None, use_threads=False)
        import pandas as pd  # noqa: PLC0415

        frame: pd.DataFrame = table.to_pandas(types_mapper=pd.ArrowDtype)
        return frame

    def seal(self, clear: bytes) -> bytes:
        """Encrypt a part with the newest key."""
        return self._fernet.encrypt(clear)

    def unseal(self, path: UPath, part: Mapping[str, Any]) -> bytes:
        """Read a part and decrypt it; `part` is its entry in the manifest.

        Raises TransientError where it was replaced meanwhile, DataError where it is damaged, ConfigError where no
        key opens it.
        """
        try:
            sealed = path.read_bytes()
        except FileNotFoundError:
            raise TransientError("a stored partition was replaced while it was read; run this step again") from None
        if hashlib.sha256(sealed).hexdigest() != part["sha256"]:
            raise DataError(f"the stored part {path.name} is damaged; materialize its asset for this quarter again")
        return self._decrypt(sealed)

    def summary_of(self, manifest: Mapping[str, Any]) -> Mapping[str, Any]:
        """Decrypt the summary in a manifest; one that an older version left in the clear is read as it is.

        Raises ConfigError where no key opens it.
        """
        sealed = manifest["summary"]
        if not isinstance(sealed, str):
            return dict(sealed)
        summary: dict[str, Any] = orjson.loads(self._decrypt(sealed.encode()))
        return summary

    def seal_summary(self, summary: Mapping[str, Any]) -> str:
        """Encrypt a summary for a manifest with the newest key."""
        return _sealed_summary(self._fernet, summary)

    def _decrypt(self, sealed: bytes) -> bytes:
        try:
            return self._fernet.decrypt(sealed)
        except InvalidToken:
            raise ConfigError(
                "no key in PRIMERO_ONA_STORAGE_KEYS opens a stored partition; add the key it was made with, or materialize it again"
            ) from None


def _sealed_summary(fernet: MultiFernet, summary: Mapping[str, Any]) -> str:
    """Encrypt a summary (JSON types only) for a manifest: its findings and its quarantine tell of single children."""
    return fernet.encrypt(orjson.dumps(dict(summary))).decode()


class PartitionWriter:
    """Writes one partition, frame by frame. Leaving it without `commit` leaves the old partition as it was.

    As a context manager it discards at its end what was not committed.
    """

    def __init__(self, path: UPath, stored: Stored, fernet: MultiFernet) -> None:
        self._path, self._stored, self._fernet = path, stored, fernet
        self._begin()

    def _begin(self) -> None:
        self._folder = self._path / new_generation()
        self._parts: list[dict[str, Any]] = []
        self._committed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    @property
    def rows(self) -> int:
        """Rows written so far."""
        return sum(part["rows"] for part in self._parts)

    def write(self, frame: pd.DataFrame) -> None:
        """Add a frame with the columns of the schema; an empty one adds nothing."""
        if frame.empty:
            return
        # Without pandas' own notes in the schema: pandas cannot read back what it notes of nested types.
        table = pa.Table.from_pandas(
            frame, schema=self._stored.schema, preserve_index=False, nthreads=1
        ).replace_schema_metadata()
        clear = io.BytesIO()
        pq.write_table(table, clear, compression="zstd")
        sealed = self._fernet.encrypt(clear.getvalue())
        name = f"part-{len(self._parts):05d}.parquet.fernet"
        write_whole(self._folder / name, sealed)
        self._parts.append({"name": name, "rows": len(frame), "sha256": hashlib.sha256(sealed).hexdigest()})

    def restart(self) -> None:
        """Forget what was written and begin again."""
        self.discard()
        self._begin()

    def discard(self) -> None:
        """Remove what was written, unless it counts by now: a pull may fail between the commits of its partitions."""
        if not self._committed:
            with suppress(OSError):  # the failure that led here is the one to show
                remove(self._folder)

    def commit(self, summary: Mapping[str, Any]) -> None:
        """Make this generation the partition, with what is known beside its rows, and remove older ones.

        Raises TransientError where another run, begun later, has replaced the partition meanwhile.
        """
        there = {entry.name for entry in self._folder.iterdir()} if self._folder.exists() else set()
        if not there.issuperset(part["name"] for part in self._parts):
            raise TransientError(
                "another run stored the same partition while this one was at it; its rows stand, run this one again"
            )
        manifest = {
            "format": STORE_FORMAT,
            "generation": self._folder.name,
            "version": self._stored.version,
            "columns": self._stored.schema.names,
            "rows": self.rows,
            "parts": self._parts,
            "written_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "summary": _sealed_summary(self._fernet, summary),
        }
        replaced = _generation(self._path)
        write_whole(self._path / MANIFEST, orjson.dumps(manifest, option=orjson.OPT_INDENT_2))
        self._committed = True
        for entry in self._path.iterdir():
            if entry.name != self._folder.name and (entry.name == replaced or _is_abandoned(entry.name)):
                with suppress(OSError):  # a write of another day tries again
                    remove(entry)


def new_generation() -> str:
    """The name of a new generation; it begins with the time."""
    return f"g{datetime.now(UTC):%Y%m%d%H%M%S}-{secrets.token_hex(4)}"


def _generation(path: UPath) -> str | None:
    """The generation that counts now, if there is one."""
    try:
        return str(read_manifest(path)["generation"])
    except (FileNotFoundError, DataError):  # a damaged manifest is about to be replaced
        return None


def _is_abandoned(name: str) -> bool:
    """Whether a folder is a generation that some killed run left behind; a younger one may belong to a run at work."""
    begun = re.match(r"g(\d{14})-", name)
    return (
        begun is not None
        and datetime.now(UTC) - datetime.strptime(begun[1], "%Y%m%d%H%M%S").replace(tzinfo=UTC) > _ABANDONED
    )


def read_manifest(path: UPath) -> dict[str, Any]:
    """The manifest of the partition at `path`.

    Raises FileNotFoundError where there is none: then the partition does not exist. DataError where it is damaged.
    """
    try:
        manifest: dict[str, Any] = orjson.loads((path / MANIFEST).read_bytes())
    except orjson.JSONDecodeError:
        raise DataError(
            f"the manifest of the stored partition {'/'.join(path.parts[-2:])} is damaged; "
            "materialize that asset for this quarter again"
        ) from None
    return manifest


def _require_fit(manifest: Mapping[str, Any], stored: Stored, path: UPath) -> None:
    """Refuse a partition that was made for something else than what its reader needs, naming every mismatch."""
    needed = {"format": STORE_FORMAT, "version": stored.version, "columns": stored.schema.names}
    mismatches = [
        f"{name} is {manifest.get(name)!r}, needed {value!r}"
        for name, value in needed.items()
        if manifest.get(name) != value
    ]
    if mismatches:
        raise DataError(
            f"the stored partition {'/'.join(path.parts[-2:])} does not fit: {'; '.join(mismatches)}; "
            "materialize that asset for this quarter again"
        )


def write_whole(path: UPath, content: bytes) -> None:
    """Write a file so that it is there whole or not at all; for its owner's eyes only where the storage is local."""
    if path.protocol not in {"", "file"}:
        path.write_bytes(content)
        return
    local = Path(path.path)
    _make_private(local.parent)
    write_file(local, content)


def _make_private(folder: Path) -> None:
    """Make a folder and those above it for the owner only; `mkdir` gives its mode to the last one alone."""
    if not folder.exists():
        _make_private(folder.parent)
        folder.mkdir(exist_ok=True, mode=0o700)


def remove(path: UPath) -> None:
    """Remove a file, or a folder with all that is in it. Raises OSError where some of it stays."""
    if path.protocol in {"", "file"}:
        local = Path(path.path)
        while local.is_dir():
            with suppress(FileNotFoundError):  # another process is removing the same thing
                shutil.rmtree(local)
        local.unlink(missing_ok=True)
    elif path.exists():
        path.fs.rm(path.path, recursive=True)


def refuse_open_storage(folder: Path) -> None:
    """Raise ConfigError where every account may put or replace something in the folder, or the folder itself.

    A folder above it that is open to all, as /tmp is, does no harm where it has the sticky bit. Folders that do not exist
    yet are made for their owner alone.
    """
    for place in (folder, *folder.absolute().parents):
        try:
            mode = place.stat().st_mode
        except OSError:
            continue
        if stat.S_ISDIR(mode) and mode & stat.S_IWOTH and (place == folder or not mode & stat.S_ISVTX):
            raise ConfigError(
                "the folder of the stored partitions, or one above it, may be written to by every account of this machine; "
                "take their rights away (chmod o-w FOLDER), or let PRIMERO_ONA_STORAGE_URL name another one"
            )
