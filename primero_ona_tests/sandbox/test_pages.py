"""Order and pages: caps, counts, errors, and ties that fall anew at every request."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from primero_ona.quarters import Quarter
from primero_ona.sandbox.cases import Wish
from primero_ona.sandbox.primero import SandboxPrimero
from primero_ona_tests.sandbox.conftest import Client, client_of

WISH = Wish(2_600, seed=7, now=datetime(2024, 4, 2, tzinfo=UTC), quarter=Quarter(2024, 1), import_block=1_200)


@pytest.fixture(scope="module")
def many() -> Iterator[Client]:
    with SandboxPrimero(WISH).serve() as server:
        yield client_of(server)


@pytest.mark.parametrize(
    ("query", "rows", "per"),
    [
        ("", 20, 20),
        ("per=1000", 1000, 1000),
        ("per=100000", 1000, 1000),
        ("per=0", 0, 0),
        ("per=abc", 0, 0),
        ("per=", 0, 0),
        ("per=1000&page=3", 600, 1000),
        ("per=1000&page=9", 0, 1000),
    ],
)
def test_a_page_is_cut_as_primero_cuts_it(many: Client, query: str, rows: int, per: int) -> None:
    """A cap that is not noticed in `metadata.per` ends a pull after its first page."""
    answer = many.get(f"fields=id&{query}").json()
    assert (len(answer["data"]), answer["metadata"]["per"], answer["metadata"]["total"]) == (rows, per, 2_600)


@pytest.mark.parametrize(
    ("query", "clause"),
    [
        ("per=-5", "LIMIT"),
        ("per=-5&page=2", "OFFSET"),
        ("page=0", "OFFSET"),
        ("page=-1", "OFFSET"),
        ("page=abc", "OFFSET"),
        ("page=", "OFFSET"),
    ],
)
def test_an_impossible_page_is_a_500(many: Client, query: str, clause: str) -> None:
    """Not an empty page: a client that counts pages from 0 must learn it."""
    answer = many.get(query)
    assert answer.status_code == 500
    (entry,) = answer.json()["errors"]
    assert entry.keys() == {"status", "resource", "message"}
    assert entry["message"].endswith(f"{clause} must not be negative")


def test_offset_paging_over_ties_loses_cases_in_a_table_at_rest(many: Client) -> None:
    """Equal creation times come in another order at every request, as without a tie-breaker; see the walk."""
    seen = [
        row["id"] for page in range(1, 14) for row in many.rows(f"fields=id&per=200&page={page}&order_by=created_at")
    ]
    assert len(seen) == 2_600
    assert len(set(seen)) < 2_600


@pytest.mark.parametrize("order", ["asc", "desc", "sideways"])
def test_unique_identifier_is_a_total_order(many: Client, order: str) -> None:
    """The one order in which offset paging is complete; an unknown direction means ascending."""
    seen = [
        row["id"]
        for page in (1, 2, 3)
        for row in many.rows(f"fields=id&per=1000&page={page}&order_by=unique_identifier&order={order}")
    ]
    assert seen == sorted(seen, reverse=order == "desc")
    assert len(set(seen)) == 2_600


@pytest.mark.parametrize("name", ["created_at", "last_updated_at", "age", "sex", "nonsense"])
def test_nulls_come_last_ascending_and_first_descending(many: Client, name: str) -> None:
    """Cases without a creation time are on the first page of a walk, or nowhere."""
    for order in ("asc", "desc"):
        rows = [
            row
            for page in (1, 2, 3)
            for row in many.rows(f"fields={name}&per=1000&page={page}&order_by={name}&order={order}")
        ]
        empty = [row.get(name) is None for row in rows]
        assert empty == sorted(empty, reverse=order == "desc")
        given = [row[name] for row in rows if isinstance(row.get(name), str) and name.endswith("_at")]
        assert given == sorted(given, reverse=order == "desc")


def test_the_default_order_is_newest_first(many: Client) -> None:
    """What comes when nothing is asked for: created_at, descending."""
    stamps = [row["created_at"] for row in many.rows("fields=created_at&per=1000") if row["created_at"]]
    assert stamps == sorted(stamps, reverse=True)


def test_a_row_edited_in_mid_pull_shifts_the_pages_of_a_closed_window(many: Client) -> None:
    """Why the pull walks: three cases leave the window after page 1, and page 2 begins three too late."""
    window = "fields=id&per=100&last_updated_at=2023-12-31T16:59:59Z..2024-03-31T17:00:01Z&order_by=unique_identifier"
    first = many.rows(window)
    for row in first[:3]:
        many.server.update(row["id"], sex="other")
    second = many.rows(window + "&page=2")
    whole = [row["id"] for row in many.rows("fields=id&per=1000&order_by=unique_identifier")]
    seen = {row["id"] for row in first + second}
    assert [case for case in whole[:200] if case not in seen] == whole[100:103]


def test_an_edit_can_be_timed_between_two_requests() -> None:
    """The hook that the pull's tests stand on: the edit happens after an answer was made, before it is sent."""
    with SandboxPrimero(0).serve() as server:
        case = server.create(sex="male")
        client = client_of(server)
        server.after(2, lambda own: own.update(case, sex="female"))
        assert [client.rows("fields=sex")[0]["sex"] for _ in range(3)] == ["male", "male", "female"]
