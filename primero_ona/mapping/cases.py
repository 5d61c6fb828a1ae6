"""Cases: a raw frame of Primero becomes rows of ONA's table `cases`, or entries of the quarantine."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from primero_ona.contract.tables import CASES, LONGEST_KEY
from primero_ona.mapping.columns import column, flags, parse_keys, to_arrow, to_frame
from primero_ona.mapping.labels import Labels
from primero_ona.mapping.locations import Places
from primero_ona.mapping.result import Mapped, Reason, UnmappedCodes, quarantine_entry
from primero_ona.mapping.rules import Reader
from primero_ona.texts import UUID

if TYPE_CHECKING:
    import pandas as pd

Reasons = np.ndarray[Any, np.dtype[Any]]

#: What is read of a raw frame.
CASE_FIELDS = tuple(
    dict.fromkeys(
        ["id", "last_updated_at", "created_at", *(c.name if c.day else c.field for c in CASES.columns if c.field)]
    )
)


def map_cases(raw: pd.DataFrame, places: Places, labels: Labels) -> Mapped:
    """Map one raw frame; cases without a key are quarantined, with nothing reported of them.

    The frame has the columns of `CASES` in the table contract; `case_id` is the plain key, which several cases may share.
    """
    table = to_arrow(raw, CASE_FIELDS)
    case_ids = parse_keys(column(table, "case_id_display"))
    reasons = case_reasons(column(table, "id"), case_ids)
    keyed = pa.array(reasons == "")
    findings = UnmappedCodes()
    stays = table.filter(keyed)
    made = {
        "case_id": case_ids.filter(keyed),
        "primero_id": column(stays, "id"),
        "primero_updated_at": column(stays, "last_updated_at"),
        "created_at": column(stays, "created_at"),
    }
    columns = Reader(partial(column, stays), labels, findings, places).columns(CASES, made)
    keyless = column(table, "id").filter(pc.invert(keyed)).to_pylist()
    quarantine = [
        quarantine_entry("cases", case, reason) for case, reason in zip(keyless, reasons[reasons != ""], strict=True)
    ]
    return Mapped(to_frame(columns), findings, quarantine)


def case_reasons(ids: pa.Array, case_ids: pa.Array) -> Reasons:
    """The reason for which each case, by its Primero id and its key, is quarantined; empty where it stands."""
    reasons = key_reasons(case_ids, Reason.CASE_ID_MISSING, Reason.CASE_ID_TOO_LONG)
    reasons[~flags(pc.match_substring_regex(ids, UUID))] = Reason.ID_MALFORMED
    return reasons


def key_reasons(keys: pa.Array, missing: Reason, too_long: Reason) -> Reasons:
    """One of the two reasons for each key that cannot stand in ONA; empty for the others."""
    reasons = np.full(len(keys), "", object)
    reasons[flags(pc.is_null(keys))] = missing
    reasons[flags(pc.greater(pc.utf8_length(keys), LONGEST_KEY))] = too_long
    return reasons
