"""Keys that change, and keys that several rows want, in loads on a real PostgreSQL: every row comes, none is merged."""

from __future__ import annotations

from datetime import timedelta

import pytest

from primero_ona.contract.tables import CASES, SERVICES
from primero_ona.errors import TransientError
from primero_ona.ona.load import load_quarter
from primero_ona.primero.raw import EXIT_SCHEMA
from primero_ona.storage.frames import Frames
from primero_ona_tests.ona.rows import (
    LATER,
    NOW,
    Q1,
    Q2,
    SHAPES,
    T0,
    at,
    case,
    case_ids,
    counts,
    frame,
    frames,
    id_of,
    left,
    load,
    make_tables,
    old_row,
    own,
    quarantine,
    read,
    service,
    service_ids,
)

EARLIER, LONG_AGO = T0 - timedelta(days=1), T0 - timedelta(days=2)


def test_a_case_with_a_new_case_id_leaves_no_old_row(ona_url, ona):
    """The child would be counted twice."""
    load(ona, [case(1)], [service(1, 1), service(2, 1)])
    result = load(ona, [case(1, case_id="new")], [service(1, 1, case_id="new")], now=LATER)
    assert result.cases == counts(1, updated=1)
    assert result.services == counts(1, updated=1, removed=1)
    assert case_ids(ona_url) == {"new": id_of(1)}
    assert service_ids(ona_url) == {"service-1": "new"}


def test_two_cases_that_swap_their_case_ids_both_get_the_new_one(ona_url, ona):
    """Neither is in the other's way: both leave the key that the other takes."""
    load(ona, [case(1), case(2)], [service(1, 1), service(2, 2)])
    swapped = [case(1, case_id="case-2"), case(2, case_id="case-1")]
    result = load(ona, swapped, [service(1, 1, case_id="case-2"), service(2, 2, case_id="case-1")])
    assert (result.cases, result.services) == (counts(2, updated=2), counts(2, updated=2))
    assert case_ids(ona_url) == {"case-1": id_of(2), "case-2": id_of(1)}


def test_a_new_case_may_take_the_key_that_another_leaves(ona_url, ona):
    """It is a new child in the counts, not a change of the one that had the key before."""
    load(ona, [case(1)], [service(1, 1)])
    result = load(ona, [case(1, case_id="new"), case(2, case_id="case-1")], [service(1, 1, case_id="new")])
    assert result.cases == counts(2, inserted=1, updated=1)
    assert case_ids(ona_url) == {"case-1": id_of(2), "new": id_of(1)}


def test_a_renamed_case_and_two_that_want_its_old_key_all_come(ona_url, ona):
    """Of the two neither was loaded while the mapping asked ONA who holds the key: only the load knows that it is left."""
    load(ona, [case(9, case_id="K")])
    load(ona, [case(9, case_id="new"), case(1, case_id="K"), case(2, case_id="K")])
    assert case_ids(ona_url) == {"new": id_of(9), "K": id_of(1), own("K", 2): id_of(2)}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.proves("keys")
def test_two_children_with_one_display_id_both_come_with_their_services(ona_url, empty_ona, shape):
    """Two children with one display id must never become one, nor share services, nor be left out."""
    make_tables(empty_ona, shape)
    load(empty_ona, [case(1)], [service(1, 1)], quarter=Q1)
    second = [case(2, case_id="case-1"), case(3)], [service(2, 2, case_id="case-1"), service(3, 3)]
    result = load(empty_ona, *second, quarter=Q2)
    assert (result.cases, result.services) == (counts(2, inserted=2, own_keys=1), counts(2, inserted=2))
    assert case_ids(ona_url) == {"case-1": id_of(1), own("case-1", 2): id_of(2), "case-3": id_of(3)}
    assert service_ids(ona_url) == {"service-1": "case-1", "service-2": own("case-1", 2), "service-3": "case-3"}
    assert quarantine(ona_url) == []
    again = load(empty_ona, *second, quarter=Q2)
    assert (again.cases, again.services) == (counts(2, unchanged=2, own_keys=1), counts(2, unchanged=2))


