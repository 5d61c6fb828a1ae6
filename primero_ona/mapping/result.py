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
    findings: UnmappedCodes
    quarantine: list[dict[str, Any]]
    repeated: int = 0


def quarantine_entry(table: Table, primero_id: str | None, reason: Reason) -> dict[str, Any]:
    """Make an entry of the quarantine; `primero_id` is the case's, which is shown only in the shape of an id."""
    shown = None if primero_id is None else showable(primero_id)
    return {"table": table, "primero_id": shown, "reason": reason.value}


class Tally:
    """The summary of a stream while it is mapped."""

    def __init__(self) -> None:
        self._findings = UnmappedCodes()
        self._quarantine: list[dict[str, Any]] = []
        self._raw_cases = self._rows = self._repeated = 0

    def add(self, raw_cases: int, mapped: Mapped) -> None:
        """Count what a raw frame of so many cases became."""
        self._findings.merge(mapped.findings)
        self._quarantine.extend(mapped.quarantine)
        self._raw_cases += raw_cases
        self._rows += len(mapped.frame)
        self._repeated += mapped.repeated

    def summary(self) -> dict[str, Any]:
        """UnmappedCodes, quarantine, raw cases read, rows mapped, copies of services left out, and the mapping's version, as JSON."""
        return {
            "findings": self._findings.as_list(),
            "quarantine": list(self._quarantine),
            "raw_cases": self._raw_cases,
            "rows": self._rows,
            "repeated": self._repeated,
            "mapping_version": MAPPING_VERSION,
        }


#: Primero makes option ids from printable ASCII without blanks. Whatever else stands where a code is due is text that
#: a person wrote, in Khmer perhaps, where a sentence needs no blanks, or an e-mail address: counted, never shown.
#: 100 characters is the limit of the mapping's specification.
_CODE = re.compile(r"[!-?A-~]{1,100}")

#: Share of the rows above which values that cannot be read, or that were accepted, are a finding all the same: one child in
#: twenty without a value shifts a share in the dashboards by as much as people there take for a change.
COMMON = 0.05

#: Codes named in one line; there may be thousands where a field was filled with free text.
_NAMED = 5


def is_code(text: str) -> bool:
    """Whether a text has the shape of an option id, so that it may be shown."""
    return _CODE.fullmatch(text) is not None


class UnmappedCodes:
    """A counter of (field, code); the code is None where it may not be shown or where there is none."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str | None]] = Counter()

    def add(self, field: str, code: str | None, count: int = 1) -> None:
        """Count a code found `count` times in a field of Primero; one that may not be shown is forgotten."""
        shown = code if code is not None and is_code(code) else None
        self._counts[field, shown] += count

    def merge(self, other: UnmappedCodes) -> None:
        """Add the counts of another batch to these."""
        self._counts.update(other._counts)

    def as_list(self) -> list[dict[str, Any]]:
        """The findings as `{"field", "code", "count"}`, ordered by field and code."""
        ordered = sorted(self._counts.items(), key=lambda item: (item[0][0], item[0][1] or ""))
        return [{"field": field, "code": code, "count": count} for (field, code), count in ordered]


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
