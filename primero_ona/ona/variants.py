"""The definitions of the indicators: the SQL of each variant in `indicators/`, its words, and the two lists."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import NamedTuple

import yaml

#: Each indicator's variants; the first is the default of the setting.
VARIANTS: dict[str, tuple[str, ...]] = {
    "4.8": ("event", "registered"),
    "4.11a": ("served", "open", "registered_or_served"),
}
_FOLDER = files("primero_ona.ona") / "indicators"


@dataclass(frozen=True)
class Variant:
    """One way to count an indicator.

    `words`: the definition in English, the comment at the head of its file. `sql`: a query over the tables that
    `figures.py` makes; its rows are the child, the day by which it counts in the periods that hold it, and the age then
    (null: not known). `undated`: a query for the children who would count but for a date, where the variant has one.
    """

    indicator: str
    name: str
    words: str
    sql: str
    undated: str | None

    @property
    def periods(self) -> tuple[str, ...]:
        """The kinds of period that the variant is computed for."""
        return ("quarter", "year") if self.name == "open" else ("month", "quarter", "year")

    @property
    def by_period(self) -> bool:
        """Whether the query gives, in place of days, each period in which a child counts."""
        return self.name == "open"


class Lists(NamedTuple):
    """What counts as coming into family or community: placements, and subtypes of service, as ONA has them."""

    placements: tuple[str, ...]
    service_subtypes: tuple[str, ...]


@cache
def variants() -> tuple[Variant, ...]:
    """All variants of both indicators."""
    return tuple(_variant(indicator, name) for indicator, names in VARIANTS.items() for name in names)


@cache
def lists() -> Lists:
    """The two lists of `lists.yaml`."""
    content = yaml.safe_load(_text("lists.yaml"))
    return Lists(*(tuple(str(entry["value"]) for entry in content[name]) for name in Lists._fields))


@cache
def dimensions() -> str:
    """The query that groups the counted children by each dimension."""
    return _statement("dimensions.sql")


def fingerprint(*more: str) -> str:
    """A short hash of all definitions and lists, and of what else decides about figures."""
    texts = [*(f"{v.sql}\n{v.undated}" for v in variants()), dimensions(), repr(lists()), *more]
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]


def _variant(indicator: str, name: str) -> Variant:
    stem = f"{indicator.replace('.', '_')}_{name}"
    comments = [line for line in _text(f"{stem}.sql").splitlines() if line.startswith("--")]
    words = "\n".join(line.removeprefix("--").removeprefix(" ") for line in comments)
    undated = f"{stem}.undated.sql"
    has_undated = (_FOLDER / undated).is_file()
    return Variant(indicator, name, words, _statement(f"{stem}.sql"), _statement(undated) if has_undated else None)


def _statement(name: str) -> str:
    """The SQL of a file without its comments, so that words can be changed without changing the definition."""
    return "\n".join(line for line in _text(name).splitlines() if not line.startswith("--"))


def _text(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")
