"""The table contract: what the other rooms rely on."""

from __future__ import annotations

import pyarrow as pa

from primero_ona.contract.tables import CASES, SERVICES, TABLES


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
    assert len(cases) == 31
    assert cases.names[:2] == ["case_id", "registration_date"]
    assert cases.field("age").type == pa.int32()
    assert cases.field("primero_updated_at").type == pa.timestamp("ms", tz="UTC")
    assert cases.field("primero_id").type == pa.string()
    assert cases.field("age_at_registration").type == pa.int32()
    assert SERVICES.arrow_schema().field("service_date").type == pa.date32()
    assert SERVICES.arrow_schema().field("age_at_service").type == pa.int32()


def test_every_column_is_described_for_people():
    """The descriptions are the data dictionary and the UI."""
    for table in TABLES:
        for column in table.columns:
            assert len(column.description) > 2
            assert not column.description.endswith(".")
