"""Stored partitions over the years: new keys, retention, and single cases that must go."""

from __future__ import annotations

import errno
import os
import stat
from datetime import datetime
from pathlib import Path

import dagster as dg
import pytest
from cryptography.fernet import Fernet

from primero_ona.definitions import build_defs
from primero_ona.errors import ConfigError, DataError, TransientError
from primero_ona.ona.connection import connect, lock_of_all, partition_lock
from primero_ona.ona.migrations import apply, plan
from primero_ona.pipeline import stored as upkeep
from primero_ona.pipeline.stored import StoredAssets
from primero_ona.primero.raw import EXIT_SCHEMA
from primero_ona.quarters import Quarter, current_quarter
from primero_ona.settings import GraphSettings
from primero_ona.storage.partitions import PartitionStore, forget, purge, rotate
from primero_ona_tests.harness import GivenOna, GivenStorage, table
from primero_ona_tests.raw import raw_frame, uuid_of

OLD, NEW = Fernet.generate_key().decode(), Fernet.generate_key().decode()
ASSET = "raw_under18_cases"
Q1, Q2 = Quarter(2024, 1), Quarter(2024, 2)


def stored(folder: Path | str, keys: str = OLD) -> StoredAssets:
    return StoredAssets(lambda: PartitionStore(folder, keys), "")


def write(folder: Path | str, quarter: Quarter, *sizes: int, summary: dict | None = None) -> list[str]:
    """Store a partition with frames of so many cases; their ids, numbered from 1."""
    ids, number = [], 0
    with stored(folder).writer(ASSET, quarter) as writer:
        for size in sizes:
            part = [uuid_of(number + place + 1) for place in range(size)]
            rows = [{"id": case, "age": 7, "case_id_display": f"K-{case[-3:]}"} for case in part]
            writer.write(raw_frame(*rows))
            ids, number = ids + part, number + size
        writer.commit(summary or {"quarantine": []})
    return ids


def ids_of(kept: StoredAssets, quarter: Quarter) -> list[str]:
    return [case for frame in kept.open(ASSET, quarter) for case in frame["id"]]


@pytest.fixture
def ona(ona_url):
    """Opens connections to a database with the bookkeeping."""
    with connect(ona_url) as conn:
        apply(conn, plan(conn))
    return lambda: connect(ona_url)


@pytest.mark.proves("stored-partitions", "key-rotation")
def test_after_a_rotation_the_new_key_alone_opens_everything(tmp_path):
    """A key that leaked stays dangerous as long as anything on disk is encrypted with it."""
    ids = {quarter: write(tmp_path, quarter, 3, 2) for quarter in (Q1, Q2)}
    unfinished = stored(tmp_path).writer(ASSET, Q1)
    unfinished.write(raw_frame({"id": uuid_of(1)}))
    assert rotate(stored(tmp_path, f"{NEW},{OLD}").store) == 2
    for quarter in (Q1, Q2):
        assert ids_of(stored(tmp_path, NEW), quarter) == ids[quarter]
        with pytest.raises(ConfigError):
            ids_of(stored(tmp_path, OLD), quarter)
    assert len(list((tmp_path / ASSET).iterdir())) == 2, "what a killed run left is encrypted with the old key"


def test_a_rotation_without_the_old_key_changes_nothing_and_says_so(tmp_path):
    """Half a rotation would leave partitions that no key opens."""
    write(tmp_path, Q1, 3)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with pytest.raises(ConfigError, match="PRIMERO_ONA_STORAGE_KEYS"):
        rotate(stored(tmp_path, NEW).store)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    assert len(ids_of(stored(tmp_path), Q1)) == 3


def test_everything_on_disk_is_for_its_owner_only(tmp_path):
    """Another login on the machine must not even see which quarters there are."""
    folder = tmp_path / "partitions"
    old = os.umask(0o000)
    try:
        write(folder, Q1, 3)
        rotate(stored(folder, f"{NEW},{OLD}").store)
    finally:
        os.umask(old)
    for path in (folder, *folder.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


@pytest.mark.proves("stored-partitions")
def test_purge_deletes_older_quarters_unfinished_ones_too_and_nothing_else(tmp_path):
    """Retention that leaves what a killed run wrote is none; one that takes reference data breaks the next run."""
    for quarter in (Quarter(2021, 3), Quarter(2021, 4), Quarter(2022, 1)):
        write(tmp_path, quarter, 1)
    stored(tmp_path).writer(ASSET, Quarter(2021, 2)).write(raw_frame({"id": uuid_of(1)}))
    with stored(tmp_path).writer("primero_reference") as writer:
        writer.commit({})
    assert purge(stored(tmp_path).store, "2022-01-01") == 2
    assert [path.name for path in (tmp_path / ASSET).iterdir()] == ["2022-01-01.parquet"]
    assert [path.name for path in (tmp_path / "primero_reference").iterdir()] == ["whole.parquet"]


@pytest.mark.parametrize("doing", ["purge", "forget"])
def test_what_cannot_be_removed_is_an_error_that_says_that_it_is_still_there(tmp_path, ona, monkeypatch, doing):
    """A disk that became read-only kept the rows of children that `purge` and `forget` had said were gone."""
    (case,) = write(tmp_path, Quarter(2021, 3), 1)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "as the kernel says it")

    monkeypatch.setattr(os, "unlink", refuse)
    monkeypatch.setattr(os, "replace", refuse)
    do = {
        "purge": lambda: upkeep.purge(stored(tmp_path), ona, Quarter(2022, 1)),
        "forget": lambda: upkeep.forget(stored(tmp_path), ona, [case], datetime.now().astimezone()),
    }
    with pytest.raises(DataError, match=r"could not be removed or replaced \(EROFS\), so what was to go is still on"):
        do[doing]()
    assert ids_of(stored(tmp_path), Quarter(2021, 3)) == [case]


