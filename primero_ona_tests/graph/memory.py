"""Measures the peak memory of few and of many frames in one process: `python -m primero_ona_tests.graph.memory WAY FEW MANY URL`.

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
from upath import UPath

from primero_ona.mapping.labels import Labels
from primero_ona.mapping.locations import Places
from primero_ona.mapping.streams import map_cases_stream, map_services_stream
from primero_ona.ona.connection import connect
from primero_ona.ona.load import load_quarter
from primero_ona.ona.lookup import read_places
from primero_ona.ona.migrations import apply, plan
from primero_ona.pipeline.stored import stored_assets
from primero_ona.primero.raw_schema import RAW_SCHEMA
from primero_ona.quarters import Quarter
from primero_ona.storage.frames import Frames
from primero_ona.storage.partitions import PartitionStore, Stored
from primero_ona_tests.raw import raw_frame, uuid_of

ROWS = 50_000
RAW_ROWS = 10_000


def peak() -> float:
    """The most memory that this process ever had, in MB. Not ru_maxrss, which begins with the parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def through(store: PartitionStore, asset: str, frames: Frames, stored: Stored) -> Frames:
    """Store a stream and open what was stored."""
    writer = store.writer(store.base / asset / "2024-01-01", stored)
    for frame in frames:
        writer.write(frame)
    writer.commit(frames.summary)
    return store.open(store.base / asset / "2024-01-01", stored)


def store_frames(store: PartitionStore, count: int, _url: str) -> None:
    """Frames of 50,000 rows, about 8 MB each."""
    schema = pa.schema([(f"n{number}", pa.float64()) for number in range(20)])

    def read(_columns: Any) -> Iterator[pd.DataFrame]:
        for number in range(count):
            yield pd.DataFrame(
                {name: pd.array(np.arange(ROWS) + float(number), pd.ArrowDtype(pa.float64())) for name in schema.names}
            )

    opened = through(store, "numbers", Frames(read), Stored(schema, "one"))
    assert sum(len(frame) for frame in opened) == count * ROWS


def raw_frames(count: int) -> Frames:
    """Frames of 10,000 cases with three services each; each case another one."""
    model = pa.Table.from_pandas(
        raw_frame({"age": 9, "sex": "male", "services_section": [{"unique_id": "x", "service_type": "other"}] * 3}),
        RAW_SCHEMA,
        preserve_index=False,
    ).to_pylist()[0]

    def read(columns: Any) -> Iterator[pd.DataFrame]:
        for number in range(count):
            rows = [one(model, number * RAW_ROWS + row) for row in range(RAW_ROWS)]
            table = pa.Table.from_pylist(rows, schema=RAW_SCHEMA)
            del rows
            yield (table.select(list(columns)) if columns else table).to_pandas(types_mapper=pd.ArrowDtype)

    return Frames(read)


def one(model: dict[str, Any], number: int) -> dict[str, Any]:
    services = [{**service, "unique_id": f'"{number}-{at}"'} for at, service in enumerate(model["services_section"])]
    return {**model, "id": uuid_of(number), "case_id_display": f'"case-{number}"', "services_section": services}


def map_and_load(store: PartitionStore, count: int, url: str) -> None:
    """The way of a quarter: raw, mapped, stored and loaded."""
    assets, labels = stored_assets(), Labels.load()
    with connect(url) as conn:
        apply(conn, plan(conn))
        conn.execute("TRUNCATE cases, services")
        under18 = through(store, "raw_under18_cases", raw_frames(count), assets["raw_under18_cases"])
        cases = map_cases_stream(Frames.of(), under18, Places.of(read_places(conn)), labels)
        cases = through(store, "mapped_cases", cases, assets["mapped_cases"])
        services = map_services_stream(Frames.of(), under18, labels)
        services = through(store, "mapped_services", services, assets["mapped_services"])
        loaded = load_quarter(
            conn, quarter=Quarter(2024, 1), run_id="memory", cases=cases, services=services, exits=Frames.of(),
            now=datetime.now(UTC),
        )  # fmt: skip
        assert (loaded.cases.inserted, loaded.services.inserted) == (count * RAW_ROWS, count * RAW_ROWS * 3)


WAYS: dict[str, Callable[[PartitionStore, int, str], None]] = {"store": store_frames, "map": map_and_load}


def main() -> None:
    """Measure first the few frames, then the many, in the same process: all that is loaded once is loaded by then."""
    way, few, many, url = sys.argv[1:]
    peaks = {}
    with tempfile.TemporaryDirectory() as folder:
        store = PartitionStore(UPath(folder), Fernet.generate_key().decode())
        for name, count in (("few", few), ("many", many)):
            WAYS[way](store, int(count), url)
            gc.collect()
            peaks[name] = peak()
    print(json.dumps(peaks))  # noqa: T201


if __name__ == "__main__":
    main()
