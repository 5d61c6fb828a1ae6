"""Stored partitions: encrypted, whole or not there, refused where they do not fit, and never larger than a batch in memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from cryptography.fernet import Fernet

from primero_ona.errors import ConfigError, DataError
from primero_ona.primero.raw import RAW_SCHEMA
from primero_ona.storage.partitions import PartitionStore, Stored
from primero_ona_tests.raw import raw_frame

SCHEMA = pa.schema([("id", pa.string()), ("n", pa.int32())])
STORED = Stored("asset", SCHEMA, "one")
PARTITION = "2024-01-01"
MARK = "a-name-that-must-not-be-read"


@pytest.fixture
def store(tmp_path: Path) -> PartitionStore:
    return PartitionStore(tmp_path / "partitions", Fernet.generate_key().decode())


def frame(*numbers: int) -> pd.DataFrame:
    rows = [{"id": f"{MARK}-{number}", "n": number} for number in numbers]
    return pa.Table.from_pylist(rows, schema=SCHEMA).to_pandas(types_mapper=pd.ArrowDtype)


def fill(store: PartitionStore, *frames: pd.DataFrame, stored: Stored = STORED, **summary: Any) -> Path:
    with store.writer(stored, PARTITION) as writer:
        for piece in frames:
            writer.write(piece)
        writer.commit(summary)
    return store.place.path(f"{stored.asset}/{PARTITION}")


def numbers(store: PartitionStore, stored: Stored = STORED, partition: str = PARTITION) -> list[int]:
    return [number for piece in store.open(stored, partition) for number in piece["n"]]


def test_frames_come_back_in_order_with_their_types_and_their_summary(store: PartitionStore) -> None:
    """The next step relies on the types, and its counts on the summary."""
    fill(store, frame(1, 2), frame(), frame(3), findings=[{"field": "sex", "code": "x", "count": 1}])
    opened = store.open(STORED, PARTITION)
    for _ in range(2):
        assert pd.concat(opened)["n"].to_list() == [1, 2, 3]
    assert all(piece.dtypes.to_dict() == frame(1).dtypes.to_dict() for piece in opened)
    assert opened.summary == {"findings": [{"field": "sex", "code": "x", "count": 1}], "stored_version": "one"}
    assert [list(piece.columns) for piece in opened.read(["n"])] == [["n"]] * 2
    assert store.open_file(f"asset/{PARTITION}").footer["version"] == "one"
    assert (store.partitions("asset"), store.partitions("none")) == ([PARTITION], [])


def test_nested_services_come_back_as_they_were(store: PartitionStore) -> None:
    """pandas cannot read back what it notes of nested types itself; the services of a whole quarter would be lost."""
    visits = [{"unique_id": "a", "service_type": "other"}, None]
    raw = raw_frame({"services_section": visits}, {"services_section": []}, {"services_section": "none"}, {})
    stored = Stored("asset", RAW_SCHEMA, "one")
    fill(store, raw, stored=stored)
    (back,) = store.open(stored, PARTITION)
    assert pa.Table.from_pandas(back, RAW_SCHEMA).to_pylist() == pa.Table.from_pandas(raw, RAW_SCHEMA).to_pylist()


@pytest.mark.proves("stored-partitions")
def test_nothing_lies_on_disk_in_the_clear_and_only_the_owner_may_look(store: PartitionStore) -> None:
    """The disk is backed up, copied and one day thrown away: rows, summaries and even the names of columns tell of children."""
    fill(store, frame(1), frame(2), findings=[{"field": "location_current", "code": "16990101", "count": 1}])
    unfinished = store.writer(STORED, "2024-04-01")
    unfinished.write(frame(3))
    entries = [store.place.base, *store.place.base.rglob("*")]
    assert {entry.stat().st_mode & 0o777 for entry in entries if entry.is_file()} == {0o600}
    assert {entry.stat().st_mode & 0o777 for entry in entries if entry.is_dir()} == {0o700}
    text = b"".join(entry.read_bytes() for entry in entries if entry.is_file())
    assert b"PARE" in text, "Parquet with an encrypted footer"
    for secret in (MARK, "16990101", "location_current", "findings"):
        assert secret.encode() not in text
    unfinished.discard()


def test_an_empty_quarter_is_a_partition_too(store: PartitionStore) -> None:
    """A quarter without exits is loaded, not refused as missing."""
    fill(store)
    assert numbers(store) == []


@pytest.mark.parametrize("end", ["killed", "discarded", "begun again"])
def test_a_write_that_does_not_end_leaves_the_old_partition(store: PartitionStore, end: str) -> None:
    """A pull that breaks off must not cost the quarter that was there, nor leave half of another on the disk."""
    path = fill(store, frame(1))
    writer = store.writer(STORED, PARTITION)
    writer.write(frame(2))
    assert numbers(store) == [1]
    if end == "discarded":
        writer.discard()
    elif end == "killed":
        assert len(list(path.parent.iterdir())) == 2
        store.writer(STORED, PARTITION)
    else:
        writer.discard()
        writer.write(frame(4))
        writer.commit({})
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    assert numbers(store) == ([4] if end == "begun again" else [1])


def test_what_counts_is_not_discarded(store: PartitionStore) -> None:
    """A pull commits three partitions in turn, and discards all three where one of them fails."""
    writer = store.writer(STORED, PARTITION)
    writer.write(frame(1))
    writer.commit({})
    writer.discard()
    assert numbers(store) == [1]


def test_only_what_is_unfinished_of_one_partition_is_removed_and_what_an_older_format_left(
    store: PartitionStore,
) -> None:
    """Another quarter may just be written; the folder of an older version holds the same children once more."""
    path = fill(store, frame(1))
    other = store.writer(STORED, "2024-04-01")
    other.write(frame(2))
    old = path.parent / PARTITION / "g20240101000000-0a0a0a0a"
    old.mkdir(parents=True)
    (old / "part-00000.parquet.fernet").write_bytes(b"x")
    store.writer(STORED, PARTITION)
    other.commit({})
    assert store.partitions("asset") == [PARTITION, "2024-04-01"]
    assert not (path.parent / PARTITION).exists()


def test_a_reader_keeps_what_it_opened_while_the_partition_is_replaced(store: PartitionStore) -> None:
    """Rows of one pull and the summary of another would be counted against each other."""
    fill(store, frame(1), pull=1)
    opened = store.open(STORED, PARTITION)
    fill(store, frame(2), pull=2)
    assert (pd.concat(opened)["n"].to_list(), opened.summary["pull"]) == ([1], 1)


@pytest.mark.parametrize("damage", ["a byte", "half", "empty", "not ours"])
def test_what_is_damaged_is_refused_by_name(store: PartitionStore, damage: str) -> None:
    """A disk error must not load half a quarter."""
    path = fill(store, frame(*range(1_000)))
    content = path.read_bytes()
    changed = {
        "a byte": content[:100] + bytes([content[100] ^ 1]) + content[101:],
        "half": content[: len(content) // 2],
        "empty": b"",
        "not ours": b"something else",
    }
    path.write_bytes(changed[damage])
    with pytest.raises(DataError, match=r"the stored partition asset/2024-01-01\.parquet is damaged"):
        numbers(store)


@pytest.mark.parametrize("place", ["quarter", "asset"])
@pytest.mark.proves("stored-partitions")
def test_a_file_that_was_copied_elsewhere_is_refused(store: PartitionStore, place: str) -> None:
    """Whoever may write the folder but has no key could count last year's children once more this year."""
    path = fill(store, frame(1))
    copy = store.place.path("asset/2024-04-01" if place == "quarter" else f"other/{PARTITION}")
    copy.parent.mkdir(exist_ok=True)
    copy.write_bytes(path.read_bytes())
    with pytest.raises(DataError, match=r"does not fit: (partition|asset) is "):
        numbers(store, Stored(copy.parent.name, SCHEMA, "one"), copy.stem)


