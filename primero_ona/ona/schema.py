"""The views that this project makes in ONA, beside the tables of the contract."""

from __future__ import annotations

from dataclasses import dataclass
from typing import LiteralString

from primero_ona.contract.column import Column
from primero_ona.contract.reference import DATA_DICTIONARY


@dataclass(frozen=True)
class View:
    """One view that this project makes in ONA: what it shows, and the query, whose placeholders are ONA's tables."""

    name: str
    description: str
    columns: tuple[Column, ...]
    query: LiteralString


VIEWS = (
    View(
        name="data_dicitonary",
        description="The table data_dictionary, spelt as older documents spell it.",
        columns=DATA_DICTIONARY.columns,
        query="SELECT * FROM {data_dictionary}",
    ),
)
