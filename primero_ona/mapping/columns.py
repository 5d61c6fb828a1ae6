"""Apply rules for one value to Arrow columns of JSON texts: once to each distinct text, of which 20,000 cases hold few."""

from __future__ import annotations

from collections.abc import Callable
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


def column(frame: pd.DataFrame | pa.Table, name: str) -> pa.Array:
    """One column as a single array."""
    return pa.table({name: frame[name]})[name].combine_chunks()


def parse_distinct(
    texts: pa.Array, read: Callable[[str | None], Parsed], field: str = "", findings: UnmappedCodes | None = None
) -> tuple[list[Any], pa.Array]:
    """What the distinct JSON texts of a field become, and by row the place of its own; reports are counted in `findings`."""
    encoded = texts.dictionary_encode(null_encoding="encode")
    all_parsed = [read(text) for text in encoded.dictionary.to_pylist()]
    if findings is not None and any(parsed.reported for parsed in all_parsed):
        counts = np.bincount(encoded.indices.to_numpy(), minlength=len(all_parsed))
        for parsed, count in zip(all_parsed, counts.tolist(), strict=True):
            for code in parsed.reported:
                findings.add(field, code, count)
    return [parsed.value for parsed in all_parsed], encoded.indices


def parse_column(
    texts: pa.Array, rule: Rule, kind: pa.DataType, field: str = "", findings: UnmappedCodes | None = None
) -> pa.Array:
    """Apply a rule to a column of JSON texts; see `parse_distinct`."""
    values, rows = parse_distinct(texts, lambda text: rule(decode(text)), field, findings)
    return pa.array(values, kind).take(rows)


def holds(texts: pa.Array, test: Callable[[Any], bool]) -> Flags:
    """For each row, whether the value behind its JSON text passes a test."""
    return flags(parse_column(texts, lambda value: Parsed(test(value)), pa.bool_()))


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
    odd = parse_column(pc.if_else(plain, None, texts), lambda value: Parsed(key_text(value)), TEXT)
    return pc.coalesce(between_quotes, odd)
