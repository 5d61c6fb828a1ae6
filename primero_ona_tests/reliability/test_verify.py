"""`verify` and the quarantine: what differs is found whatever the bookkeeping says, and just that is mended."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from primero_ona.errors import RefusedError, TransientError
from primero_ona.ona.connection import connect
from primero_ona.pipeline.reconcile import Reconciliation, reconcile
from primero_ona.pipeline.stored import Scope
from primero_ona.primero.client import PrimeroClient
from primero_ona.primero.inventory import presence_of, take_inventory
from primero_ona_tests import quick
from primero_ona_tests.harness import Q1, Q2, Graph
from primero_ona_tests.primero.pulling import Kept
from primero_ona_tests.reliability.syncing import place_of, repaired, sync_plainly, sync_rooms, terminal_of

SCOPE = Scope(Q1)


class Inventory(Kept):
    """A sink that keeps an inventory."""

    def leave(self, frame: Any) -> None:
        raise AssertionError


def asking(graph: Graph) -> PrimeroClient:
    return PrimeroClient(graph.primero.url, graph.primero.username, graph.primero.password, pause=0)


def look(graph: Graph, **options: Any) -> Reconciliation:
    with asking(graph) as client, connect(graph.url) as conn:
        return reconcile(client, conn, SCOPE, **options)


def repair(graph: Graph) -> Reconciliation:
    """Repair what a reconciliation finds; what a second one finds."""
    repaired(place_of(graph), SCOPE)
    return look(graph)


@pytest.fixture
def synced(graph: Graph) -> Graph:
    """Both quarters are in ONA, and time has passed since the last change."""
    assert [sync_rooms(place_of(graph), quarter) for quarter in (Q1, Q2)] == [0, 0]
    graph.clock.move(minutes=1)
    return graph


def belonging(graph: Graph, number: int) -> str:
    """The Primero id of a case in ONA that has services."""
    rows = graph.sql("SELECT DISTINCT primero_case_id::text FROM services ORDER BY 1")
    return str(rows[number][0])


def test_after_a_sync_nothing_differs_and_everybody_is_accounted_for(synced):
    """A proof that always finds something is not looked at any more."""
    total = look(synced).total
    assert total.differences == 0
    assert total.primero == total.equal + total.quarantined == total.ona + total.quarantined
    assert total.quarantined > 0


def test_a_sync_counts_all_that_went_into_quarantine(graph):
    """A child is missing from the dashboards whichever step put its row into quarantine."""
    outcome = graph.sync(Q1)
    entries = graph.sql(
        "SELECT 'ona/' || table_name, sum(entries)::int FROM primero_sync.quarantine WHERE resolved_at IS NULL GROUP BY 1"
    )
    counted = {table: counts["quarantined"] for table, counts in outcome.load.items() if "quarantined" in counts}
    assert counted == dict(entries)
    assert outcome.as_json()["quarantined"] == sum(count for _, count in entries)
    assert {table for table, _ in entries} == {"ona/cases", "ona/services"}


def test_an_empty_ona_lacks_every_case(graph):
    """The plainest of all faults."""
    total = look(graph).total
    assert (total.missing > 30, total.equal, total.ona) == (True, 0, 0)


Damage = Callable[[Graph], object]

DAMAGES: dict[str, tuple[str, Damage]] = {
    "missing": ("missing", lambda g: g.sql("DELETE FROM cases WHERE primero_id::text = %s", belonging(g, 0))),
    "stale": ("stale", lambda g: g.sql("UPDATE cases SET primero_updated_at = primero_updated_at - interval '1 day'"
                                       " WHERE primero_id::text = %s", belonging(g, 0))),
    "other content": ("different", lambda g: g.sql("UPDATE cases SET sex = 'x' WHERE primero_id::text = %s", belonging(g, 0))),
    "service gone": ("services", lambda g: g.sql("DELETE FROM services WHERE primero_case_id::text = %s", belonging(g, 0))),
    "service too many": ("services", lambda g: g.sql(
        "INSERT INTO services (unique_id, case_id, primero_case_id) SELECT 'too-many', case_id, primero_id FROM cases"
        " WHERE primero_id::text = %s", belonging(g, 0))),
    "service changed": ("services", lambda g: g.sql("UPDATE services SET service_type = 'x' WHERE unique_id ="
                                                    " (SELECT min(unique_id) FROM services)")),
    "edited, no sync since": ("stale", lambda g: (g.primero.update(belonging(g, 0), sex="other"), g.clock.move(minutes=9))),
    "disabled, no sync since": ("extra", lambda g: (g.primero.disable(belonging(g, 0)), g.clock.move(minutes=9))),
    "gone without a trace": ("extra", lambda g: g.primero.delete(belonging(g, 0))),
    "row of the old pipeline": ("extra", lambda g: g.sql("INSERT INTO cases (case_id) VALUES ('nobody')")),
    "old row of a case that is there": ("stale", lambda g: g.sql(
        "UPDATE cases SET primero_id = NULL WHERE primero_id::text = %s", belonging(g, 0))),
}  # fmt: skip


@pytest.mark.parametrize("damage", quick(DAMAGES, "service changed", "gone without a trace"))
@pytest.mark.proves("verify")
def test_each_damage_is_found_as_what_it_is_and_mended_alone(synced, damage):
    """The syncs believe their own bookkeeping; this must not, and must not rewrite the country to mend one child."""
    kind, harm = DAMAGES[damage]
    harm(synced)
    total = look(synced).total
    assert getattr(total, kind) == total.differences == 1
    untouched = "SELECT xmin::text, case_id FROM cases WHERE primero_id::text <> %s ORDER BY 2"
    rows = synced.sql(untouched, belonging(synced, 0))
    assert repair(synced).total.differences == 0
    assert len(set(rows) - set(synced.sql(untouched, belonging(synced, 0)))) <= 1


@pytest.mark.proves("verify")
def test_differences_are_told_by_the_quarter_of_the_cases_last_change(synced):
    """Whoever answers for a quarter must see which one is wrong."""
    synced.sql("DELETE FROM services")
    synced.sql("DELETE FROM cases WHERE primero_updated_at >= %s", Q2.start)
    found = {quarter.quarter: quarter for quarter in look(synced).quarters}
    assert (found["2024-Q1"].missing, found["2024-Q2"].missing > 5) == (0, True)


@pytest.mark.proves("smaller-loss")
def test_a_case_out_of_the_accounts_scope_is_told_from_one_that_is_gone(synced):
    """403 and 404 look alike in a list: the case is not there. One is an account's fault, the other a fact."""
    case = belonging(synced, 0)
    synced.primero.role.owner = "case_worker_1"
    for other in synced.primero.cases.records():
        owner = "somebody else" if other["id"] == case else "case_worker_1"
        synced.primero.update(other["id"], owned_by=owner, last_updated_at=stamp_of(other))
    with asking(synced) as client:
        assert presence_of(client, case) == "out of scope"
        synced.primero.delete(belonging(synced, 1))
        assert presence_of(client, belonging(synced, 1)) == "gone"
    total = look(synced).total
    assert (total.extra, total.out_of_scope, total.gone) == (2, 1, 1)
    assert repair(synced).total.differences == 0
    synced.primero.role.owner = None
    assert look(synced).total.missing == 1
    assert repair(synced).total.differences == 0, "a case that comes back with its old stamp was barred by its own exit"


