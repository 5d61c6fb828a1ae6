"""Labels: the text of an option id, as the ONA dashboards know it.

What belongs here: the tables of `labels.yaml`, and the rules that look codes up in them. Fields whose label is made
from the id itself (`type_of_case`) are in `values.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from types import MappingProxyType
from typing import Any

import yaml

from primero_ona.mapping.values import Reading, codes_of, joined


@dataclass(frozen=True)
class Labels:
    """The tables, `{field of Primero: {option id: label}}`; ids are compared with regard to case."""

    tables: Mapping[str, Mapping[str, str]]

    @classmethod
    def load(cls) -> Labels:
        """The tables of `labels.yaml`, read-only."""
        tables = yaml.safe_load(source())
        return cls(MappingProxyType({field: MappingProxyType(table) for field, table in tables.items()}))

    def read_single(self, field: str, value: Any) -> Reading:  # noqa: ANN401
        """The label of a code, or of a list of codes joined; unknown ones are left out and reported, none is null."""
        table = self.tables[field]
        codes = codes_of(value)
        labels = [table.get(code) for code in codes if code is not None]
        return Reading(joined(labels), tuple(code for code in codes if code not in table))

    def read_list(self, field: str, value: Any) -> Reading:  # noqa: ANN401
        """As read_single, but no label at all is an empty text."""
        reading = self.read_single(field, value)
        return Reading(reading.value or "", reading.reported)

    def read_passing(self, field: str, value: Any) -> Reading:  # noqa: ANN401
        """As read_single, but a single code that is unknown passes through as it is; it is reported nevertheless."""
        reading = self.read_single(field, value)
        if reading.reported and not isinstance(value, list):
            return Reading(reading.reported[0], reading.reported)
        return reading


def source() -> bytes:
    """The bytes of `labels.yaml`."""
    return files(__package__).joinpath("labels.yaml").read_bytes()
