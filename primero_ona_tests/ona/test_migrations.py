"""Planning and applying what ONA's database lacks, on a real PostgreSQL."""

from __future__ import annotations

from importlib.resources import files

import psycopg
import pytest

from primero_ona.contract.tables import TABLES
from primero_ona.errors import DataError, RefusedError
from primero_ona.ona.connection import connect
from primero_ona.ona.migrations import apply, plan
from primero_ona.ona.target import BOOKKEEPING, VIEWS
from primero_ona_tests.ona.rows import LATER, NOW, SHAPES, case, load, make_tables, read, service

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


def test_each_script_has_a_number_of_its_own():
    """Of two with one number, a database that has had the first would never get the second."""
    scripts = [
        entry.name for entry in files("primero_ona.ona").joinpath("migrations").iterdir() if entry.name[0].isdigit()
    ]
    assert sorted(int(name[:3]) for name in scripts) == list(range(1, len(scripts) + 1))


@pytest.mark.proves("only-adds")
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


@pytest.mark.proves("schema-obstacles")
def test_a_deferrable_constraint_is_refused(empty_ona):
    """PostgreSQL fails on it in every merge, whatever index stands beside it; only ONA may change it."""
    empty_ona.execute(OLD + "; ALTER TABLE cases ADD UNIQUE (case_id) DEFERRABLE")
    with pytest.raises(DataError, match="NOT DEFERRABLE"):
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
    with pytest.raises(DataError, match=r"^2 values of cases.case_id occur more than once") as caught:
        plan(empty_ona)
    assert "secret" not in str(caught.value)


def test_a_table_of_the_same_name_without_the_key_is_refused(empty_ona):
    """`cases` is a common name; filling somebody else's table is worse than stopping."""
    empty_ona.execute("CREATE TABLE cases (number integer)")
    with pytest.raises(DataError, match="not the dashboards' table"):
        plan(empty_ona)


def test_the_changes_come_all_or_not_at_all(ona_url, empty_ona):
    """A half-prepared database would look ready."""
    changes = plan(empty_ona)
    empty_ona.execute("CREATE VIEW services AS SELECT 1 AS unique_id")
    with pytest.raises(DataError):
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
        with pytest.raises(RefusedError, match=r"lacks a privilege .* \(SQLSTATE 42501\)"):
            apply(reader, changes)
    empty_ona.execute("DROP ROLE reader")


REFERENCED = "CREATE TABLE kept (case_id text PRIMARY KEY, sex text)"


@pytest.mark.parametrize(
    ("made", "clauses"),
    [
        (f"{REFERENCED}; CREATE VIEW cases AS SELECT * FROM kept", ["cases is a view, and must be a table"]),
        (f"{REFERENCED}; CREATE MATERIALIZED VIEW cases AS SELECT * FROM kept", ["cases is a materialized view"]),
        (
            "CREATE TABLE cases (case_id text PRIMARY KEY, sex text GENERATED ALWAYS AS (upper(case_id)) STORED)",
            ["cases.sex is generated by the server, and must be a plain column"],
        ),
        (
            "CREATE TABLE cases (case_id text PRIMARY KEY, age integer GENERATED ALWAYS AS IDENTITY)",
            ["cases.age is generated by the server"],
        ),
        (
            "CREATE TABLE cases (case_id text PRIMARY KEY, office text NOT NULL)",
            ["cases.office must not be empty and has no default, and no load fills it"],
        ),
        (
            "CREATE TABLE cases (case_id text, sex text) PARTITION BY LIST (sex)",
            ["cases is partitioned by LIST (sex), so that case_id cannot be unique in it"],
        ),
        (
            "CREATE TABLE cases (case_id text UNIQUE); CREATE PUBLICATION reports FOR TABLE cases",
            ["cases is published by reports without a replica identity, so it takes no changes"],
        ),
        (
            (
                "CREATE TABLE cases (case_id text PRIMARY KEY); CREATE TABLE services (unique_id text, case_id text); "
                "CREATE PUBLICATION reports FOR ALL TABLES"
            ),
            ["services is published by reports without a replica identity"],
        ),
        (
            (
                f"{REFERENCED}; CREATE VIEW cases AS SELECT * FROM kept; "
                "CREATE TABLE services (unique_id text PRIMARY KEY, office text NOT NULL)"
            ),
            ["cases is a view", "services.office must not be empty"],
        ),
    ],
)
@pytest.mark.proves("schema-obstacles")
def test_what_no_addition_can_change_is_said_beforehand_and_all_at_once(empty_ona, made, clauses):
    """The first load would fail on it in the night, although the plan had said that nothing is lacking."""
    empty_ona.execute(made)
    try:
        with pytest.raises(DataError, match="ask ONA's administrators, then plan again") as caught:
            plan(empty_ona)
    finally:
        empty_ona.execute("DROP PUBLICATION IF EXISTS reports")
    for clause in clauses:
        assert clause in str(caught.value)


