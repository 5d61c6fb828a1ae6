"""What mapping yields: rows, unmapped codes and quarantine, of one frame and summed up over a quarter."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

from primero_ona.contract.tables import LOCATION_FIELDS
from primero_ona.mapping.labels import MAPPING_VERSION
from primero_ona.texts import showable

if TYPE_CHECKING:
    import pandas as pd

Table = Literal["cases", "services"]


class Reason(StrEnum):
    """Why a case or a service is quarantined; the texts are part of what people and checks read.

    A service whose case is quarantined is so for the reason of its case. `missing` is also what is no text and no number.
    """

    ID_MALFORMED = "id malformed"
    CASE_ID_MISSING = "case_id missing"
    CASE_ID_TOO_LONG = "case_id too long"
    UNIQUE_ID_MISSING = "unique_id missing"
    UNIQUE_ID_TOO_LONG = "unique_id too long"
    MALFORMED = "service malformed"


@dataclass(frozen=True)
class Mapped:
    """The rows that one raw frame gave, what could not be read, what was quarantined, and how many services were copies."""

    frame: pd.DataFrame = field(repr=False)
    findings: UnmappedCodes = field(repr=False)
    quarantine: list[dict[str, Any]]
    repeated: int = 0


def quarantine_entry(table: Table, primero_id: str | None, reason: Reason) -> dict[str, Any]:
    """Make an entry of the quarantine; `primero_id` is the case's, which is shown only in the shape of an id."""
    return {"table": table, "primero_id": None if primero_id is None else showable(primero_id), "reason": reason.value}


#: Primero makes option ids from printable ASCII without blanks. Whatever else stands where a code is due is text that
#: a person wrote, in Khmer perhaps, where a sentence needs no blanks, or an e-mail address: counted, never shown.
#: 100 characters is the limit of the mapping's specification.
_CODE = re.compile(r"[!-?A-~]{1,100}")

#: Share of the rows above which values that cannot be read, or that were accepted, are a finding all the same: one child in
#: twenty without a value shifts a share in the dashboards by as much as people there take for a change.
COMMON = 0.05

#: Codes named in one line; there may be thousands where a field was filled with free text.
_NAMED = 5


class UnmappedCodes(Counter[tuple[str, str | None]]):
    """A counter of (field, code); the code is None where it may not be shown or where there is none."""

    def add(self, field: str, code: str | None, count: int = 1) -> None:
        """Count a code found `count` times in a field of Primero; one that may not be shown is forgotten."""
        self[field, code if code is not None and _CODE.fullmatch(code) else None] += count

    def as_list(self) -> list[dict[str, Any]]:
        """The findings as `{"field", "code", "count"}`, ordered by field and code."""
        ordered = sorted(self.items(), key=lambda item: (item[0][0], item[0][1] or ""))
        return [{"field": field, "code": code, "count": count} for (field, code), count in ordered]


@dataclass(repr=False)
class Tally:
    """The summary of a stream while it is mapped: raw cases read, rows mapped, copies of services left out, and the rest."""

    findings: UnmappedCodes = field(default_factory=UnmappedCodes)
    quarantine: list[dict[str, Any]] = field(default_factory=list)
    raw_cases: int = 0
    rows: int = 0
    repeated: int = 0

    def add(self, raw_cases: int, mapped: Mapped) -> None:
        """Count what a raw frame of so many cases became."""
        self.findings.update(mapped.findings)
        self.quarantine.extend(mapped.quarantine)
        self.raw_cases += raw_cases
        self.rows += len(mapped.frame)
        self.repeated += mapped.repeated

    def summary(self) -> dict[str, Any]:
        """All of it and the mapping's version, as JSON."""
        return {**vars(self), "findings": self.findings.as_list(), "mapping_version": MAPPING_VERSION}


def to_decide(
    findings: Iterable[Mapping[str, Any]], accepted: Mapping[str, Collection[str]], rows: int
) -> dict[str, int]:
    """What people have to decide about the findings of so many rows: by sentence, the number of codes that it is about.

    For each field the codes that are not accepted, and whether accepted and unreadable values are common in it.
    """
    new: dict[str, list[str]] = {}
    known: Counter[str] = Counter()
    for entry in findings:
        if entry["code"] is None or entry["code"] in accepted.get(entry["field"], ()):
            known[entry["field"]] += entry["count"]
        else:
            new.setdefault(entry["field"], []).append(entry["code"])
    decide = {f"code of {field} that is not accepted{_named(field, codes)}": len(codes) for field, codes in new.items()}
    common = [field for field, count in known.items() if count > COMMON * rows]
    return decide | {f"{field} unreadable or accepted in more than {COMMON:.0%} of the rows": 1 for field in common}


def _named(field: str, codes: list[str]) -> str:
    if field in LOCATION_FIELDS:  # each code is a place where a child lives
        return ""
    return f" ({', '.join(codes[:_NAMED])}{', …' if len(codes) > _NAMED else ''})"
