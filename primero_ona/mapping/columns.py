"""Apply rules for one value to whole Arrow columns of JSON texts.

A column of 20,000 cases holds few distinct texts, so each distinct text is decoded and judged once, and the rows take what
their text became.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from primero_ona.mapping.result import UnmappedCodes
from primero_ona.mapping.values import Parsed, decode, key_text

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
