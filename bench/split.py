"""Measure which part of a sync takes how much of the processor, by sampling with py-spy: timers of its own would cost more.

The seconds of each step on the wall stand in Dagster's event log (`stages.py`).
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

#: Samples in a second: 25 seconds of a large sync give 5,000, enough for a tenth of a second each way.
RATE = 200

#: A sample belongs to the first of these whose function stands anywhere in its stack.
_PARTS = (
    ("imports", "_find_and_load ("),
    ("decode", "decode (primero_ona/primero/raw.py"),
    ("other work on answers", "_ask (primero_ona/primero/client.py"),
    ("encode", "raw_table (primero_ona/primero/walk.py"),
    ("ages", "with_ages (primero_ona/mapping/dates.py"),
    ("membership", "membership (primero_ona/mapping/membership.py"),
    ("encrypt and store", "PartitionWriter.write (primero_ona/storage/partitions.py"),
    ("read and decrypt", "StoredFile.tables (primero_ona/storage/partitions.py"),
    ("other of the pull", "pull_cases (primero_ona/primero/pull.py"),
    ("map", "mapped_frames (primero_ona/pipeline/transform.py"),
    ("load", "load_quarter (primero_ona/ona/load.py"),
    ("check", "primero_ona/graph/checks.py"),
    ("Dagster's events and queries", "dagster/_core/storage/"),
)


def split(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> dict[str, float]:
    """Run a command under py-spy; CPU seconds by part. Raises RuntimeError where it fails."""
    samples = folder / "samples.txt"
    program = str(Path(sys.executable).with_name("py-spy"))
    spy = [program, "record", "--rate", str(RATE), "--format", "raw", "--output", str(samples), "--", *command]
    done = subprocess.run(spy, env=dict(environment), cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{spy} failed: {done.stderr[-2000:]}")
    found: Counter[str] = Counter()
    for line in samples.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        found[_part(stack)] += int(count)
    return {part: count / RATE for part, count in found.most_common()}


def _part(stack: str) -> str:
    return next((part for part, function in _PARTS if function in stack), "Dagster and the rest")
