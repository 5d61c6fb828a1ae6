"""Apply rules for one value to whole Arrow columns of JSON texts.

A column of 20,000 cases holds few distinct texts, so each distinct text is decoded and judged once, and the rows take what
their text became.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from primero_ona.contract.column import Column, Table
from primero_ona.mapping.dates import parse_date, parse_dates, parse_service_date
from primero_ona.mapping.labels import Labels
from primero_ona.mapping.locations import Place, Places
from primero_ona.mapping.result import UnmappedCodes
from primero_ona.mapping.values import (
    Parsed,
    decode,
    key_text,
    parse_age,
    parse_case_source,
    parse_codes,
    parse_consent,
    parse_option_name,
)

Rule = Callable[[Any], Parsed]

Flags = np.ndarray[Any, np.dtype[np.bool_]]

TEXT = pa.string()
WHOLE = pa.int32()

#: A JSON text of plain ASCII without escapes or blanks, as nearly all ids are: its text stands between the quotes.
_PLAIN_TEXT = r'^"[!#-\[\]-~]+"$'


def to_arrow(frame: pd.DataFrame, names: Iterable[str]) -> pa.Table:
    """Some of a frame's columns in Arrow, without the index."""
    return pa.table({name: pa.array(frame[name], from_pandas=True) for name in names})


def to_frame(columns: dict[str, pa.Array]) -> pd.DataFrame:
    """A frame with Arrow dtypes."""
    frame: pd.DataFrame = pa.table(columns).to_pandas(types_mapper=pd.ArrowDtype)
    return frame


def column(table: pa.Table, name: str) -> pa.Array:
    """One column as a single array."""
    return table.column(name).combine_chunks()


def parse_column(texts: pa.Array, rule: Rule, kind: pa.DataType, field: str, findings: UnmappedCodes) -> pa.Array:
    """Apply a rule to a column of JSON texts of a Primero field; what it reports is counted in `findings`."""
    return parse_texts(texts, lambda text: _single(rule(decode(text))), [kind], field, findings)[0]


def _single(parsed: Parsed) -> Parsed:
    return Parsed((parsed.value,), parsed.reported)


def parse_texts(
    texts: pa.Array,
    read: Callable[[str | None], Parsed],
    kinds: Sequence[pa.DataType],
    field: str,
    findings: UnmappedCodes,
) -> list[pa.Array]:
    """Apply a function whose value is a tuple to a column of JSON texts: one array for each place of the tuple."""
    distinct, rows = _encode(texts)
    all_parsed = [read(text) for text in distinct]
    _report(all_parsed, rows, field, findings)
    return [
        pa.array([parsed.value[place] for parsed in all_parsed], kind).take(rows) for place, kind in enumerate(kinds)
    ]


def holds(texts: pa.Array, test: Callable[[Any], bool]) -> Flags:
    """For each row, whether the value behind its JSON text passes a test."""
    distinct, rows = _encode(texts)
    passed = np.fromiter((test(decode(text)) for text in distinct), bool, len(distinct))
    flags: Flags = passed[rows.to_numpy()]
    return flags


def flags(array: pa.Array) -> Flags:
    """An array of booleans as flags; null counts as false."""
    found: Flags = pc.fill_null(array, fill_value=False).to_numpy(zero_copy_only=False)
    return found


def parse_keys(texts: pa.Array) -> pa.Array:
    """A column of keys as texts; null where a key is missing, empty, blank, or neither text nor number."""
    plain = pc.fill_null(pc.match_substring_regex(texts, _PLAIN_TEXT), fill_value=False)
    between_quotes = pc.utf8_slice_codeunits(pc.if_else(plain, texts, None), 1, -1)
    if pc.all(plain).as_py():
        return between_quotes
    odd = parse_column(pc.if_else(plain, None, texts), lambda value: Parsed(key_text(value)), TEXT, "", UnmappedCodes())
    return pc.coalesce(between_quotes, odd)


def _encode(texts: pa.Array) -> tuple[list[str | None], pa.Array]:
    encoded = texts.dictionary_encode(null_encoding="encode")
    return encoded.dictionary.to_pylist(), encoded.indices


def _report(all_parsed: list[Parsed], rows: pa.Array, field: str, findings: UnmappedCodes) -> None:
    if not any(parsed.reported for parsed in all_parsed):
        return
    counts = np.bincount(rows.to_numpy(), minlength=len(all_parsed))
    for parsed, count in zip(all_parsed, counts.tolist(), strict=True):
        for code in parsed.reported:
            findings.add(field, code, count)


_DATES: dict[str, Rule] = {"date": parse_date, "service_date": parse_service_date}
_TEXTS: dict[str, Rule] = {"option_name": parse_option_name, "codes": parse_codes, "case_source": parse_case_source}
_LABELS = {"label": Labels.parse_single, "labels": Labels.parse_list, "label_or_code": Labels.parse_passing}
#: Rules that take one of several values that are read at once: of which parsed, and its place among them.
_PARTS = {
    "age": ("age", 0),
    "age_group": ("age", 1),
    "consent": ("consent", 0),
    "consent_status": ("consent", 1),
    **{part: ("place", number) for number, part in enumerate(Place._fields)},
}


class Reader:
    """Makes columns from the raw values of fields, JSON texts that `raw` gives by the field's name.

    What has to be reported is counted in `findings` under the field's name, once for columns that are read at once. `places`
    is needed by the rules of places only.
    """

    def __init__(
        self, raw: Callable[[str], pa.Array], labels: Labels, findings: UnmappedCodes, places: Places | None = None
    ) -> None:
        self._raw = raw
        self._labels = labels
        self._findings = findings
        self._places = places or Places({}, {})
        self._parsed: dict[tuple[str, str], list[pa.Array]] = {}

    def columns(self, table: Table, made: Mapping[str, pa.Array]) -> dict[str, pa.Array]:
        """All columns of a table's mapped frames, in their order; `made` has those that no rule makes of a field."""
        return {c.name: made[c.name] if c.name in made else self._column(c) for c in table.frame_columns}

    def _column(self, column: Column) -> pa.Array:
        if column.day:
            return self._raw(column.name)
        field, rule = str(column.field), str(column.rule)
        if rule in _PARTS:
            parsed, number = _PARTS[rule]
            return self._several(field, parsed)[number]
        if rule in _DATES:
            return parse_dates(self._raw(field), _DATES[rule], field, self._findings)
        read = partial(_LABELS[rule], self._labels, field) if rule in _LABELS else _TEXTS[rule]
        return parse_column(self._raw(field), read, TEXT, field, self._findings)

    def _several(self, field: str, parsed: str) -> list[pa.Array]:
        if (field, parsed) not in self._parsed:
            parse, kinds = {
                "age": (lambda text: parse_age(decode(text)), [WHOLE, TEXT]),
                "consent": (lambda text: parse_consent(decode(text)), [TEXT, TEXT]),
                "place": (self._places.parse_text, [TEXT] * len(Place._fields)),
            }[parsed]
            self._parsed[field, parsed] = parse_texts(self._raw(field), parse, kinds, field, self._findings)
        return self._parsed[field, parsed]
