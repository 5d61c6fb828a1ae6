"""Services: the elements of `services_section` become rows of ONA's table `services`.

What belongs here: taking the section apart, and which elements stand.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from primero_ona.contract.tables import SERVICES
from primero_ona.mapping.cases import Reasons, case_reasons, key_reasons
from primero_ona.mapping.columns import WHOLE, Flags, column, flags, holds, parse_keys, to_arrow, to_frame
from primero_ona.mapping.labels import Labels
from primero_ona.mapping.result import Mapped, Reason, UnmappedCodes, quarantine_entry
from primero_ona.mapping.rules import Reader
from primero_ona.mapping.values import is_true

#: What is read of a raw frame.
SERVICE_CASE_FIELDS = ("id", "case_id_display", "services_section")


@dataclass(frozen=True)
class Elements:
    """The elements of many sections, one under the other; arrays of equal length.

    `rows`: the raw frame's row an element comes from; `owners`: the case's Primero id; `case_ids`: its key, or null;
    `keys`: the element's `unique_id`, or null; `parts`: the element itself, null where it is no object; `reasons`: why it
    is quarantined, empty where it stands.
    """

    rows: pa.Array = field(repr=False)
    owners: pa.Array = field(repr=False)
    case_ids: pa.Array = field(repr=False)
    keys: pa.Array = field(repr=False)
    parts: pa.StructArray = field(repr=False)
    reasons: Reasons = field(repr=False)

    @classmethod
    def of(cls, raw: pd.DataFrame) -> Elements:
        """Take the sections of a raw frame apart, without the elements that Primero has marked as destroyed."""
        table = to_arrow(raw, SERVICE_CASE_FIELDS)
        section = column(table, "services_section")
        rows, parts = pc.list_parent_indices(section), section.flatten()
        kept = pa.array(~holds(part(parts, "_destroy"), is_true))
        rows, parts = rows.filter(kept), parts.filter(kept)
        ids, case_ids = column(table, "id"), parse_keys(column(table, "case_id_display"))
        keys = parse_keys(part(parts, "unique_id"))
        reasons = _reasons(keys, parts, case_reasons(ids, case_ids)[rows.to_numpy()])
        return cls(rows, ids.take(rows), case_ids.take(rows), keys, parts, reasons)

    def where(self, chosen: Flags) -> Elements:
        """The elements whose flag is set."""
        arrays = (self.rows, self.owners, self.case_ids, self.keys, self.parts)
        rows, owners, case_ids, keys, parts = (each.filter(pa.array(chosen)) for each in arrays)
        return Elements(rows, owners, case_ids, keys, parts, self.reasons[chosen])


def part(parts: pa.StructArray, name: str) -> pa.Array:
    """One key of all elements; null where the element is no object."""
    return pc.struct_field(parts, [name])


def map_services(raw: pd.DataFrame, labels: Labels) -> Mapped:
    """Map the services of one raw frame; those without a key, or of a case without one, are quarantined, unreported.

    The frame has the columns of `SERVICES` in the table contract; `unique_id` is the plain key, which services of several
    cases may share, and `place` tells those apart that share it within a case.
    """
    elements = Elements.of(raw)
    standing = elements.where(elements.reasons == "")
    places = _places(standing)
    findings = UnmappedCodes()
    mapped = standing.where(places > 0)
    made = {
        "unique_id": mapped.keys,
        "case_id": mapped.case_ids,
        "primero_case_id": mapped.owners,
        "place": pa.array(places[places > 0], WHOLE),
    }
    columns = Reader(partial(part, mapped.parts), labels, findings).columns(SERVICES, made)
    return Mapped(to_frame(columns), findings, _quarantine(elements), int((places == 0).sum()))


def _reasons(keys: pa.Array, parts: pa.StructArray, of_cases: Reasons) -> Reasons:
    """The reason for each element, empty where it stands; where there are several, the one assigned last."""
    reasons = key_reasons(keys, Reason.UNIQUE_ID_MISSING, Reason.UNIQUE_ID_TOO_LONG)
    reasons[flags(parts.is_null())] = Reason.MALFORMED
    return np.where(of_cases == "", reasons, of_cases)


def _quarantine(elements: Elements) -> list[dict[str, Any]]:
    aside = elements.where(elements.reasons != "")
    return [
        quarantine_entry("services", owner, reason)
        for owner, reason in zip(aside.owners.to_pylist(), aside.reasons, strict=True)
    ]


def _places(elements: Elements) -> np.ndarray[Any, np.dtype[np.int32]]:
    """The place of each element among those of its case with the same key, from 1; 0 for a copy of an earlier one.

    A copy is equal in all that is kept of it raw.
    """
    pairs = pd.DataFrame({"row": elements.rows.to_numpy(), "key": _codes(elements.keys)})
    places = np.ones(len(pairs), np.int32)
    several = pairs.duplicated(keep=False).to_numpy()
    if several.any():
        parts = elements.parts.filter(pa.array(several))
        fields = {f"part {n}": _codes(each) for n, each in enumerate(parts.flatten())}
        alike = pairs[several].reset_index(drop=True).assign(**fields)
        first = ~alike.duplicated()
        counted = alike[first].groupby(["row", "key"]).cumcount() + 1
        places[several] = counted.reindex(alike.index, fill_value=0).to_numpy()
    return places


def _codes(array: pa.Array) -> np.ndarray[Any, np.dtype[np.int32]]:
    """A number for each distinct value of an array, null included."""
    codes: np.ndarray[Any, np.dtype[np.int32]] = array.dictionary_encode(null_encoding="encode").indices.to_numpy()
    return codes
