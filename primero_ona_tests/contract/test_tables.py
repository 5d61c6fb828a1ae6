"""The declarations: what all that follows them relies on."""

from __future__ import annotations

from typing import get_args

import pyarrow as pa

from primero_ona.contract.column import PlaceRule
from primero_ona.contract.tables import CASES, SERVICES, TABLES
from primero_ona.mapping.labels import Labels


def test_the_load_sets_exactly_one_column_itself():
    """The mapped frames must not carry last_updated_date, or every sync would change every row."""
    assert [c.name for table in TABLES for c in table.columns if c.set_by_load] == ["last_updated_date"]


def test_added_columns_may_be_null():
    """ONA's other writers do not know them."""
    assert all(column.nullable for table in TABLES for column in table.columns if column.added)


def test_a_key_is_a_column_that_is_never_null():
    """The DDL and the checks are made from it."""
    assert not any(table.column(table.key).nullable for table in TABLES)


def test_mapped_frames_have_these_types():
    """Parquet parts that are stored today are read by the next version."""
    cases = CASES.arrow_schema()
    assert cases.names[:2] == ["case_id", "registration_date"]
    assert cases.field("age").type == pa.int32()
    assert cases.field("primero_updated_at").type == pa.timestamp("ms", tz="UTC")
    assert cases.field("primero_id").type == pa.string()
    assert cases.field("age_at_registration").type == pa.int32()
    assert SERVICES.arrow_schema().field("service_date").type == pa.date32()
    assert SERVICES.arrow_schema().field("age_at_service").type == pa.int32()


def test_every_column_with_labels_has_its_table_in_labels_yaml_and_every_table_a_column():
    """A column without its table would fail the mapping of every quarter; a table without a column is dead."""
    labelled = {column.labels for table in TABLES for column in table.columns if column.labels}
    assert labelled == set(Labels.load().tables)


def test_no_column_of_services_is_a_place():
    """Sections of services are stored as they come: no place in them is cut to the location precision."""
    assert not [column for column in SERVICES.columns if column.rule in get_args(PlaceRule)]


def test_every_column_of_a_field_has_a_rule_or_is_a_key_or_an_age():
    """Another one would have no value."""
    without = [c.name for t in (CASES, SERVICES) for c in t.columns if c.field and not c.rule and not c.day]
    assert without == ["case_id"]


def test_every_column_is_described_for_people():
    """The descriptions are the data dictionary and the UI."""
    for table in TABLES:
        for column in table.columns:
            assert len(column.description) > 2
            assert not column.description.endswith(".")
