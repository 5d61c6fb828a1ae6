"""The record of processing is complete and true: docs/data-protection.md against the declarations and the database."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import psycopg
import pytest

from primero_ona.contract.tables import BIRTH_FIELD, CASES, LOCATION_FIELDS, SERVICES
from primero_ona.primero.fields import CASE_FIELDS, EXIT_COLUMNS, PULLED_COLUMNS, RAW_COLUMNS, SERVICE_FIELDS

PAGE = Path(__file__).parents[1] / "docs" / "data-protection.md"

#: What Primero's own anonymiser takes for personal; nothing of it may ever be asked for, but the date of birth for its ages.
FORBIDDEN = ("name", "address", "telephone", "phone", "national_id", "notes", "photo", "owned_by", "birth", "email")


def declared_rows() -> list[str]:
    """The table of columns and fields as the page must have it: one row for the columns of one field, purpose and class."""
    rows: dict[tuple[str, ...], list[str]] = {}
    for prefix, table in (("", CASES), ("services.", SERVICES)):
        for column in (*table.columns, *table.deciding):
            source = f"`{column.field}`" if column.field else "–"
            rows.setdefault((source, column.purpose, column.personal_data), []).append(f"`{prefix}{column.name}`")
    for prefix, table in (("", CASES), ("services_section.", SERVICES)):
        for field in table.fields:
            rows[f"`{prefix}{field.name}`", field.purpose, field.personal_data] = ["–"]
    return [" | ".join((", ".join(names), *entry)) for entry, names in rows.items()]


def section(heading: str) -> str:
    """The page from a heading to the next one."""
    return PAGE.read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


@pytest.mark.proves("declared")
@pytest.mark.proves("declared")
def test_the_page_has_exactly_the_columns_and_fields_that_are_declared():
    """The officer signs the page, not the code. Where this fails, paste the rows that it prints into the page."""
    expected = "\n".join(declared_rows())
    found = "\n".join(line for line in section("Columns and fields").splitlines() if re.match(r"[`–].* \| ", line))
    assert found == expected, f"docs/data-protection.md must have these rows:\n\n{expected}\n"


@pytest.mark.proves("declared")
@pytest.mark.proves("declared")
def test_everything_that_is_asked_for_or_stored_is_declared_with_a_purpose():
    """A field without a purpose must not be asked for."""
    for table in (CASES, SERVICES):
        assert all(entry.purpose for entry in (*table.columns, *table.deciding, *table.fields))
    ages = {column.name for column in CASES.ages}
    assert set(PULLED_COLUMNS) == set(CASES.field_names) >= set(CASE_FIELDS)
    assert set(RAW_COLUMNS) == set(CASES.field_names) - {BIRTH_FIELD} | ages
    assert set(SERVICE_FIELDS) == set(SERVICES.field_names)


def test_no_column_is_classed_lower_than_its_field():
    """It would be shown more freely than the child's record allows; of `oscar_number` only whether there is one is shown."""
    rank = {"none": 0, "quasi-identifier": 1, "sensitive": 2, "key": 3}
    for table in (CASES, SERVICES):
        classes = {field.name: rank[field.personal_data] for field in table.fields}
        for column in table.columns:
            classes[column.field] = max(classes.get(column.field, 0), rank[column.personal_data])
        lower = [c.name for c in table.columns if c.field and rank[c.personal_data] < classes[c.field]]
        assert lower == (["case_source"] if table is CASES else [])


def test_no_field_is_asked_for_that_names_or_reaches_a_person():
    """The allow-list is one careless line away from a name."""
    for field in {*CASE_FIELDS, *SERVICE_FIELDS} - {BIRTH_FIELD}:
        assert not any(word in field for word in FORBIDDEN), field


def test_the_page_says_of_the_date_of_birth_that_it_is_stored_nowhere_and_what_the_ages_tell():
    """It is the one field that is asked for and never kept; a reader must see both, and what the ages made of it may tell."""
    text = " ".join(section("Columns and fields").split())
    assert f"but for `{BIRTH_FIELD}`, which is stored nowhere and shown nowhere" in text
    assert "Ages on several days can narrow a birthday down" in text


def test_the_page_names_what_is_cut_and_what_is_kept_of_excluded_cases():
    """Who reads that places are cut must not have one elsewhere."""
    text = " ".join(section("Data flow").split())
    assert (
        f"{' and '.join(f'`{name}`' for name in LOCATION_FIELDS)} are cut to `PRIMERO_ONA_LOCATION_PRECISION`" in text
    )
    assert f"shrink to {', '.join(f'`{name}`' for name in EXIT_COLUMNS)};" in text


@pytest.mark.proves("bookkeeping")
@pytest.mark.proves("bookkeeping")
def test_every_table_of_the_bookkeeping_is_on_the_page(ona: psycopg.Connection[Any]):
    """A table that the record does not know is one that nobody erases from."""
    found = ona.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'primero_sync'").fetchall()
    listed = section("How long").partition("table of `primero_sync` |")[2]
    assert {row[0] for row in found} == {line.split("`")[1] for line in listed.splitlines() if line.startswith("`")}
