"""Encode raw cases in Arrow, a page at a time: each value as the JSON text that Primero sent, and nothing that is not allowed.

A page has 100,000 values, so whole columns become texts at once, outside Python; only those of columns with a list or an object
in them are written one by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from primero_ona.contract.tables import LOCATION_FIELDS
from primero_ona.primero.fields import SERVICE_FIELDS, json_text
from primero_ona.primero.policy import LocationPrecision, cut_location
from primero_ona.primero.raw_schema import PULLED_SCHEMA, PULLED_SERVICE_TYPE
from primero_ona.texts import listed

Row = Mapping[str, Any]

#: What stands between two elements of a JSON list that is written with indentation. A text never holds it: JSON escapes
#: the line breaks of texts.
_BETWEEN = ",\n  "
#: How a list or an object within the list ends, then.
_NESTED = (b"\n  ]", b"\n  }")


def raw_columns(rows: Sequence[Row], precision: LocationPrecision) -> dict[str, pa.Array]:
    """All columns of PULLED_SCHEMA but the stamps, of rows as Primero sent them."""
    columns = {
        name: texts([row.get(name) for row in rows])
        for name in PULLED_SCHEMA.names
        if name not in {"id", "last_updated_at", "created_at", "services_section", *LOCATION_FIELDS}
    }
    for name in LOCATION_FIELDS:
        columns[name] = texts([cut_location(row.get(name), precision) for row in rows])
    columns["id"] = pa.array([row["id"] for row in rows], pa.string())
    columns["services_section"] = sections([row.get("services_section") for row in rows])
    return columns


def texts(values: list[Any]) -> pa.Array:
    """The JSON text of each value; null for null."""
    try:
        lines = orjson.dumps(values, option=orjson.OPT_INDENT_2)
    except TypeError:  # one of them is beyond orjson
        return pa.array([json_text(value) for value in values], pa.string())
    if not values or any(end in lines for end in _NESTED):
        one_by_one = [None if value is None else orjson.dumps(value) for value in values]
        return pa.array(one_by_one, pa.binary()).cast(pa.string())
    every = pc.split_pattern(pa.scalar(lines[4:-2].decode()), _BETWEEN).values
    return pc.if_else(pc.equal(every, "null"), None, every)


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
