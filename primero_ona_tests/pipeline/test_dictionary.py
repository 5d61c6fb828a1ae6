"""The rows of the data dictionary, made from the contract, the sandbox's lists and the label tables."""

from __future__ import annotations

import csv
import io

import pytest

from primero_ona.contract.derived import DATA_DICTIONARY
from primero_ona.contract.tables import CASES, SERVICES, TABLES
from primero_ona.mapping.labels import Labels
from primero_ona.ona.target import VIEWS
from primero_ona.pipeline.reference import as_csv, dictionary_rows, primero_labels
from primero_ona.primero.reference import catalogue
from primero_ona.sandbox import reference
from primero_ona_tests.mapping.expected_labels import EXPECTED


@pytest.fixture(scope="module")
def fields():
    return catalogue(reference.lookups(), reference.forms())


@pytest.fixture(scope="module")
def rows(fields):
    return dictionary_rows(fields, Labels.load().beside(primero_labels(fields)))


def options(rows, table, column):
    return {
        row["option_id"]: row
        for row in rows
        if (row["table_name"], row["column_name"]) == (table, column) and row["option_id"]
    }


def test_every_label_of_the_mapping_has_its_row(rows):
    """A dashboard that finds no Khmer for a text shows nothing at all."""
    columns = {column.labels: (table.name, column.name) for table in (CASES, SERVICES) for column in table.columns}
    missing = [
        (field, code)
        for field, code, label in EXPECTED
        if options(rows, *columns[field]).get(code, {}).get("option_value") != label
    ]
    assert not missing


def test_every_column_of_every_table_and_view_has_its_row(rows):
    """Whoever opens a table has to find out what a column means."""
    described = {(row["table_name"], row["column_name"]) for row in rows if not row["option_id"]}
    assert described == {(relation.name, column.name) for relation in (*TABLES, *VIEWS) for column in relation.columns}
    assert all(row["field_label_en"] and row["field_label_km"] for row in rows)


def test_a_key_occurs_once(rows):
    """The table's key would refuse the second."""
    keys = [(row["table_name"], row["column_name"], row["option_id"]) for row in rows]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    ("table", "column", "option", "value", "khmer"),
    [
        ("cases", "type_of_case", "children_undergoing_reintegration_55427", "children undergoing reintegration", "ករណីកុមារសមាហរណកម្ម"),
        ("cases", "placement_type", "kinship_care_99289", "kinship care", "គ្រួសារសាច់ញាតិ"),
        ("cases", "case_status", "closed", "closed", "បាន\u200bបិទ"),
        ("cases", "consent_for_reporting", "false", "false", "ទេ"),
        ("cases", "consent_status", "refused", "refused", "refused"),
        ("cases", "protection_concerns", "gambling_issues_31174", "Gambling issues", "Gambling issues"),
        ("cases", "protection_concerns", "statelessness", "Statelessness", "Statelessness"),
        ("services", "service_type", "Other", "Other", "ផ្សេងទៀត"),
        ("services", "service_subtypes", "counselling_trauma", "counselling_trauma", "ការផ្តល់ប្រឹក្សា៖ ការផ្តល់ប្រឹក្សាសម្រាប់ការប៉ះទង្គិចផ្លូវចិត្ត"),
    ],
)  # fmt: skip
def test_the_value_is_the_text_in_the_table(rows, table, column, option, value, khmer):
    """Dashboards join by it; in Khmer the English text stands where there is no other."""
    row = options(rows, table, column)[option]
    assert (row["option_value"], row["option_value_km"], row["reviewed"]) == (value, khmer, "false")


def test_form_and_field_of_primero_are_named(rows):
    """People look a column up in Primero by them."""
    heads = {(row["table_name"], row["column_name"]): row for row in rows if not row["option_id"]}
    sex, kind, district, own = (
        heads[key]
        for key in (
            ("cases", "sex"),
            ("services", "service_type"),
            ("cases", "district_current"),
            ("cases", "last_updated_date"),
        )
    )
    assert (sex["primero_form"], sex["primero_field"], sex["field_label_km"]) == ("basic_identity", "sex", "ភេទ")
    assert (kind["primero_form"], kind["field_label_en"]) == ("services_section", "Type of Service")
    assert (district["primero_field"], district["field_label_en"]) == (
        "location_current",
        "District of the current location",
    )
    assert (own["primero_form"], own["primero_field"]) == (None, None)


def test_without_primeros_lists_the_labels_alone_make_a_dictionary():
    """Where every list is refused, what we know still has to be found."""
    rows = dictionary_rows({}, Labels.load())
    assert options(rows, "cases", "sex")["male"]["option_value_km"] == "Male"
    assert not options(rows, "cases", "type_of_case")


def test_the_export_opens_in_a_spreadsheet(rows):
    """Excel shows Khmer only where the file begins with the mark of UTF-8."""
    content = as_csv(rows)
    assert content[:3] == b"\xef\xbb\xbf"
    read = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline="")))
    assert list(read[0]) == [column.name for column in DATA_DICTIONARY.columns]
    assert len(read) == len(rows)
    assert any("\u200b" in row["option_value_km"] for row in read)
