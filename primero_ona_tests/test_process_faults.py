"""Faults of this machine: named for what they are, with what to do and nothing of a case; all others stay unexpected."""

from __future__ import annotations

import errno
import os
import resource
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy

from primero_ona.errors import ConfigError, TransientError
from primero_ona.process import machine_error, recorded_error
from primero_ona.storage.places import write_file

SECRET = "a-name-that-must-not-be-read"


def full(path: Path) -> None:
    """Write where the kernel has no space left."""
    Path("/dev/full").write_text("x")


def too_many(path: Path) -> None:
    """Open files without end, under the limit of few."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, before[1]))
    files: list[int] = []
    try:
        while True:
            files.append(os.open("/dev/null", os.O_RDONLY))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for file in files:
            os.close(file)


def no_folder(path: Path) -> None:
    (path / "file").write_text("")
    (path / "file" / SECRET).write_text("")


def too_long(path: Path) -> None:
    (path / (SECRET * 20)).write_text("")


def no_memory(path: Path) -> None:
    bytearray(1 << 62)


def engine(path: Path, options: str = "") -> sqlalchemy.Connection:
    """SQLite as Dagster uses it, by way of SQLAlchemy."""
    return sqlalchemy.create_engine(f"sqlite:///file:{path}?uri=true{options}").connect()


def insert(connection: sqlalchemy.Connection) -> None:
    connection.execute(sqlalchemy.text("CREATE TABLE IF NOT EXISTS events (body TEXT)"))
    connection.execute(sqlalchemy.text("INSERT INTO events VALUES (:body)"), {"body": SECRET * 10_000})


def sqlite_full(path: Path) -> None:
    with engine(path / "runs.db") as connection:
        connection.execute(sqlalchemy.text("PRAGMA max_page_count = 3"))
        insert(connection)


def sqlite_read_only(path: Path) -> None:
    sqlite3.connect(path / "runs.db").execute("CREATE TABLE t (x)")
    with engine(path / "runs.db", "&mode=ro") as connection:
        insert(connection)


def sqlite_no_file(path: Path) -> None:
    engine(path / "absent" / "runs.db")


def sqlite_damaged(path: Path) -> None:
    (path / "runs.db").write_text(SECRET * 1_000)
    with engine(path / "runs.db") as connection:
        insert(connection)


def sqlite_locked(path: Path) -> None:
    holder = sqlite3.connect(path / "runs.db")
    holder.execute("BEGIN EXCLUSIVE")
    try:
        with engine(path / "runs.db", "&timeout=0") as connection:
            insert(connection)
    finally:
        holder.close()


REAL = {
    "disk full": (full, TransientError, "no space left on a disk (ENOSPC"),
    "too many files": (too_many, TransientError, "too many files are open (EMFILE"),
    "no folder": (no_folder, ConfigError, "does not let this account use a file or a folder (ENOTDIR"),
    "name too long": (too_long, ConfigError, "(ENAMETOOLONG"),
    "no memory": (no_memory, TransientError, "has no memory"),
    "SQLite full": (sqlite_full, TransientError, "no space left on a disk (SQLITE_FULL)"),
    "SQLite read-only": (sqlite_read_only, ConfigError, "(SQLITE_READONLY"),
    "SQLite without a folder": (sqlite_no_file, TransientError, "cannot be opened (SQLITE_CANTOPEN)"),
    "SQLite damaged": (sqlite_damaged, ConfigError, "is damaged (SQLITE_NOTADB)"),
    "SQLite in use": (sqlite_locked, TransientError, "in use by another process (SQLITE_BUSY)"),
}


@pytest.mark.parametrize("name", REAL)
@pytest.mark.proves("machine-fault")
def test_a_fault_of_the_machine_is_named_with_what_to_do(tmp_path: Path, name: str) -> None:
    """ "Unexpected OSError, please report this line" leaves an operator beside a full disk without a word about the disk."""
    fault, kind, words = REAL[name]
    with pytest.raises(Exception) as raised:  # noqa: PT011 whatever the library raises
        fault(tmp_path)
    failure = machine_error(raised.value)
    assert type(failure) is kind
    for text in (words, "nothing is half-written", "then run it again"):
        assert text in str(failure)
    assert SECRET not in str(failure)
    recorded = recorded_error(f"{type(raised.value).__module__}.{type(raised.value).__name__}: {raised.value}")
    assert name == "no memory" or type(recorded) is kind


@pytest.mark.parametrize(
    "number",
    [
        errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ELOOP, errno.EIO, errno.ENODEV,
        errno.ESTALE, errno.ENOMEM, errno.EAGAIN, errno.ENFILE, errno.EBUSY, errno.ENOLCK,
    ],
    ids=lambda number: errno.errorcode[number],
)  # fmt: skip
@pytest.mark.proves("machine-fault")
def test_what_cannot_be_brought_about_here_is_named_too(tmp_path: Path, number: int) -> None:
    """The folder shown is the nearest that exists: what a file was to be called might hold anything."""
    failure = machine_error(OSError(number, SECRET, str(tmp_path / SECRET / "part")))
    assert failure is not None
    assert isinstance(failure, ConfigError | TransientError)
    assert f"({errno.errorcode[number]}, {tmp_path})" in str(failure)
    assert SECRET not in str(failure)


@pytest.mark.parametrize(
    "error",
    [
        KeyError(SECRET),
        ValueError(SECRET),
        FileNotFoundError(errno.ENOENT, SECRET, SECRET),
        OSError(SECRET),
        RuntimeError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_may_be_a_fault_of_ours_stays_unexpected(error: Exception) -> None:
    """Blaming the machine for our own fault hides it for ever."""
    assert machine_error(error) is None
    assert recorded_error(f"{type(error).__name__}: {error}") is None


def test_what_caused_an_exception_counts_and_what_was_only_there_does_not() -> None:
    """Libraries wrap; and a fault of ours while a full disk is dealt with is a fault of ours."""
    outer = RuntimeError("wrapped")
    outer.__cause__ = OSError(errno.ENOSPC, "")
    assert isinstance(machine_error(outer), TransientError)
    beside = KeyError(SECRET)
    beside.__context__ = OSError(errno.ENOSPC, "")
    assert machine_error(beside) is None


def onto_a_full_disk(monkeypatch: pytest.MonkeyPatch, *parts: str) -> None:
    """From now on no file whose path has all these parts can be written: the disk is full."""
    opened = os.open

    def open_full(path: object, flags: int, *more: object, **named: object) -> int:
        descriptor = opened(path, flags, *more, **named)  # type: ignore[arg-type]
        if flags & os.O_CREAT and all(part in os.fsdecode(path) for part in parts):  # type: ignore[arg-type]
            os.close(descriptor)
            return opened("/dev/full", os.O_WRONLY)
        return descriptor

    monkeypatch.setattr(os, "open", open_full)


@pytest.mark.proves("machine-fault")
def test_a_file_that_cannot_be_written_stays_as_it_was_and_nothing_lies_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of dagster.yaml would let Dagster keep what our steps print; half of a manifest would lose a partition."""
    path = tmp_path / "dagster.yaml"
    write_file(path, b"old")
    onto_a_full_disk(monkeypatch, "dagster.yaml")
    with pytest.raises(OSError, match="No space left"):
        write_file(path, b"new" * 100_000)
    assert [entry.name for entry in tmp_path.iterdir()] == ["dagster.yaml"]
    assert path.read_bytes() == b"old"


def test_what_is_no_plain_file_is_written_to(tmp_path: Path) -> None:
    """`--csv /dev/stdout` must not put a file in its place."""
    link = tmp_path / "link"
    link.symlink_to("/dev/null")
    write_file(link, b"x")
    assert link.is_symlink()
    assert not Path("/dev/null").is_file()
