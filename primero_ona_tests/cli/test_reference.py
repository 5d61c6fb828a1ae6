"""The commands about labels, places and the dictionary, as an operator types them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from primero_ona.errors import UsageError
from primero_ona_tests.harness import Graph, small, wired
from primero_ona_tests.reliability.syncing import sync_plainly, terminal_of

Run = Callable[..., str]
GBV = "primeromodule-gbv"


@pytest.fixture(scope="module")
def graph(postgres: Any) -> Iterator[Graph]:
    with wired(postgres, "reference_commands", small(120, odd=False)) as graph:
        yield graph


@pytest.fixture(scope="module")
def run(graph: Graph, tmp_path_factory: Any) -> Iterator[Run]:
    """Runs a command on the sandbox, whose reference data was read once; gives its output."""
    with pytest.MonkeyPatch.context() as environment:
        terminal = terminal_of(graph, tmp_path_factory.mktemp("terminal"), environment)

        def command(*words: str) -> str:
            result = terminal(*words)
            if isinstance(result.exception, Exception):
                raise result.exception
            assert result.exit_code == 0, result.output
            return str(result.stdout)

        command("reference", "refresh")
        yield command


def test_from_a_changed_label_to_mapped_quarters(run: Run, graph: Graph):
    """The whole way that an operator goes when Primero's administrators have changed an option."""
    sync_plainly(graph)
    graph.primero.reference.set_option("lookup-gender", "male", en="Boy")
    assert "label differs from Primero's" in run("reference", "refresh")
    told = json.loads(run("labels", "diff", "--json"))
    row = next(row for row in told["labels"] if row["code"] == "male")
    assert (row["ours"], row["primeros"], row["kind"]) == ("Male", "Boy", "label differs from Primero's")
    assert row["rows"] > 0
    assert yaml.safe_load(told["lines"])["sex"]["male"] == "Boy"
    assert '  "male": "Boy"\n' in run("labels", "diff")
    graph.primero.log.clear()
    outcomes = json.loads(run("remap", "--from", "2024-Q1", "--to", "2024-Q2", "--json"))
    assert [(each["quarter"], each["failure"]) for each in outcomes] == [("2024-Q1", None)]
    assert not graph.primero.log


@pytest.mark.proves("unknown-code")
def test_what_dagster_does_not_show_is_printed_by_findings(run: Run, graph: Graph):
    """Somebody has to find the code that a check warns of, and why cases are not included."""
    day = "2024-02-01T03:00:00.000Z"
    graph.primero.create(case_id_display=" ", age=5, sex="typed_by_hand", module_id=GBV, last_updated_at=day)
    graph.primero.create(age=5, sex="typed_by_hand", last_updated_at=day)
    sync_plainly(graph)
    found = json.loads(run("findings", "--quarter", "2024-Q1", "--json"))
    told = {(entry["asset"], entry["kind"], entry["what"]): entry["count"] for entry in found}
    assert told["mapped_cases", "not mapped", "sex: typed_by_hand"] == 1
    assert told["mapped_cases", "to decide", "code of sex that is not accepted (typed_by_hand)"] == 1
    assert told["mapped_cases", "quarantined", "case_id missing"] == 1
    assert told["raw_under18_cases", "reason", "included: of the module for gender-based violence"] >= 1
    assert told["raw_under18_cases", "reason", "undergoing reintegration"] > 0
    assert "typed_by_hand" in run("findings")
    assert run("findings", "--quarter", "2023-Q4").strip() == "Nothing is stored of these quarters."


def test_a_changed_name_is_listed_and_accepted(run: Run, graph: Graph):
    """Nobody should have to write SQL for it."""
    graph.primero.reference.rename_place("601", en="Baray Thmei")
    run("reference", "refresh", "--json")
    assert json.loads(run("places", "changes", "--json"))[0]["primeros"] == "Baray Thmei"
    assert "1 names accepted" in run("places", "accept", "--code", "601")
    assert "All names" in run("places", "changes")
    assert graph.sql("SELECT district FROM locations_lookup WHERE code = '601'") == [("Baray Thmei",)]


def test_the_dictionary_is_exported_for_a_spreadsheet(run: Run, tmp_path: Path):
    """Reviewers of the Khmer texts work in Excel."""
    file = tmp_path / "dictionary.csv"
    assert "rows written" in run("dictionary", "export", "--csv", str(file))
    content = file.read_bytes()
    assert content.startswith(b"\xef\xbb\xbftable_name,column_name,")
    assert "ប្រុស" in content.decode()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("places", "accept", "--code", "1", "--all"), "--all"),
        (("places", "accept", "--code", "nobodys"), "no name has changed"),
        (("dictionary", "export", "--csv", "/nowhere/at/all.csv"), "cannot be written"),
        (("remap", "--from", "2024-Q2", "--to", "2024-Q1"), "is later than"),
    ],
    ids=["both", "unknown place", "no folder", "backwards"],
)
def test_wrong_usage_is_told_in_one_sentence(run: Run, words: tuple[str, ...], told: str):
    """A traceback tells an operator nothing."""
    with pytest.raises(UsageError, match=told):
        run(*words)
