"""`make bench`: primero-ona, the floor and a peer on the same cases, in turns, as whole processes.

Results go to bench/results/ as JSON and as tables.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson
from cryptography.fernet import Fernet
from measure import run
from places import Postgres, Sandbox, sandbox
from split import split
from stages import stages
from tables import tables

from primero_ona.quarters import current_quarter

HERE = Path(__file__).parent
QUARTER, FIRST, AFTER = "2024-Q1", "2024-01-01", "2024-04-01"
#: The quarter that is open, of which the changes are pulled, and how many cases are edited in it.
OPEN, EDITED = current_quarter(), 200
#: A quarter in which the sandbox has no case at all.
EMPTY = "2023-Q4"
PEER = HERE / ".venv-dlt"

#: The bench's own code location with nothing but one empty asset: what Dagster itself costs.
NOTHING = "import dagster as dg\n\n\n@dg.asset\ndef nothing() -> None: ...\n\n\ndefs = dg.Definitions([nothing])\n"


@dataclass
class Bench:
    """What all measurements share; `results` gathers one dict for each run."""

    folder: Path
    postgres: Postgres
    program: list[str]
    sampling: bool = False
    results: list[dict[str, Any]] = field(default_factory=list)

    def measure(
        self, what: dict[str, Any], command: list[str], environment: dict[str, str], place: Sandbox | None
    ) -> str:
        """Run a command and keep its figures under the facts `what`; its output."""
        before, wal = place.log()["requests"] if place else 0, self.postgres.wal()
        found = run(command, environment, self.folder)
        row = {**what, "seconds": found.seconds, "cpu": found.cpu, "peak_mb": found.peak_mb}
        row["wal_mb"] = (self.postgres.wal() - wal) / 2**20
        row["command"] = " ".join(command)
        if place:
            log = place.log()
            row["requests"] = log["requests"] - before
            told = log["log"][-row["requests"] :]
            # The log tells the last 500; of longer runs the rest is taken to be like them.
            row["wire_mb"] = sum(entry["bytes"] for entry in told) / 2**20 * row["requests"] / max(len(told), 1)
        self.results.append(row)
        print(
            {
                name: round(value, 2) if isinstance(value, float) else value
                for name, value in row.items()
                if name != "command"
            },
            flush=True,
        )
        return found.output


def environment_of(place: Sandbox | None, url: str, home: Path, key: str) -> dict[str, str]:
    """Variables for a run; the same names serve all contenders."""
    return {
        "PRIMERO_URL": place.url if place else "http://127.0.0.1:9",
        "PRIMERO_USERNAME": place.username if place else "nobody",
        "PRIMERO_PASSWORD": place.password if place else "nothing",
        "ONA_DATABASE_URL": url,
        "PRIMERO_ONA_START": "2023-Q4",
        "PRIMERO_ONA_STORAGE_KEYS": key,
        "DAGSTER_HOME": str(home),
        "DAGSTER_DISABLE_TELEMETRY": "1",
    }


@contextmanager
def home(bench: Bench) -> Iterator[Path]:
    """A fresh DAGSTER_HOME with the project's dagster.yaml."""
    path = Path(tempfile.mkdtemp(dir=bench.folder, prefix="home-"))
    shutil.copyfile(HERE.parent / "dagster.yaml", path / "dagster.yaml")
    try:
        yield path
    finally:
        shutil.rmtree(path)


def us(bench: Bench, place: Sandbox, what: dict[str, Any], *, change: bool) -> None:
    """First load, the same again, and with 2 % of the cases changed."""
    with home(bench) as path:
        environment = environment_of(place, bench.postgres.url("bench_us"), path, Fernet.generate_key().decode())
        run([*bench.program, "schema", "apply"], environment, bench.folder)
        run([*bench.program, "reference", "refresh"], environment, bench.folder)
        command = [*bench.program, "sync", "--quarter", QUARTER, "--json"]
        for state in ("first", "unchanged", "2 % changed") if change else ("first", "unchanged"):
            if state == "2 % changed":
                place.change(0.02, what["cases"])
            output = bench.measure({**what, "who": "us", "state": state}, command, environment, place)
            last = bench.results[-1]
            last["stages"] = stages(path, orjson.loads(output)[0]["run_id"], last["seconds"])
            if what["latency_ms"] and state in ("first", "unchanged"):
                replay(bench, place, {**what, "state": state}, environment, last["requests"])
        if bench.sampling:
            last["split"] = split(command, {**os.environ, **environment}, bench.folder)