@pytest.mark.proves("stored-partitions")
def test_the_retention_setting_deletes_on_schedule(tmp_path, ona, ona_url):
    """What must be deleted by hand is not deleted."""
    open_quarter = current_quarter()
    kept = open_quarter.previous().previous()
    for quarter in (open_quarter, kept, kept.previous()):
        write(tmp_path, quarter, 1)
    defs = build_defs(
        settings=GraphSettings(PRIMERO_ONA_RETENTION_QUARTERS="2"),
        resources={
            "partitions": GivenStorage(str(tmp_path), OLD),
            "ona": GivenOna(ona_url),
        },
    )
    assert defs.resolve_schedule_def("purge_nightly").default_status == dg.DefaultScheduleStatus.RUNNING
    with dg.DagsterInstance.ephemeral() as instance:
        assert defs.resolve_job_def("purge_stored").execute_in_process(instance=instance).success
    assert stored(tmp_path).quarters(ASSET) == [kept, open_quarter]


def test_without_a_retention_setting_nothing_deletes_by_itself():
    """A default that deletes would surprise whoever wants to map old quarters again."""
    names = {schedule.name for schedule in build_defs(settings=GraphSettings()).schedules or ()}
    assert "purge_nightly" not in names


def test_a_forgotten_case_is_in_no_file_and_everything_else_stays(tmp_path):
    """One copy that is left is enough to have broken the promise."""
    lost, other = uuid_of(2), uuid_of(4)
    quarantine = [
        {"table": "cases", "primero_id": lost, "reason": "x"},
        {"table": "cases", "primero_id": uuid_of(9), "reason": "y"},
    ]
    ids = write(tmp_path, Q1, 1, 1, 2, summary={"quarantine": quarantine, "more": 1})
    write(tmp_path, Q2, 1)
    kept = stored(tmp_path)
    with kept.writer("case_exits", Q2) as exits:
        moment = datetime.fromisoformat("2024-05-01T00:00:00+00:00")
        exits.write(table([{"id": lost, "last_updated_at": moment}], EXIT_SCHEMA))
        exits.commit({})
    kept.writer(ASSET, Q2).write(raw_frame({"id": lost}))
    old = tmp_path / ASSET / Q1.key / "g20240101000000-0a0a0a0a"
    old.mkdir(parents=True)
    (old / "part-00000.parquet.fernet").write_bytes(b"of the format before")
    untouched = kept.store.place.path(f"{ASSET}/{Q2.key}").stat().st_mtime_ns
    gone, case_ids = forget(kept.store, [lost, other])
    assert (gone, case_ids) == ({lost: 2, other: 1}, {f"K-{lost[-3:]}", f"K-{other[-3:]}"})
    assert ids_of(kept, Q1) == [case for case in ids if case not in (lost, other)]
    assert kept.summary(ASSET, Q1) == {
        "quarantine": quarantine[1:],
        "more": 1,
        "stored_version": kept.assets[ASSET].version,
    }
    assert list(kept.open("case_exits", Q2)) == []
    assert kept.store.place.path(f"{ASSET}/{Q2.key}").stat().st_mtime_ns == untouched
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == [
        "2024-01-01.parquet", "2024-04-01.parquet", "2024-04-01.parquet",
    ]  # fmt: skip


def test_an_erasure_waits_for_the_runs_and_the_runs_for_an_erasure(ona, monkeypatch):
    """Rewritten under a pull, the partition would get the child back a minute later."""
    monkeypatch.setattr("primero_ona.ona.connection._WAIT", "50ms")
    with ona() as run, ona() as other, ona() as command:
        with partition_lock(run, Q1.key), partition_lock(other, Q2.key):
            with pytest.raises(TransientError, match="command is storing 2024-01-01"), partition_lock(command, Q1.key):
                raise AssertionError
            with pytest.raises(TransientError, match="a run is storing a quarter"), lock_of_all(command):
                raise AssertionError
        with lock_of_all(command), pytest.raises(TransientError, match="2024-01-01"), partition_lock(run, Q1.key):
            raise AssertionError
        with partition_lock(run, Q1.key):
            pass
