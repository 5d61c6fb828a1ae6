"""Services: the elements of `services_section` become rows of ONA's table `services`.

What belongs here: taking the section apart, which elements stand, and which column comes from which key by which rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from primero_ona.mapping.columns import TEXT, Flags, column, holds, read_column, read_keys, to_arrow, to_frame
from primero_ona.mapping.dates import read_dates, read_service_date
from primero_ona.mapping.findings import Findings
from primero_ona.mapping.labels import Labels
from primero_ona.mapping.mapped import Mapped, Reason, set_aside
from primero_ona.mapping.values import is_true, read_codes

if TYPE_CHECKING:
    import pandas as pd

#: (Primero id of the case, unique_id) of a service that lost its key -> Primero id of the case that keeps it.
Losers = Mapping[tuple[str, str], str]
NO_LOSERS: Losers = MappingProxyType({})

#: What is read of a raw frame.
SERVICE_CASE_FIELDS = ("id", "case_id_display", "services_section")

#: What is read of it to know the keys of the services, and no more of them: the leaves as Parquet names them.
SERVICE_KEY_FIELDS = (
    "id",
    "case_id_display",
    *(f"services_section.list.element.{name}" for name in ("unique_id", "_destroy")),
)


@dataclass(frozen=True)
class Elements:
    """The elements of many sections, one under the other; arrays of equal length.

    `rows`: the raw frame's row an element comes from; `owners`: the case's Primero id; `case_ids`: its key, or null;
    `keys`: the element's `unique_id`, or null; `parts`: the element itself, null where it is no object.
    """

    rows: pa.Array = field(repr=False)
    owners: pa.Array = field(repr=False)
    case_ids: pa.Array = field(repr=False)
    keys: pa.Array = field(repr=False)
    parts: pa.StructArray = field(repr=False)

    @classmethod
    def of(cls, raw: pd.DataFrame) -> Elements:
        """Take the sections of a raw frame apart, without the elements that Primero has marked as destroyed."""
        table = to_arrow(raw, SERVICE_CASE_FIELDS)
        section = column(table, "services_section")
        rows, parts = pc.list_parent_indices(section), section.flatten()
        kept = pa.array(~holds(part(parts, "_destroy"), is_true))
        rows, parts = rows.filter(kept), parts.filter(kept)
        case_ids = read_keys(column(table, "case_id_display"))
        return cls(
            rows, column(table, "id").take(rows), case_ids.take(rows), read_keys(part(parts, "unique_id")), parts
        )

    def of_quarantined(self, excluded: frozenset[str]) -> Flags:
        """Which elements belong to a case that is in quarantine: one of `excluded`, or one without a key."""
        named = pc.is_in(self.owners, value_set=pa.array(list(excluded), self.owners.type))
        return flags(pc.or_(named, pc.is_null(self.case_ids)))


def part(parts: pa.StructArray, name: str) -> pa.Array:
    """One key of all elements; null where the element is no object."""
    return pc.struct_field(parts, [name])


def flags(array: pa.Array) -> Flags:
    """A boolean array without nulls, in numpy."""
    return np.asarray(array.to_numpy(zero_copy_only=False), bool)


def map_services(
    raw: pd.DataFrame, labels: Labels, excluded: frozenset[str] = frozenset(), losers: Losers = NO_LOSERS
) -> Mapped:
    """Map the services of one raw frame; those that cannot stand go to quarantine, and their codes are not reported.

    `excluded`: Primero ids of the cases that are in quarantine; all their services go there with them.
    """
    elements = Elements.of(raw)
    reasons = _reasons(elements, excluded, losers)
    standing = pa.array(reasons == "")
    findings = Findings()
    return Mapped(
        to_frame(_columns(elements, standing, labels, findings)), findings, _quarantine(elements, reasons, losers)
    )


def _reasons(elements: Elements, excluded: frozenset[str], losers: Losers) -> np.ndarray[Any, np.dtype[Any]]:
    """The reason for each element, empty where it stands; where there are several, the one assigned last."""
    reasons = np.full(len(elements.keys), "", object)
    reasons[_repeated(elements)] = Reason.UNIQUE_ID_REPEATED
    reasons[_beaten(elements, losers)] = Reason.UNIQUE_ID_TAKEN
    reasons[flags(pc.is_null(elements.keys))] = Reason.UNIQUE_ID_MISSING
    reasons[flags(pc.is_null(elements.parts))] = Reason.MALFORMED
    reasons[elements.of_quarantined(excluded)] = Reason.CASE_QUARANTINED
    return reasons


def _repeated(elements: Elements) -> Flags:
    import pandas as pd  # noqa: PLC0415

    pairs = pd.DataFrame(
        {
            "row": elements.rows.to_numpy(),
            "key": elements.keys.dictionary_encode().indices.to_numpy(zero_copy_only=False),
        }
    )
    return pairs.duplicated().to_numpy()


def _beaten(elements: Elements, losers: Losers) -> Flags:
    beaten = flags(pc.is_in(elements.owners, value_set=pa.array([owner for owner, _ in losers], elements.owners.type)))
    some = pa.array(beaten)
    pairs = zip(elements.owners.filter(some).to_pylist(), elements.keys.filter(some).to_pylist(), strict=True)
    beaten[beaten] = [pair in losers for pair in pairs]
    return beaten


def _quarantine(elements: Elements, reasons: np.ndarray[Any, np.dtype[Any]], losers: Losers) -> list[dict[str, Any]]:
    aside = pa.array(np.flatnonzero(reasons != ""))
    owners, keys = elements.owners.take(aside).to_pylist(), elements.keys.take(aside).to_pylist()
    return [
        set_aside("services", owner, reason, losers[owner, key] if reason is Reason.UNIQUE_ID_TAKEN else None)
        for owner, key, reason in zip(owners, keys, reasons[reasons != ""], strict=True)
    ]


def _columns(elements: Elements, standing: pa.Array, labels: Labels, findings: Findings) -> dict[str, pa.Array]:
    parts = elements.parts.filter(standing)
    service_type = partial(labels.read_single, "service_type")
    stamp = "service_implemented_day_time"
    return {
        "unique_id": elements.keys.filter(standing),
        "case_id": elements.case_ids.filter(standing),
        "service_type": read_column(part(parts, "service_type"), service_type, TEXT, "service_type", findings),
        "service_date": read_dates(part(parts, stamp), read_service_date, stamp, findings),
        "primero_case_id": elements.owners.filter(standing),
        "service_subtypes": read_column(part(parts, "service_subtype"), read_codes, TEXT, "service_subtype", findings),
        "age_at_service": part(parts, "age_at_service"),
    }