def stamp_of(record: dict[str, Any]) -> Any:
    return datetime.fromisoformat(record["last_updated_at"])


@pytest.mark.proves("smaller-loss")
def test_a_repair_refuses_to_empty_ona_for_an_account_that_has_lost_its_scope(synced):
    """A role changed by mistake would otherwise take every child out of the dashboards, confirmed one by one."""
    for number, other in enumerate(list(synced.primero.cases.records())):
        owner = "me" if number % 2 else "somebody else"
        synced.primero.update(other["id"], owned_by=owner, last_updated_at=stamp_of(other))
    synced.primero.role.owner = "me"
    with pytest.raises(RefusedError, match="scope `all`"):
        repair(synced)
    assert synced.sql("SELECT count(*) > 30 FROM cases") == [(True,)]


@pytest.mark.proves("smaller-loss")
def test_fifty_single_cases_that_agree_stand_for_an_account_that_has_lost_its_scope(synced, monkeypatch):
    """A thousand questions, a second each, would say no more; and the others must neither count as gone nor leave ONA."""
    monkeypatch.setattr("primero_ona.primero.inventory.AGREED", 5)
    synced.primero.create(age=9, owned_by="me")
    synced.primero.role.owner = "me"
    synced.sql("DELETE FROM primero_sync.fields")  # one case shows few fields
    synced.primero.log.clear()
    total = look(synced).total
    singles = [entry for entry in synced.primero.log if entry.path.startswith("/api/v2/cases/")]
    assert (len(singles), total.out_of_scope, total.gone) == (5, 5, 0)
    assert total.unconfirmed == total.extra - 5 > 20
    with pytest.raises(
        RefusedError, match=rf"and {total.unconfirmed} more that it does not show were never asked about"
    ):
        repair(synced)
    assert synced.sql("SELECT count(*) > 30 FROM cases") == [(True,)]


