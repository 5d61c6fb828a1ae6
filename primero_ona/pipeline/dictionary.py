"""The data dictionary: one row for each column of ONA's tables and views, and one for each option, in two languages.

Made from the table contract (`contract/`), from Primero's fields and options, and from the label tables; nothing about
a column is said a second time here. Writing it into ONA is in `ona/dictionary.py`, its CSV form at the end.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from primero_ona.contract.column import Column, Table
from primero_ona.contract.reference import DATA_DICTIONARY
from primero_ona.contract.tables import CASES, SERVICES, TABLES
from primero_ona.mapping.labels import Labels
from primero_ona.mapping.values import parse_option_name
from primero_ona.ona.schema import VIEWS
from primero_ona.ona.upkeep import Row
from primero_ona.primero.catalogue import Catalogue, Field
from primero_ona.texts import normalize

#: Excel takes a CSV file for UTF-8 only where it begins with this mark; Khmer is unreadable otherwise.
_MARK = "\ufeff"


class _Option(NamedTuple):
    """An option of a column: its id, its text in the table, and Primero's Khmer text, empty where there is none."""

    id: str
    value: str
    km: str


def primero_labels(fields: Catalogue) -> dict[str, dict[str, str]]:
    """Primero's English labels of the fields that have a label table, by field and option id.

    Without U+200B, hard blanks and outer blanks, since dashboards filter on them; an option without a label is left out.
    """
    found: dict[str, dict[str, str]] = {}
    for table in (CASES, SERVICES):
        for column in table.columns:
            field = field_of(fields, table, column)
            if column.labels and field:
                found[column.labels] = {o.id: normalize(o.en) for o in field.options.values() if normalize(o.en)}
    return found


def field_of(fields: Catalogue, table: Table, column: Column) -> Field | None:
    """The field of Primero that a column comes from, where there is one."""
    return fields.get((table.section, column.field)) if column.field else None


def dictionary_rows(fields: Catalogue, labels: Labels) -> list[Row]:
    """The rows of the data dictionary as texts by column; in Khmer the English text stands where Primero has none."""
    rows: list[Row] = []
    for table in TABLES:
        for place, column in enumerate(table.columns, start=1):
            rows += _column_rows(table.name, place, column, field_of(fields, table, column), labels)
    for view in VIEWS:
        for place, column in enumerate(view.columns, start=1):
            rows += _column_rows(view.name, place, column, None, labels)
    return rows


def _column_rows(table: str, place: int, column: Column, field: Field | None, labels: Labels) -> Iterator[Row]:
    english = _label(column, field)
    khmer = field.km if field and not column.derived else ""
    shared: Row = {
        "table_name": table,
        "column_name": column.name,
        "primero_form": field.form if field else None,
        "primero_field": column.field,
        "field_label_en": english,
        "field_label_km": khmer or english,
        "reviewed": "false",
    }
    yield {**shared, "option_id": "", "option_value": None, "option_value_km": None, "sort_order": str(place)}
    options = _options(column, field, labels) if column.has_options else ()
    for number, option in enumerate(_with_khmer(options), start=1):
        own: Row = {
            "option_id": option.id,
            "option_value": option.value,
            "option_value_km": option.km or option.value,
            "sort_order": str(number),
        }
        yield {**shared, **own}


def _label(column: Column, field: Field | None) -> str:
    """Primero's label where the column is the field itself, else what the contract says of the column."""
    of_field = normalize(field.en) if field and not column.derived else ""
    return of_field or column.description.replace("`", "")


def _options(column: Column, field: Field | None, labels: Labels) -> Iterator[_Option]:
    """The options of a column with exactly the texts that stand in the table."""
    primeros = {} if field is None or column.derived else field.options
    for code, value in _values(column, list(primeros), labels).items():
        yield _Option(code, value, primeros[code].km if code in primeros else "")


def _values(column: Column, codes: Iterable[str], labels: Labels) -> Mapping[str, str]:
    if column.labels:
        return labels.all_of(column.labels)
    if column.allowed:
        return {value: value for value in column.allowed}
    if column.rule == "option_name":
        return {code: name for code in codes if (name := parse_option_name(code).value)}
    return {code: code for code in codes}


def _with_khmer(options: Iterable[_Option]) -> list[_Option]:
    """The options, where one without Khmer borrows it from another with the same text: people see one option, not two."""
    listed = list(options)
    known = {option.value: option.km for option in reversed(listed) if option.km}
    return [option._replace(km=option.km or known.get(option.value, "")) for option in listed]


def as_csv(rows: Iterable[Row]) -> str:
    """The rows as CSV for a spreadsheet: with the mark by which Excel knows UTF-8, null as an empty cell."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [column.name for column in DATA_DICTIONARY.columns])
    writer.writeheader()
    writer.writerows(rows)
    return _MARK + text.getvalue()
