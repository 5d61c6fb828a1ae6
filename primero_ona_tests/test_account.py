"""Primero's account: a part of its scope that is lost, and a login that is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from typer.testing import Result

from primero_ona.errors import RefusedError
from primero_ona.graph import due
from primero_ona.graph.due import OnaLoginMemory
from primero_ona.graph.resources import OnaDatabaseResource, PrimeroResource
from primero_ona.primero.client import PrimeroClient
from primero_ona.primero.visible import KnownScope
from primero_ona.settings import PrimeroSettings
from primero_ona_tests.harness import Q1, Q2, GivenOna, Graph, small, wired
from primero_ona_tests.reliability.syncing import place_of, pull, sync_plainly, terminal_of

Command = Callable[..., Result]


@pytest.fixture
def graph(postgres: Any) -> Iterator[Graph]:
    """Sixty cases in two quarters; nothing is synced yet."""
    with wired(postgres, "account", small(60, odd=False)) as made:
        yield made


@pytest.fixture
def command(graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs `primero-ona` on the graph."""
    return terminal_of(graph, tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("last", "in_ona", "accepted", "visible", "refused"),
    [
        (None, 0, False, 3, False),  # the first pull of all
        (3_000, 2_500, False, 3_000, False),
        (3_000, 2_500, False, 3_500, False),
        (3_000, 2_500, False, 2_940, False),  # two per cent
        (3_000, 2_500, False, 2_939, True),
        (3_000, 2_500, False, 3, True),
        (100, 90, False, 90, False),  # ten cases
        (100, 90, False, 89, True),
        (None, 2_500, False, 3, True),  # the first pull of a version that counts
        (3, 2_500, False, 3, True),
        (3, 2_500, True, 3, False),
        (2_000, 2_500, True, 1_900, True),  # less than was accepted
    ],
)
@pytest.mark.proves("lost-scope")
def test_a_fall_is_one_by_more_than_two_per_cent_and_ten_cases(
    last: int | None, in_ona: int, accepted: bool, visible: int, refused: bool
) -> None:
    """Administrators delete a few cases now and then; a role that is changed takes hundreds out of sight."""
    scope = KnownScope(last, in_ona, accepted)
    if refused:
        with pytest.raises(RefusedError, match=f"primero-ona account accept-cases {visible}`"):
            scope.check(visible)
    else:
        scope.check(visible)


def lose_scope(graph: Graph, kept: int) -> None:
    """Let the account see so many cases, as where its scope becomes its own agency."""
    for case in list(graph.primero.cases.records())[:kept]:
        graph.primero.update(case["id"], owned_by="me", last_updated_at=case["last_updated_at"])
    graph.primero.role.owner = "me"


@pytest.mark.proves("lost-scope")
def test_an_account_that_has_lost_a_part_of_its_scope_stores_nothing_until_an_operator_accepts_it(
    graph: Graph, command: Command
) -> None:
    """Primero says 200 and nothing else, and the quarters of those children would never change again."""
    sync_plainly(graph, Q1, Q2)
    stored = sorted((path, path.stat().st_mtime_ns) for path in graph.folder.rglob("*") if path.is_file())
    lose_scope(graph, 30)
    outcome = graph.sync(Q1)
    assert outcome.kind == "RefusedError"
    assert "Primero shows this account 30 cases, where 60 were visible before" in (outcome.failure or "")
    assert sorted((path, path.stat().st_mtime_ns) for path in graph.folder.rglob("*") if path.is_file()) == stored
    assert graph.instance.get_run_by_id(outcome.run_id).tags["dagster/retry_on_asset_or_op_failure"] == "false"
    assert command("account", "accept-cases", "30").exit_code == 0
    sync_plainly(graph, Q1, Q2)
    graph.primero.role.owner = None
    sync_plainly(graph)
    assert graph.sql("SELECT cases, accepted_at FROM primero_sync.visible_cases") == [(60, None)]
    graph.primero.role.owner = "me"
    with pytest.raises(RefusedError, match="where 60 were visible before"):  # what was accepted was over with the scope
        pull(place_of(graph), Q1)


