"""The reference data in the real graph: what a refresh changes, what it reports, and what serves where Primero refuses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import dagster as dg
import pytest

from primero_ona.errors import TransientError
from primero_ona.graph.runs import RunOutcome
from primero_ona.pipeline.reference import labels_in_use, stored_reference
from primero_ona.pipeline.stored import mapped_otherwise
from primero_ona.primero.reference import LISTS, Reference, refresh
from primero_ona.sandbox.changes import ReferenceData
from primero_ona_tests import quick
from primero_ona_tests.harness import (
    NOW,
    Q1,
    Graph,
    in_quarter,
    run_unpartitioned,
    seed_reference,
    small,
    sync_quarter,
    wired,
)
from primero_ona_tests.reliability.syncing import sync_plainly

CONCERNS = "lookup-protection-concerns"


@pytest.fixture(scope="module")
def synced(postgres: Any) -> Iterator[Graph]:
    """A graph whose first quarter was synced on empty ground, without odd cases."""
    with wired(postgres, "reference", small(300, odd=False)) as graph:
        graph.first = refreshed(graph)  # type: ignore[attr-defined]
        assert graph.sync(Q1).failure is None
        yield graph


@pytest.fixture
def graph(synced: Graph) -> Iterator[Graph]:
    """The same, with Primero's lists as they were at first; a test leaves its own traces in ONA only."""
    yield synced
    vars(synced.primero.reference).update(vars(ReferenceData()))
    synced.primero.role.refused.clear()


def refreshed(graph: Graph) -> RunOutcome:
    outcome = run_unpartitioned(graph.defs.resolve_job_def("refresh_reference"), graph.instance)
    assert outcome.failure is None
    return outcome


def remapped(graph: Graph) -> RunOutcome:
    outcome = sync_quarter(graph.defs.resolve_job_def("remap_quarter"), graph.instance, Q1)
    assert outcome.failure is None
    return outcome


def finding(outcome: RunOutcome, name: str) -> str:
    """What a check that did not pass says; empty where it passed."""
    check = next(check for check in outcome.checks if check.name == name)
    assert check.severity == "WARN"
    return "" if check.passed else check.text


def shown(graph: Graph, outcome: RunOutcome, name: str) -> list[dict[str, Any]]:
    """The table that a check of a run shows."""
    for event in graph.instance.all_logs(outcome.run_id):
        if event.dagster_event and event.dagster_event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            data = event.dagster_event.asset_check_evaluation_data
            tables = [data.metadata[key] for key in data.metadata if key != "faults"]
            if data.check_name == name and tables:
                return [dict(record.data) for record in tables[0].records]
    return []


def edit_a_case(graph: Graph, number: int, **changes: Any) -> None:
    """Change a case of a child of 2024-Q1 in the last minutes of the quarter."""
    children = [
        case["id"] for case in in_quarter(graph.primero, Q1) if (case.get("age") or 99) < 18 and case["record_state"]
    ]
    graph.primero.update(children[number], last_updated_at=Q1.end - timedelta(minutes=number), **changes)


def rows_in_ona(graph: Graph, label: str) -> int:
    query = "SELECT count(*) FROM cases WHERE strpos(', ' || protection_concerns || ', ', %s) > 0"
    return int(graph.sql(query, f", {label}, ")[0][0])


def test_the_first_refresh_fills_onas_tables_and_a_sync_asks_for_no_list(synced):
    """A sync asks Primero for cases only: the lists are whole once a week."""
    loaded = synced.first.load
    assert loaded["ona/locations_lookup"]["inserted"] == 197
    assert loaded["ona/data_dictionary"]["inserted"] > 150
    synced.primero.log.clear()
    synced.sync(Q1)
    assert not [entry for entry in synced.primero.log if "locations" in entry.path or "forms" in entry.path]


def test_a_second_refresh_changes_nothing(graph):
    """The dashboards must not see a change that there is not."""
    refreshed(graph)
    for counts in refreshed(graph).load.values():
        assert counts["written"] == 0
        assert counts["unchanged"] > 150


def test_clean_data_has_no_finding(graph):
    """A check that always warns is read by nobody; each option that occurs has its row, and the retired one is accepted."""
    outcome = refreshed(graph)
    assert finding(outcome, "options_described") == finding(outcome, "names_in_use") == ""
    assert finding(outcome, "lists_current") == finding(outcome, "places_clear") == ""
    assert finding(outcome, "labels") == ""


@pytest.mark.proves("labels-decide")
def test_a_renamed_option_is_reported_and_ours_stays(graph):
    """Dashboards filter on the label: it changes when a person says so."""
    before = rows_in_ona(graph, "Separated")
    graph.primero.reference.set_option(CONCERNS, "refugee", en="Separated child")
    outcome = refreshed(graph)
    assert "1 × label differs from Primero's" in finding(outcome, "labels")
    row = next(row for row in shown(graph, outcome, "labels") if row["code"] == "refugee")
    assert (row["ours"], row["primeros"]) == ("Separated", "Separated child")
    assert "rows" not in row, "how many children a label concerns is for `labels diff`"
    remapped(graph)
    assert rows_in_ona(graph, "Separated") == before > 0


