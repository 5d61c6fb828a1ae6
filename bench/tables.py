"""How the results look: medians with their spread, in Markdown, and the ratios that the goals are about."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import median
from typing import Any

_FIGURES = {
    "seconds": "s",
    "cpu": "CPU s",
    "peak_mb": "peak MB",
    "wal_mb": "WAL MB",
    "wire_mb": "wire MB",
    "requests": "requests",
}

Runs = Sequence[dict[str, Any]]


def tables(facts: dict[str, Any], runs: Runs) -> str:
    """The facts of the measurement, and one table of all runs."""
    told = "\n".join(f"- {name}: {value}" for name, value in facts.items())
    head = ["cases", "ms per request", "who", "what", "runs", *_FIGURES.values()]
    rows = [_row(key, group) for key, group in _grouped(runs).items()]
    parts = [told, _table(head, rows), _ratios(runs), _stages(runs, "stages"), _stages(runs, "split")]
    return "\n\n".join(part for part in parts if part) + "\n"


def _ratios(runs: Runs) -> str:
    """Our medians over those of the others, for the same cases, latency and state."""
    groups = _grouped(runs)
    rows = []
    for (cases, latency, who, state), group in groups.items():
        if who != "us" or "stages" not in group[0]:
            continue
        whole = _seconds(group)
        taking = median(run["stages"]["pull"] + run["stages"]["map"] for run in group)
        others = {name: groups.get((cases, latency, name, state)) for name in ("floor", "dlt", "requests alone")}
        asked = others["requests alone"]
        ratios = [*(whole / _seconds(other) if other else None for other in others.values())]
        ratios.append(taking / _seconds(asked) if asked else None)
        first = groups.get((cases, latency, who, "first"))
        load = [median(run["stages"]["load"] for run in each) for each in (group, first) if each]
        ratios.append(load[0] / load[1] if first else None)
        complete = groups.get((cases, latency, who, f"{state}, --full"))
        ratios.append(whole / _seconds(complete) if complete else None)
        rows.append([f"{cases:,}", str(latency), state, *("" if ratio is None else f"{ratio:.2f}" for ratio in ratios)])
    head = [
        "what",
        "us / floor",
        "us / dlt",
        "us / requests",
        "pull and map / requests",
        "load / first load",
        "changes / whole",
    ]
    return _table(["cases", "ms per request", *head], rows) if rows else ""


def _seconds(group: list[dict[str, Any]]) -> float:
    return float(median(run["seconds"] for run in group))


def _stages(runs: Runs, what: str) -> str:
    """Where our seconds went: on the wall by stage (`stages`), or of the processor by part (`split`); medians."""
    groups = {key: [run for run in group if what in run] for key, group in _grouped(runs).items()}
    groups = {key: group for key, group in groups.items() if group}
    names = list(dict.fromkeys(name for group in groups.values() for run in group for name in run[what]))
    rows = [
        [
            f"{cases:,}",
            str(latency),
            state,
            *(f"{median(run[what].get(name, 0.0) for run in group):.2f}" for name in names),
        ]
        for (cases, latency, _, state), group in groups.items()
    ]
    return _table(["cases", "ms per request", "what", *(f"{name} s" for name in names)], rows) if rows else ""


def _grouped(runs: Runs) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    groups = defaultdict(list)
    for run in runs:
        groups[run["cases"], run["latency_ms"], run["who"], run["state"]].append(run)
    return groups


def _row(key: tuple[Any, ...], group: list[dict[str, Any]]) -> list[str]:
    cases, latency, who, state = key
    figures = [_figure([run[name] for run in group if name in run], name) for name in _FIGURES]
    return [f"{cases:,}", str(latency), who, state, str(len(group)), *figures]


def _figure(values: list[float], name: str) -> str:
    """The median; of seconds, the smallest and the largest too."""
    if not values:
        return ""
    middle = f"{median(values):,.2f}" if name in {"seconds", "cpu"} else f"{median(values):,.1f}"
    if name == "requests":
        return f"{median(values):,.0f}"
    return f"{middle} ({min(values):,.2f}–{max(values):,.2f})" if name == "seconds" and len(values) > 1 else middle


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