@pytest.mark.proves("lost-scope")
def test_what_counts_as_a_fall_is_a_setting(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small country deletes more in one day than a large one loses."""
    sync_plainly(graph)
    lose_scope(graph, 30)
    monkeypatch.setenv("PRIMERO_ONA_SCOPE_LOSS_CASES", "30")
    assert graph.sync(Q1).failure is None


def asked(graph: Graph) -> list[int]:
    """The statuses of what Primero was asked since the last look."""
    statuses = [entry.status for entry in graph.primero.log]
    graph.primero.log.clear()
    return statuses


def tick(graph: Graph) -> str:
    """What a tick of the sensor says, with the settings of the environment."""
    resources = {"primero": PrimeroResource(), "ona": OnaDatabaseResource()}
    context = dg.build_sensor_context(instance=graph.instance, resources=resources)
    found = graph.defs.resolve_sensor_def("watch_primero")(context)
    assert isinstance(found, dg.SensorResult)
    return "asks" if found.run_requests else found.skip_reason.skip_message if found.skip_reason else ""


@pytest.mark.proves("refused-login")
def test_a_refused_login_is_asked_once_by_all_together_and_again_only_when_it_changes(
    graph: Graph, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sensor asks every quarter of an hour, and the sixth failure locks the account for everything that uses it."""
    right = graph.primero.password
    monkeypatch.setenv("PRIMERO_PASSWORD", "wrong")
    first = command("sync", "--quarter", "2024-Q1")
    assert (first.exit_code, asked(graph)) == (3, [401])
    for again in (command("sync", "--quarter", "2024-Q1"), command("verify"), command("reference", "refresh")):
        assert (again.exit_code != 0, asked(graph)) == (True, [])
    assert "and it is not asked again: six failed logins" in tick(graph)
    assert asked(graph) == []
    monkeypatch.setenv("PRIMERO_PASSWORD", right)
    assert tick(graph) == "asks"
    assert set(asked(graph)) == {200}
    monkeypatch.setenv("PRIMERO_PASSWORD", "wrong")
    assert "run `primero-ona account retry-login`" in tick(graph)
    assert asked(graph) == []


@pytest.mark.proves("refused-login")
def test_a_login_that_is_right_is_asked_again_when_a_person_says_so(graph: Graph, command: Command) -> None:
    """An account that was locked or disabled has the password that it had before."""
    graph.primero.login.active = False
    assert "refuses the login" in tick(graph)
    assert asked(graph) == [401]
    assert isinstance(command("account", "retry-login").exception, RefusedError)
    assert asked(graph) == [401]
    graph.primero.login.active = True
    assert "it is not asked again" in tick(graph)
    assert (asked(graph), command("account", "retry-login").exit_code, asked(graph)) == ([], 0, [200])
    assert tick(graph) == "asks"


@pytest.mark.proves("primero-password")
def test_no_reader_of_the_bookkeeping_can_try_passwords_on_what_it_keeps(
    graph: Graph, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hash of a weak password without a key is the password."""
    graph.primero.login.active = False
    for key in ("one-key,another", "another"):
        monkeypatch.setenv("PRIMERO_ONA_STORAGE_KEYS", key)
        tick(graph)
    subjects = [subject for (subject,) in graph.sql("SELECT subject FROM primero_sync.refused_logins")]
    assert len(set(subjects)) == 2
    assert {len(subject) for subject in subjects} == {64}


@pytest.mark.proves("refused-login")
def test_where_ona_cannot_be_asked_the_process_remembers_the_refusal(
    graph: Graph, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two troubles at once must not lock the account either."""
    monkeypatch.setattr(due, "_seen_here", {})
    monkeypatch.setenv("PRIMERO_PASSWORD", "wrong")
    settings = PrimeroSettings()
    memory = OnaLoginMemory(GivenOna("postgresql://sync:s3cret@127.0.0.1:9/ona"), settings)
    for _ in range(3):
        with (
            PrimeroClient(settings.url, settings.username, "wrong", pause=0, logins=memory) as client,
            pytest.raises(RefusedError),
        ):
            client.version()
    assert asked(graph) == [401]
