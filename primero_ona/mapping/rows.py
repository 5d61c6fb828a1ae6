"""Raw frames of Primero become rows of ONA's tables `cases` and `services`, or entries of the quarantine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from primero_ona.contract.column import Column, Table
from primero_ona.contract.tables import CASES, LONGEST_KEY, SERVICES
from primero_ona.mapping.columns import TEXT, WHOLE, Rule, column, holds, parse_column, parse_distinct, parse_keys
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
from primero_ona.storage.frames import to_frame
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


def _columns(
    table: Table,
    made: Mapping[str, pa.Array],
    raw: Callable[[str], pa.Array],
    labels: Labels,
    findings: UnmappedCodes,
    places: Places | None = None,
) -> dict[str, pa.Array]:
    """All columns of a table's mapped frames, in their order, by the rules of the contract; `made` has those without a rule.

    `raw` gives the values of a field, by its name, as JSON texts; what has to be reported of them is counted in `findings`
    under that name, once for columns that are read at once. `places` is needed by the rules of places only.
    """

    @cache
    def read_at_once(field: str, parsed: str) -> list[pa.Array]:
        """Read a field once for all columns that are made of it; a column for each part of what it becomes."""
        parse, kinds = {
            "age": (lambda text: parse_age(decode(text)), [WHOLE, TEXT]),
            "consent": (lambda text: parse_consent(decode(text)), [TEXT, TEXT]),
            "place": ((places or Places({}, {})).parse_text, [TEXT] * len(Place._fields)),
        }[parsed]
        values, rows = parse_distinct(raw(field), parse, field, findings)
        return [pa.array([value[part] for value in values], kind).take(rows) for part, kind in enumerate(kinds)]

    def make(column: Column) -> pa.Array:
        """Apply the column's own rule."""
        if column.day:
            return raw(column.name)
        field, rule = str(column.field), str(column.rule)
        if rule in _PARTS:
            parsed, part = _PARTS[rule]
            return read_at_once(field, parsed)[part]
        if rule in _DATES:
            return parse_dates(raw(field), _DATES[rule], field, findings)
        read = partial(_LABELS[rule], labels, field) if rule in _LABELS else _TEXTS[rule]
        return parse_column(raw(field), read, TEXT, field, findings)

    return {c.name: made[c.name] if c.name in made else make(c) for c in table.frame_columns}


#: What `map_cases` reads of a raw frame.
CASE_FIELDS = tuple(
    dict.fromkeys(
        ["id", "last_updated_at", "created_at", *(c.name if c.day else c.field for c in CASES.columns if c.field)]
    )
)


def map_cases(raw: pd.DataFrame, places: Places, labels: Labels) -> Mapped:
    """Map one raw frame; cases without a key are quarantined, with nothing reported of them.

    The frame has the columns of `CASES` in the table contract; `case_id` is the plain key, which several cases may share.
    """
    ids, case_ids = column(raw, "id"), parse_keys(column(raw, "case_id_display"))
    reasons = _case_reasons(ids, case_ids)
    keyed = pc.equal(reasons, "")
    findings = UnmappedCodes()

    def stays(name: str) -> pa.Array:
        return column(raw, name).filter(keyed)

    made = {
        "case_id": case_ids.filter(keyed),
        "primero_id": stays("id"),
        "primero_updated_at": stays("last_updated_at"),
        "created_at": stays("created_at"),
    }
    columns = _columns(CASES, made, stays, labels, findings, places)
    return Mapped(to_frame(pa.table(columns)), findings, _quarantine("cases", ids, reasons))


def _case_reasons(ids: pa.Array, case_ids: pa.Array) -> pa.Array:
    """The reason for which each case, by its Primero id and its key, is quarantined; empty where it stands."""
    sound = pc.fill_null(pc.match_substring_regex(ids, UUID), fill_value=False)
    of_keys = _key_reasons(case_ids, Reason.CASE_ID_MISSING, Reason.CASE_ID_TOO_LONG)
    return pc.if_else(sound, of_keys, Reason.ID_MALFORMED.value)


