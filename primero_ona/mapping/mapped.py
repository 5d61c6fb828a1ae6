"""What mapping yields: rows, findings and quarantine, of one frame and summed up over a quarter.

What belongs here: the shape of the results and the exact reasons for quarantine. Who goes there is decided in
`cases.py`, `services.py` and `keys.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

from primero_ona.mapping.findings import Findings
from primero_ona.mapping.version import MAPPING_VERSION

if TYPE_CHECKING:
    import pandas as pd

Table = Literal["cases", "services"]


class Reason(StrEnum):
    """Why a case or a service is set aside; the texts are part of what people and checks read."""

    CASE_ID_MISSING = "case_id missing"
    CASE_ID_TAKEN = "case_id of another case"
    UNIQUE_ID_MISSING = "unique_id missing"
    UNIQUE_ID_REPEATED = "unique_id repeated"
    UNIQUE_ID_TAKEN = "unique_id of another case"
    MALFORMED = "service malformed"
    CASE_QUARANTINED = "case quarantined"


@dataclass(frozen=True)
class Mapped:
    """The rows that one raw frame gave, what could not be read, and who was set aside."""

    frame: pd.DataFrame = field(repr=False)
    findings: Findings
    quarantine: list[dict[str, Any]]


def set_aside(table: Table, primero_id: str | None, reason: Reason, other_id: str | None = None) -> dict[str, Any]:
    """An entry of the quarantine; `primero_id` is the case's, `other_id` that of the child who keeps the key."""
    return {"table": table, "primero_id": primero_id, "other_id": other_id, "reason": reason.value}


class Tally:
    """The summary of a stream while it is mapped."""

    def __init__(self) -> None:
        self._findings = Findings()
        self._quarantine: list[dict[str, Any]] = []
        self._raw_cases = 0
        self._rows = 0

    def add(self, raw_cases: int, mapped: Mapped) -> None:
        """Count what a raw frame of so many cases became."""
        self._findings.merge(mapped.findings)
        self._quarantine.extend(mapped.quarantine)
        self._raw_cases += raw_cases
        self._rows += len(mapped.frame)

    def summary(self) -> dict[str, Any]:
        """Findings, quarantine, how many raw cases were read and rows mapped, and the mapping's version, as JSON."""
        return {
            "findings": self._findings.as_list(),
            "quarantine": list(self._quarantine),
            "raw_cases": self._raw_cases,
            "rows": self._rows,
            "mapping_version": MAPPING_VERSION,
        }