@pytest.mark.proves("labels-decide")
def test_a_new_option_gets_primeros_label_and_is_reported(graph):
    """The children concerned must not vanish from the figures until the mapping knows the option."""
    edit_a_case(graph, 1, protection_concerns=["refugee", "brand_new_12345"])
    graph.primero.reference.set_option(CONCERNS, "brand_new_12345", en="Online \u200bgrooming, new ", km="ថ្មី")
    refreshed(graph)
    outcome = graph.sync(Q1)
    assert outcome.failure is None
    assert "`primero-ona findings` lists them" in finding(outcome, "unmapped_codes")
    assert rows_in_ona(graph, "Online grooming, new") == 1
    again = refreshed(graph)
    row = next(row for row in shown(graph, again, "labels") if row["code"] == "brand_new_12345")
    assert row["kind"] == "code known to Primero only; its label is used"
    assert finding(again, "options_described") == ""
    told = graph.sql("SELECT option_value_km FROM data_dictionary WHERE option_id = 'brand_new_12345'")
    assert told == [("ថ្មី",)]


def test_codes_that_only_cases_have_are_fields_with_the_number_of_codes(graph):
    """A code may be a word that somebody wrote about one child; who has the database can print it."""
    edit_a_case(graph, 1, protection_concerns=["typed_by_hand", "typed_again", "typed_again"], sex="typed")
    sync_plainly(graph)
    outcome = refreshed(graph)
    assert "3 × code unknown to Primero, too" in finding(outcome, "labels")
    assert shown(graph, outcome, "labels") == [
        {"field": "protection_concerns", "codes": "2"},
        {"field": "sex", "codes": "1"},
    ]
    assert "typed_" not in graph.events(outcome.run_id)


@pytest.mark.ci
def test_stored_quarters_are_mapped_again_without_asking_primero(graph):
    """A pull of years only to change a label would burden Primero, and might bring other rows."""
    edit_a_case(graph, 2, protection_concerns=["another_54321"])
    graph.primero.reference.set_option(CONCERNS, "another_54321", en="First name")
    refreshed(graph)
    graph.sync(Q1)
    graph.primero.reference.set_option(CONCERNS, "another_54321", en="Second name")
    refreshed(graph)
    labels = labels_in_use(stored_reference(graph.stored))
    assert mapped_otherwise(graph.stored, labels) == [Q1]
    graph.primero.log.clear()
    assert remapped(graph).load["ona/cases"]["updated"] == 1
    assert not graph.primero.log
    assert mapped_otherwise(graph.stored, labels) == []
    assert (rows_in_ona(graph, "First name"), rows_in_ona(graph, "Second name")) == (0, 1)
    described = "SELECT option_value FROM data_dictionary WHERE option_id = 'another_54321'"
    assert graph.sql(described) == [("Second name",)]


def test_a_retired_district_stays_and_is_marked(graph):
    """Its old cases keep their district's name."""
    graph.primero.reference.retire_place("601")
    assert refreshed(graph).load["ona/locations_lookup"]["retired"] == 2
    assert graph.sql("SELECT district, status FROM locations_lookup WHERE code = '601'") == [("Baray", "retired")]
    vars(graph.primero.reference).update(vars(ReferenceData()))
    refreshed(graph)
    assert graph.sql("SELECT status FROM locations_lookup WHERE code = '601'") == [("current",)]


@pytest.mark.proves("names-wait")
def test_a_renamed_district_waits_for_somebody(graph):
    """The series of a district would end on the day of a new spelling."""
    graph.primero.reference.rename_place("601", en="Baray Thmei")
    outcome = refreshed(graph)
    assert finding(outcome, "names_in_use") == "1 × changed district"
    assert shown(graph, outcome, "names_in_use")[0]["primeros"] == "Baray Thmei"
    assert graph.sql("SELECT district FROM locations_lookup WHERE code = '601'") == [("Baray",)]


@pytest.mark.parametrize("name", quick(LISTS, "locations"))
@pytest.mark.proves("refused-list")
def test_a_refused_list_is_served_by_the_last_one(graph, name):
    """A role that was narrowed over night must not turn the dashboards English, or empty a lookup."""
    refreshed(graph)
    before = stored_reference(graph.stored)
    graph.primero.role.refused.add(name)
    outcome = refreshed(graph)
    assert finding(outcome, "lists_current").startswith(f"1 × {name}: that of 20")
    assert all(counts["written"] == 0 for counts in outcome.load.values())
    after = stored_reference(graph.stored)
    assert after.refused == [name]
    assert after.lists[name].fetched_at == before.lists[name].fetched_at
    assert after.facts[name]["fingerprint"] == before.facts[name]["fingerprint"]


