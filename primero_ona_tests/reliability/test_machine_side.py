"""This machine's side: a disk that is full or fails in the middle of a run leaves everything whole, and the run says what it was."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from primero_ona_tests.harness import Q1
from primero_ona_tests.test_process_faults import onto_a_full_disk

EVERYTHING = "SELECT xmin::text, c::text FROM cases AS c UNION ALL SELECT xmin::text, s::text FROM services AS s"


def stored(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def of(asset: str, files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: content for name, content in files.items() if f"{asset}/" in name}


@pytest.mark.parametrize(
    "asset", ["primero_reference", "raw_under18_cases", "case_exits", "mapped_cases", "mapped_services"]
)
@pytest.mark.parametrize("file", ["part-", "manifest.json"])
def test_a_disk_that_is_full_while_a_part_is_written_leaves_what_was_there(graph, monkeypatch, asset, file):
    """A night's sync on a full disk: the next one, on a disk with space, must find nothing half done."""
    folder = Path(graph.folder)
    if asset != "primero_reference":  # a sync stores that one only where it is not there yet
        assert graph.sync(Q1).kind is None
    before, rows = stored(folder), sorted(graph.sql(EVERYTHING))
    with monkeypatch.context() as patch:
        onto_a_full_disk(patch, f"/{asset}/", file)
        outcome = graph.sync(Q1)
    assert outcome.kind == "TransientError"
    assert outcome.failure.startswith("this machine has no space left on a disk (ENOSPC); nothing is half-written")
    assert sorted(graph.sql(EVERYTHING)) == rows
    assert of(asset, stored(folder)) == of(asset, before)
    run = graph.instance.get_run_by_id(outcome.run_id)
    assert "dagster/retry_on_asset_or_op_failure" not in run.tags, "space may be there at the next try"
    assert graph.sync(Q1).kind is None


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [
        (errno.EIO, "TransientError", "a disk of this machine fails (EIO"),
        (errno.EACCES, "ConfigError", "does not let this account use a file"),
    ],
    ids=["EIO", "EACCES"],
)
def test_a_disk_that_fails_while_a_part_is_read_is_named(graph, monkeypatch, number, kind, words):
    """Reading fails in the middle of a stream, far from where the partition was opened."""
    read = Path.read_bytes

    def failing(path: Path) -> bytes:
        if "raw_under18_cases" in str(path) and "part-" in path.name:
            raise OSError(number, "as the kernel says it", str(path))
        return read(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", failing)
        outcome = graph.sync(Q1)
    assert outcome.kind == kind
    assert words in outcome.failure
    assert graph.sql(EVERYTHING) == []
    assert graph.sync(Q1).kind is None