def test_all_mismatches_of_a_file_are_named_at_once(store: PartitionStore) -> None:
    """Otherwise people repair one, run, and meet the next."""
    fill(store, frame(1))
    needed = Stored("asset", pa.schema([*SCHEMA, ("more", pa.string())]), "two")
    with pytest.raises(DataError) as caught:
        store.open(needed, PARTITION)
    text = str(caught.value)
    assert text.startswith("the stored partition asset/2024-01-01.parquet does not fit: ")
    for part in ("version is 'one', needed 'two'", "columns is", "'more'", "materialize that asset again"):
        assert part in text


def test_another_key_opens_nothing_and_says_what_to_do(store: PartitionStore) -> None:
    """Keys get lost; the message must not send people looking for a damaged disk."""
    fill(store, frame(1))
    with pytest.raises(ConfigError, match="no key in PRIMERO_ONA_STORAGE_KEYS opens"):
        numbers(PartitionStore(store.place.base, Fernet.generate_key().decode()))


def test_a_new_key_before_the_old_one_writes_with_the_new_and_still_reads_the_old(tmp_path: Path) -> None:
    """Rotation must not make the stored quarters unreadable."""
    old, new = (Fernet.generate_key().decode() for _ in range(2))
    fill(PartitionStore(tmp_path, old), frame(1))
    both = PartitionStore(tmp_path, f"{new}, {old}")
    assert numbers(both) == [1]
    fill(both, frame(2))
    assert numbers(PartitionStore(tmp_path, new)) == [2]


@pytest.mark.parametrize("keys", ["secret-but-no-key", "", " , "])
def test_malformed_keys_are_refused_without_being_shown(tmp_path: Path, keys: str) -> None:
    """The message is read by people who must not see the key; without a key nothing may be written."""
    with pytest.raises(ConfigError, match="PRIMERO_ONA_STORAGE_KEYS is malformed") as caught:
        PartitionStore(tmp_path, keys)
    assert "secret" not in str(caught.value)


_MEMORY = Path(__file__).with_name("memory.py")


@pytest.mark.parametrize(
    ("way", "few", "many"),
    [
        pytest.param("store", 2, 12, marks=pytest.mark.ci),
        pytest.param("store", 4, 40, marks=pytest.mark.ci),
        pytest.param("map", 2, 7, marks=pytest.mark.ci),
    ],
)
def test_memory_does_not_grow_with_the_quarter(way: str, few: int, many: int, ona_url: str) -> None:
    """A country's quarter must fit into the same machine as a province's."""
    command = [sys.executable, "-m", f"primero_ona_tests.storage.{_MEMORY.stem}", way, str(few), str(many), ona_url]
    done = subprocess.run(command, capture_output=True, text=True, cwd=_MEMORY.parents[2], timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2_000:]
    peaks = json.loads(done.stdout)
    # One frame of either way is 8 MB and more: what was kept of the further ones would be above 280 and 100 MB.
    assert peaks["many"] - peaks["few"] < 60, peaks