def test_a_refused_login_is_no_refused_list(graph):
    """Going on to the next list with a wrong password would lock the account."""
    graph.primero.login.active = False
    graph.primero.log.clear()
    try:
        outcome = run_unpartitioned(graph.defs.resolve_job_def("refresh_reference"), graph.instance)
    finally:
        graph.primero.login.active = True
    assert outcome.kind == "RefusedError"
    assert len(graph.primero.log) == 1


@pytest.mark.proves("refused-list")
@pytest.mark.ci
def test_where_nothing_is_stored_and_all_is_refused_ona_and_the_labels_serve(postgres):
    """An account that may read cases only must still be able to sync; nothing is guessed."""
    with wired(postgres, "refused", small(60, odd=False)) as graph:
        graph.primero.role.refused.update(LISTS)
        refreshed(graph)
        graph.sql("INSERT INTO locations_lookup SELECT '601', 'Baray', 'Kampong Thom', '6'")
        outcome = graph.sync(Q1)
        assert outcome.failure is None
        assert graph.sql("SELECT count(*) > 0 FROM cases WHERE sex IN ('Male', 'Female')") == [(True,)]
        assert graph.sql("SELECT DISTINCT province_current FROM cases ORDER BY 1")[0] == ("Kampong Thom",)
        told = refreshed(graph)
        assert finding(told, "lists_current").count("never read") == 3
        assert graph.sql("SELECT option_value_km FROM data_dictionary WHERE option_id = 'refugee'") == [("Separated",)]


@pytest.mark.proves("odd-place")
@pytest.mark.ci
def test_districts_without_a_province_cost_a_new_ona_no_other_and_are_named(postgres):
    """One mistake in a tree of 16,000 places kept every child out of a new ONA."""
    with wired(postgres, "odd_places", small(60, odd=False)) as graph:
        graph.primero.reference.retire_place("6")
        assert graph.sync(Q1).failure is None
        assert graph.sql("SELECT count(*) > 0 FROM cases") == [(True,)]
        assert graph.sql("SELECT count(*) FROM locations_lookup WHERE province_code = '6'") == [(0,)]
        assert graph.sql("SELECT count(*) FROM locations_lookup") == [(189,)]
        told = refreshed(graph)
        assert "1 × place 601 has no province above it" in finding(told, "places_clear")
        assert [row["code"] for row in shown(graph, told, "places_clear")] == [f"60{n}" for n in range(1, 9)]


def test_all_places_come_over_many_pages(graph):
    """Primero gives locations in no order; a page that repeats a place loses another."""
    with graph.resources["primero"].client() as client:
        found = refresh(client, None, NOW)
    types = [place["type"] for place in found.rows("locations")]
    assert len({place["code"] for place in found.rows("locations")}) == len(types) == 16_234
    assert (types.count("province"), types.count("district")) == (25, 197)
    assert found.facts["locations"]["version"] == graph.primero.switches.version
    again = Reference.of(found.frames())
    assert again.facts == found.facts


def test_a_list_that_changes_while_it_is_read_is_read_again_later(graph):
    """Half a list would mark the other half as retired."""
    graph.primero._app.after.append(
        lambda path: graph.primero.reference.retire_place("1") if path.endswith("locations") else None
    )
    try:
        with graph.resources["primero"].client() as client, pytest.raises(TransientError, match="not whole"):
            refresh(client, None, NOW)
    finally:
        graph.primero._app.after.pop()


def test_a_fingerprint_tells_content_and_not_order(graph):
    """Lookups come in any order where an older Primero ignores ours."""
    reference = stored_reference(graph.stored)
    options = reference.lists["lookups"]
    assert replace(options, contents=options.contents[::-1]).facts == options.facts
    assert replace(options, contents=options.contents[1:]).facts["fingerprint"] != options.facts["fingerprint"]


def test_the_reference_is_refreshed_weekly_and_before_a_quarter_is_closed(graph):
    """A quarter that is closed with last week's options would be closed with unmapped codes."""
    schedule = graph.defs.resolve_schedule_def("refresh_reference")
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING
    assert schedule.cron_schedule == ["0 1 * * 1", "0 1 5 1,4,7,10 *"]
    close = graph.defs.resolve_schedule_def("close_quarter")
    assert close.cron_schedule.split()[2:] == schedule.cron_schedule[1].split()[2:]
    assert int(close.cron_schedule.split()[1]) > int(schedule.cron_schedule[1].split()[1])


def test_without_reference_data_nothing_is_mapped_and_the_message_says_what_to_run(postgres):
    """Codes without labels and places without names would stand in ONA as if they were right."""
    with wired(postgres, "no_reference", small(20, odd=False)) as graph:
        outcome = sync_quarter(graph.defs.resolve_job_def("sync_quarter"), graph.instance, Q1)
        assert "run `primero-ona reference refresh`" in (outcome.failure or "")
        seed_reference(graph.stored, graph.connect, graph.primero.reference)
        graph.sql("DELETE FROM locations_lookup")
        outcome = sync_quarter(graph.defs.resolve_job_def("remap_quarter"), graph.instance, Q1)
        assert "locations_lookup is empty" in (outcome.failure or "")
        assert graph.sql("SELECT count(*) FROM cases") == [(0,)]
