"""Labels: the text of an option id, as the ONA dashboards know it.

What belongs here: the tables of `labels.yaml`, and the rules that look codes up in them. Fields whose label is made
from the id itself (`type_of_case`) are in `values.py`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from types import MappingProxyType
from typing import Any

import yaml

from primero_ona.contract.tables import CASES, SERVICES
from primero_ona.mapping.values import Reading, codes_of, joined
from primero_ona.texts import listed

#: The section of `labels.yaml` that holds no labels.
ACCEPTED = "accepted"


@dataclass(frozen=True)
class Labels:
    """The tables, `{field of Primero: {option id: label}}`; ids are compared with regard to case.

    `tables` are those of `labels.yaml`, which the dashboards rely on. `primeros` are Primero's own labels of the same
    fields: they serve for ids that `tables` does not know, and such an id is reported nevertheless. `accepted`: by field, the
    codes without a label that people know of.
    """

    tables: Mapping[str, Mapping[str, str]]
    primeros: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    accepted: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @classmethod
    def load(cls) -> Labels:
        """The tables of `labels.yaml`, read-only."""
        tables = yaml.safe_load(source())
        accepted = {field: frozenset(codes) for field, codes in tables.pop(ACCEPTED).items()}
        labels = {field: MappingProxyType(table) for field, table in tables.items()}
        return cls(MappingProxyType(labels), accepted=MappingProxyType(accepted))

    def beside(self, primeros: Mapping[str, Mapping[str, str]]) -> Labels:
        """The same tables, with Primero's own labels for ids that they do not know."""
        return Labels(self.tables, primeros, self.accepted)

    def label(self, field: str, code: str) -> str | None:
        """The label of one id; null where nobody knows it."""
        return self.tables[field].get(code) or self.primeros.get(field, {}).get(code)

    def all_of(self, field: str) -> dict[str, str]:
        """Every id of a field with its label: Primero's first, in its order, then those that only we know."""
        primeros, ours = self.primeros.get(field, {}), self.tables[field]
        return {code: ours.get(code, label) for code, label in primeros.items()} | dict(ours)

    @property
    def version(self) -> str:
        """A short text that differs when any label differs."""
        labels = {field: self.all_of(field) for field in self.tables}
        return hashlib.sha256(json.dumps(labels, sort_keys=True).encode()).hexdigest()[:12]

    def read_single(self, field: str, value: Any) -> Reading:  # noqa: ANN401
        """The label of a code, or of a list of codes joined; null where there is none.

        Codes that `labels.yaml` does not know are reported, and left out where Primero does not know them either.
        """
        table = self.tables[field]
        codes = codes_of(value)
        labels = [self.label(field, code) for code in codes if code is not None]
        return Reading(joined(labels), tuple(code for code in codes if code not in table))

    def read_list(self, field: str, value: Any) -> Reading:  # noqa: ANN401
        """As read_single, but no label at all is an empty text."""
        reading = self.read_single(field, value)
        return Reading(reading.value or "", reading.reported)

    def read_passing(self, field: str, value: Any) -> Reading:  # noqa: ANN401
        """As read_single, but a single code that is unknown passes through as it is; it is reported nevertheless."""
        reading = self.read_single(field, value)
        if reading.value is None and reading.reported and not isinstance(listed(value), list):
            return Reading(reading.reported[0], reading.reported)
        return reading


def label_source() -> bytes:
    """The bytes of `labels.yaml` that decide what a case becomes: all but the accepted codes, which come last."""
    return source().partition(f"\n{ACCEPTED}:".encode())[0]


def source() -> bytes:
    """The bytes of `labels.yaml`."""
    return files(__package__).joinpath("labels.yaml").read_bytes()


#: Add one whenever a rule in this package changes what a case becomes; a label and a column of the contract count by themselves.
RULES = 3


#: What the contract says of the columns that decides what a case becomes.
COLUMNS = str([(c.name, c.type, c.field, c.rule, c.day) for table in (CASES, SERVICES) for c in table.frame_columns])


def version_of(rules: int, labels: bytes, columns: str) -> str:
    """A short text that differs when the rules, the labels or the columns differ."""
    return hashlib.sha256(f"{rules}\n{columns}\n".encode() + labels).hexdigest()[:12]


MAPPING_VERSION = version_of(RULES, label_source(), COLUMNS)
