"""Rows that PostgreSQL or Arrow cannot hold: each goes to quarantine by itself, and its quarter comes.

Through the whole way: a Primero that sends such rows, the pull, stored partitions, the mapping, the load, and `verify`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from primero_ona.ona.connection import connect
from primero_ona.pipeline.reconcile import Reconciliation, reconcile
from primero_ona.pipeline.stored import Scope
from primero_ona.primero.client import PrimeroClient
from primero_ona.quarters import Quarter
from primero_ona.sandbox.cases import Wish
from primero_ona.sandbox.store import CaseStore
from primero_ona_tests import quick
from primero_ona_tests.harness import Q1, Graph, wired
from primero_ona_tests.reliability.test_order_and_keys import aside, child, service, standing, sync

HALF = "\ud800"
LARGE = "".join(f"{n * 7919 % 999_983:x}" for n in range(220_000))  # nothing that an index could compress
NAME = "Sok Dara"

#: What a server sends instead of a case's id.
IDS: dict[str, Any] = {
    "a name": NAME,
    "blank": "",
    "a number": 17,
    "none": None,
    "a list": [NAME],
    "an object": {"a": NAME},
    "half a character": f"{NAME}{HALF}",
    "a megabyte": LARGE,
    "nearly a UUID": "51f2adb5-0000-0000-0000-0000c063aebg",
    "a line break behind": "51f2adb5-0000-0000-0000-0000c063aeb0\n",
    "zero byte": "51f2adb5-0000-0000-0000-0000c063aeb\0",
}
#: What stands in a case's key, or a service's, and the reasons for quarantine where the row cannot stand in ONA.
KEYS: dict[str, tuple[Any, str]] = {
    "a megabyte": (LARGE, "too long"),
    "201 characters": ("k" * 201, "too long"),
    "200 characters": ("ក" * 200, ""),
    "half a character": (f"k{HALF}", "missing"),
    "half a character beside a long number": (f":12345678901234567890{HALF}", "missing"),
    "zero byte": ("\0", "missing"),
    "an object": ({"a": 1}, "missing"),
}


@pytest.fixture
def few(postgres: Any, request: pytest.FixtureRequest) -> Iterator[Graph]:
    """A graph on a Primero with two plain cases of long ago; the test makes its own."""
    name = f"reliability_poison_{abs(hash(request.node.nodeid))}"
    with wired(postgres, name, Wish(2, seed=1, quarter=Quarter(2023, 4), odd=False)) as made:
        yield made


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """By the id of a case in the sandbox, the id that its Primero sends instead."""
    sent: dict[str, Any] = {}
    render = CaseStore.render

    def poisoned(store: CaseStore, rows: Any, fields: Any) -> list[bytes]:
        found = render(store, rows, fields)
        for place, text in enumerate(found):
            if (record := json.loads(text)).get("id") in sent and "last_updated_at" in record:
                found[place] = json.dumps(record | {"id": sent[record["id"]]}).encode()
        return found

    monkeypatch.setattr(CaseStore, "render", poisoned)
    return sent


def verified(graph: Graph) -> Reconciliation:
    with client_of(graph) as client, connect(graph.url) as conn:
        return reconcile(client, conn, Scope(Q1))


def client_of(graph: Graph) -> PrimeroClient:
    return PrimeroClient(graph.primero.url, graph.primero.username, graph.primero.password, pause=0)


@pytest.mark.proves("odd-id", "only-asked-fields")
def test_cases_whose_ids_are_no_uuids_are_quarantined_and_the_others_come(few, poison):
    """One such id broke the COPY into ONA, and with it every sync of its quarter."""
    good = child(few, services_section=[service("a")])
    bad = {child(few, services_section=[service("b")]): wrong for wrong in IDS.values()}
    gone = {child(few, record_state=False): wrong for wrong in ("exit", LARGE, HALF, None)}
    poison.update(bad | gone)
    for fresh in (True, False):
        sync(few, Q1, fresh=fresh)
        assert standing(few) == {good}
        found = aside(few)
        assert Counter(reason for _, reason in found) == {"id malformed": 2 * len(IDS)}
        shown = {identity for identity, _ in found}
        assert len(shown) == len(IDS)
        assert all(identity.startswith("no-uuid:") and len(identity) == 24 for identity in shown)
    found = verified(few)
    assert (found.total.quarantined, found.services_quarantined, found.total.differences) == (len(IDS), len(IDS), 0)
    assert (found.wrong, found.passed) == (False, False)
    poison.clear()
    sync(few, Q1)
    assert (standing(few), aside(few)) == ({good, *bad}, [])
    assert verified(few).complete


@pytest.mark.proves("odd-id")
def test_the_newest_cases_do_not_keep_a_pull_from_learning_primeros_zone(few, poison):
    """Three of them were asked about by their ids, before anything else was asked."""
    good = child(few, created_at=datetime(2024, 1, 3, tzinfo=UTC))
    poison.update({child(few): wrong for wrong in (LARGE, HALF, None, NAME)})
    sync(few, Q1)
    assert standing(few) == {good}


@pytest.mark.parametrize("name", quick(KEYS, "a megabyte", "200 characters", "half a character"))
@pytest.mark.proves("odd-id")
def test_a_key_that_no_index_holds_quarantines_its_case_or_its_service(few, name):
    """A display id of a megabyte is too large for the index of ONA's key, which rolled back the whole quarter."""
    key, reason = KEYS[name]
    good = child(few, services_section=[service("a")])
    case = child(few, case_id_display=key, services_section=[service("b")])
    owner = child(few, services_section=[service("c"), service("c") | {"unique_id": key}])
    left = child(few, case_id_display=key, record_state=False)
    sync(few, Q1)
    expected = [(case, f"case_id {reason}")] * 2 + [(owner, f"unique_id {reason}")] if reason else []
    assert aside(few) == sorted(expected)
    assert standing(few) == {good, owner} | (set() if reason else {case})
    assert few.sql("SELECT count(*) FROM services") == [(2 if reason else 4,)]
    found = verified(few)
    aside_too = (1, 2) if reason else (0, 0)
    assert (found.total.quarantined, found.services_quarantined, found.total.differences) == (*aside_too, 0)
    for fixed in (case, owner, left):
        few.primero.update(fixed, case_id_display=fixed[:8], services_section=[service(fixed)], last_updated_at=AT)
    sync(few, Q1)
    assert (aside(few), verified(few).complete) == ([], True)


AT = datetime(2024, 1, 25, tzinfo=UTC)
EVERYWHERE = (
    "sex",
    "status",
    "type_of_placement",
    "protection_concerns",
    "location_current",
    "registration_date",
    "module_id",
)


VALUES = [HALF, f"a{HALF}b", [HALF], {HALF: HALF}, f"[{HALF}", f":12345678901234567890{HALF}"]


@pytest.mark.parametrize(
    "value",
    [pytest.param(value, id=ascii(value), marks=pytest.mark.ci if n % 5 else ()) for n, value in enumerate(VALUES)],
)
@pytest.mark.proves("odd-value")
def test_half_a_character_anywhere_else_costs_its_value_alone(few, value):
    """JSON may hold it, UTF-8 and PostgreSQL cannot."""
    case = child(few, **dict.fromkeys(EVERYWHERE, value), services_section=[service("a", service_type=value)])
    sync(few, Q1)
    assert (standing(few), aside(few)) == ({case}, [])
    assert few.sql("SELECT sex, case_status, placement_type, registration_date FROM cases") == [(None,) * 4]
    assert verified(few).complete