def replay(bench: Bench, place: Sandbox, what: dict[str, Any], environment: dict[str, str], requests: int) -> None:
    """The requests of the run just made, alone; only where the sandbox's log tells all of them."""
    told = place.log()["log"][-requests:]
    if len(told) == requests:
        file = bench.folder / "requests.json"
        file.write_bytes(orjson.dumps([(entry["path"], entry["query"]) for entry in told]))
        command = [sys.executable, str(HERE / "replay.py"), str(file)]
        bench.measure({**what, "who": "requests alone"}, command, environment, place)


def floor(bench: Bench, place: Sandbox, what: dict[str, Any]) -> None:
    """First load, and the same again."""
    environment = environment_of(place, bench.postgres.url("bench_floor"), bench.folder, "")
    for state in ("first", "unchanged"):
        command = [sys.executable, str(HERE / "floor.py"), FIRST, AFTER]
        bench.measure({**what, "who": "floor", "state": state}, command, environment, place)


def peer(bench: Bench, place: Sandbox, what: dict[str, Any]) -> None:
    """First load, and the same again."""
    folder = Path(tempfile.mkdtemp(dir=bench.folder, prefix="dlt-"))
    environment = environment_of(place, bench.postgres.url("bench_peer"), folder, "")
    for state in ("first", "unchanged"):
        command = [str(PEER / "bin" / "python"), str(HERE / "peer_dlt.py"), FIRST, AFTER, str(folder)]
        bench.measure({**what, "who": "dlt", "state": state}, command, environment, place)
    shutil.rmtree(folder)


def us_open(bench: Bench, place: Sandbox, what: dict[str, Any]) -> None:
    """In an open quarter that is loaded: 200 cases changed, by its changes and whole; and a look that finds nothing."""
    with home(bench) as path:
        environment = environment_of(place, bench.postgres.url("bench_us"), path, Fernet.generate_key().decode())
        run([*bench.program, "schema", "apply"], environment, bench.folder)
        run([*bench.program, "reference", "refresh"], environment, bench.folder)
        command = [*bench.program, "sync", "--quarter", OPEN.name, "--json"]
        run(command, environment, bench.folder)
        for state, options in ((f"{EDITED} changed", []), (f"{EDITED} changed, --full", ["--full"])):
            place.edit(EDITED)
            output = bench.measure({**what, "who": "us", "state": state}, [*command, *options], environment, place)
            last = bench.results[-1]
            last["stages"] = stages(path, orjson.loads(output)[0]["run_id"], last["seconds"])
        look = [sys.executable, str(HERE / "look.py")]
        run(look, environment, bench.folder)
        bench.measure({**what, "who": "us", "state": "a look that finds nothing"}, look, environment, place)


def peer_open(bench: Bench, place: Sandbox, what: dict[str, Any]) -> None:
    """In an open quarter that is loaded: 200 cases changed, by its incremental cursor."""
    folder = Path(tempfile.mkdtemp(dir=bench.folder, prefix="dlt-"))
    environment = environment_of(place, bench.postgres.url("bench_peer"), folder, "")
    command = [str(PEER / "bin" / "python"), str(HERE / "peer_dlt.py"), OPEN.key, "-", str(folder)]
    run(command, environment, bench.folder)
    place.edit(EDITED)
    bench.measure({**what, "who": "dlt", "state": f"{EDITED} changed"}, command, environment, place)
    shutil.rmtree(folder)


def fixed_costs(bench: Bench, repeats: int) -> None:
    """What does not depend on cases: loading the definitions, and a quarter without a case, each beside Dagster's own."""
    nothing = bench.folder / "nothing.py"
    nothing.write_text(NOTHING)
    dagster = [sys.executable, "-m", "dagster"]
    with home(bench) as path, sandbox(100, QUARTER) as place:
        environment = environment_of(place, bench.postgres.url("bench_us"), path, Fernet.generate_key().decode())
        run([*bench.program, "schema", "apply"], environment, bench.folder)
        run([*bench.program, "reference", "refresh"], environment, bench.folder)
        commands = {
            ("dagster", "definitions validate, empty project"): [
                *dagster,
                "definitions",
                "validate",
                "-f",
                str(nothing),
            ],
            ("us", "definitions validate"): [*dagster, "definitions", "validate", "-m", "primero_ona.definitions"],
            ("dagster", "materialize an empty asset"): [
                *dagster,
                "asset",
                "materialize",
                "--select",
                "nothing",
                "-f",
                str(nothing),
            ],
            ("us", "empty quarter"): [*bench.program, "sync", "--quarter", EMPTY, "--json"],
        }
        for command in commands.values():  # once unmeasured: bytecode, the instance's databases
            run(command, environment, bench.folder)
        for _ in range(repeats):
            for (who, state), command in commands.items():
                what = {"who": who, "state": state, "cases": 0, "latency_ms": 0}
                bench.measure(what, command, environment, place)


