"""Labels, the texts of option ids as the ONA dashboards know them, and the version of the mapping."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

import yaml

from primero_ona.contract.tables import CASES, SERVICES
from primero_ona.mapping.values import Parsed, codes_of, joined
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
        return _read(source())

    def beside(self, primeros: Mapping[str, Mapping[str, str]]) -> Labels:
        """The same tables, with Primero's own labels for ids that they do not know."""
        return Labels(self.tables, primeros, self.accepted)

    def label(self, field: str, code: str) -> str | None:
        """The label of one id; null where it is unknown."""
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

    def parse_single(self, field: str, value: Any) -> Parsed:  # noqa: ANN401
        """The label of a code, or of a list of codes joined, or null.

        Codes that `labels.yaml` does not know are reported, and left out where Primero does not know them either.
        """
        table = self.tables[field]
        codes = codes_of(value)
        labels = [self.label(field, code) for code in codes if code is not None]
        return Parsed(joined(labels), tuple(code for code in codes if code not in table))

    def parse_list(self, field: str, value: Any) -> Parsed:  # noqa: ANN401
        """As parse_single, but no label at all is an empty text."""
        parsed = self.parse_single(field, value)
        return Parsed(parsed.value or "", parsed.reported)

    def parse_passing(self, field: str, value: Any) -> Parsed:  # noqa: ANN401
        """As parse_single, but a single code that is unknown passes through as it is; it is reported nevertheless."""
        parsed = self.parse_single(field, value)
        if parsed.value is None and parsed.reported and not isinstance(listed(value), list):
            return Parsed(parsed.reported[0], parsed.reported)
        return parsed


@lru_cache(maxsize=1)
def _read(text: bytes) -> Labels:
    """The tables of a YAML text; each step of a run reads the same."""
    tables = yaml.safe_load(text)
    accepted = {field: frozenset(codes) for field, codes in tables.pop(ACCEPTED).items()}
    labels = {field: MappingProxyType(table) for field, table in tables.items()}
    return Labels(MappingProxyType(labels), accepted=MappingProxyType(accepted))


def source() -> bytes:
    """The bytes of `labels.yaml`."""
    return files(__package__).joinpath("labels.yaml").read_bytes()


def label_source() -> bytes:
    """The bytes of `labels.yaml` that decide what a case becomes: all but the accepted codes, which come last."""
    return source().partition(f"\n{ACCEPTED}:".encode())[0]


def rule_sources() -> dict[str, bytes]:
    """The modules that decide what a case becomes, by file name: this folder's, and the texts that they read alike."""
    here = {file.name: file for file in files(__package__).iterdir() if file.name.endswith(".py")}
    here["texts.py"] = files("primero_ona").joinpath("texts.py")
    return {name: here[name].read_bytes() for name in sorted(here)}


#: What the contract says of the columns that decides what a case becomes; what it says to people does not count.
COLUMNS = str([(c.name, c.type, c.field, c.rule, c.day) for table in (CASES, SERVICES) for c in table.frame_columns])


def version_of(labels: bytes, rules: Iterable[bytes], columns: str = COLUMNS) -> str:
    """Hash `labels.yaml`, the modules of the rules and the columns into a short text.

    Comments, docstrings, blank lines and the layout of code do not count. Python 3.11 to 3.13 give the same; should a later one
    give another, each quarter is due once.
    """
    entries = [line for line in labels.splitlines() if line.strip() and not line.lstrip().startswith(b"#")]
    parts = [repr(entries), columns]
    for module in rules:
        _flatten(ast.parse(module), parts)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def _flatten(node: Any, parts: list[str]) -> None:  # noqa: ANN401
    """Add what a syntax tree says, but docstrings, and empty fields, of which each Python has others. Each process does it."""
    if isinstance(node, ast.AST):
        parts.append(type(node).__name__)
        for name in node._fields:
            value = getattr(node, name, None)
            if value is not None and value != [] and name not in {"ctx", "kind"}:
                parts.append(name)
                _flatten(value, parts)
        parts.append(")")
    elif isinstance(node, list):
        for item in node:
            if not (isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant)):
                _flatten(item, parts)
        parts.append("]")
    else:
        parts.append(repr(node))


MAPPING_VERSION = version_of(label_source(), rule_sources().values())
