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
from upath import UPath

from primero_ona.definitions import build_defs
from primero_ona.errors import ConfigError, TransientError
from primero_ona.graph.resources import PartitionStorage
from primero_ona.graph.retention import oldest_kept
from primero_ona.pipeline.stored import stored_assets
from primero_ona.primero.raw_schema import EXIT_SCHEMA
from primero_ona.quarters import Quarter, current_quarter
from primero_ona.settings import GraphSettings
from primero_ona.storage.partitions import PartitionStore, read_manifest
from primero_ona.storage.rewrite import forget, purge, rotate, stored_partitions
from primero_ona_tests.harness import table
from primero_ona_tests.raw import raw_frame, uuid_of

OLD, NEW = Fernet.generate_key().decode(), Fernet.generate_key().decode()
ASSET = "raw_under18_cases"


def store(folder: Path, keys: str = OLD) -> PartitionStore:
    return PartitionStore(UPath(folder), keys)


def write(folder: Path, quarter: Quarter, *sizes: int, summary: dict | None = None) -> list[str]:
    """Store a partition with parts of so many cases; their ids, numbered from 1."""
    kept = store(folder)
    writer = kept.writer(kept.base / ASSET / quarter.key, stored_assets()[ASSET])
    ids, number = [], 0
    for size in sizes:
        part = [uuid_of(number + place + 1) for place in range(size)]
        writer.write(raw_frame(*({"id": case, "age": 7} for case in part)))
        ids, number = ids + part, number + size
    writer.commit(summary or {"quarantine": []})
    return ids


def ids_of(kept: PartitionStore, quarter: Quarter) -> list[str]:
    return [
        case for frame in kept.open(kept.base / ASSET / quarter.key, stored_assets()[ASSET]) for case in frame["id"]
    ]


Q1, Q2 = Quarter(2024, 1), Quarter(2024, 2)


def test_after_a_rotation_the_new_key_alone_opens_everything(tmp_path):
    """A key that leaked stays dangerous as long as anything on disk is encrypted with it."""
    ids = {quarter: write(tmp_path, quarter, 3, 2) for quarter in (Q1, Q2)}
    assert rotate(store(tmp_path, f"{NEW},{OLD}")) == 2
    for quarter in (Q1, Q2):
        assert ids_of(store(tmp_path, NEW), quarter) == ids[quarter]
        with pytest.raises(ConfigError):
            ids_of(store(tmp_path, OLD), quarter)
    assert len([path for path in tmp_path.rglob("g*") if path.is_dir()]) == 2


def test_a_rotation_without_the_old_key_changes_nothing_and_says_so(tmp_path):
    """Half a rotation would leave partitions that no key opens."""
    write(tmp_path, Q1, 3)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ConfigError, match="PRIMERO_ONA_STORAGE_KEYS"):
        rotate(store(tmp_path, NEW))
    assert sorted(tmp_path.rglob("*")) == before
    assert len(ids_of(store(tmp_path), Q1)) == 3


def test_a_partition_that_a_run_replaces_meanwhile_is_not_overwritten(tmp_path, monkeypatch):
    """The newer pull would be lost for the older one, re-encrypted."""
    write(tmp_path, Q1, 3)
    kept = store(tmp_path, f"{NEW},{OLD}")
    seal = kept.seal

    def replace_and_seal(clear: bytes) -> bytes:
        write(tmp_path, Q1, 7)
        return seal(clear)

    monkeypatch.setattr(kept, "seal", replace_and_seal)
    with pytest.raises(TransientError):
        rotate(kept)
    assert len(ids_of(store(tmp_path), Q1)) == 7