@pytest.mark.parametrize(
    ("created", "first"),
    [((T0, EARLIER, LONG_AGO), 3), ((None, T0, None), 2), ((T0, T0, T0), 1), ((None, None, None), 1)],
    ids=["created first", "a missing creation is last", "the smaller id", "none has a creation"],
)
def test_of_those_who_want_a_free_key_the_first_created_takes_it(ona_url, ona, created, first):
    """Which one it is must not depend on the order of the rows."""
    rows = [case(n, case_id="K", created_at=created[n - 1]) for n in (1, 2, 3)]
    for each in (rows, rows[::-1]):
        ona.execute("TRUNCATE cases")
        load(ona, each)
        assert case_ids(ona_url) == {"K" if n == first else own("K", n): id_of(n) for n in (1, 2, 3)}


@pytest.mark.proves("keys")
def test_a_key_stays_with_its_case_when_the_holder_of_the_plain_one_leaves(ona_url, ona):
    """A dashboard that remembers a case_id must find the same child under it."""
    load(ona, [case(1, case_id="K"), case(2, case_id="K")])
    load(ona, [case(2, case_id="K")], exits=[left(1, 5, case_id_display='"K"')])
    assert case_ids(ona_url) == {own("K", 2): id_of(2)}
    load(ona, [case(3, case_id="K")], quarter=Q2)
    assert case_ids(ona_url) == {own("K", 2): id_of(2), "K": id_of(3)}
    load(ona, [case(2, case_id="K", created_at=LONG_AGO), case(3, case_id="K")])
    assert case_ids(ona_url) == {own("K", 2): id_of(2), "K": id_of(3)}


def test_a_case_that_wants_another_key_leaves_its_own_one(ona_url, ona):
    """Its display id was corrected in Primero, so it gets what everybody gets."""
    load(ona, [case(1, case_id="K"), case(2, case_id="K")], [service(2, 2, case_id="K")])
    load(ona, [case(2, case_id="L")], [service(2, 2, case_id="L")])
    assert case_ids(ona_url) == {"K": id_of(1), "L": id_of(2)}
    assert service_ids(ona_url) == {"service-2": "L"}


def test_a_key_of_its_own_that_is_taken_is_made_of_the_whole_id(ona_url, ona):
    """A display id may look like a made key."""
    load(ona, [case(1, case_id="K"), case(8, case_id=own("K", 2))])
    load(ona, [case(2, case_id="K")])
    assert case_ids(ona_url) == {"K": id_of(1), own("K", 2): id_of(8), own("K", 2, digits=32): id_of(2)}


@pytest.mark.parametrize("loads", [1, 2], ids=["at once", "one after the other"])
def test_two_ids_that_begin_alike_get_different_keys(ona_url, ona, loads):
    """The first eight digits name a case only nearly always."""
    alike = id_of(2)[:-1] + "9"
    rows = [case(1, case_id="K"), case(2, case_id="K"), case(3, case_id="K", primero_id=alike)]
    for start in range(loads):
        load(ona, rows[: 2 + start] if loads > 1 else rows)
    long = f"K~{alike.replace('-', '')}"
    assert case_ids(ona_url) == {"K": id_of(1), own("K", 2): id_of(2), long: alike}


def test_a_plain_key_and_a_made_key_that_are_equal_in_one_load_both_come(ona_url, ona):
    """Whichever of them is decided first, the other must not fail the quarter."""
    load(ona, [case(1, case_id="K"), case(2, case_id="K"), case(8, case_id=own("K", 2))])
    assert case_ids(ona_url) == {"K": id_of(1), own("K", 2, digits=32): id_of(2), own("K", 2): id_of(8)}
    load(ona, [case(1, case_id="L"), case(2, case_id="L"), case(8, case_id=own("L", 2, digits=32))], quarter=Q2)
    assert len(case_ids(ona_url)) == 3