def _key_reasons(keys: pa.Array, missing: Reason, too_long: Reason) -> pa.Array:
    """One of the two reasons for each key that cannot stand in ONA; empty for the others."""
    of_known = pc.if_else(pc.greater(pc.utf8_length(keys), LONGEST_KEY), too_long.value, "")
    return pc.if_else(pc.is_null(keys), missing.value, of_known)


def _quarantine(table: Literal["cases", "services"], cases: pa.Array, reasons: pa.Array) -> list[dict[str, Any]]:
    aside = pc.not_equal(reasons, "")
    entries = zip(cases.filter(aside).to_pylist(), reasons.filter(aside).to_pylist(), strict=True)
    return [quarantine_entry(table, case, Reason(reason)) for case, reason in entries]


#: What `map_services` reads of a raw frame.
SERVICE_CASE_FIELDS = ("id", "case_id_display", "services_section")


def map_services(raw: pd.DataFrame, labels: Labels) -> Mapped:
    """Map the services of one raw frame; those without a key, or of a case without one, are quarantined, unreported.

    The frame has the columns of `SERVICES` in the table contract; `unique_id` is the plain key, which services of several
    cases may share, and `place` tells those apart that share it within a case.
    """
    elements = _elements(raw)
    standing = elements.filter(pc.equal(elements["reason"], ""))
    places = _places(standing)
    findings = UnmappedCodes()
    mapped = partial(column, standing.filter(pa.array(places > 0)))
    made = {
        "unique_id": mapped("key"),
        "case_id": mapped("case_id"),
        "primero_case_id": mapped("case"),
        "place": pa.array(places[places > 0], WHOLE),
    }
    columns = _columns(SERVICES, made, partial(_part, mapped("element")), labels, findings)
    quarantine = _quarantine("services", column(elements, "case"), column(elements, "reason"))
    return Mapped(to_frame(pa.table(columns)), findings, quarantine, int((places == 0).sum()))


def _part(elements: pa.StructArray, name: str) -> pa.Array:
    """One key of all elements; null where the element is no object."""
    return pc.struct_field(elements, [name])


def _elements(raw: pd.DataFrame) -> pa.Table:
    """The elements of all sections of a raw frame, without those that Primero has marked as destroyed.

    `row`: the frame's row it comes from; `case`: the case's Primero id; `case_id`: its key, or null; `key`: the element's
    `unique_id`, or null; `element`: itself, null where it is no object; `reason`: why it is quarantined, empty where it stands.
    """
    section = column(raw, "services_section")
    rows, elements = pc.list_parent_indices(section), section.flatten()
    kept = pa.array(~holds(_part(elements, "_destroy"), is_true))
    rows, elements = rows.filter(kept), elements.filter(kept)
    ids, case_ids = column(raw, "id"), parse_keys(column(raw, "case_id_display"))
    keys = parse_keys(_part(elements, "unique_id"))
    reasons = _key_reasons(keys, Reason.UNIQUE_ID_MISSING, Reason.UNIQUE_ID_TOO_LONG)
    reasons = pc.if_else(elements.is_null(), Reason.MALFORMED.value, reasons)
    of_cases = _case_reasons(ids, case_ids).take(rows)
    return pa.table(
        {
            "row": rows,
            "case": ids.take(rows),
            "case_id": case_ids.take(rows),
            "key": keys,
            "element": elements,
            "reason": pc.if_else(pc.equal(of_cases, ""), reasons, of_cases),
        }
    )


def _places(elements: pa.Table) -> np.ndarray[Any, np.dtype[np.int32]]:
    """The place of each element among those of its case with the same key, from 1; 0 for one equal in all to an earlier one."""
    pairs = pd.DataFrame({"row": column(elements, "row").to_numpy(), "key": _codes(column(elements, "key"))})
    places = np.ones(len(pairs), np.int32)
    several = pairs.duplicated(keep=False).to_numpy()
    if several.any():
        parts = column(elements, "element").filter(pa.array(several))
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
