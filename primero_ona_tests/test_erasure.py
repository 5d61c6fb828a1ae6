"""Erasure on request: the case is nowhere any more, does not come back, and the audit line tells nothing of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from typer.testing import CliRunner

from primero_ona.cli.app import app
from primero_ona.errors import UsageError
from primero_ona.ona.erasure import without_erased
from primero_ona.primero.raw import PULLED_SCHEMA
from primero_ona_tests.harness import Q1, Q2, Graph, small, table, wired
from primero_ona_tests.reliability.syncing import sync_plainly, terminal_of


@pytest.fixture
def graph(postgres: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Graph]:
    """40 plain cases, 2024-Q1 synced, and an environment that names this ONA and these partitions."""
    with wired(postgres, "erasure", small(40, odd=False)) as graph:
        terminal_of(graph, tmp_path, monkeypatch)
        sync_plainly(graph)
        yield graph


def test_a_pull_that_has_seen_no_case_is_not_ended_by_an_earlier_erasure() -> None:
    """A page without cases of other modules lost its columns as soon as anybody was erased."""
    empty = table([], PULLED_SCHEMA)
    assert list(without_erased(empty, frozenset({"subject"}))) == PULLED_SCHEMA.names


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, arguments)


def victim(graph: Graph) -> tuple[str, str]:
    """A case with services: Primero's id, and the display id."""
    return graph.sql("""
        SELECT c.primero_id::text, c.case_id FROM cases c
         WHERE EXISTS (SELECT FROM services v WHERE v.primero_case_id = c.primero_id) ORDER BY 1 LIMIT 1
    """)[0]


def everything_in_ona(graph: Graph) -> str:
    """Every row of every table, as text."""
    tables = graph.sql("SELECT schemaname, tablename FROM pg_tables WHERE schemaname IN ('public', 'primero_sync')")
    return "\n".join(str(graph.sql(f'SELECT t::text FROM "{schema}"."{name}" t')) for schema, name in tables)


def ids_stored(graph: Graph) -> set[str]:
    return {
        case
        for asset, column in (
            ("raw_under18_cases", "id"), ("raw_reintegration_cases", "id"), ("case_exits", "id"),
            ("mapped_cases", "primero_id"), ("mapped_services", "primero_case_id"),
        )
        for case in graph.read(asset)[column]
    }  # fmt: skip


@pytest.mark.proves("erasure")
def test_a_forgotten_case_is_nowhere_and_stays_away(graph):
    """A family was promised that the record is gone; the next nightly sync must not break the promise."""
    case, shown = victim(graph)
    before = graph.sql("SELECT count(*) FROM cases")[0][0]
    graph.sql(
        "INSERT INTO primero_sync.quarantine VALUES ('2024-Q1', 'cases', 'other', %s, 'x', 1, 'run', now(), now())",
        case,
    )
    result = run("forget", "--primero-id", case.upper())
    assert result.exit_code == 0, result.output
    for _ in range(2):
        stand = everything_in_ona(graph)
        assert case not in stand
        assert f"({shown}," not in stand
        assert case not in ids_stored(graph)
        assert graph.sql("SELECT count(*) FROM cases")[0][0] == before - 1
        outcome = graph.sync()
        assert outcome.failure is None
    assert case not in graph.events(outcome.run_id)


@pytest.mark.proves("erasure")
def test_the_audit_line_tells_when_and_how_much_and_not_who(graph):
    """An audit line that names the child would be one more copy."""
    case, shown = victim(graph)
    run("forget", "--primero-id", case)
    run("forget", "--primero-id", case)
    lines = graph.sql("SELECT * FROM primero_sync.erasures")
    assert len(lines) == 1
    assert (lines[0][2], lines[0][3] > 0, lines[0][5] > 0) == (1, True, True)
    assert case not in str(lines)
    assert shown not in str(lines)


@pytest.mark.proves("erasure")
def test_what_a_pull_stored_before_the_erasure_is_not_loaded_after_it(graph):
    """A run that is at work while somebody erases must not write the case a minute later."""
    case, _ = victim(graph)
    raw = {asset: graph.read(asset) for asset in ("mapped_cases", "mapped_services")}
    summaries = {asset: dict(graph.opened(asset).summary) for asset in raw}
    run("forget", "--primero-id", case)
    for asset, frame in raw.items():
        graph.write(asset, frame, summary=summaries[asset])
    import dagster as dg

    result = graph.execute(dg.AssetSelection.assets("ona/cases", "ona/services"))
    assert result.success
    assert case not in everything_in_ona(graph)


def test_several_cases_go_together_and_unknown_ones_do_no_harm(graph):
    """A request may name a case that never came this far."""
    ids = [row[0] for row in graph.sql("SELECT primero_id::text FROM cases ORDER BY 1 LIMIT 2")]
    unknown = "00000000-0000-4000-8000-000000000000"
    result = run("forget", *(part for case in [*ids, unknown] for part in ("--primero-id", case)))
    assert result.exit_code == 0
    assert graph.sql("SELECT sum(cases), count(*) FROM primero_sync.erasures") == [(2, 3)]
    assert not any(case in result.output for case in ids)


def test_what_is_no_primero_id_is_refused_and_not_repeated(graph):
    """The short id that people see belongs to several children now and then; a name might be typed in its place."""
    result = run("forget", "--primero-id", "Sok Dara")
    assert isinstance(result.exception, UsageError)
    assert "Sok" not in str(result.exception)
    assert graph.sql("SELECT count(*) FROM primero_sync.erasures") == [(0,)]


@pytest.mark.proves("key-rotation")
def test_keys_rotate_and_purge_work_from_the_command_line(graph, monkeypatch):
    """The operator has nothing else. What is purged is not shown as if it could be mapped again."""
    from cryptography.fernet import Fernet

    assert [graph.sync(quarter).failure for quarter in (Q1, Q2)] == [None, None]
    for module in ("common", "storage"):
        monkeypatch.setattr(f"primero_ona.cli.{module}.open_instance", lambda: nullcontext(graph.instance))

    new = Fernet.generate_key().decode()
    monkeypatch.setenv("PRIMERO_ONA_STORAGE_KEYS", f"{new},{graph.key}")
    assert run("keys", "rotate").exit_code == 0
    graph.key = new
    assert len(graph.read("mapped_cases"))
    runs = len(graph.instance.get_runs())
    assert run("purge", "--before", "2024-Q2").exit_code == 0
    assert not list(graph.folder.rglob("2024-01-01"))
    for asset in ("raw_under18_cases", "raw_reintegration_cases", "case_exits", "mapped_cases", "mapped_services"):
        assert graph.instance.get_materialized_partitions(dg.AssetKey(asset)) == {Q2.key}
    assert graph.instance.get_materialized_partitions(dg.AssetKey(["ona", "cases"])) == {Q1.key, Q2.key}
    assert (
        graph.instance.fetch_materializations(dg.AssetKey("mapped_cases"), limit=9).records[0].partition_key == Q2.key
    )
    assert len(graph.instance.get_runs()) == runs


def test_the_proof_of_completeness_does_not_miss_an_erased_case(graph):
    """A check that fails for ever because of a kept promise would be switched off, or mended against the promise."""
    case, _ = victim(graph)
    sync_plainly(graph, Q2)
    assert run("verify").exit_code == 0
    run("forget", "--primero-id", case)
    result = run("verify", "--json")
    assert result.exit_code == 0, result.output
