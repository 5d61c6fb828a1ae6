"""What mapping yields: rows, findings and quarantine, of one frame and summed up over a quarter.

What belongs here: the shape of the results and the exact reasons for quarantine. What goes there is decided in
`cases.py` and `services.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

from primero_ona.ids import showable
from primero_ona.mapping.findings import Findings
from primero_ona.mapping.version import MAPPING_VERSION

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
    findings: Findings
    quarantine: list[dict[str, Any]]
    repeated: int = 0


def quarantine_entry(table: Table, primero_id: str | None, reason: Reason) -> dict[str, Any]:
    """Make an entry of the quarantine; `primero_id` is the case's, which is shown only in the shape of an id."""
    shown = None if primero_id is None else showable(primero_id)
    return {"table": table, "primero_id": shown, "reason": reason.value}


class Tally:
    """The summary of a stream while it is mapped."""

    def __init__(self) -> None:
        self._findings = Findings()
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
        """Findings, quarantine, raw cases read, rows mapped, copies of services left out, and the mapping's version, as JSON."""
        return {
            "findings": self._findings.as_list(),
            "quarantine": list(self._quarantine),
            "raw_cases": self._raw_cases,
            "rows": self._rows,
            "repeated": self._repeated,
            "mapping_version": MAPPING_VERSION,
        }