def test_cases_that_are_gone_are_all_asked_about(synced, monkeypatch):
    """That so many are gone is a fact, which a repair may act on only when each was confirmed."""
    monkeypatch.setattr("primero_ona.primero.inventory.AGREED", 5)
    for case in list(synced.primero.cases.records())[:40]:
        synced.primero.delete(case["id"])
    total = look(synced).total
    assert (total.gone > 10, total.gone, total.unconfirmed) == (True, total.extra, 0)


@pytest.mark.proves("complete")
def test_a_change_within_the_grace_is_pending_and_no_difference(synced):
    """The monthly check runs while people work; what the sensor has not seen yet is nobody's fault."""
    synced.primero.update(belonging(synced, 0), sex="other")
    synced.clock.move(minutes=5)
    total = look(synced, grace=timedelta(hours=1)).total
    assert (total.differences, total.pending) == (0, 1)
    assert look(synced).total.stale == 1


@pytest.mark.proves("edits-during-pull")
def test_an_inventory_that_shrinks_while_it_is_read_is_taken_again(graph, caplog):
    """A case that vanishes shifts every later page by one, so that a case is never seen."""
    graph.primero.switches.per_cap = 10
    victim = sorted(case["id"] for case in graph.primero.cases.records())[2]
    graph.primero.after(6, lambda server: server.delete(victim))
    sink = Inventory()
    with asking(graph) as client:
        report = take_inventory(client, sink)
    assert report.takes == 2
    assert [record.getMessage() for record in caplog.records] == ["inventory 1 of 3: 1 cases vanished meanwhile"]
    assert sorted(sink.ids) == sorted(case["id"] for case in graph.primero.cases.records())


@pytest.mark.proves("edits-during-pull")
def test_cases_created_while_an_inventory_is_read_double_nobody(graph):
    """They shift later pages towards the end, which shows a case twice."""
    graph.primero.switches.per_cap = 10
    for request in (5, 6, 7):
        graph.primero.after(request, lambda server: [server.create(age=9) for _ in range(3)])
    sink = Inventory()
    with asking(graph) as client:
        take_inventory(client, sink)
    assert len(sink.ids) == len(set(sink.ids)) >= 60


@pytest.mark.proves("wrong-total")
def test_an_inventory_that_stays_short_is_no_proof(graph):
    """A server that counts more than it shows must not make ONA look complete."""
    graph.primero.fail("wrong total", times=None, by=3)
    with asking(graph) as client, pytest.raises(TransientError, match="not complete, 3 times"):
        take_inventory(client, Inventory())


