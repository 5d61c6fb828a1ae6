"""The table contract as a check on mapped frames: types, ranges and allowed labels by pandera, keys by hashes.

Pandera's own report quotes the failing values, so nothing of it but counts leaves this module.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from primero_ona.contract.column import Column, Table
from primero_ona.mapping.labels import Labels

Hashes = np.ndarray[Any, np.dtype[np.uint64]]


class ContractCheck:
    """Validates mapped frames against a table's contract and counts faults by `column: rule`."""

    def __init__(self, table: Table, labels: Labels) -> None:
        # Pandera takes a second to import, which every process that loads the graph would pay.
        # Pandera would let Arrow ignore time zones in all of this process, and a quarter's start would be off by seven hours.
        os.environ.setdefault("PYARROW_IGNORE_TIMEZONE", "")
        import pandera.pandas as pandera  # noqa: PLC0415

        self._errors = pandera.errors.SchemaErrors
        columns = {column.name: _pandera_column(pandera, column, labels) for column in table.frame_columns}
        self._schema = pandera.DataFrameSchema(columns, strict=True, ordered=True)
        self.faults: Counter[str] = Counter()
        self.rows = 0

    def add(self, frame: pd.DataFrame) -> None:
        """Validate one frame."""
        self.rows += len(frame)
        try:
            self._schema.validate(frame, lazy=True)
        except self._errors as error:
            cases = error.failure_cases
            counted = cases.groupby([cases["column"].fillna("frame"), "check"]).size()
            self.faults.update({f"{column}: {rule}": int(count) for (column, rule), count in counted.items()})


def _pandera_column(pandera: Any, column: Column, labels: Labels) -> Any:  # noqa: ANN401
    checks = []
    if column.within is not None:
        low, high = column.within
        checks.append(pandera.Check.in_range(low, high, error=f"from {low} to {high}"))
    if column.allowed is not None:
        checks.append(pandera.Check.isin(column.allowed, error="an allowed value"))
    if column.labels is not None and column.rule != "label_or_code":
        # A label of Primero's may hold `, ` itself, so labels are taken apart like the values.
        known = {part for label in labels.all_of(column.labels).values() for part in label.split(", ")}

        def holds(series: pd.Series[Any]) -> pd.Series[bool]:
            """Whether all parts of each value are known; each distinct value is looked at once."""
            good = [value for value in series.dropna().unique() if not value or known.issuperset(value.split(", "))]
            return series.isin(good)

        checks.append(pandera.Check(holds, error="only labels of the mapping"))
    return pandera.Column(pd.ArrowDtype(column.arrow_type), checks, nullable=column.nullable)


class KeyCheck:
    """Counts rows whose key, of one or several columns, is missing or occurs again, over all frames, at 8 bytes a row."""

    def __init__(self, *columns: str) -> None:
        self._columns = columns
        self._hashes: list[Hashes] = []
        self.missing = 0

    def add(self, frame: pd.DataFrame) -> None:
        """Take the keys of one frame."""
        hashes = _hashes(frame, self._columns)
        self.missing += len(frame) - len(hashes)
        self._hashes.append(hashes)

    def _in_order(self) -> Hashes:
        every = np.concatenate([np.empty(0, np.uint64), *self._hashes])
        every.sort()
        return every

    @property
    def repeated(self) -> int:
        """How many rows have a key that an earlier row had already."""
        hashes = self._in_order()
        return int(np.count_nonzero(hashes[1:] == hashes[:-1]))

    def not_in(self, known: KeyCheck) -> int:
        """How many rows have a key that is none of `known`; a missing one is the contract's to find."""
        own, every = self._in_order(), known._in_order()
        found = np.searchsorted(every, own, "right") > np.searchsorted(every, own, "left")
        return int(np.count_nonzero(~found))


def _hashes(frame: pd.DataFrame, columns: Sequence[str]) -> Hashes:
    """Hashes of the keys that are there: no part is null or blank."""
    parts = [pa.array(frame[name], from_pandas=True).cast(pa.string()) for name in columns]
    present = [pc.fill_null(pc.not_equal(pc.utf8_trim_whitespace(each), ""), fill_value=False) for each in parts]
    keys = pc.binary_join_element_wise(*parts, "\n").filter(reduce(pc.and_, present))
    return pd.util.hash_array(keys.to_numpy(zero_copy_only=False), categorize=False)
