"""Keys: one key, two children. Who keeps it, and that nothing is ever merged."""

from __future__ import annotations

import tracemalloc
from datetime import UTC, datetime

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from primero_ona.frames import Frames
from primero_ona.mapping import keys
from primero_ona.mapping.cases import map_cases
from primero_ona.mapping.keys import CASE_KEY, Claims, Key, SuspectSearch, case_hashes, find_clashes, service_key
from primero_ona.mapping.services import map_services
from primero_ona_tests.mapping.helpers import LABELS, PLACES, framewise
from primero_ona_tests.raw import raw_frame, uuid_of

EARLY, LATE = "2024-01-01T00:00:00.000Z", "2024-01-01T00:00:00.001Z"


def nobody(contested):
    return {}


def stream(*cases):
    return Frames.of(*(raw_frame(case) for case in cases))


def clashes(cases, key, holders):
    """Who loses which key to whom, as the streams ask it: of the suspects alone."""
    search = SuspectSearch(key)
    for raw in cases:
        search.add(raw)
    found = search.found()[key.table]
    apart = [raw[keys.np.isin(case_hashes(raw["id"]), found)] for raw in cases]
    return find_clashes(pd.concat([raw_frame(), *apart]), key, holders)


def case_clashes(cases, holders):
    return {loser: winner for (loser, _), winner in clashes(cases, CASE_KEY, holders).items()}


def service_clashes(cases, holders, excluded=frozenset()):
    return clashes(cases, service_key(excluded), holders)


def case(number, key="K-1", created=EARLY, **fields):
    return {"id": uuid_of(number), "case_id_display": key, "created_at": created, **fields}


@pytest.mark.parametrize(
    ("cases", "losers"),
    [
        ([case(1), case(2, "K-2")], {}),
        ([case(1), case(2, "k-1")], {}),
        ([case(1, created=LATE), case(2)], {1: 2}),
        ([case(2, created=LATE), case(1, created=EARLY)], {2: 1}),
        ([case(2), case(1)], {2: 1}),
        ([case(1, created=None), case(2, created=LATE)], {1: 2}),
        ([case(2, created=None), case(1, created=None)], {2: 1}),
        ([case(1, created=LATE), case(2), case(3)], {1: 2, 3: 2}),
        ([case(1, " K-1"), case(2, "K\x00-1 ")], {2: 1}),
        ([case(1, 12), case(2, "12")], {2: 1}),
        ([case(1, None), case(2, None), case(3, " ")], {}),
        ([case(1), case(1)], {}),
        ([], {}),
    ],
)
def test_the_child_created_first_keeps_the_key(cases, losers):
    """Display ids are not unique in Primero; without an order that never changes the key would jump at each sync."""
    expected = {uuid_of(loser): uuid_of(winner) for loser, winner in losers.items()}
    assert case_clashes(stream(*cases), nobody) == expected


def test_the_child_that_ona_holds_keeps_the_key_although_created_later():
    """Otherwise history in the dashboards would change from one child to another."""
    asked = []

    def holders(contested):
        asked.append(contested)
        return {"K-1": uuid_of(2)}

    assert case_clashes(stream(case(1), case(2, created=LATE), case(3, "K-3")), holders) == {uuid_of(1): uuid_of(2)}
    assert asked == [frozenset({"K-1"})]


def test_a_holder_that_is_not_in_this_quarter_keeps_the_key_too():
    """A child that has not changed this quarter is in ONA nevertheless."""
    clashes = case_clashes(stream(case(1), case(2)), lambda contested: {"K-1": uuid_of(9)})
    assert clashes == {uuid_of(1): uuid_of(9), uuid_of(2): uuid_of(9)}


def test_a_row_in_ona_that_knows_no_primero_id_holds_nothing():
    """Rows of the old pipeline have no id; the child created first gets the key, as if ONA were empty."""
    assert case_clashes(stream(case(2), case(1)), lambda contested: {"K-1": None}) == {uuid_of(2): uuid_of(1)}


def test_ona_is_not_asked_where_nothing_is_contested():
    """The usual case by far."""

    def holders(contested):
        raise AssertionError

    assert case_clashes(stream(case(1), case(2, "K-2")), holders) == {}


def services(*keys_):
    return [{"unique_id": key} for key in keys_]


def test_the_case_created_first_keeps_the_unique_id():
    """Never attach one child's service to the other."""
    cases = stream(
        case(1, "K-1", LATE, services_section=services("a", "b", "b")),
        case(2, "K-2", EARLY, services_section=services("a", "c")),
        case(3, "K-3", EARLY, services_section=services(" b ")),
    )
    assert service_clashes(cases, nobody) == {(uuid_of(1), "a"): uuid_of(2), (uuid_of(1), "b"): uuid_of(3)}
    held = {"a": uuid_of(1)}
    assert service_clashes(cases, lambda contested: held)[uuid_of(2), "a"] == uuid_of(1)


