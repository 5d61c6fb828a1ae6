"""Measures the peak memory of few and of many frames in one process: `python -m primero_ona_tests.storage.memory WAY FEW MANY URL`.

`store`: frames through the writer and the reader of stored partitions. `map`: raw cases through store, mapping, store and
load into the database at URL. Prints `{"few": MB, "many": MB}`. Not a test: a process of its own, so that the peak is its own.
"""

from __future__ import annotations

import gc
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from cryptography.fernet import Fernet

from primero_ona.ona.bookkeeping import PULL_NUMBER
from primero_ona.ona.connection import connect
from primero_ona.ona.migrations import apply, plan
from primero_ona.pipeline.load import load_stored_quarter
from primero_ona.pipeline.stored import EXITS, MAPPED_CASES, MAPPED_SERVICES, REINTEGRATION, UNDER18, StoredAssets
from primero_ona.pipeline.transform import map_quarter
from primero_ona.primero.raw import RAW_SCHEMA
from primero_ona.quarters import Quarter
from primero_ona.storage.partitions import PartitionStore, PartitionWriter, Stored
from primero_ona_tests.harness import seed_reference
from primero_ona_tests.raw import raw_frame, uuid_of

ROWS = 50_000
RAW_ROWS = 10_000


def peak() -> float:
    """The most memory that this process ever had, in MB. Not ru_maxrss, which begins with the parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def fill(writer: PartitionWriter, frames: Iterator[pd.DataFrame]) -> None:
    """Store frames."""
    with writer:
        for frame in frames:
            writer.write(frame)
        writer.commit({PULL_NUMBER: 1})


def store_frames(stored: StoredAssets, count: int, _url: str) -> None:
    """Frames of 50,000 rows, about 8 MB each."""
    schema = pa.schema([(f"n{number}", pa.float64()) for number in range(20)])

    def made() -> Iterator[pd.DataFrame]:
        for number in range(count):
            yield pd.DataFrame(
                {name: pd.array(np.arange(ROWS) + float(number), pd.ArrowDtype(pa.float64())) for name in schema.names}
            )

    numbers = Stored("numbers", schema, "one")
    fill(stored.store.writer(numbers), made())
    assert sum(len(frame) for frame in stored.store.open(numbers)) == count * ROWS


def raw_frames(count: int) -> Iterator[pd.DataFrame]:
    """Frames of 10,000 cases with three services each; each case another one."""
    model = pa.Table.from_pandas(
        raw_frame({"age": 9, "sex": "male", "services_section": [{"unique_id": "x", "service_type": "other"}] * 3}),
        RAW_SCHEMA,
        preserve_index=False,
    ).to_pylist()[0]

    for number in range(count):
        rows = [one(model, number * RAW_ROWS + row) for row in range(RAW_ROWS)]
        table = pa.Table.from_pylist(rows, schema=RAW_SCHEMA)
        del rows
        yield table.to_pandas(types_mapper=pd.ArrowDtype)


def one(model: dict[str, Any], number: int) -> dict[str, Any]:
    services = [{**service, "unique_id": f'"{number}-{at}"'} for at, service in enumerate(model["services_section"])]
    return {**model, "id": uuid_of(number), "case_id_display": f'"case-{number}"', "services_section": services}


def map_and_load(stored: StoredAssets, count: int, url: str) -> None:
    """The way of a quarter: raw, mapped, stored and loaded."""
    quarter = Quarter(2024, 1)
    with connect(url) as conn:
        apply(conn, plan(conn))
        conn.execute("TRUNCATE cases, services, primero_sync.runs")
    seed_reference(stored, lambda: connect(url))
    fill(stored.writer(UNDER18, quarter), raw_frames(count))
    for asset in (REINTEGRATION, EXITS):
        fill(stored.writer(asset, quarter), iter(()))
    for asset in (MAPPED_CASES, MAPPED_SERVICES):
        map_quarter(lambda: connect(url), stored, quarter, asset)
    with connect(url) as conn:
        loaded = load_stored_quarter(conn, stored, quarter, "memory", datetime.now(UTC))
    assert (loaded.cases.inserted, loaded.services.inserted) == (count * RAW_ROWS, count * RAW_ROWS * 3)


WAYS: dict[str, Callable[[StoredAssets, int, str], None]] = {"store": store_frames, "map": map_and_load}


def main() -> None:
    """Measure first the few frames, then the many, in the same process: all that is loaded once is loaded by then."""
    way, few, many, url = sys.argv[1:]
    peaks = {}
    with tempfile.TemporaryDirectory() as folder:
        store = PartitionStore(Path(folder), Fernet.generate_key().decode())
        stored = StoredAssets(lambda: store, "")
        for name, count in (("few", few), ("many", many)):
            WAYS[way](stored, int(count), url)
            gc.collect()
            peaks[name] = peak()
    print(json.dumps(peaks))  # noqa: T201


if __name__ == "__main__":
    main()
