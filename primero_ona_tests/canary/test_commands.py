"""Canaries on the command line: every command, as it ends well, as it fails, and as it crashes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
import typer
from cryptography.fernet import Fernet

from primero_ona.cli.app import app, main
from primero_ona.sandbox.columns import CANARY
from primero_ona_tests import ALL
from primero_ona_tests.canary.markers import TEXT, VILLAGE
from primero_ona_tests.canary.places import Watched

Q1_ONLY = ("--from", "2024-Q1", "--to", "2024-Q1")

#: Arguments, and the exit codes that they may end with. `{…}` is filled in by `run`.
COMMANDS: dict[tuple[str, ...], set[int]] = {
    ("reference", "refresh"): {0},
    ("reference", "refresh", "--json"): {0},
    ("sync", "--quarter", "2024-Q1"): {0},
    ("backfill", *Q1_ONLY, "--json"): {0},
    ("remap", *Q1_ONLY): {0},
    ("demo",): {0},
    ("status",): {0},
    ("status", "--json"): {0},
    ("findings",): {0},
    ("findings", "--json"): {0},
    ("labels", "diff"): {0},
    ("labels", "diff", "--json"): {0},
    ("places", "changes"): {0},
    ("places", "changes", "--json"): {0},
    ("places", "accept", "--all"): {0},
    ("dictionary", "export", "--csv", "{temporary}/dictionary.csv"): {0},
    ("quarantine", "list", "--resolved"): {0},
    ("quarantine", "list", "--json"): {0},
    ("quarantine", "retry"): {1},
    ("quarantine", "retry", "--json"): {1},
    ("verify",): {1},
    ("verify", "--json"): {1},
    ("verify", "--repair"): {0, 1},
    ("fields", "list"): {0},
    ("fields", "list", "--json"): {0},
    ("fields", "accept", "care_date"): {0},
    ("account", "accept-cases", "1"): {0},
    ("account", "retry-login"): {0},
    ("config", "show"): {0},
    ("config", "show", "--json"): {0},
    ("doctor",): {1, 2, 3},
    ("doctor", "--json"): {1, 2, 3},
    ("report", "--quarter", "2024-Q1", "--internal"): {0},
    ("compare", "--legacy", "legacy"): {0, 1},
    ("compare", "--legacy", "legacy", "--json"): {0, 1},
    ("metrics", "--textfile", "{temporary}/figures.prom"): {0},
    ("alerts", "test"): {2},
    ("schema", "plan"): {0},
    ("schema", "plan", "--json"): {0},
    ("schema", "roles"): {0},
    ("schema", "apply"): {0},
    ("keys", "new"): {0},
    ("keys", "rotate"): {0},
    ("forget", "--primero-id", "{id}"): {0},
    ("purge", "--before", "2023-Q1"): {0},
}

#: What the legacy pipeline could have left.
LEGACY = """
    CREATE SCHEMA legacy;
    CREATE TABLE legacy.cases AS SELECT * FROM cases;
    CREATE TABLE legacy.services AS SELECT * FROM services;
    UPDATE legacy.cases SET sex = province_current
"""

#: Those that show most, where not all tests run.
QUICK = [
    (words, COMMANDS[words])
    for words in (
        ("sync", "--quarter", "2024-Q1"), ("findings", "--json"), ("quarantine", "list", "--json"), ("verify", "--json"),
        ("labels", "diff"), ("forget", "--primero-id", "{id}"),
    )
]  # fmt: skip

#: `dev` serves until it is stopped; what it starts is the demo's surroundings and Dagster's own processes. The others wait for a
#: code server, and read nothing.
NOT_RUN = {("dev",), ("code-server", "ready"), ("code-server", "stop")}

#: Commands that need Primero, ONA or a key, each in its quickest form.
FAILING = (
    ("sync", "--quarter", "2024-Q1"),
    ("remap", *Q1_ONLY, "--json"),
    ("reference", "refresh"),
    ("verify",),
    ("quarantine", "retry"),
    ("account", "retry-login"),
)
ASKING_ONA = (
    ("status",),
    ("labels", "diff"),
    ("places", "changes"),
    ("places", "accept", "--all"),
    ("dictionary", "export", "--csv", "{temporary}/never.csv"),
    ("quarantine", "list"),
    ("fields", "list"),
    ("fields", "accept", "care_date"),
    ("account", "accept-cases", "1"),
    ("schema", "plan"),
    ("schema", "roles"),
    ("schema", "apply"),
    ("forget", "--primero-id", "{id}"),
    ("verify", "--json"),
)
#: Used wrongly; the first as by somebody who pastes something of a child.
WRONG = (
    ("forget", "--primero-id", CANARY),
    ("sync", "--quarter", "2024-Q5"),
    ("backfill", "--from", "2024-Q2", "--to", "2024-Q1"),
    ("places", "accept", "--code", "nobodys"),
    ("fields", "accept", CANARY),
    ("account", "accept-cases", CANARY),
    ("dictionary", "export", "--csv", "/nowhere/at/all.csv"),
    ("no-such-command",),
)


def run(watched: Watched, arguments: tuple[str, ...]) -> int:
    """Run a command as its process would; the exit code. What it prints is kept by `listening`."""
    filled = [word.format(temporary=watched.temporary, id=last_case(watched)) for word in arguments]
    with mock.patch.object(sys, "argv", ["primero-ona", *filled]), pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def last_case(watched: Watched) -> str:
    """The Primero id of a case."""
    return str(list(watched.graph.primero.cases.records())[-1]["id"])


@pytest.fixture
def at_a_terminal(listening: Watched, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    """In a folder without a `.env`, with no pauses between two tries, and a demo of one quarter."""
    monkeypatch.chdir(listening.folder)
    monkeypatch.setattr("primero_ona.primero.client.time.sleep", lambda _: None)
    monkeypatch.setattr("primero_ona.primero.visible.EMPTY_PAUSE", 0.0)
    monkeypatch.setattr("primero_ona.sandbox.demo_environment.QUARTERS", 1)
    listening.graph.sql(LEGACY)
    yield listening
    listening.graph.primero.faults.clear()
    listening.graph.sql("DROP SCHEMA legacy CASCADE")


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths of all commands that do something."""
    inner = getattr(group, "commands", None)
    if inner is None:
        yield path
    for name, command in (inner or {}).items():
        yield from commands(command, (*path, name))


