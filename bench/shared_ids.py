"""What keys of their own cost: a first sync, an unchanged one and `verify`, with services whose ids all cases share.

    .venv/bin/python bench/shared_ids.py --cases 20000 --repeats 3

Run in pairs, in turns, against the same number of cases whose services have ids of their own.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from cryptography.fernet import Fernet
from measure import run
from places import Postgres, Sandbox, sandbox

QUARTER = "2024-Q1"
PROGRAM = str(Path(sys.executable).with_name("primero-ona"))
COMMANDS = {
    "first sync": ["sync", "--quarter", QUARTER],
    "unchanged sync": ["sync", "--quarter", QUARTER],
    "verify": ["verify"],
}


def main() -> None:
    """Measure, and print the medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=3)
    chosen = parser.parse_args()
    seconds: dict[tuple[str, bool], list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="primero-ona-bench-") as name:
        Path(name).chmod(0o755)
        with (
            Postgres(Path(name)) as postgres,
            sandbox(chosen.cases, QUARTER) as own,
            sandbox(chosen.cases, QUARTER, shared_ids=True) as shared,
        ):
            for turn in range(chosen.repeats):
                for place in (own, shared) if turn % 2 else (shared, own):
                    environment = _environment(place, postgres.url("ona"), f"{name}/{turn}-{place is shared}")
                    run([PROGRAM, "schema", "apply"], environment, Path(name))
                    run([PROGRAM, "reference", "refresh"], environment, Path(name))
                    for what, command in COMMANDS.items():
                        # The sandbox has cases without a display id: they are in quarantine, so `verify` ends with 1.
                        found = run([PROGRAM, *command], environment, Path(name), fine=(0, 1))
                        seconds.setdefault((what, place is shared), []).append(found.seconds)
    for what in COMMANDS:
        plain, made = (statistics.median(seconds[what, shared]) for shared in (False, True))
        print(f"{what}: own ids {plain:.2f} s, shared ids {made:.2f} s, ratio {made / plain:.2f}")


def _environment(place: Sandbox, ona: str, home: str) -> dict[str, str]:
    Path(home).mkdir()
    return {
        "PRIMERO_URL": place.url,
        "PRIMERO_USERNAME": place.username,
        "PRIMERO_PASSWORD": place.password,
        "ONA_DATABASE_URL": ona,
        "PRIMERO_ONA_START": QUARTER,
        "PRIMERO_ONA_STORAGE_KEYS": Fernet.generate_key().decode(),
        "PRIMERO_ONA_STORAGE_URL": f"{home}/partitions",
        "DAGSTER_HOME": home,
        "DAGSTER_DISABLE_TELEMETRY": "1",
    }


if __name__ == "__main__":
    main()
