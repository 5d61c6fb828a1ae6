"""Stored partitions: encrypted, whole or not there, refused where they do not fit, and never larger than a batch in memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pandas as pd
import pyarrow as pa
import pytest
from cryptography.fernet import Fernet
from upath import UPath

from primero_ona.errors import ConfigError, DataError, TransientError
from primero_ona.primero.raw_schema import RAW_SCHEMA
from primero_ona.storage.partitions import MANIFEST, PartitionStore, PartitionWriter, Stored, read_manifest
from primero_ona.storage.rewrite import rotate
from primero_ona_tests.raw import raw_frame

SCHEMA = pa.schema([("id", pa.string()), ("n", pa.int32())])
STORED = Stored(SCHEMA, "one")
MARK = "a-name-that-must-not-be-read"


@pytest.fixture
def store(tmp_path: Path) -> PartitionStore:
    return PartitionStore(UPath(tmp_path / "partitions"), Fernet.generate_key().decode())


def frame(*numbers: int) -> pd.DataFrame:
    rows = [{"id": f"{MARK}-{number}", "n": number} for number in numbers]
    return pa.Table.from_pylist(rows, schema=SCHEMA).to_pandas(types_mapper=pd.ArrowDtype)


def begin(store: PartitionStore, stored: Stored = STORED) -> PartitionWriter:
    return store.writer(store.base / "asset" / "2024-01-01", stored)


def fill(store: PartitionStore, *frames: pd.DataFrame, **summary: Any) -> UPath:
    writer = begin(store)
    for piece in frames:
        writer.write(piece)
    writer.commit(summary)
    return store.base / "asset" / "2024-01-01"


def numbers(store: PartitionStore, path: UPath) -> list[int]:
    return [number for piece in store.open(path, STORED) for number in piece["n"]]


def test_frames_come_back_in_order_with_their_types_and_their_summary(store: PartitionStore) -> None:
    """The next step relies on the types, and its counts on the summary."""
    path = fill(store, frame(1, 2), frame(), frame(3), findings=[{"field": "sex", "code": "x", "count": 1}])
    opened = store.open(path, STORED)
    assert [list(piece["n"]) for piece in opened] == [[1, 2], [3]]
    assert [list(piece["n"]) for piece in opened] == [[1, 2], [3]], "it can be read again"
    assert all(piece.dtypes.to_dict() == frame(1).dtypes.to_dict() for piece in opened)
    assert opened.summary == {
        "findings": [{"field": "sex", "code": "x", "count": 1}],
        "stored_version": STORED.version,
    }
    assert [list(piece.columns) for piece in opened.read(["n"])] == [["n"], ["n"]]


def test_what_is_known_beside_the_rows_lies_encrypted_too(store: PartitionStore) -> None:
    """UnmappedCodes and reasons tell of single children, and a manifest is read without a key."""
    path = fill(store, frame(1), findings=[{"field": "location_current", "code": "16990101", "count": 1}])
    text = (path / MANIFEST).read_text()
    assert "16990101" not in text
    assert "location_current" not in text
    other = PartitionStore(store.base, Fernet.generate_key().decode())
    with pytest.raises(ConfigError, match="no key in PRIMERO_ONA_STORAGE_KEYS opens"):
        other.open(path, STORED)


def test_a_summary_that_an_older_version_left_in_the_clear_is_read_and_sealed_by_a_rotation(
    store: PartitionStore,
) -> None:
    """Quarters need not be pulled again for it, and nothing stays in the clear for ever."""
    path = fill(store, frame(1), findings=[])
    clear = read_manifest(path) | {"summary": {"findings": [], "village": "16990101"}}
    (path / MANIFEST).write_bytes(orjson.dumps(clear))
    assert store.open(path, STORED).summary["village"] == "16990101"
    rotate(store)
    assert "16990101" not in (path / MANIFEST).read_text()
    assert store.open(path, STORED).summary["village"] == "16990101"


def test_nested_services_come_back_as_they_were(store: PartitionStore) -> None:
    """pandas cannot read back what it notes of nested types itself; the services of a whole quarter would be lost."""
    visits = [{"unique_id": "a", "service_type": "other"}, None]
    raw = raw_frame({"services_section": visits}, {"services_section": []}, {"services_section": "none"}, {})
    stored = Stored(RAW_SCHEMA, "one")
    writer = begin(store, stored)
    writer.write(raw)
    writer.commit({})
    (back,) = store.open(store.base / "asset" / "2024-01-01", stored)
    assert pa.Table.from_pandas(back, RAW_SCHEMA).to_pylist() == pa.Table.from_pandas(raw, RAW_SCHEMA).to_pylist()


def test_nothing_lies_on_disk_in_the_clear_and_only_the_owner_may_look(store: PartitionStore) -> None:
    """The disk is backed up, copied and one day thrown away."""
    fill(store, frame(1), frame(2))
    entries = [Path(store.base.path), *Path(store.base.path).rglob("*")]
    assert {entry.stat().st_mode & 0o777 for entry in entries if entry.is_file()} == {0o600}
    assert {entry.stat().st_mode & 0o777 for entry in entries if entry.is_dir()} == {0o700}
    text = b"".join(entry.read_bytes() for entry in entries if entry.is_file())
    assert MARK.encode() not in text
    assert b"PAR1" not in text


def test_an_empty_quarter_is_a_partition_too(store: PartitionStore) -> None:
    """A quarter without exits is loaded, not refused as missing."""
    path = fill(store)
    assert numbers(store, path) == []


def test_a_folder_without_a_manifest_does_not_exist(store: PartitionStore) -> None:
    """Parts of a write that was killed must not be taken for a quarter."""
    begin(store).write(frame(1))
    with pytest.raises(FileNotFoundError):
        store.open(store.base / "asset" / "2024-01-01", STORED)


@pytest.mark.parametrize("end", ["killed", "discarded"])
def test_a_write_that_does_not_end_leaves_the_old_partition(store: PartitionStore, end: str) -> None:
    """A pull that breaks off must not cost the quarter that was there."""
    path = fill(store, frame(1))
    writer = begin(store)
    writer.write(frame(2))
    if end == "discarded":
        writer.discard()
        assert len(list(path.iterdir())) == 2
    assert numbers(store, path) == [1]
    assert numbers(store, fill(store, frame(3))) == [3]


def test_what_counts_is_not_discarded(store: PartitionStore) -> None:
    """A pull commits three partitions in turn, and discards all three where one of them fails."""
    writer = begin(store)
    writer.write(frame(1))
    writer.commit({})
    writer.discard()
    assert numbers(store, store.base / "asset" / "2024-01-01") == [1]


def test_what_a_killed_write_left_is_cleared_away_by_a_write_of_another_day(store: PartitionStore) -> None:
    """Sooner, it might belong to a run that is still at work; never, and the disk would fill."""
    path = fill(store, frame(1))
    young, old = begin(store), begin(store)
    old._folder = old._folder.with_name("g20240101000000-0a0a0a0a")
    young.write(frame(2))
    old.write(frame(3))
    fill(store, frame(4))
    assert young._folder.exists()
    assert not old._folder.exists()
    assert len(list(path.iterdir())) == 3, "the manifest, its generation, and the young one"


def test_a_partition_with_a_damaged_manifest_can_be_made_again(store: PartitionStore) -> None:
    """That is what its message tells people to do."""
    path = fill(store, frame(1))
    (path / "manifest.json").write_bytes(b'{"format": 1, ')
    assert numbers(store, fill(store, frame(2))) == [2]


def test_restart_forgets_what_was_written(store: PartitionStore) -> None:
    """A walk that is repeated must not leave the rows of the first one."""
    writer = begin(store)
    writer.write(frame(1, 2))
    writer.restart()
    assert writer.rows == 0
    writer.write(frame(3))
    writer.commit({})
    assert numbers(store, store.base / "asset" / "2024-01-01") == [3]


def test_of_two_writers_at_once_the_last_to_commit_counts_and_nothing_is_damaged(store: PartitionStore) -> None:
    """The sensor and a person may sync the same quarter at the same time."""
    first, second = begin(store), begin(store)
    first.write(frame(1))
    second.write(frame(2))
    second.commit({})
    first.commit({})
    assert numbers(store, store.base / "asset" / "2024-01-01") == [1]


def test_a_writer_whose_parts_were_taken_away_fails_and_does_not_damage_what_is_there(store: PartitionStore) -> None:
    """A run that hung for days was cleared away as abandoned, and then wakes up."""
    path = fill(store, frame(1))
    writer = begin(store)
    writer.write(frame(2))
    begin(store)
    next(writer._folder.iterdir()).unlink()
    with pytest.raises(TransientError, match="another run stored the same partition"):
        writer.commit({})
    assert numbers(store, path) == [1]


@pytest.mark.parametrize("damage", ["a byte", "half", "the manifest"])
def test_what_is_damaged_is_refused_by_name(store: PartitionStore, damage: str) -> None:
    """A disk error must not load half a quarter."""
    path = fill(store, frame(1, 2))
    part = path / "manifest.json" if damage == "the manifest" else next(path.glob("g*/part-*"))
    content = part.read_bytes()
    part.write_bytes(content[: len(content) // 2] if damage != "a byte" else content[:-1] + b"x")
    with pytest.raises(DataError, match="damaged; materialize"):
        numbers(store, path)


def test_a_part_that_vanished_while_it_was_read_may_be_tried_again(store: PartitionStore) -> None:
    """Another run replaced the partition: that passes by itself."""
    path = fill(store, frame(1))
    opened = store.open(path, STORED)
    fill(store, frame(2))
    with pytest.raises(TransientError, match="run this step again"):
        list(opened)


def test_another_key_opens_nothing_and_says_what_to_do(store: PartitionStore) -> None:
    """Keys get lost; the message must not send people looking for a damaged disk."""
    path = fill(store, frame(1))
    other = PartitionStore(store.base, Fernet.generate_key().decode())
    with pytest.raises(ConfigError, match="no key in PRIMERO_ONA_STORAGE_KEYS opens"):
        numbers(other, path)


def test_a_new_key_before_the_old_one_writes_anew_and_still_reads_the_old(tmp_path: Path) -> None:
    """Rotation must not make the stored quarters unreadable."""
    old, new = (Fernet.generate_key().decode() for _ in range(2))
    path = fill(PartitionStore(UPath(tmp_path), old), frame(1))
    both = PartitionStore(UPath(tmp_path), f"{new}, {old}")
    assert numbers(both, path) == [1]
    fill(both, frame(2))
    assert numbers(PartitionStore(UPath(tmp_path), new), path) == [2]


@pytest.mark.parametrize("keys", ["secret-but-no-key", "", " , "])
def test_malformed_keys_are_refused_without_being_shown(tmp_path: Path, keys: str) -> None:
    """The message is read by people who must not see the key; without a key nothing may be written."""
    with pytest.raises(ConfigError, match="PRIMERO_ONA_STORAGE_KEYS is malformed") as caught:
        PartitionStore(UPath(tmp_path), keys)
    assert "secret" not in str(caught.value)


def test_all_mismatches_of_a_manifest_are_named_at_once(store: PartitionStore) -> None:
    """Otherwise people mend one, run, and meet the next."""
    path = fill(store, frame(1))
    manifest = read_manifest(path) | {"format": 0}
    (path / "manifest.json").write_bytes(orjson.dumps(manifest))
    needed = Stored(pa.schema([*SCHEMA, ("more", pa.string())]), "two")
    with pytest.raises(DataError) as caught:
        store.open(path, needed)
    text = str(caught.value)
    assert text.startswith("the stored partition asset/2024-01-01 does not fit: ")
    for part in (
        "format is 0, needed 1",
        "version is 'one', needed 'two'",
        "columns is",
        "'more'",
        "materialize that asset",
    ):
        assert part in text


_MEMORY = Path(__file__).with_name("memory.py")


@pytest.mark.parametrize(("way", "few", "many"), [("store", 4, 40), ("map", 2, 7)])
def test_memory_does_not_grow_with_the_quarter(way: str, few: int, many: int, ona_url: str) -> None:
    """A country's quarter must fit into the same machine as a province's."""
    command = [sys.executable, "-m", f"primero_ona_tests.graph.{_MEMORY.stem}", way, str(few), str(many), ona_url]
    done = subprocess.run(command, capture_output=True, text=True, cwd=_MEMORY.parents[2], timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2_000:]
    peaks = json.loads(done.stdout)
    # One frame of either way is 8 MB and more: what was kept of the further ones would be above 280 and 100 MB.
    assert peaks["many"] - peaks["few"] < 60, peaks
