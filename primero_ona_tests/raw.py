"""Raw frames for tests, built from cases as Primero's JSON has them, through the package's own list of fields."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from contextlib import suppress
from datetime import date, datetime
from typing import Any

import pandas as pd
import pyarrow as pa

from primero_ona.mapping.dates import with_ages
from primero_ona.primero.fields import SERVICE_FIELDS
from primero_ona.primero.raw import PULLED_SCHEMA
from primero_ona.texts import json_text

_STAMPS = ("last_updated_at", "created_at")

#: The day on which the tests' cases are pulled.
TODAY = date(2024, 6, 1)


def uuid_of(number: int) -> str:
    """An id in the form of Primero's; smaller numbers give smaller ids."""
    return str(uuid.UUID(int=number))


def raw_frame(*cases: Mapping[str, Any]) -> pd.DataFrame:
    """The raw frame of cases as it is stored; see `pulled_frame`."""
    return with_ages(pulled_frame(*cases), TODAY)


def pulled_frame(*cases: Mapping[str, Any]) -> pd.DataFrame:
    """The frame of cases as pulled; of each case what it does not name is absent, but an id and times are filled in."""
    rows = [_row({**_defaults(number), **case}) for number, case in enumerate(cases)]
    return pa.Table.from_pylist(rows, schema=PULLED_SCHEMA).to_pandas(types_mapper=pd.ArrowDtype)


def _defaults(number: int) -> dict[str, Any]:
    return {
        "id": uuid_of(number),
        "created_at": "2024-01-15T02:11:09.514Z",
        "last_updated_at": "2024-03-02T08:00:01.209Z",
        "enabled": True,
    }


def _row(case: Mapping[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {name: json_text(case.get(name)) for name in PULLED_SCHEMA.names}
    for name in _STAMPS:
        row[name] = None if case.get(name) is None else datetime.fromisoformat(case[name])
    return {**row, "id": case["id"], "services_section": cut_services(case.get("services_section"))}


def cut_services(section: Any) -> list[dict[str, str | None] | None] | None:
    """What is kept of a `services_section`, element by element: a second witness to `encode.py`, which goes by columns."""
    if isinstance(section, str) and section.strip().startswith("["):
        with suppress(ValueError):
            section = json.loads(section)
    if section is None:
        return None
    if not isinstance(section, list):
        return [None]
    return [
        {name: json_text(element.get(name)) for name in SERVICE_FIELDS} if isinstance(element, dict) else None
        for element in section
    ]
