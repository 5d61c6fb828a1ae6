"""Small things that several tests of the mapping need: places, labels, and one mapped case or service as a dict."""

from __future__ import annotations

from typing import Any

import pandas as pd
from hypothesis import settings

from primero_ona.contract.tables import CASES
from primero_ona.mapping.labels import Labels
from primero_ona.mapping.locations import Places
from primero_ona.mapping.result import Mapped
from primero_ona.mapping.rows import map_cases, map_services
from primero_ona_tests import ALL
from primero_ona_tests.raw import raw_frame

LABELS = Labels.load()
PLACES = Places.of(
    pd.DataFrame(
        [
            ("1006", "Chetr Borei", "Kratie", "10"),
            ("601", "Baray", "Kampong Thom", "6"),
            ("102", "Mongkol Borei", "Banteay Meanchey", "1"),
            ("1201", "Chamkar Mon", "Phnom Penh", "12"),
        ],
        columns=["code", "district", "province", "province_code"],
    ).astype(pd.StringDtype())
)

#: For property tests that make frames: fewer examples, and no time limit for one, since the machine is shared.
framewise = settings(max_examples=100 if ALL else 10, deadline=None)

SERVICE = {"unique_id": "s-1"}


def map_all(*cases: dict[str, Any]) -> Mapped:
    return map_cases(
        raw_frame(*({"case_id_display": f"KRT-{n}", "age": 7, **c} for n, c in enumerate(cases))), PLACES, LABELS
    )


def map_one(**fields: Any) -> tuple[dict[str, Any], list[tuple[str, str | None, int]]]:
    """One case with these fields: its row with None for null, and the findings as (field, code, count)."""
    mapped = map_all(fields)
    row = rows(mapped.frame)[0]
    for column in CASES.mapped:
        # Otherwise the contract would stop the first load of a real quarter.
        assert column.allowed is None or row[column.name] in (None, *column.allowed), column.name
    return row, found(mapped)


def map_sections(*sections: Any) -> Mapped:
    """Cases 0, 1, … with these sections of services."""
    cases = [{"case_id_display": f"KRT-{n}", "services_section": section} for n, section in enumerate(sections)]
    return map_services(raw_frame(*cases), LABELS)


def map_service(**keys: Any) -> tuple[dict[str, Any], list[tuple[str, str | None, int]]]:
    mapped = map_sections([{**SERVICE, **keys}])
    return rows(mapped.frame)[0], found(mapped)


def rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows with Python values, None for null."""
    plain = frame.astype(object)
    return plain.where(plain.notna(), None).to_dict("records")


def found(mapped: Mapped) -> list[tuple[str, str | None, int]]:
    return [(entry["field"], entry["code"], entry["count"]) for entry in mapped.findings.as_list()]
