"""Re-runs in any order, exits, returns, clashes of keys, and every shape that a value can have.

The rooms are called in the order in which the assets call them, so that hundreds of loads stay quick."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from primero_ona.quarters import Quarter
from primero_ona.sandbox.cases import Wish
from primero_ona.sandbox.columns import ABSENT
from primero_ona_tests import quick
from primero_ona_tests.harness import Q1, Q2, Graph, wired
from primero_ona_tests.reliability.oracle import TYPE, differences
from primero_ona_tests.reliability.syncing import place_of, sync_rooms

JAN, APR = datetime(2024, 1, 20, 5, tzinfo=UTC), datetime(2024, 4, 20, 5, tzinfo=UTC)


@pytest.fixture
def few(postgres: Any, request: pytest.FixtureRequest) -> Iterator[Graph]:
    """A graph on a Primero with two plain cases of long ago; the test makes its own."""
    name = f"reliability_few_{abs(hash(request.node.nodeid))}"
    with wired(postgres, name, Wish(2, seed=1, quarter=Quarter(2023, 4), odd=False)) as made:
        yield made


@pytest.fixture
def right(few: Graph) -> Callable[[], None]:
    def check() -> None:
        found = differences(few.primero, few.sql, since=Q1.start)
        assert found == [], "\n".join(found)

    return check


def child(graph: Graph, moment: datetime = JAN, **fields: Any) -> str:
    """Register a case that belongs, changed last at `moment`."""
    return graph.primero.create(**{"age": 9, "created_at": moment, "last_updated_at": moment, **fields})


def service(key: str, **fields: Any) -> dict[str, Any]:
    return {"unique_id": key, "service_type": "counselling", "service_implemented_day_time": "2024-01-10", **fields}


def standing(graph: Graph) -> set[str]:
    return {row[0] for row in graph.sql("SELECT primero_id::text FROM cases")}


def aside(graph: Graph) -> list[tuple[Any, ...]]:
    """The open quarantine: Primero id, reason."""
    return graph.sql("SELECT primero_id, reason FROM primero_sync.quarantine WHERE resolved_at IS NULL ORDER BY 1, 2")


def sync(graph: Graph, quarter: Quarter, *, fresh: bool = True) -> None:
    """Pull, map and load a quarter; or map and load again what is stored of it, without asking Primero."""
    assert sync_rooms(place_of(graph), quarter, fresh=fresh) == 0


ORDERS = list(itertools.permutations(("fresh Q1", "stored Q1", "fresh Q2", "stored Q2")))[::4]


@pytest.mark.parametrize("order", quick(ORDERS, ORDERS[2]))
@pytest.mark.proves("any-order")
def test_in_any_order_of_re_runs_an_older_state_never_overwrites_a_newer_one(few, right, order):
    """An operator re-runs last year's quarter; the children in it have moved on, and its stored data has not."""
    moved, left, stays = child(few, services_section=[service("a")]), child(few), child(few)
    back = child(few, record_state=False)
    sync(few, Q1)
    few.primero.update(moved, last_updated_at=APR, sex="male", services_section=[service("b")])
    few.primero.update(left, last_updated_at=APR, record_state=False)
    few.primero.update(back, last_updated_at=APR, record_state=True)
    sync(few, Q2)
    right()
    for step in order:
        quarter = Q1 if step.endswith("Q1") else Q2
        sync(few, quarter, fresh=step.startswith("fresh"))
        right()
    assert standing(few) == {moved, stays, back}


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"record_state": False}, id="disabled"),
        pytest.param({"age": 18}, marks=pytest.mark.ci, id="aged out"),
        pytest.param({"age": None, "type_of_case": None}, marks=pytest.mark.ci, id="type and age gone"),
    ],
)
@pytest.mark.proves("exits")
def test_an_exit_takes_the_case_and_its_services_with_it_and_a_return_brings_them_back(few, right, change):
    """The old pipeline never removed a child who had left; a mistake that was mended must not be final either."""
    case = child(few, services_section=[service("a"), service("b")])
    sync(few, Q1)
    assert standing(few) == {case}
    few.primero.update(case, last_updated_at=APR, **change)
    sync(few, Q2)
    assert (standing(few), few.sql("SELECT count(*) FROM services")) == (set(), [(0,)])
    few.primero.update(case, last_updated_at=APR.replace(day=25), record_state=True, age=9)
    sync(few, Q2)
    assert (standing(few), few.sql("SELECT count(*) FROM services")) == ({case}, [(2,)])
    right()


@pytest.mark.proves("exits")
def test_a_change_of_type_alone_takes_a_grown_up_out(few, right):
    """Eighteen and older stand in ONA only while they undergo reintegration."""
    case = child(few, age=20, type_of_case=[TYPE])
    sync(few, Q1)
    assert standing(few) == {case}
    few.primero.update(case, last_updated_at=APR, type_of_case="other_12345")
    sync(few, Q2)
    assert standing(few) == set()
    right()