def test_a_plain_key_with_a_tilde_gets_the_whole_id(ona_url, ona):
    """Else `K~a` of one child and `K` of another could end as one key."""
    load(ona, [case(1, case_id="K~a"), case(2, case_id="K~a")])
    assert case_ids(ona_url) == {"K~a": id_of(1), own("K~a", 2, digits=32): id_of(2)}


def test_a_legacy_row_is_adopted_by_one_of_two_children_and_the_other_comes_beside_it(ona_url, ona):
    """The legacy pipeline merged them; its row is free for the one created first."""
    old_row(ona, 1)
    load(ona, [case(2, case_id="case-1"), case(3, case_id="case-1", created_at=EARLIER)])
    assert case_ids(ona_url) == {"case-1": id_of(3), own("case-1", 2): id_of(2)}
    assert service_ids(ona_url) == {}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.proves("keys")
def test_children_who_share_the_ids_of_their_services_keep_all_of_them(ona_url, empty_ona, shape):
    """OSCaR sends the id of the service's type: of 120 services 6 came, and 37 of 40 children had none."""
    make_tables(empty_ona, shape)
    children = [case(n) for n in range(1, 41)]
    services = [service(kind, n) for n in range(1, 41) for kind in (1, 2, 3)]
    result = load(empty_ona, children, services)
    assert result.services == counts(120, inserted=120, own_keys=117)
    assert read(ona_url, "SELECT count(*) AS n, count(DISTINCT primero_case_id) AS cases FROM services") == [
        {"n": 120, "cases": 40}
    ]
    assert {key for key in service_ids(ona_url) if "~" not in key} == {"service-1", "service-2", "service-3"}
    again = load(empty_ona, children, services, now=LATER)
    assert again.services == counts(120, unchanged=120, own_keys=117)


@pytest.mark.proves("keys")
def test_services_that_occur_again_within_a_case_get_the_number_of_their_place(ona_url, ona):
    """One child may have the same type of service several times."""
    several = [service(1, n, place=place, service_type=f"S{place}") for n in (1, 2) for place in (1, 2, 3)]
    load(ona, [case(1), case(2)], several)
    expected = {
        "service-1": "case-1",
        own("service-1", 1, place=2): "case-1",
        own("service-1", 1, place=3): "case-1",
        own("service-1", 2): "case-2",
        own("service-1", 2, place=2): "case-2",
        own("service-1", 2, place=3): "case-2",
    }
    assert service_ids(ona_url) == expected
    result = load(ona, [case(1), case(2)], [service(1, 1, service_type="S2"), *several[3:]])
    assert result.services == counts(4, updated=1, unchanged=3, removed=2, own_keys=3)


def test_an_id_in_primero_that_looks_like_a_key_of_our_own_does_not_stop_a_quarter(ona_url, ona):
    """Whoever may write an id there could keep the quarter out of ONA otherwise."""
    looks = service(0, 2, unique_id=own("service-1", 2))
    load(ona, [case(1), case(2)], [service(1, 1), looks])
    both = [case(1), case(2)], [service(1, 1), looks, service(1, 2)]
    assert load(ona, *both).services == counts(3, inserted=1, unchanged=2, own_keys=1)
    keys = {"service-1": "case-1", own("service-1", 2): "case-2", own("service-1", 2, digits=32): "case-2"}
    assert service_ids(ona_url) == keys
    assert load(ona, *both, now=LATER).services == counts(3, unchanged=3, own_keys=1)
    assert service_ids(ona_url) == keys


def test_services_of_a_case_that_ona_knows_better_are_in_nobodys_way(ona_url, ona):
    """Their keys would count as claims, and fail the load of those that are new."""
    load(ona, [case(1, primero_updated_at=at(9))], [service(1, 1)], quarter=Q2)
    result = load(ona, [case(1), case(2)], [service(1, 1, service_type="Old"), service(2, 1), service(2, 2)])
    assert (result.cases, result.services) == (counts(2, inserted=1, stale=1), counts(3, inserted=1, stale=2))
    assert service_ids(ona_url) == {"service-1": "case-1", "service-2": "case-2"}


