"""The record of processing is complete, true and in step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg

from primero_ona.data_protection import BOOKKEEPING, CASE_USES, PAGE, SERVICE_USES, protection_page, purpose_of
from primero_ona.ona.schema import CASES, SERVICES
from primero_ona.primero.fields import CASE_FIELDS, SERVICE_FIELDS
from primero_ona.primero.raw_schema import RAW_SCHEMA

ROOT = Path(__file__).parents[1]

#: What Primero's own anonymiser takes for personal; nothing of it may ever be asked for.
FORBIDDEN = ("name", "address", "telephone", "phone", "national_id", "notes", "photo", "owned_by", "birth", "email")


def test_every_field_that_is_asked_for_or_stored_has_a_purpose_and_a_class():
    """A field without a purpose is one that nobody may ask for."""
    assert set(CASE_USES) == {*RAW_SCHEMA.names, *CASE_FIELDS}
    assert set(SERVICE_USES) == set(SERVICE_FIELDS)


def test_no_field_is_asked_for_that_names_or_reaches_somebody():
    """The allow-list is one careless line away from a name."""
    for field in (*CASE_FIELDS, *SERVICE_FIELDS):
        assert not any(word in field for word in FORBIDDEN), field


def test_every_column_in_ona_has_a_purpose_and_keeps_the_class_of_its_field():
    """A column that is classed lower than its field would be shown more freely than the child's record allows."""
    rank = {"none": 0, "quasi-identifier": 1, "sensitive": 2, "key": 3}
    for table, uses in ((CASES, CASE_USES), (SERVICES, SERVICE_USES)):
        for column in table.columns:
            assert purpose_of(column, table)
            if column.field in uses and column.name != "case_source":
                assert rank[column.personal_data] >= rank[uses[column.field].personal_data], column.name


def test_every_table_of_the_bookkeeping_is_told(ona: psycopg.Connection[Any]):
    """A table that the record does not know is one that nobody erases from."""
    found = ona.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'primero_sync'").fetchall()
    assert {row[0] for row in found} == set(BOOKKEEPING)


def test_the_page_is_in_step():
    """The officer signs the page, not the code. `make docs` writes it."""
    assert (ROOT / PAGE).read_text(encoding="utf-8") == protection_page()