@pytest.mark.proves("exits")
def test_a_service_that_is_removed_leaves_and_one_that_is_added_comes(few, right):
    """Services deleted in Primero were counted in the indicator for ever."""
    case = child(few, services_section=[service("a"), service("b")])
    sync(few, Q1)
    few.primero.update(case, last_updated_at=JAN.replace(day=25), services_section=[service("b"), service("c")])
    sync(few, Q1)
    assert few.sql("SELECT unique_id FROM services ORDER BY 1") == [("b",), ("c",)]
    right()


@pytest.mark.proves("keys")
def test_two_children_of_different_quarters_who_swap_their_display_ids_both_stay(few, right):
    """Each holds what the other wants, and no sync of one quarter sees both; neither may get the other's row."""
    one = child(few, case_id_display="x", sex="male", services_section=[service("a")])
    two = child(few, APR, case_id_display="y", sex="female", services_section=[service("b")])
    for quarter in (Q1, Q2):
        sync(few, quarter)
    few.primero.update(one, last_updated_at=JAN.replace(day=25), case_id_display="y")
    few.primero.update(two, last_updated_at=APR.replace(day=25), case_id_display="x")
    for quarter in (Q1, Q2, Q1, Q2):
        sync(few, quarter)
        assert few.sql("SELECT primero_id::text, sex FROM cases ORDER BY sex") == [(two, "Female"), (one, "Male")]
    assert sorted(few.sql("SELECT case_id, primero_id::text FROM cases")) == [("x", two), (f"y~{one[:8]}", one)]
    right()


@pytest.mark.parametrize(
    "second", [pytest.param(JAN, marks=pytest.mark.ci, id="one quarter"), pytest.param(APR, id="two quarters")]
)
@pytest.mark.proves("keys")
def test_two_children_with_one_display_id_both_come_and_the_second_keeps_its_key(few, right, second):
    """About nineteen pairs are expected in 100,000 cases; merged, one child has another one's services."""
    one = child(few, case_id_display="same", services_section=[service("a")])
    two = child(few, second.replace(hour=9), case_id_display="same", services_section=[service("b")])
    for quarter in (Q1, Q2):
        sync(few, quarter)
    assert dict(few.sql("SELECT case_id, primero_id::text FROM cases")) == {"same": one, f"same~{two[:8]}": two}
    assert sorted(few.sql("SELECT unique_id, case_id FROM services")) == [("a", "same"), ("b", f"same~{two[:8]}")]
    assert aside(few) == []
    right()
    few.primero.update(one, last_updated_at=APR.replace(day=28), record_state=False)
    for quarter in (Q2, Quarter.of(second), Q2):
        sync(few, quarter)
    assert few.sql("SELECT case_id, primero_id::text FROM cases") == [(f"same~{two[:8]}", two)]
    right()


@pytest.mark.parametrize(
    "second", [pytest.param(JAN, marks=pytest.mark.ci, id="one quarter"), pytest.param(APR, id="two quarters")]
)
@pytest.mark.proves("keys")
def test_a_service_id_under_two_children_brings_a_service_to_each(few, right, second):
    """OSCaR sends the id of the service's type, which all its children share."""
    child(few, services_section=[service("a")])
    two = child(few, second.replace(hour=9), services_section=[service("a"), service("b")])
    for quarter in (Q1, Q2):
        sync(few, quarter)
    assert few.sql("SELECT unique_id FROM services ORDER BY 1") == [("a",), (f"a~{two[:8]}",), ("b",)]
    assert aside(few) == []
    right()


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"sex": "female"}, id="changed"),
        pytest.param({"record_state": False}, marks=pytest.mark.ci, id="disabled"),
    ],
)
@pytest.mark.proves("any-order")
def test_a_state_with_an_older_stamp_comes_with_the_next_pull(few, right, change):
    """Primero was restored from a backup, or its clock had been ahead; ONA kept what is no longer true for ever."""
    case = child(few, JAN.replace(day=25), sex="male", services_section=[service("a")])
    sync(few, Q1)
    few.primero.update(case, last_updated_at=JAN, **change)
    sync(few, Q1)
    right()
    few.primero.update(case, last_updated_at=APR, record_state=True, sex="male")
    sync(few, Q2)
    few.primero.update(case, last_updated_at=JAN, **change)
    sync(few, Q1)
    right()
    sync(few, Q2)
    sync(few, Q1, fresh=False)
    right()


SECTIONS: dict[str, Any] = {
    "absent": ABSENT,
    "null": None,
    "empty": [],
    "text": "none",
    "object": {"unique_id": "x"},
    "number": 3,
    "elements that are none": [None, 1, "x", [], [[]]],
    "without keys": [{}, {"unique_id": None}, {"unique_id": "  "}, {"unique_id": {"a": 1}}, {"unique_id": ["k"]}],
    "destroyed": [
        service("gone", _destroy=True),
        service("gone too", _destroy="true"),
        service("kept", _destroy=False),
    ],
    "twice": [service("twice"), service("twice", service_type="other")],
    "numbers as keys": [service("n") | {"unique_id": 17}, service("n") | {"unique_id": 2**70}],
    "written as a text": json.dumps([service("written")]),
    "written as an empty text": "[]",
    "odd values": [service("odd", service_type={"a": 1}), service("odder", service_implemented_day_time=[1])],
}