def test_a_service_keeps_its_plain_key_and_frees_it_when_it_goes(ona_url, ona):
    """In whatever order children come, and whoever was created first."""
    load(ona, [case(1)], [service(1, 1)], quarter=Q1)
    load(ona, [case(2, created_at=LONG_AGO)], [service(1, 2)], quarter=Q2)
    assert service_ids(ona_url) == {"service-1": "case-1", own("service-1", 2): "case-2"}
    load(ona, [case(1), case(3)], [service(1, 3)], quarter=Q1)
    assert service_ids(ona_url) == {"service-1": "case-3", own("service-1", 2): "case-2"}


def test_a_service_id_held_by_a_legacy_row_of_another_case_stays_there(ona_url, ona):
    """The case_id tells whose it is; when that case comes, it takes its row over."""
    old_row(ona, 1)
    load(ona, [case(2)], [service(1, 2, unique_id="old-1")])
    assert service_ids(ona_url) == {"old-1": "case-1", own("old-1", 2): "case-2"}
    result = load(ona, [case(1)], [service(1, 1, unique_id="old-1")])
    assert result.services == counts(1, updated=1)
    assert service_ids(ona_url) == {"old-1": "case-1", own("old-1", 2): "case-2"}


def test_a_legacy_service_stays_with_its_case_when_both_come_at_once(ona_url, ona):
    """Whoever has the plain key keeps it."""
    old_row(ona, 1)
    both = [case(1), case(2, created_at=LONG_AGO)], [service(1, n, unique_id="old-1") for n in (1, 2)]
    load(ona, *both)
    assert service_ids(ona_url) == {"old-1": "case-1", own("old-1", 2): "case-2"}


def test_a_service_without_any_case_in_ona_stands_in_nobodys_way(ona_url, ona):
    """An orphan of the legacy pipeline must not keep a case from its service."""
    ona.execute("INSERT INTO services (unique_id, case_id) VALUES ('service-1', 'gone')")
    assert load(ona, [case(1)], [service(1, 1)]).services == counts(1, inserted=1, own_keys=1)
    assert service_ids(ona_url) == {"service-1": "gone", own("service-1", 1): "case-1"}


def test_the_load_works_though_services_refer_to_cases_by_a_foreign_key(ona_url, ona):
    """ONA may have such a constraint; rows must come and go in an order that it allows."""
    ona.execute("ALTER TABLE services ADD FOREIGN KEY (case_id) REFERENCES cases (case_id)")
    load(ona, [case(1), case(2)], [service(1, 1), service(2, 2)])
    load(ona, [case(1, case_id="new")], [service(1, 1, case_id="new")], [left(2, 1)])
    assert service_ids(ona_url) == {"service-1": "new"}


def state(url):
    return read(url, "SELECT sex FROM cases")[0]["sex"] if case_ids(url) else "gone"


OLD, NEW = {"sex": "Male"}, {"sex": "Female", "primero_updated_at": at(60)}


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (1, 2, "Male"),
        (2, 1, "Female"),
        (None, 1, "Male"),
        (1, None, "Female"),
    ],
    ids=["a later pull", "an earlier pull", "over a load without a number", "stored data"],
)
@pytest.mark.parametrize("quarters", [(Q1, Q1), (Q2, Q1)], ids=["one quarter", "another quarter"])
@pytest.mark.proves("any-order")
def test_what_a_later_pull_received_wins_though_its_stamp_is_older(ona_url, ona, first, second, expected, quarters):
    """Primero was restored from a backup, or its clock was ahead: ONA goes back with it; stored data never does."""
    stamp = at(60) if quarters[0] == Q1 else at(60 * 24 * 90)
    load(ona, [case(1, sex="Female", primero_updated_at=stamp)], quarter=quarters[0], pull=first)
    load(ona, [case(1, sex="Male")], quarter=quarters[1], pull=second, run_id="run-2")
    assert state(ona_url) == expected