@pytest.mark.parametrize(
    "rival",
    [
        case(1, None, services_section=services("a")),
        case(9, "K-9", services_section=services("a")),
        case(1, "K-1", services_section=[{"unique_id": "a", "_destroy": True}]),
        case(1, "K-1", services_section=services(None)),
        case(1, "K-1", services_section="text"),
    ],
    ids=["case without key", "case quarantined", "destroyed", "service without key", "malformed"],
)
def test_a_service_that_cannot_be_loaded_claims_no_key(rival):
    """It would keep the key from a service that can."""
    cases = stream(rival, case(2, "K-2", LATE, services_section=services("a")))
    assert service_clashes(cases, nobody, frozenset({uuid_of(9)})) == {}


def test_equal_hashes_of_different_keys_are_no_clash(monkeypatch):
    """32 bits are not proof: hashes only say where to look."""
    monkeypatch.setattr(pd.util, "hash_array", lambda values, **_: keys.np.zeros(len(values), keys.np.uint64))
    assert case_clashes(stream(case(1), case(2, "K-2"), case(3, "K-2")), nobody) == {uuid_of(3): uuid_of(2)}


def test_memory_is_that_of_hashes_not_of_keys():
    """Memory must not grow with the country: 14 bytes a row and a copy while sorting, where a set of texts takes 100."""
    rows = 10_000

    def claims(frame):
        texts = pa.array([f"{frame['batch'][0]}-{row}" for row in range(rows)])
        return Claims(texts, texts, pa.nulls(rows, pa.timestamp("ms", tz="UTC")), pa.array(range(rows)))

    tracemalloc.start()
    search = SuspectSearch(Key("cases", ("batch",), claims))
    for batch in range(20):
        search.add(pd.DataFrame({"batch": [batch] * rows, "id": [str(row) for row in range(rows)]}))
    assert len(search.found()["cases"]) < 100, "false alarms are few"
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 * rows * 24


INSTANTS = st.sampled_from([None, *(datetime(2024, 1, day, tzinfo=UTC) for day in (1, 2, 3))])
OWNERS = st.dictionaries(st.integers(0, 20), st.tuples(st.sampled_from("abc"), INSTANTS), max_size=12)
HELD = st.dictionaries(st.sampled_from("abc"), st.integers(0, 25))


def in_batches(rows, size):
    """The raw frames of rows (id number, key, created) in batches of a size."""
    made = [
        case(n, key, None if at is None else at.isoformat(), age=3, services_section=services(key))
        for n, key, at in rows
    ]
    return Frames.of(*(raw_frame(*made[start : start + size]) for start in range(0, len(made), size)))


@framewise
@given(OWNERS, HELD, st.randoms(use_true_random=False), st.integers(1, 13))
def test_winners_do_not_depend_on_order_or_batches_and_no_key_is_left_twice(owners, held, random, size):
    """A pull comes in whatever order and size; the same children must keep their keys at each sync."""
    rows = [(number, key, created) for number, (key, created) in owners.items()]
    holders = {key: uuid_of(number) for key, number in held.items()}
    expected = case_clashes(in_batches(rows, 100), lambda contested: holders)
    random.shuffle(rows)
    cases = in_batches(rows, size)
    losers = case_clashes(cases, lambda contested: holders)
    assert losers == expected
    mapped = [map_cases(raw, PLACES, LABELS, losers) for raw in cases]
    kept = {row.case_id: row.primero_id for each in mapped for row in each.frame.itertuples()}
    assert sum(len(each.frame) for each in mapped) == len(kept) == len(rows) - len(losers)
    for key, wanted in ((key, [row for row in rows if row[1] == key]) for key in {row[1] for row in rows}):
        if len(wanted) > 1:
            first = min(wanted, key=lambda row: (row[2] is None, row[2] or datetime.max.replace(tzinfo=UTC), row[0]))
            winner = holders.get(key, uuid_of(first[0]))
            assert kept.get(key, winner) == winner
            assert all(losers[uuid_of(row[0])] == winner for row in wanted if uuid_of(row[0]) != winner)


@framewise
@given(st.lists(st.lists(st.sampled_from("abcd"), max_size=4), max_size=8), st.integers(1, 9))
def test_no_unique_id_is_left_twice_and_no_service_is_lost(sections, size):
    """Every service is either a row or in quarantine, whatever repeats within and between cases."""
    made = [case(number, f"K-{number}", services_section=services(*section)) for number, section in enumerate(sections)]
    cases = Frames.of(*(raw_frame(*made[start : start + size]) for start in range(0, len(made), size)))
    losers = service_clashes(cases, nobody)
    mapped = [map_services(raw, LABELS, losers=losers) for raw in cases]
    kept = [key for each in mapped for key in each.frame["unique_id"]]
    assert sorted(kept) == sorted({key for section in sections for key in section})
    assert len(kept) + sum(len(each.quarantine) for each in mapped) == sum(map(len, sections))
