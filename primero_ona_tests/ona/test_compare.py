"""`compare` on a real PostgreSQL: the legacy pipeline's tables in one schema, ours in another, one row for each way to differ."""

from __future__ import annotations

import json
from datetime import date, timedelta
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from primero_ona.cli.app import app
from primero_ona.contract.tables import CASES, SERVICES
from primero_ona.errors import UsageError
from primero_ona.mapping.result import Reason, quarantine_entry
from primero_ona.ona.compare import KNOWN, UNEXPLAINED, Comparison, compare
from primero_ona.quarters import Quarter
from primero_ona_tests.ona.rows import Q2, at, case, id_of, left, load, make_tables, own, service

#: The legacy pipeline last ran an hour after each case of `rows.py` was last changed.
RAN = at(60)

CHILDREN = "children undergoing reintegration"


def written(row: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A mapped row as the legacy pipeline has it."""
    table = SERVICES if "unique_id" in row else CASES
    kept = {column.name: row.get(column.name) for column in table.columns if not column.added}
    return kept | ({} if table is SERVICES else {"last_updated_date": f"{RAN:%Y-%m-%d %H:%M:%S}"}) | changes


#: By kind of difference: the row there, the row here, and the column where both have it. None: that side lacks it.
CASE_ROWS: dict[str, tuple[dict[str, Any] | None, dict[str, Any] | None, str | None]] = {
    "equal": (written(case(1), disabled=""), case(1), None),
    "later": (None, case(2, primero_updated_at=RAN + timedelta(hours=1)), None),
    "lost": (
        written(case(3), sex="Male", last_updated_date=f"{at(-60):%Y-%m-%d %H:%M:%S}"), case(3), "sex",
    ),
    "before": (None, case(16, primero_updated_at=at(-120)), None),
    "eighteen": (written(case(4), age=18), None, None),
    "grown up": (None, case(5, age=19, age_at_registration=17), None),
    "removed": (written(case(6)), None, None),
    "merged": (None, case(7, case_id="case-1"), None),
    "last word": (written(case(8), placement_type="kinship"), case(8, placement_type="kinship care"), "placement_type"),
    "unknown code": (
        written(case(9), protection_concerns="Separated, , Orphaned"), case(9, protection_concerns="Separated, Orphaned"),
        "protection_concerns",
    ),
    "place": (written(case(10), province_current=None), case(10), "province_current"),
    "precision": (written(case(11), location_code="10060802"), case(11, location_code="1006"), "location_code"),
    "age": (written(case(12), age=8), case(12), "age"),
    "unseen": (written(case(13)), None, None),
    "unexplained": (written(case(14), sex="Male"), case(14), "sex"),
    "day": (written(case(15), registration_date="2024/01/14 00:00:00 +0000"), case(15), "registration_date"),
}  # fmt: skip

SERVICE_ROWS: dict[str, tuple[dict[str, Any] | None, dict[str, Any] | None, str | None]] = {
    "equal": (written(service(1, 8)), service(1, 8), None),
    "day": (written(service(2, 8), service_date="2024-02-01T18:30:00.000Z"), service(2, 8), "service_date"),
    "shared": (None, service(1, 9), None),
    "its case": (written(service(3, 6)), None, None),
    "unseen": (written(service(4, 8)), None, None),
    "quarantine": (written(service(8, 8), unique_id=None), None, None),
    "unknown code": (written(service(5, 8), service_type=None), service(5, 8, service_type="Other"), "service_type"),
    "lost": (None, service(6, 3), None),
    "unexplained": (None, service(7, 9), None),
}


def legacy_tables(conn: psycopg.Connection, kind: str) -> None:
    """The legacy pipeline's two tables in a schema of their own; `text`: all columns are text."""
    conn.execute("CREATE SCHEMA legacy")
    for table in (CASES, SERVICES):
        columns = [column for column in table.columns if not column.added]
        # A day may come with any time, as text.
        typed = [f"{c.name} {c.type if kind == 'typed' and c.type != 'date' else 'text'}" for c in columns]
        conn.execute(f"CREATE TABLE legacy.{table.name} ({', '.join(typed)}, a_column_of_theirs text)".encode())


def insert(conn: psycopg.Connection, table: str, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        query = f"INSERT INTO legacy.{table} ({', '.join(row)}) VALUES ({', '.join(['%s'] * len(row))})"
        conn.execute(query.encode(), [*row.values()])


def prepare(conn: psycopg.Connection, kind: str) -> None:
    legacy_tables(conn, kind)
    cases = [here for _, here, _ in CASE_ROWS.values() if here]
    services = [here for _, here, _ in SERVICE_ROWS.values() if here]
    load(conn, cases, services, [left(6)], services_summary=quarantined(8, Reason.UNIQUE_ID_MISSING))
    insert(conn, "cases", [there for there, _, _ in CASE_ROWS.values() if there])
    insert(conn, "services", [there for there, _, _ in SERVICE_ROWS.values() if there])


def quarantined(number: int, reason: Reason) -> dict[str, Any]:
    """The summary of services of which one, of this case, is quarantined."""
    return {"quarantine": [quarantine_entry("services", id_of(number), reason)]}


def found(comparison: Comparison, table: str) -> dict[str, tuple[int, dict[str, int]]]:
    (each,) = [each for each in comparison.tables if each.table == table]
    return {one.name: (one.rows, one.columns) for one in each.differences} | {"equal": (each.equal, {})}


@pytest.mark.parametrize("kind", ["typed", "text"])
def test_each_row_that_differs_is_classed_by_the_difference_that_made_it(ona: psycopg.Connection, kind: str):
    """Whoever moves over has to see what is meant and what is not; a fault hidden among known differences moves with them."""
    prepare(ona, kind)
    result = compare(ona, "legacy")
    expected = {name: (1, {column: 1} if column else {}) for name, (_, _, column) in CASE_ROWS.items()}
    # The row there is of one of the two cases; which one nobody knows.
    assert found(result, "cases") == expected
    expected = {name: (1, {column: 1} if column else {}) for name, (_, _, column) in SERVICE_ROWS.items()}
    assert found(result, "services") == expected
    assert CASE_ROWS.keys() | SERVICE_ROWS.keys() == {*KNOWN, *UNEXPLAINED, "equal"}
    assert result.unexplained == 4
    assert result.legacy_run == RAN.replace(microsecond=0)
    assert [each.only_there for each in result.tables] == [["a_column_of_theirs"]] * 2
    assert "primero_id" in result.tables[0].only_here
    ids = {one.name: one.ids for one in result.tables[0].differences}
    assert (ids["unexplained"], ids["removed"], ids["unseen"]) == ([id_of(14)], [id_of(6)], ["case-13"])


@pytest.mark.parametrize(
    ("there", "here", "why"),
    [
        ({"type_of_case": None}, {"type_of_case": "other"}, "last word"),
        ({"type_of_case": "children undergoing"}, {"type_of_case": CHILDREN}, "last word"),
        ({"type_of_case": "kinship care"}, {"type_of_case": CHILDREN}, "unexplained"),
        ({"disabled": None}, {"disabled": "Other"}, "unknown code"),
        ({"disabled": "Other"}, {"disabled": None}, "unexplained"),
        ({"protection_concerns": ""}, {"protection_concerns": "Separated"}, "unknown code"),
        ({"protection_concerns": "Separated"}, {"protection_concerns": "Orphaned"}, "unexplained"),
        ({"province_current": "Kandal"}, {}, "unexplained"),
        ({"location_code": "12"}, {"location_code": None}, "unexplained"),
        ({"registration_date": "2024-01-16"}, {}, "unexplained"),
        ({"age": 1}, {"age": 15}, "unexplained"),
        ({"case_id": "case-1"}, {"primero_updated_at": RAN + timedelta(minutes=1), "sex": "Male"}, "later"),
        ({"sex": "Male", "last_updated_date": None}, {}, "unexplained"),
        ({"last_updated_date": None}, {}, None),
        ({"sex": "Male", "last_updated_date": f"{at(-1):%Y-%m-%dT%H:%M:%S}Z"}, {}, "later"),
    ],
)
def test_a_difference_counts_as_known_only_where_it_is(
    ona: psycopg.Connection, there: dict[str, Any], here: dict[str, Any], why: str | None
):
    """Near misses of the known differences: what only looks like one must be looked at."""
    legacy_tables(ona, "text")
    load(ona, [case(1, **here)])
    insert(ona, "cases", [written(case(1), **there)])
    assert found(compare(ona, "legacy"), "cases") == (
        {why: (1, {next(iter({**here, **there} if why != "later" else {"sex": 0})): 1}), "equal": (0, {})}
        if why
        else {"equal": (1, {})}
    )


def test_a_case_with_a_key_of_its_own_stands_beside_the_one_there(ona: psycopg.Connection):
    """There two children are one row: it is compared with the holder of the plain key, and is nobody's fault."""
    legacy_tables(ona, "text")
    load(
        ona,
        [case(1), case(2, case_id="case-1", sex="Male", created_at=at(5))],
        [service(1, 1), service(1, 2, case_id="case-1")],
    )
    insert(ona, "cases", [written(case(1), sex="Male")])
    insert(ona, "services", [written(service(1, 1), service_type="Other")])
    result = compare(ona, "legacy")
    assert own("case-1", 2) in {row[0] for row in ona.execute("SELECT case_id FROM cases").fetchall()}
    assert found(result, "cases") == {"merged": (2, {"sex": 1}), "equal": (0, {})}
    assert found(result, "services") == {"shared": (2, {"service_type": 1}), "equal": (0, {})}


def test_a_service_that_is_only_there_is_known_only_where_its_case_says_why(ona: psycopg.Connection):
    """A service that we lost is in no bookkeeping: the case stands, so its loss must not pass for one that left."""
    earlier = f"{at(-60):%Y-%m-%d %H:%M:%S}"
    legacy_tables(ona, "text")
    changed = {3: RAN + timedelta(hours=1)}
    load(ona, [case(number, primero_updated_at=changed.get(number, at(0))) for number in range(1, 7)])
    load(ona, [], services_summary=quarantined(4, Reason.UNIQUE_ID_MISSING), run_id="run-2", quarter=Q2)
    load(ona, [], services_summary=quarantined(5, Reason.UNIQUE_ID_TOO_LONG), run_id="run-3", quarter=Quarter(2024, 3))
    for number in range(1, 7):
        insert(ona, "cases", [written(case(number), **({"last_updated_date": earlier} if number == 2 else {}))])
    insert(ona, "services", [written(service(number, number)) for number in (1, 2, 3, 4, 99)])
    insert(ona, "services", [written(service(5, 5), unique_id="k" * 201)])
    insert(ona, "services", [written(service(6, 6), unique_id=None)] * 2)
    (_, services) = compare(ona, "legacy").tables
    assert {one.name: (one.rows, one.ids) for one in services.differences} == {
        "later": (1, [id_of(3)]),
        "lost": (1, [id_of(2)]),
        "quarantine": (1, [id_of(5)]),
        "unseen": (5, [id_of(1), id_of(4), id_of(6), "case-99"]),
    }


def test_rows_without_a_key_are_counted_and_an_empty_age_is_none(empty_ona: psycopg.Connection):
    """`count` passes over null, and the legacy tables promise neither a key nor a number."""
    legacy_tables(empty_ona, "text")
    make_tables(empty_ona, "text")
    load(empty_ona, [case(1)])
    empty_ona.execute("INSERT INTO cases (case_id, age) VALUES ('old', '')")
    insert(empty_ona, "cases", [written(case(1)), written(case(2), case_id=None), written(case(3), case_id=None)])
    (cases, _) = compare(empty_ona, "legacy").tables
    assert {one.name: (one.rows, one.ids) for one in cases.differences} == {"unseen": (2, []), "unexplained": (1, [])}


def test_a_legacy_run_of_unknown_time_explains_nothing(
    ona: psycopg.Connection, ona_url: str, monkeypatch: pytest.MonkeyPatch
):
    """Whatever is only here would be what its next run may bring."""
    monkeypatch.setenv("ONA_DATABASE_URL", ona_url)
    legacy_tables(ona, "text")
    load(ona, [case(1)])
    insert(ona, "cases", [written(case(1), last_updated_date="unknown")])
    shown = CliRunner().invoke(app, ["compare", "--legacy", "legacy"])
    assert shown.exit_code == 1
    assert "It is unknown when the legacy pipeline last wrote" in shown.output
    assert "known one" not in shown.output
    load(ona, [case(1), case(2)])
    assert found(compare(ona, "legacy"), "cases") == {"unexplained": (1, {}), "equal": (1, {})}


@pytest.mark.parametrize(("schema", "words"), [("public", "is the schema that"), ("nowhere", "has no table cases")])
def test_a_schema_that_is_not_the_legacy_pipeline_s_is_refused(ona: psycopg.Connection, schema: str, words: str):
    """Ours compared with ours has no differences, and neither has nothing with nothing."""
    with pytest.raises(UsageError, match=words):
        compare(ona, schema)


@pytest.mark.proves("compare")
def test_the_command_counts_changes_nothing_and_fails_where_something_is_unexplained(
    ona: psycopg.Connection, ona_url: str, monkeypatch: pytest.MonkeyPatch
):
    """A script decides by its exit code whether the dashboards can move; nothing of a case is printed but ids."""
    prepare(ona, "text")
    monkeypatch.setenv("ONA_DATABASE_URL", ona_url)
    rows = "SELECT t::text, xmin::text FROM legacy.cases AS t UNION ALL SELECT t::text, xmin::text FROM cases AS t ORDER BY 1"
    before = ona.execute(rows.encode()).fetchall()
    shown = CliRunner().invoke(app, ["compare", "--legacy", "legacy"])
    assert shown.exit_code == 1, shown.output
    assert "4 rows differ for no known reason" in shown.output
    printed = CliRunner().invoke(app, ["compare", "--legacy", "legacy", "--json"])
    assert printed.exit_code == 1
    told = json.loads(printed.output)
    assert told["unexplained"] == 4
    assert told["tables"]["cases"]["differences"][0]["known"]
    for word in ("Female", "Kratie", "Separated", "Counselling", str(date(2024, 1, 15))):
        assert word not in shown.output + printed.output
    assert ona.execute(rows.encode()).fetchall() == before
    for table, kept in (("cases", "case-1"), ("services", "service-1")):
        key = "case_id" if table == "cases" else "unique_id"
        ona.execute(f"DELETE FROM legacy.{table} WHERE {key} IS DISTINCT FROM '{kept}'".encode())
        ona.execute(f"DELETE FROM {table} WHERE {key} IS DISTINCT FROM '{kept}'".encode())
    clean = CliRunner().invoke(app, ["compare", "--legacy", "legacy"])
    assert (clean.exit_code, "Every difference is a known one" in clean.output) == (0, True), clean.output