def test_everything_on_disk_is_for_its_owner_only(tmp_path):
    """Another login on the machine must not even see which quarters there are."""
    folder = tmp_path / "partitions"
    old = os.umask(0o000)
    try:
        write(folder, Q1, 3)
        rotate(store(folder, f"{NEW},{OLD}"))
    finally:
        os.umask(old)
    for path in (folder, *folder.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_purge_deletes_older_quarters_unfinished_ones_too_and_nothing_else(tmp_path):
    """Retention that leaves what a killed run wrote is none; one that takes reference data breaks the next run."""
    for quarter in (Quarter(2021, 3), Quarter(2021, 4), Quarter(2022, 1)):
        write(tmp_path, quarter, 1)
    killed = tmp_path / ASSET / Quarter(2021, 2).key / "g20210405000000-abcd"
    killed.mkdir(parents=True)
    (tmp_path / "primero_reference").mkdir()
    (tmp_path / "primero_reference" / "manifest.json").write_text("{}")
    assert purge(UPath(tmp_path), Quarter(2022, 1)) == 3
    assert [path.name for path in (tmp_path / ASSET).iterdir()] == ["2022-01-01"]
    assert (tmp_path / "primero_reference" / "manifest.json").exists()


def test_what_cannot_be_deleted_is_not_counted_as_deleted(tmp_path, monkeypatch):
    """A disk that became read-only kept the rows of children that `purge` and `forget` had said were gone."""
    write(tmp_path, Quarter(2021, 3), 1)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "as the kernel says it")

    monkeypatch.setattr(os, "unlink", refuse)
    with pytest.raises(OSError, match="as the kernel"):
        purge(UPath(tmp_path), Quarter(2022, 1))


def test_the_retention_setting_deletes_on_schedule(tmp_path):
    """What must be deleted by hand is not deleted."""
    open_quarter = current_quarter()
    old = oldest_kept(open_quarter, 3)
    for quarter in (open_quarter, oldest_kept(open_quarter, 2), old):
        write(tmp_path, quarter, 1)
    defs = build_defs(
        settings=GraphSettings(PRIMERO_ONA_RETENTION_QUARTERS="2"),
        resources={"io_manager": PartitionStorage(url=str(tmp_path), fernet_keys=OLD)},
    )
    assert defs.resolve_schedule_def("purge_nightly").default_status == dg.DefaultScheduleStatus.RUNNING
    with dg.DagsterInstance.ephemeral() as instance:
        assert defs.resolve_job_def("purge_stored").execute_in_process(instance=instance).success
    assert sorted(path.name for path in (tmp_path / ASSET).iterdir()) == sorted(
        [open_quarter.key, oldest_kept(open_quarter, 2).key]
    )


def test_without_a_retention_setting_nothing_deletes_by_itself():
    """A default that deletes would surprise whoever wants to map old quarters again."""
    names = {schedule.name for schedule in build_defs(settings=GraphSettings()).schedules or ()}
    assert "purge_nightly" not in names


def test_a_forgotten_case_is_in_no_part_no_manifest_and_everything_else_stays(tmp_path):
    """One copy that is left is enough to have broken the promise."""
    lost, other = uuid_of(2), uuid_of(4)
    quarantine = [
        {"table": "cases", "primero_id": lost, "reason": "x"},
        {"table": "cases", "primero_id": uuid_of(9), "reason": "y"},
    ]
    ids = write(tmp_path, Q1, 1, 1, 2, summary={"quarantine": quarantine, "more": 1})
    write(tmp_path, Q2, 1)
    kept = store(tmp_path)
    exits = kept.writer(kept.base / "case_exits" / Q2.key, stored_assets()["case_exits"])
    exits.write(
        table([{"id": lost, "last_updated_at": datetime.fromisoformat("2024-05-01T00:00:00+00:00")}], EXIT_SCHEMA)
    )
    exits.commit({})
    untouched = read_manifest(kept.base / ASSET / Q2.key)
    assert forget(kept, [lost, other]) == {lost: 2, other: 1}
    assert ids_of(kept, Q1) == [case for case in ids if case not in (lost, other)]
    assert kept.summary_of(read_manifest(kept.base / ASSET / Q1.key)) == {
        "quarantine": quarantine[1:],
        "more": 1,
    }
    assert read_manifest(kept.base / "case_exits" / Q2.key)["rows"] == 0
    assert read_manifest(kept.base / ASSET / Q2.key) == untouched
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.name == "manifest.json":
            assert lost not in path.read_text()
    assert sum(1 for _ in stored_partitions(kept.base)) == 3
