"""Fields of cases from Primero to ONA: a Primero that has just begun, a field that comes no more, and accepting that."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from primero_ona.errors import RefusedError
from primero_ona.quarters import current_quarter
from primero_ona.sandbox.cases import Wish
from primero_ona_tests.harness import Q1, Graph, small, wired
from primero_ona_tests.reliability.syncing import place_of, pull, sync_plainly, terminal_of

Command = Callable[..., Result]


@pytest.fixture
def young(postgres: Any) -> Iterator[Graph]:
    """Five cases of today, none with a disability, a placement, an OSCaR number or a service."""
    with wired(postgres, "fields_young", Wish(0)) as graph:
        graph.clock.now = datetime.now(UTC) - timedelta(minutes=5)
        for number in range(5):
            graph.primero.create(age=9 + number, type_of_case="other", sex="male", consent_reporting="true")
        graph.clock.now = datetime.now(UTC)
        yield graph


@pytest.fixture
def graph(postgres: Any) -> Iterator[Graph]:
    """Forty cases with all fields, synced once."""
    with wired(postgres, "fields", small(40, odd=False)) as graph:
        sync_plainly(graph)
        yield graph


@pytest.fixture
def command(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs `primero-ona` on the graph that the test uses."""
    graph = request.getfixturevalue("young" if "young" in request.fixturenames else "graph")
    return terminal_of(graph, tmp_path, monkeypatch)


@pytest.mark.proves("young-primero")
def test_a_young_primero_is_synced_and_verified_and_its_empty_columns_are_warned_of(young: Graph, command: Command):
    """It was refused for want of forms that the role had: no case had a disability, a placement, a service yet."""
    run = young.sync(current_quarter())
    assert run.failure is None
    assert young.sql("SELECT count(*) FROM cases WHERE disabled IS NULL AND placement_type IS NULL") == [(5,)]
    seen = {check.asset: check for check in run.checks if check.name == "fields_seen"}
    assert set(seen) == {"raw_reintegration_cases", "raw_under18_cases"}
    for check in seen.values():
        assert (check.passed, check.severity) == (False, "WARN")
        assert "no case has them yet, or the account's role may not read their form" in check.text
        assert "disability_type" not in check.text, "the first case with one would show it"
    found = command("verify", "--json")
    assert (found.exit_code, json.loads(found.stdout)["differences"]) == (0, 0), found.output


@pytest.mark.proves("lost-field")
def test_a_field_that_comes_no_more_stops_syncs_and_repairs_until_it_is_accepted(graph: Graph, command: Command):
    """A role changed by mistake would empty a column child by child, and `verify --repair` would do it at once."""
    before = graph.sql("SELECT xmin::text, case_id, sex FROM cases ORDER BY case_id")
    stored = graph.read("raw_under18_cases")["sex"].notna().sum()
    graph.primero.role.withheld = {"sex"}
    for run in (graph.sync(), graph.sync()):
        assert run.kind == "RefusedError"
        assert "earlier pulls were shown the field sex" in str(run.failure)
        assert "`primero-ona fields accept sex`" in str(run.failure)
    assert graph.read("raw_under18_cases")["sex"].notna().sum() == stored > 0
    case = str(graph.sql("SELECT primero_id::text FROM cases")[0][0])
    graph.sql(
        "INSERT INTO primero_sync.quarantine VALUES ('2024-Q1', 'cases', %s, NULL, 'any', 1, 'r', now(), now())", case
    )
    for words in (("verify",), ("verify", "--repair"), ("quarantine", "retry")):
        refused = command(*words)
        assert refused.exit_code in {1, 3}
        assert refused.exit_code == 3 or "earlier pulls were shown the field sex" in str(refused.exception)
    assert graph.sql("SELECT xmin::text, case_id, sex FROM cases ORDER BY case_id") == before
    assert command("fields", "accept", "sex").exit_code == 0
    sync_plainly(graph)
    assert graph.sql("SELECT count(*) FROM cases WHERE sex IS NOT NULL") == [(0,)]


@pytest.mark.proves("lost-field")
def test_an_acceptance_is_repeated_safely_listed_and_ends_when_the_field_comes_back(graph: Graph, command: Command):
    """Accepted once and for all, a second loss years later would go unseen."""
    graph.primero.role.withheld = {"care_date"}
    for _ in range(2):
        assert command("fields", "accept", "care_date").exit_code == 0
    listed = json.loads(command("fields", "list", "--json").stdout)
    accepted = {entry["name"]: entry["accepted_at"] for entry in listed["shown"]}
    assert [name for name, at in accepted.items() if at] == ["care_date"]
    assert listed["never"] == []
    sync_plainly(graph)
    assert graph.sql("SELECT accepted_at IS NOT NULL FROM primero_sync.fields WHERE name = 'care_date'") == [(True,)]
    graph.primero.role.withheld = set()
    sync_plainly(graph)
    assert graph.sql("SELECT count(*) FROM primero_sync.fields WHERE accepted_at IS NOT NULL") == [(0,)]
    graph.primero.role.withheld = {"care_date"}
    with pytest.raises(RefusedError, match="care_date"):
        pull(place_of(graph), Q1)


def test_a_field_that_was_never_shown_cannot_be_accepted(young: Graph, command: Command):
    """A misspelt name would be accepted, and the sync would go on failing."""
    for name in ("oscar_number", "name", "no_such_field"):
        refused = command("fields", "accept", name)
        assert type(refused.exception).__name__ == "UsageError"
        assert "1 of these names is of no field that a pull was ever shown" in str(refused.exception)
    listed = json.loads(command("fields", "list", "--json").stdout)
    assert (listed["shown"], "oscar_number" in listed["never"]) == ([], True)
    assert "Never seen" in command("fields", "list").stdout