def test_the_same_pull_loaded_again_is_stored_data(ona_url, ona):
    """What happened to the case since its pull must survive a remap of the quarter."""
    load(ona, [case(1, **OLD)], pull=1)
    load(ona, [case(1, **NEW)], pull=None, run_id="run-2")
    load(ona, [case(1, **OLD)], pull=1, run_id="run-3")
    assert state(ona_url) == "Female"


@pytest.mark.parametrize(("pull", "gone"), [(2, True), (None, False)], ids=["received", "stored"])
def test_an_exit_that_a_later_pull_received_wins_though_its_stamp_is_older(ona_url, ona, pull, gone):
    """A restored Primero has the case disabled, with the stamp it had then."""
    load(ona, [case(1, **NEW)], pull=1)
    load(ona, [], exits=[left(1)], pull=pull, run_id="run-2")
    assert (state(ona_url) == "gone") is gone


@pytest.mark.parametrize(("pull", "back"), [(2, True), (None, False)], ids=["received", "stored"])
def test_a_case_that_a_later_pull_received_comes_back_though_its_exit_is_newer(ona_url, ona, pull, back):
    """The exit was stamped before Primero was restored."""
    load(ona, [], exits=[left(1, 60)], pull=1)
    load(ona, [case(1)], pull=pull, run_id="run-2")
    assert (case_ids(ona_url) == {"case-1": id_of(1)}) is back


#: By what happened: the spans of pull 4, whether it saw the case stamped ahead, the quarter and the pull from which ONA has a
#: newer state, and whether the staged one wins all the same. Times are minutes after the stamp of the staged one.
SPANS = {
    "a whole walk": ([[4, None]], False, Q1, 1, True),
    "came with the changes": ([[4, -10]], False, Q1, 1, True),
    "came, stamped ahead": ([[4, 10]], True, Q1, 1, True),
    "carried over": ([[4, 10]], False, Q1, 1, False),
    "carried over from a pull that was never loaded": ([[4, 10], [2, None]], False, Q1, 1, True),
    "carried over twice, received by a pull that was never loaded": (
        [[4, 10], [3, -10], [2, None]],
        False,
        Q1,
        1,
        True,
    ),
    "carried over from a pull that was loaded meanwhile": ([[4, 10], [2, None]], False, Q1, 2, False),
    "carried over from a pull before that of ONA's": ([[4, 10], [2, None]], False, Q2, 3, False),
}


@pytest.mark.parametrize("leaves", [False, True], ids=["a case", "an exit"])
@pytest.mark.parametrize("name", SPANS)
@pytest.mark.proves("carried-rows")
def test_a_row_that_is_carried_over_has_no_more_authority_than_it_had(ona_url, ona, name, leaves):
    """A case that was stored days ago would else put a newer state of it back, each time its quarter is pulled."""
    spans, ahead, quarter, pull, wins = SPANS[name]
    newer = case(1, sex="Female", primero_updated_at=at(60) if quarter == Q1 else Q2.start)
    load(ona, [newer], quarter=quarter, pull=pull)
    received = {
        "spans": [[number, None if since is None else at(since).isoformat()] for number, since in spans],
        "ahead": [id_of(1)] if ahead else [],
    }
    staged, exits = ([], [left(1)]) if leaves else ([case(1, sex="Male")], [])
    load(ona, staged, exits=exits, pull=4, received=received, run_id="run-2")
    found = [row["sex"] for row in read(ona_url, "SELECT sex FROM cases")]
    assert found == ([] if leaves else ["Male"]) if wins else found == ["Female"]


@pytest.mark.proves("two-pulls")
def test_rows_and_exits_of_different_pulls_are_refused(ona_url, ona):
    """A case that left in one pull and stands in another would be loaded and removed at random."""
    with pytest.raises(TransientError, match="different pulls"):
        load_quarter(
            ona,
            quarter=Q1,
            run_id="run",
            cases=frames(CASES, [case(1)], {"pull_number": 1}),
            services=frames(SERVICES, [], {"pull_number": 1}),
            exits=Frames.of(frame([], EXIT_SCHEMA), summary={"pull_number": 2}),
            now=NOW,
        )
    assert case_ids(ona_url) == {}
