"""This machine's side: a disk that is full or fails in the middle of a run leaves everything whole, and the run says what it was."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pyarrow.parquet import ParquetFile

from primero_ona.storage.partitions import PartitionStore, PartitionWriter, Stored
from primero_ona_tests import ALL
from primero_ona_tests.harness import Q1
from primero_ona_tests.reliability.syncing import sync_plainly

EVERYTHING = "SELECT xmin::text, c::text FROM cases AS c UNION ALL SELECT xmin::text, s::text FROM services AS s"


def stored(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def of(asset: str, files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: content for name, content in files.items() if f"{asset}/" in name}


#: Assets and moments of their writing; a few of them where not all tests run.
PLACES = [
    (asset, moment)
    for moment in ("write_table", "commit")
    for asset in ("raw_under18_cases", "case_exits", "mapped_cases", "mapped_services")
]


@pytest.mark.proves("machine-fault")
def test_a_disk_that_is_full_while_a_partition_is_written_leaves_what_was_there(graph, monkeypatch):
    """A night's sync on a full disk: the next one, on a disk with space, must find nothing half done."""
    folder = Path(graph.folder)
    sync_plainly(graph)
    before, rows = stored(folder), sorted(graph.sql(EVERYTHING))
    for asset, moment in PLACES if ALL else PLACES[::3]:
        with monkeypatch.context() as patch:
            fill_disk(patch, asset, moment)
            outcome = graph.sync(Q1)
        assert outcome.kind == "TransientError"
        assert outcome.failure.startswith("this machine has no space left on a disk (ENOSPC")
        assert "nothing is half-written" in outcome.failure
        assert sorted(graph.sql(EVERYTHING)) == rows
        assert of(asset, stored(folder)) == of(asset, before), moment
        run = graph.instance.get_run_by_id(outcome.run_id)
        assert "dagster/retry_on_asset_or_op_failure" not in run.tags, "space may be there at the next try"
        sync_plainly(graph)
        before = stored(folder)


def fill_disk(patch: pytest.MonkeyPatch, asset: str, moment: str) -> None:
    """Let the disk be full when a writer of this asset comes to this method."""
    writer_of = PartitionStore.writer

    def writer(store: PartitionStore, wanted: Stored, *more: Any) -> PartitionWriter:
        made = writer_of(store, wanted, *more)
        if wanted.asset == asset:
            patch.setattr(made, moment, full)
        return made

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "as the kernel says it", "partition")

    patch.setattr(PartitionStore, "writer", writer)


def test_what_the_library_says_of_a_full_disk_has_the_kernels_number(tmp_path):
    """pyarrow writes by itself: without the number its words would pass for a damaged partition."""
    script = (
        "import resource, signal, pyarrow as pa, pathlib, sys\n"
        "from cryptography.fernet import Fernet\n"
        "from primero_ona.process import machine_error\n"
        "from primero_ona.storage.partitions import PartitionStore, Stored\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))\n"
        "schema = pa.schema([('n', pa.int64())])\n"
        "store = PartitionStore(pathlib.Path(sys.argv[1]), Fernet.generate_key().decode())\n"
        "try:\n"
        "    with store.writer(Stored('asset', schema, '1')) as writer:\n"
        "        writer.write_table(pa.table({'n': list(range(100_000))}, schema=schema))\n"
        "        writer.commit({})\n"
        "except Exception as error:\n"
        "    print(machine_error(error), list(pathlib.Path(sys.argv[1]).rglob('*.*')))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert "a file would be larger than this machine allows (EFBIG" in done.stdout, done.stdout + done.stderr
    assert done.stdout.rstrip().endswith("[]"), "nothing of it is left"


@pytest.mark.proves("machine-fault")
def test_a_disk_that_fails_while_a_partition_is_read_is_named(graph, monkeypatch):
    """Reading fails in the middle of a stream, far from where the partition was opened."""
    opened = ParquetFile.iter_batches
    for number, kind, words in (
        (errno.EIO, "TransientError", "a disk of this machine fails (EIO"),
        (errno.EACCES, "ConfigError", "does not let this account use a file"),
    ):

        def failing(file: ParquetFile, *arguments: Any, number: int = number, **named: Any) -> Any:
            if "services_section" in file.schema_arrow.names:  # raw cases
                raise OSError(number, "as the kernel says it")
            return opened(file, *arguments, **named)

        with monkeypatch.context() as patch:
            patch.setattr(ParquetFile, "iter_batches", failing)
            outcome = graph.sync(Q1)
        assert outcome.kind == kind
        assert words in outcome.failure
        assert graph.sql(EVERYTHING) == []
    sync_plainly(graph)
    assert graph.sql(EVERYTHING)
