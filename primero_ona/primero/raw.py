"""Raw cases in Arrow: JSON decoded whatever is in it, and each allowed value encoded again as the JSON text that Primero sent."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from primero_ona.contract.tables import LOCATION_FIELDS, SERVICES
from primero_ona.primero.fields import (
    EXIT_COLUMNS,
    PULLED_COLUMNS,
    RAW_COLUMNS,
    SERVICE_FIELDS,
    LocationPrecision,
    cut_location,
)
from primero_ona.texts import json_text, listed

#: A whole number that may not fit into 64 bits, where a number can stand. The search takes twice the time of decoding, so
#: it is made only where so many digits stand side by side at all.
_LONG_NUMBER = re.compile(rb"[:\[,]\s*-?[0-9]{19}")


def decode(content: bytes) -> Any:  # noqa: ANN401
    """Decode JSON; raises ValueError.

    orjson refuses a whole answer for one number beyond a double or half a character, and rounds whole numbers beyond 64
    bits, which would make one key of two. Answers with such a thing are read by Python's own decoder.
    """
    try:
        long = _has_19_digits(content) and _LONG_NUMBER.search(content)
        return _by_python(content) if long else orjson.loads(content)
    except orjson.JSONDecodeError:
        return _by_python(content)


def _has_19_digits(content: bytes) -> bool:
    """Whether 19 digits stand side by side anywhere."""
    digits = np.frombuffer(content, np.uint8) - np.uint8(ord("0")) < 10  # what stands before `0` wraps to above 200
    for step in (1, 2, 4, 8, 3):  # true where 2, 4, 8, 16, 19 digits begin
        digits = digits[:-step] & digits[step:]
    return bool(digits.any())


def _by_python(content: bytes) -> Any:  # noqa: ANN401
    """Decode JSON exactly; a whole number that Python refuses to read, for more than 4,300 digits, is as good as infinite."""
    return json.loads(content, parse_int=lambda digits: int(digits) if len(digits) <= 4_000 else float("inf"))


def raw_columns(rows: Sequence[Mapping[str, Any]], precision: LocationPrecision) -> dict[str, pa.Array]:
    """All columns of PULLED_SCHEMA but the stamps, of rows as Primero sent them."""
    columns = {}
    for name, kind in PULLED_COLUMNS.items():
        if kind == "JSON":
            values = [row.get(name) for row in rows]
            columns[name] = texts([cut_location(v, precision) for v in values] if name in LOCATION_FIELDS else values)
    columns["id"] = pa.array([row["id"] for row in rows], pa.string())
    columns["services_section"] = sections([row.get("services_section") for row in rows])
    return columns


def texts(values: list[Any]) -> pa.Array:
    """The JSON text of each value; null for null."""
    with suppress(TypeError):  # one of them may be beyond orjson
        # Each element on lines of its own; no text has such an end of a line within it, since JSON escapes line breaks.
        lines = orjson.dumps(values, option=orjson.OPT_INDENT_2)
        if values and b"\n  ]" not in lines and b"\n  }" not in lines:  # no lists or objects within the list
            every = pc.split_pattern(pa.scalar(lines[4:-2].decode()), ",\n  ").values
            return pc.if_else(pc.equal(every, "null"), None, every)
    return pa.array([json_text(value) for value in values], pa.string())


def sections(values: Sequence[Any]) -> pa.Array:
    """Of each `services_section` the allowed keys only, each as JSON text (PULLED_SERVICE_TYPE)."""
    lists = [value if isinstance(value, list) or value is None else [None] for value in map(listed, values)]
    elements = [element for value in lists for element in value or ()]
    objects = [element if isinstance(element, dict) else {} for element in elements]
    parts = pa.StructArray.from_arrays(
        [texts([element.get(name) for element in objects]) for name in SERVICE_FIELDS],
        fields=list(PULLED_SERVICE_TYPE.value_type),
        mask=pa.array([not isinstance(element, dict) for element in elements], pa.bool_()),
    )
    ends = pc.cumulative_sum(pa.array([0, *(len(value or ()) for value in lists)], pa.int32()))
    return pa.ListArray.from_arrays(
        ends, parts, PULLED_SERVICE_TYPE, mask=pa.array([v is None for v in lists], pa.bool_())
    )


_TYPES = {"text": pa.string(), "JSON": pa.string(), "time": pa.timestamp("ms", tz="UTC"), "whole number": pa.int32()}

_SERVICE = [(name, pa.string()) for name in SERVICE_FIELDS]

#: An element of `services_section` that is no object is a null element; a section that is no list is one null element.
PULLED_SERVICE_TYPE = pa.list_(pa.struct(_SERVICE))

#: A raw case as pulled, with the date of birth: in memory only, never stored.
PULLED_SCHEMA = pa.schema([(name, _TYPES.get(kind, PULLED_SERVICE_TYPE)) for name, kind in PULLED_COLUMNS.items()])

#: The services of a raw case as stored.
SERVICE_TYPE = pa.list_(pa.struct([*_SERVICE, *((column.name, pa.int32()) for column in SERVICES.ages)]))

#: A raw case as stored, with ages in place of the date of birth.
RAW_SCHEMA = pa.schema([(name, _TYPES.get(kind, SERVICE_TYPE)) for name, kind in RAW_COLUMNS.items()])

#: A case that belongs to neither set any more.
EXIT_SCHEMA = pa.schema([(name, _TYPES[kind]) for name, kind in EXIT_COLUMNS.items()])