def contenders(only: str) -> dict[str, Callable[[Bench, Sandbox, dict[str, Any]], None]]:
    """Those that were asked for, in the order of their turns."""
    every = {"floor": floor, "us": lambda *given: us(*given, change=True), "dlt": peer}
    return {name: call for name, call in every.items() if name in only.split(",")}


def contenders_open(only: str) -> dict[str, Callable[[Bench, Sandbox, dict[str, Any]], None]]:
    """Those that were asked for and can pull the changes of an open quarter, in the order of their turns."""
    return {name: call for name, call in (("us", us_open), ("dlt", peer_open)) if name in only.split(",")}


def facts() -> dict[str, Any]:
    """When, where, with what."""
    cpu = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        "?",
    )
    names = ("dagster", "pandas", "pyarrow", "orjson", "psycopg", "pandera", "cryptography")
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.system()} {platform.machine()}, {cpu}, {len(_cpus())} cores",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in names},
        "dlt": subprocess.run(
            [PEER / "bin" / "python", "-c", "import dlt; print(dlt.__version__)"],
            capture_output=True,
            text=True,
            check=False,
        ).stdout.strip()
        if PEER.exists()
        else None,
    }


def _cpus() -> set[int]:
    return os.sched_getaffinity(0)


def main() -> None:
    """Measure what the options say."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, nargs="*", default=[1_000, 10_000, 100_000])
    parser.add_argument("--million", action="store_true", help="1,000,000 cases too: about half an hour, 10 GB of disk")
    parser.add_argument("--latency-ms", type=int, nargs="*", default=[0, 300])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default="floor,us,dlt", help="contenders, separated by commas")
    parser.add_argument("--open-only", action="store_true", help="only the open quarter, of which 200 cases change")
    parser.add_argument("--no-fixed", action="store_true", help="leave out what does not depend on cases")
    parser.add_argument("--split", action="store_true", help="one more unchanged sync of each, sampled: CPU by part")
    parser.add_argument(
        "--program", default=f"{sys.executable} -m primero_ona.cli.app", help="how primero-ona is called"
    )
    chosen = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="primero-ona-bench-"))
    folder.chmod(0o755)
    try:
        with Postgres(folder) as postgres:
            bench = Bench(folder, postgres, chosen.program.split(), chosen.split)
            if not chosen.no_fixed:
                fixed_costs(bench, chosen.repeats)
            for cases in [*chosen.cases, *([1_000_000] if chosen.million else [])]:
                measure_size(bench, cases, chosen)
            report(bench, facts() | {"postgresql": postgres.version(), "command": " ".join(sys.argv)})
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def measure_size(bench: Bench, cases: int, chosen: argparse.Namespace) -> None:
    """All contenders on so many cases, in turns. A million is measured once, without latency and without the peer."""
    large = cases >= 1_000_000
    turns = {} if chosen.open_only else {QUARTER: contenders(chosen.only)}
    for quarter, every in (turns | {OPEN.name: contenders_open(chosen.only)}).items():
        with sandbox(cases, quarter) as place:
            for latency in [0] if large else chosen.latency_ms:
                place.tell({"switches": {"latency_ms": latency}})
                for _ in range(1 if large else chosen.repeats):
                    for name, contender in every.items():
                        if not (large and name == "dlt"):
                            contender(bench, place, {"cases": cases, "latency_ms": latency})


def report(bench: Bench, told: dict[str, Any]) -> None:
    """Write what was measured beside this file, and show the tables."""
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    stem = results / told["when"].replace(":", "")
    stem.with_suffix(".json").write_bytes(
        orjson.dumps({"facts": told, "runs": bench.results}, option=orjson.OPT_INDENT_2)
    )
    text = tables(told, bench.results)
    stem.with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
