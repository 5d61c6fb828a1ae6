"""The record of processing is complete, true and in step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg

from primero_ona.data_protection import (
    AGE_USES,
    BOOKKEEPING,
    CASE_USES,
    PAGE,
    SERVICE_USES,
    protection_page,
    purpose_of,
)
from primero_ona.ona.schema import CASES, INDICATOR_FIGURES, SERVICES
from primero_ona.primero.fields import (
    AGE_COLUMNS,
    BIRTH_FIELD,
    CASE_FIELDS,
    PULLED_COLUMNS,
    RAW_COLUMNS,
    SERVICE_AGE,
    SERVICE_FIELDS,
)

ROOT = Path(__file__).parents[1]

#: What Primero's own anonymiser takes for personal; nothing of it may ever be asked for, but the date of birth for its ages.
FORBIDDEN = ("name", "address", "telephone", "phone", "national_id", "notes", "photo", "owned_by", "birth", "email")


def test_every_field_that_is_asked_for_or_stored_has_a_purpose_and_a_class():
    """A field without a purpose is one that nobody may ask for."""
    assert set(CASE_USES) == set(PULLED_COLUMNS) >= set(CASE_FIELDS)
    assert set(SERVICE_USES) == set(SERVICE_FIELDS)
    assert set(AGE_USES) == {*AGE_COLUMNS, SERVICE_AGE}
    assert set(RAW_COLUMNS) == set(CASE_USES) - {BIRTH_FIELD} | set(AGE_COLUMNS)


def test_no_field_is_asked_for_that_names_or_reaches_somebody():
    """The allow-list is one careless line away from a name."""
    for field in {*CASE_FIELDS, *SERVICE_FIELDS} - {BIRTH_FIELD}:
        assert not any(word in field for word in FORBIDDEN), field


def test_the_page_says_of_the_date_of_birth_why_it_is_read_and_that_it_is_stored_nowhere():
    """It is the one field that is asked for and never kept; a reader must see both, and what the ages made of it may tell."""
    (row,) = [line for line in protection_page().splitlines() if line.startswith(f"| `{BIRTH_FIELD}` |")]
    assert CASE_USES[BIRTH_FIELD].purpose in row
    assert "stored nowhere, shown nowhere" in row
    assert "partitions (encrypted)" not in row
    assert "Ages on several days can narrow a birthday down" in protection_page()


def test_every_column_in_ona_has_a_purpose_and_keeps_the_class_of_its_field():
    """A column that is classed lower than its field would be shown more freely than the child's record allows."""
    rank = {"none": 0, "quasi-identifier": 1, "sensitive": 2, "key": 3}
    for table, uses in ((CASES, CASE_USES), (SERVICES, SERVICE_USES), (INDICATOR_FIGURES, {})):
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