def test_an_inventory_asks_with_no_window_but_for_its_count(graph):
    """A range over the JSON stamp makes Primero read its whole table for each page."""
    with asking(graph) as client:
        take_inventory(client, Inventory())
    windows = [
        entry.query
        for entry in graph.primero.log
        if "last_updated_at=" in entry.query and "&id=" not in f"&{entry.query}"
    ]
    assert len(windows) == 1
    assert "per=0" in windows[0]


@pytest.mark.parametrize("trouble", ["no case comes", "all that scans times out"])
@pytest.mark.proves("primero-gave-up")
def test_an_inventory_of_nothing_is_no_proof(graph, trouble):
    """ONA would seem to hold thousands of cases too many."""
    if trouble == "no case comes":
        graph.primero.fail("swallow", after=2, times=None)
    else:
        graph.primero.switches.scans_time_out = True
    with asking(graph) as client, pytest.raises(TransientError):
        take_inventory(client, Inventory())


@pytest.mark.proves("no-stamp")
def test_a_case_without_a_time_of_its_last_change_is_counted_and_left_out(graph):
    """No quarter has it, so no sync brings it; without a window it comes all the same."""
    graph.primero.create(age=9, last_updated_at=None)
    sink = Inventory()
    with asking(graph) as client:
        report = take_inventory(client, sink)
    assert (report.unstamped, report.cases) == (1, len(sink.ids))
    assert sorted(sink.ids) == sorted(case["id"] for case in graph.primero.cases.records() if case["last_updated_at"])


def test_nothing_of_a_case_but_its_status_is_asked_when_it_is_confirmed(graph):
    """A single case without `fields` comes with names and addresses."""
    with asking(graph) as client:
        presence_of(client, next(graph.primero.cases.records())["id"])
    assert graph.primero.log[-1].query == "fields=status"


@pytest.fixture
def command(graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs `primero-ona` with these arguments on the sandbox."""
    return terminal_of(graph, tmp_path, monkeypatch)


@pytest.mark.proves("unknown-birthday")
def test_verify_warns_where_it_could_read_no_date_of_birth(synced, command):
    """Who is a child is then decided by another rule than that of the syncs, and the reader must know."""
    warning = "figures of past years shrink as children grow up"
    assert warning not in " ".join(command("verify").output.split())
    synced.primero.role.withheld.add("date_of_birth")
    synced.sql("DELETE FROM primero_sync.fields WHERE name = 'date_of_birth'")  # as where no pull was ever shown it
    found = command("verify")
    assert warning in " ".join(found.output.split())
    assert found.exit_code == 1, "the ages that ONA has are not confirmed"


@pytest.mark.proves("quarantine")
def test_the_quarantine_is_listed_without_values_and_a_row_that_becomes_good_leaves_it(graph, command):
    """Somebody gives the child its case id in Primero; nobody should have to clear a list by hand."""
    sync_plainly(graph, Q2)
    graph.clock.move(minutes=1)
    listed = command("quarantine", "list", "--json")
    entries = json.loads(listed.stdout)
    keyless = [entry for entry in entries if entry["reason"] == "case_id missing"]
    assert listed.exit_code == 0
    assert keyless
    assert set(entries[0]) == {
        "quarter", "table_name", "primero_id", "reason", "entries", "run_id", "first_seen", "last_seen",
        "resolved_at",
    }  # fmt: skip
    case = keyless[0]["primero_id"]
    graph.primero.update(case, case_id_display="good-now")
    retried = command("quarantine", "retry", "--json")
    left = json.loads(retried.stdout)["open"]
    assert case not in {entry["primero_id"] for entry in left if entry["reason"] == "case_id missing"}
    assert {entry["primero_id"] for entry in left} == {entry["primero_id"] for entry in entries} - {case} | {
        entry["primero_id"] for entry in left if entry["primero_id"] == case
    }
    assert graph.sql("SELECT count(*) FROM cases WHERE case_id = 'good-now'") == [(1,)]
    assert retried.exit_code == (1 if left else 0)
