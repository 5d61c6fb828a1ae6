"""Cases: a raw frame of Primero becomes rows of ONA's table `cases`.

What belongs here: which column comes from which field by which rule. The rules themselves are in `values.py`,
`dates.py`, `labels.py` and `locations.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from primero_ona.mapping.columns import (
    TEXT,
    WHOLE,
    Rule,
    column,
    flags,
    parse_column,
    parse_columns,
    parse_keys,
    parse_texts,
    to_arrow,
    to_frame,
)
from primero_ona.mapping.dates import parse_date, parse_dates
from primero_ona.mapping.labels import Labels
from primero_ona.mapping.locations import Place, Places
from primero_ona.mapping.result import Mapped, Reason, UnmappedCodes, quarantine_entry
from primero_ona.mapping.values import parse_age, parse_case_source, parse_codes, parse_consent, parse_option_name
from primero_ona.texts import UUID

if TYPE_CHECKING:
    import pandas as pd

Reasons = np.ndarray[Any, np.dtype[Any]]

#: Characters of a key. Ids have some forty; an index of PostgreSQL takes 2,704 bytes, and the load may add to a key.
LONGEST_KEY = 200

#: What is read of a raw frame.
CASE_FIELDS = (
    "id",
    "last_updated_at",
    "created_at",
    "case_id_display",
    "registration_date",
    "oscar_number",
    "disability_type",
    "type_of_case",
    "sex",
    "age",
    "protection_concerns",
    "type_of_placement",
    "consent_reporting",
    "location_current",
    "location_caregiver",
    "status",
    "care_date",
    "date_of_reintegration",
    "date_closure",
    "age_at_registration",
    "age_at_placement",
    "age_at_reintegration",
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
    columns = _columns(_Reader(table.filter(keyed), findings), case_ids.filter(keyed), places, labels)
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


class _Reader:
    """Reads fields of one raw table by rules, and counts what they report under the field's own name."""

    def __init__(self, table: pa.Table, findings: UnmappedCodes) -> None:
        self._table = table
        self._findings = findings

    def plain(self, field: str) -> pa.Array:
        return column(self._table, field)

    def text(self, field: str, rule: Rule) -> pa.Array:
        return parse_column(self.plain(field), rule, TEXT, field, self._findings)

    def date(self, field: str) -> pa.Array:
        return parse_dates(self.plain(field), parse_date, field, self._findings)

    def several(self, field: str, rule: Rule, kinds: Sequence[pa.DataType]) -> list[pa.Array]:
        return parse_columns(self.plain(field), rule, kinds, field, self._findings)

    def place(self, field: str, places: Places) -> Place:
        kinds = [TEXT] * len(Place._fields)
        return Place(*parse_texts(self.plain(field), places.parse_text, kinds, field, self._findings))


def _columns(reader: _Reader, case_ids: pa.Array, places: Places, labels: Labels) -> dict[str, Any]:
    age, age_group = reader.several("age", parse_age, [WHOLE, TEXT])
    consent, consent_status = reader.several("consent_reporting", parse_consent, [TEXT, TEXT])
    current = reader.place("location_current", places)
    caregiver = reader.place("location_caregiver", places)
    return {
        "case_id": case_ids,
        "registration_date": reader.date("registration_date"),
        "case_source": reader.text("oscar_number", parse_case_source),
        "disabled": reader.text("disability_type", partial(labels.parse_single, "disability_type")),
        "type_of_case": reader.text("type_of_case", parse_option_name),
        "sex": reader.text("sex", partial(labels.parse_passing, "sex")),
        "age": age,
        "protection_concerns": reader.text("protection_concerns", partial(labels.parse_list, "protection_concerns")),
        "placement_type": reader.text("type_of_placement", parse_option_name),
        "consent_for_reporting": consent,
        "location_code": current.location,
        "province_current": current.province,
        "province_current_code": current.province_code,
        "district_current": current.district,
        "district_current_code": current.district_code,
        "province_caregiver": caregiver.province,
        "province_caregiver_code": caregiver.province_code,
        "district_caregiver": caregiver.district,
        "district_caregiver_code": caregiver.district_code,
        "primero_id": reader.plain("id"),
        "primero_updated_at": reader.plain("last_updated_at"),
        "consent_status": consent_status,
        "case_status": reader.text("status", parse_codes),
        "age_group": age_group,
        "care_date": reader.date("care_date"),
        "date_of_reintegration": reader.date("date_of_reintegration"),
        "date_closure": reader.date("date_closure"),
        "age_at_registration": reader.plain("age_at_registration"),
        "age_at_placement": reader.plain("age_at_placement"),
        "age_at_reintegration": reader.plain("age_at_reintegration"),
        "created_at": reader.plain("created_at"),
    }
