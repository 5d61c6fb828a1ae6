"""The rules that the contract names: how the values of a field become those of a column."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import pyarrow as pa

from primero_ona.contract.column import Column, Table
from primero_ona.mapping.columns import TEXT, WHOLE, Rule, parse_column, parse_texts
from primero_ona.mapping.dates import parse_date, parse_dates, parse_service_date
from primero_ona.mapping.labels import Labels
from primero_ona.mapping.locations import Place, Places
from primero_ona.mapping.result import UnmappedCodes
from primero_ona.mapping.values import (
    decode,
    parse_age,
    parse_case_source,
    parse_codes,
    parse_consent,
    parse_option_name,
)

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
