"""Raw frames of Primero become rows of ONA's tables `cases` and `services`, or entries of the quarantine.

`Reader` applies the rule of each column, which `contract/tables.py` names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from primero_ona.contract.column import Column, Table
from primero_ona.contract.tables import CASES, LONGEST_KEY, SERVICES
from primero_ona.mapping.columns import (
    TEXT,
    WHOLE,
    Flags,
    Rule,
    column,
    flags,
    holds,
    parse_column,
    parse_keys,
    parse_texts,
    to_arrow,
    to_frame,
)
from primero_ona.mapping.dates import parse_date, parse_dates, parse_service_date
from primero_ona.mapping.labels import Labels
from primero_ona.mapping.locations import Place, Places
from primero_ona.mapping.result import Mapped, Reason, UnmappedCodes, quarantine_entry
from primero_ona.mapping.values import (
    decode,
    is_true,
    parse_age,
    parse_case_source,
    parse_codes,
    parse_consent,
    parse_option_name,
)
from primero_ona.texts import UUID

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
