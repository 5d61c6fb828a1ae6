"""How the results look: medians with their spread, in Markdown, and the ratios that the goals are about."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import median
from typing import Any

_FIGURES = {"seconds": "s", "cpu": "CPU s", "peak_mb": "peak MB", "wal_mb": "WAL MB", "wire_mb": "wire MB", "requests": "requests"}

Runs = Sequence[dict[str, Any]]


def tables(facts: dict[str, Any], runs: Runs) -> str:
    """The facts of the measurement, and one table of all runs."""
    told = "\n".join(f"- {name}: {value}" for name, value in facts.items())
    head = ["cases", "ms per request", "who", "what", "runs", *_FIGURES.values()]
    rows = [_row(key, group) for key, group in _grouped(runs).items()]
    return f"{told}\n\n{_table(head, rows)}\n"


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