def test_every_command_is_tried_here():
    """A command that is added must be watched from its first day."""
    every = set(commands(typer.main.get_command(app)))
    tried = {path for path in every for arguments in COMMANDS if arguments[: len(path)] == path}
    assert every - tried == NOT_RUN


def test_no_command_prints_or_leaves_a_marker(at_a_terminal, capfd):
    """What a command prints is pasted into chats."""
    graph = at_a_terminal.graph
    graph.primero.reference.set_option("lookup-gender", "male", en="Boy")
    graph.primero.reference.rename_place("601", en="Baray Thmei")
    for arguments, codes in COMMANDS.items() if ALL else QUICK:
        code = run(at_a_terminal, arguments)
        printed = capfd.readouterr()
        at_a_terminal.said += printed
        assert (code in codes, bool("".join(printed))) == (True, True), (arguments, code, printed.err)


@pytest.mark.parametrize(
    ("variable", "value", "asked", "codes"),
    [
        ("ONA_DATABASE_URL", "postgresql://u:p@127.0.0.1:9/ona", (*FAILING[:2], *ASKING_ONA), {3}),
        pytest.param("PRIMERO_PASSWORD", "wrong", [FAILING[0], *FAILING[2:]], {3}, marks=pytest.mark.ci),
        (
            "PRIMERO_ONA_STORAGE_KEYS",
            Fernet.generate_key().decode(),
            [FAILING[1], ("labels", "diff"), ("keys", "rotate")],
            {1, 2},
        ),
        pytest.param("PRIMERO_URL", "", [FAILING[0], *FAILING[2:]], {2}, marks=pytest.mark.ci),
    ],
    ids=["ONA is down", "wrong password", "wrong key", "nothing set"],
)
def test_no_command_that_fails_prints_or_leaves_a_marker(at_a_terminal, monkeypatch, variable, value, asked, codes):
    """Failures are what people ask others about."""
    monkeypatch.setenv(variable, value)
    for arguments in asked:
        assert run(at_a_terminal, arguments) in codes, arguments


@pytest.mark.ci
def test_no_command_prints_or_leaves_a_marker_while_primero_is_down(at_a_terminal):
    """A proxy's page of error comes in place of the cases, or in the middle of them."""
    for after in (0, 3):
        for arguments in (FAILING[0], FAILING[3]):
            fault = at_a_terminal.graph.primero.fail("html", status=502, times=None, after=after)
            assert run(at_a_terminal, arguments) == 3, arguments
            assert fault.after == 0
            at_a_terminal.graph.primero.faults.clear()


def test_a_command_used_wrongly_prints_and_leaves_no_marker(at_a_terminal):
    """What somebody typed by mistake stays in nobody's log."""
    for arguments in WRONG:
        assert run(at_a_terminal, arguments) == 2, arguments


@pytest.mark.proves("crash")
def test_a_command_that_crashes_shows_no_text_of_the_exception(at_a_terminal, monkeypatch, capfd):
    """A traceback in a terminal quotes what the exception quotes."""

    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError(f"{CANARY} {VILLAGE}") from ValueError(TEXT)

    monkeypatch.setattr("primero_ona.ona.connection.OnaConnection.connect", fail)
    for arguments in (FAILING[0], *ASKING_ONA):
        assert run(at_a_terminal, arguments) == 1, arguments
        printed = "".join(capfd.readouterr())
        assert "internal error RuntimeError" in printed, arguments
        at_a_terminal.said.append(printed)
    assert not (at_a_terminal.temporary / "never.csv").exists()