@pytest.mark.proves("odd-value")
def test_a_section_of_services_in_any_shape_costs_neither_the_case_nor_the_batch(few, right):
    """`null` passed a filter of the old pipeline and crashed on its first key; the whole batch was lost."""
    made = {name: child(few, services_section=section) for name, section in SECTIONS.items()}
    sync(few, Q1)
    assert standing(few) == set(made.values())
    kept = {row[0] for row in few.sql("SELECT unique_id FROM services")}
    assert kept >= {"kept", "twice", "17", "odd", "odder", "written"}
    assert {reason for _, reason in aside(few)} == {"service malformed", "unique_id missing"}
    right()


#: Values that nobody expects, for every field.
ODD: tuple[Any, ...] = (
    None, "", " ", "   \t\n", "\0", "a\0b", 0, 1, -1, 17, 18, 2**31, 2**63, 2**64, 2**70, -(2**70), 0.5, 12.0, 12.5, -0.0,
    1e-300, 1e300, 123456789012345678, True, False, [], [None], [[]], [[[]]], ["x"], ["x", "y"], ["", None, "x"], [1, 2],
    [True], [{}], {}, {"a": 1}, {"id": "x"}, {"a": {"b": ["c"]}}, "x", "X", "null", "None", "nan", "NaN", "undefined",
    "true", "FALSE", "yes", "0", "00", "007", "1.0", "1e3", "-5", "+5", "12 ", " 12", "twelve", "១២", "\uff12\uff10",
    "2024-01-31", "2024-02-30", "2024-13-01", "0000-00-00", "9999-12-31", "10000-01-01", "1066-10-14", "31/03/2024",
    "2024-03-31T20:00:00.000Z", "2024-03-31T20:00:00+07:00", "2024-03-31 20:00", "2024-03-31T25:00:00Z", "20240331",
    "9999-12-31T23:59:59.999Z", "not implemented", "not_implemented", "male", "female", "other", "Other", TYPE, [TYPE],
    "_", "__", "_12345", "a_", "10060802", "6011101", "01020304", "1299", "99", "KHM", "123456789", "1" * 40,
    "x" * 101, "x" * 10_000, "\u200b", "\u202eabc", "សិទ្ធិកុមារ", "👧🏽", "e\u0301", 'a"b', "a,b", "a\nb", "a\\N", "\\.",
    "2020/02/11", "2020/09/30 00:00:00 +0000", "2020/09/30 20:00:00 +0000", "[]", "[", "[x]", '["x"]', f'["{TYPE}"]',
    "'; DROP TABLE cases; --", "<script>", "%s", "{0}", "$1", "\ufeff", "\uffff", "CANARY",
)  # fmt: skip

FIELDS = (
    "registration_date", "oscar_number", "disability_type", "type_of_case", "sex", "protection_concerns", "type_of_placement",
    "consent_reporting", "location_current", "location_caregiver", "care_date", "date_of_reintegration", "date_closure",
    "status", "date_of_birth",
)  # fmt: skip


@pytest.mark.proves("odd-value")
def test_a_hundred_odd_values_in_every_field_never_fail_a_batch(few):
    """One value that nobody expected lost the old pipeline whole batches. Here it is null and reported, or kept as it is."""
    assert len(ODD) >= 100
    for value in ODD:
        child(few, **dict.fromkeys(FIELDS, value))
    sync(few, Q1)
    assert few.sql("SELECT count(*) FROM cases") == [(len(ODD),)]
    reported = {row[0] for row in few.sql("SELECT DISTINCT field FROM primero_sync.unmapped")}
    assert {"disability_type", "protection_concerns", "registration_date", "location_current"} <= reported
    assert few.sql("SELECT count(*) FROM primero_sync.unmapped WHERE length(code) > 100") == [(0,)]


@pytest.mark.proves("odd-value")
def test_odd_ages_states_and_keys_put_a_case_out_or_aside_and_never_fail_a_batch(few, right):
    """These three decide whether a case stands in ONA at all, so that here each odd value has its consequence."""
    for value in ODD:
        child(few, age=value, type_of_case=TYPE)
        child(few, age=value)
        child(few, date_of_birth=value, registration_date="2024-01-15")
        child(few, date_of_birth="2006-01-20", registration_date=value, care_date=value, type_of_case=TYPE)
        child(few, record_state=value)
        child(few, case_id_display=value)
        child(few, services_section=[service(f"s-{ODD.index(value)}") | {"unique_id": value, "service_type": value}])
    sync(few, Q1)
    right()
    assert "case_id missing" in {reason for _, reason in aside(few)}
