"""The views that this project makes in ONA, beside the tables of the contract."""

from __future__ import annotations

from dataclasses import dataclass
from typing import LiteralString

from primero_ona.contract.column import Column
from primero_ona.contract.figures import FIGURE_COLUMNS, UNCONFIRMED
from primero_ona.contract.reference import DATA_DICTIONARY


@dataclass(frozen=True)
class View:
    """One view that this project makes in ONA: what it shows, and the query, whose placeholders are ONA's tables."""

    name: str
    description: str
    columns: tuple[Column, ...]
    query: LiteralString


_VIEW_COLUMNS = (
    *FIGURE_COLUMNS[:2],
    Column("definition", "text", "Whether the definition is confirmed", allowed=(UNCONFIRMED,)),
    *FIGURE_COLUMNS[2:],
)

_DEFAULT_FIGURES: LiteralString = """
SELECT f.indicator, f.variant, i.status AS definition, f.period, f.period_start, f.dimension, f.value, f.children, f.updated_at
  FROM {indicator_figures} AS f
  JOIN (SELECT indicator, variant, 'definition not confirmed by the ministry'::text AS status FROM primero_sync.indicators) AS i
    ON i.indicator = f.indicator AND i.variant = f.variant
 WHERE f.indicator = """

VIEWS = (
    View(
        name="indicator_4_8",
        description="Indicator 4.8 by the definition that the settings choose.",
        columns=_VIEW_COLUMNS,
        query=_DEFAULT_FIGURES + "'4.8'",
    ),
    View(
        name="indicator_4_11a",
        description="Indicator 4.11a by the definition that the settings choose.",
        columns=_VIEW_COLUMNS,
        query=_DEFAULT_FIGURES + "'4.11a'",
    ),
    View(
        name="data_dicitonary",
        description="The table data_dictionary, spelt as older documents spell it.",
        columns=DATA_DICTIONARY.columns,
        query="SELECT * FROM {data_dictionary}",
    ),
)
