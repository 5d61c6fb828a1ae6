"""Planning and applying what ONA's database lacks, on a real PostgreSQL."""

from __future__ import annotations

import pytest

from primero_ona.failures import DataFailure, RefusedFailure
from primero_ona.ona.connection import connect
from primero_ona.ona.migrations import apply, plan
from primero_ona.ona.schema import TABLES, VIEWS
from primero_ona.ona.target import BOOKKEEPING
from primero_ona_tests.ona.rows import SHAPES, case, load, make_tables, read

OLD = "CREATE TABLE cases (case_id varchar(20), age text); CREATE TABLE services (unique_id text, case_id text)"


@pytest.mark.parametrize("shape", SHAPES)
def test_a_second_plan_is_empty(empty_ona, shape):
    """A plan that never ends would be applied for ever, and nobody would believe it."""
    make_tables(empty_ona, shape)
    assert plan(empty_ona) == []


def test_an_empty_database_gets_all_tables_with_all_columns(ona_url, ona):
    """The sandbox and a new ONA begin with nothing."""
    query = "SELECT table_name AS t, column_name AS c FROM information_schema.columns WHERE table_schema = 'public'"
    found = {(row["t"], row["c"]) for row in read(ona_url, query)}
    assert found == {(relation.name, column.name) for relation in (*TABLES, *VIEWS) for column in relation.columns}


def test_an_existing_table_keeps_its_columns_and_rows(ona_url, empty_ona):
    """ONA's tables belong to ONA: only ever adding."""
    empty_ona.execute(OLD)
    empty_ona.execute("INSERT INTO cases VALUES ('case-1', 'nine')")
    changes = plan(empty_ona)
    assert not any(
        word in change.sql.upper()
        for change in changes
        if BOOKKEEPING not in change.sql  # our own schema
        for word in ("DROP", "ALTER COLUMN", "RENAME", "DELETE")
    )
    apply(empty_ona, changes)
    assert read(ona_url, "SELECT case_id, age, primero_id FROM cases") == [
        {"case_id": "case-1", "age": "nine", "primero_id": None}
    ]


def test_added_columns_may_be_null_and_keys_become_unique(ona_url, empty_ona):
    """The old pipeline and other writers do not fill our columns; ON CONFLICT needs the keys."""
    empty_ona.execute(OLD)
    apply(empty_ona, plan(empty_ona))
    empty_ona.execute("INSERT INTO cases (case_id) VALUES ('case-1'), ('case-2')")
    assert load(empty_ona, [case(1)]).cases.updated == 1
    assert plan(empty_ona) == []


@pytest.mark.parametrize(
    "index",
    [
        "CREATE UNIQUE INDEX i ON cases (case_id) WHERE age IS NULL",
        "CREATE UNIQUE INDEX i ON cases (case_id, age)",
        "CREATE INDEX i ON cases (case_id)",
    ],
    ids=["partial", "two columns", "not unique"],
)
def test_an_index_that_on_conflict_cannot_use_does_not_count(empty_ona, index):
    """The load would fail in the night although the plan had said that nothing is lacking."""
    empty_ona.execute(OLD)
    empty_ona.execute(index)
    apply(empty_ona, plan(empty_ona))
    assert load(empty_ona, [case(1)]).cases.inserted == 1


def test_a_deferrable_constraint_is_refused(empty_ona):
    """PostgreSQL fails on it in every merge, whatever index stands beside it; only ONA may change it."""
    empty_ona.execute(OLD + "; ALTER TABLE cases ADD UNIQUE (case_id) DEFERRABLE")
    with pytest.raises(DataFailure, match="NOT DEFERRABLE"):
        plan(empty_ona)


def test_a_primary_key_that_is_there_is_not_made_again(empty_ona):
    """A second unique index costs every load its time."""
    empty_ona.execute("CREATE TABLE cases (case_id text PRIMARY KEY)")
    assert not any('("case_id")' in change.sql and "cases_case_id" in change.sql for change in plan(empty_ona))


def test_repeated_keys_are_told_by_number(empty_ona):
    """Which of two rows is right is for ONA's people to say; the keys themselves do not belong in a message."""
    empty_ona.execute(OLD)
    empty_ona.execute(
        "INSERT INTO cases VALUES ('secret-1'), ('secret-1'), ('secret-2'), ('secret-2'), ('secret-3'), (NULL)"
    )
    with pytest.raises(DataFailure, match=r"^2 values of cases.case_id occur more than once") as caught:
        plan(empty_ona)
    assert "secret" not in str(caught.value)


def test_a_table_of_the_same_name_without_the_key_is_refused(empty_ona):
    """`cases` is a common name; filling somebody else's table is worse than stopping."""
    empty_ona.execute("CREATE TABLE cases (number integer)")
    with pytest.raises(DataFailure, match="not the dashboards' table"):
        plan(empty_ona)


def test_the_changes_come_all_or_not_at_all(ona_url, empty_ona):
    """A half-prepared database would look ready."""
    changes = plan(empty_ona)
    empty_ona.execute("CREATE VIEW services AS SELECT 1 AS unique_id")
    with pytest.raises(DataFailure):
        apply(empty_ona, changes)
    assert read(ona_url, "SELECT to_regnamespace('primero_sync')::text AS s, to_regclass('cases')::text AS c") == [
        {"s": None, "c": None}
    ]


def test_a_plan_applied_twice_does_no_harm(empty_ona):
    """Two people may apply the plan that both have read; it may also have been run by hand."""
    changes = plan(empty_ona)
    apply(empty_ona, changes)
    apply(empty_ona, changes)
    assert plan(empty_ona) == []


def test_a_login_that_may_not_change_the_schema_is_told_so(postgres, ona_url, empty_ona):
    """Often ONA's administrators have to apply the plan, not we."""
    empty_ona.execute("DROP ROLE IF EXISTS reader")
    empty_ona.execute("CREATE ROLE reader LOGIN")
    with connect(ona_url.replace("postgres:@", "reader:@")) as reader:
        changes = plan(reader)
        with pytest.raises(RefusedFailure, match=r"lacks a privilege .* \(SQLSTATE 42501\)"):
            apply(reader, changes)
    empty_ona.execute("DROP ROLE reader")


def test_a_dictionary_made_by_hand_keeps_its_columns_and_gets_ours(ona_url, empty_ona):
    """Nobody knows the columns of the table that ONA has; its rows are somebody's work, and its name may be misspelt."""
    empty_ona.execute("CREATE TABLE data_dictionary (field text, khmer text)")
    empty_ona.execute("CREATE TABLE data_dicitonary (field text)")
    empty_ona.execute("INSERT INTO data_dictionary VALUES ('sex', 'ភេទ')")
    apply(empty_ona, plan(empty_ona))
    assert plan(empty_ona) == []
    assert read(ona_url, "SELECT field, table_name FROM data_dictionary") == [{"field": "sex", "table_name": None}]
