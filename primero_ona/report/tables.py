"""The figures of a report as tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date


@dataclass(frozen=True)
class Table:
    """Children of one indicator, variant and period by the labels of `dimensions`; those without dimensions have one cell.

    `cells` has none where it would be 0, but for the total. `adds_up`: each child has one value, so the cells add up to it.
    """

    name: str
    indicator: str
    variant: str
    period: str
    period_start: date
    dimensions: tuple[str, ...]
    cells: Mapping[tuple[str, ...], int]
    adds_up: bool