@pytest.mark.parametrize(
    "made",
    [
        "CREATE TABLE cases (case_id text PRIMARY KEY, office text NOT NULL DEFAULT 'x', number serial)",
        "CREATE TABLE cases (case_id text PRIMARY KEY, age integer GENERATED BY DEFAULT AS IDENTITY)",
        (
            "CREATE TABLE services (unique_id text PRIMARY KEY) PARTITION BY HASH (unique_id); "
            "CREATE TABLE one PARTITION OF services FOR VALUES WITH (MODULUS 1, REMAINDER 0)"
        ),
        (
            "CREATE TABLE cases (case_id text UNIQUE); ALTER TABLE cases REPLICA IDENTITY FULL; "
            "CREATE PUBLICATION reports FOR TABLE cases"
        ),
        "CREATE TABLE cases (case_id text); CREATE PUBLICATION reports FOR TABLE cases WITH (publish = 'insert')",
        "CREATE TABLE cases (case_id text PRIMARY KEY); CREATE PUBLICATION reports FOR ALL TABLES",
    ],
)
def test_what_is_unusual_but_in_nobodys_way_is_no_obstacle(empty_ona, made):
    """A refusal without need would keep a country's children out of ONA."""
    empty_ona.execute(made)
    try:
        apply(empty_ona, plan(empty_ona))
        for now in (NOW, LATER):  # the second one changes, and takes away
            load(empty_ona, [case(1, sex=str(now))], [service(now.hour, 1)], now=now)
        assert plan(empty_ona) == []
    finally:
        empty_ona.execute("DROP PUBLICATION IF EXISTS reports")


@pytest.mark.proves("schema-obstacles")
def test_row_level_security_that_hides_rows_is_said_beforehand(ona_url, ona):
    """A load that does not see a child would take it for new; an owner, and who may bypass, sees everything."""
    ona.execute("ALTER TABLE cases ENABLE ROW LEVEL SECURITY; DROP ROLE IF EXISTS loader_under_test")
    ona.execute("CREATE ROLE loader_under_test LOGIN; GRANT USAGE ON SCHEMA public, primero_sync TO loader_under_test")
    ona.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public, primero_sync TO loader_under_test")
    try:
        assert plan(ona) == []
        with (
            connect(ona_url.replace("postgres:@", "loader_under_test:@")) as loader,
            pytest.raises(DataError, match="row level security hides rows of cases from this login"),
        ):
            plan(loader)
    finally:
        ona.execute("DROP OWNED BY loader_under_test; DROP ROLE loader_under_test")


def test_a_database_that_cannot_hold_khmer_is_refused(postgres):
    """Its first Khmer name would fail a load; an encoding is for a database's whole life."""
    with psycopg.connect(postgres.get_uri(), autocommit=True) as conn:
        conn.execute("CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
        try:
            with (
                connect(postgres.get_uri(database="latin")) as latin,
                pytest.raises(DataError, match=r"LATIN1.*UTF8"),
            ):
                plan(latin)
        finally:
            conn.execute("DROP DATABASE latin WITH (FORCE)")


def test_a_dictionary_made_by_hand_keeps_its_columns_and_gets_ours(ona_url, empty_ona):
    """Nobody knows the columns of the table that ONA has; its rows are somebody's work, and its name may be misspelt."""
    empty_ona.execute("CREATE TABLE data_dictionary (field text, khmer text)")
    empty_ona.execute("CREATE TABLE data_dicitonary (field text)")
    empty_ona.execute("INSERT INTO data_dictionary VALUES ('sex', 'ភេទ')")
    apply(empty_ona, plan(empty_ona))
    assert plan(empty_ona) == []
    assert read(ona_url, "SELECT field, table_name FROM data_dictionary") == [{"field": "sex", "table_name": None}]
