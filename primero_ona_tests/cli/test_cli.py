"""The command line as a process of its own: what a person or a script sees, and the exit code that it decides by."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import typer
from cryptography.fernet import Fernet
from typer.testing import CliRunner

from primero_ona.cli import output
from primero_ona.cli.app import app
from primero_ona.quarters import current_quarter
from primero_ona.sandbox.primero import SandboxPrimero
from primero_ona_tests.harness import database, small
from primero_ona_tests.reliability.syncing import finish, start_command

ROOT = Path(__file__).parents[2]


@dataclass
class Result:
    """What a command left."""

    code: int
    out: str
    err: str

    def refused(self, code: int, *texts: str) -> None:
        """Assert one plain message on stderr that has the texts, the exit code, and no traceback."""
        assert self.code == code, self.err
        for text in texts:
            assert text in self.err
        messages = [line for line in self.err.splitlines() if line.startswith("primero-ona: ")]
        assert len(messages) == 1, self.err
        assert "Traceback" not in self.out + self.err
        assert "File " not in self.err


@dataclass
class Terminal:
    """A directory with the project's dagster.yaml, and the variables of a production on the sandbox."""

    folder: Path
    variables: dict[str, str]

    def environment(self, changed: Mapping[str, str | None]) -> dict[str, str]:
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        variables = {**inherited, "PYTHONPATH": str(ROOT), **self.variables, **changed}
        return {name: value for name, value in variables.items() if value is not None}

    def run(self, *words: str, pauses: bool = True, **changed: str | None) -> Result:
        """Run a command in a process that has imported everything before; a variable that is None is not set."""
        output = self.folder / "output"
        codes = finish([start_command(words, self.folder, self.environment(changed), output, pauses=pauses)])
        return Result(codes[0], *(output.with_suffix(end).read_text("utf-8") for end in (".out", ".err")))

    def interpret(self, *words: str, script: str = "", **changed: str) -> Result:
        """Run it in an interpreter of its own; a script of the shell's names it "$@"."""
        shell = ["bash", "-o", "pipefail", "-c", script, "bash"] if script else []
        done = subprocess.run(
            [*shell, sys.executable, "-m", "primero_ona.cli.app", *words], env=self.environment(changed),
            cwd=self.folder, capture_output=True, text=True, timeout=180, check=False,
        )  # fmt: skip
        return Result(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def terminal(postgres: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    folder = tmp_path_factory.mktemp("terminal")
    shutil.copyfile(ROOT / "dagster.yaml", folder / "dagster.yaml")
    with database(postgres, "cli") as url, SandboxPrimero(small(40, odd=False)).serve() as primero:
        yield Terminal(
            folder,
            {
                "DAGSTER_HOME": str(folder / "home"),
                "PRIMERO_ONA_STORAGE_URL": str(folder / "partitions"),
                "PRIMERO_URL": primero.url,
                "PRIMERO_USERNAME": primero.username,
                "PRIMERO_PASSWORD": primero.password,
                "ONA_DATABASE_URL": url,
                "PRIMERO_ONA_START": "2023-Q4",
                "PRIMERO_ONA_STORAGE_KEYS": Fernet.generate_key().decode(),
            },
        )


@pytest.fixture(scope="module")
def applied(terminal: Terminal) -> Terminal:
    """`schema apply` was run, once its plan had been looked at."""
    planned = terminal.run("schema", "plan")
    assert planned.code == 0
    assert "CREATE TABLE" in planned.out
    assert json.loads(terminal.run("schema", "plan", "--json").out), "a plan that is printed twice has changed nothing"
    assert terminal.run("schema", "apply").code == 0
    assert terminal.run("reference", "refresh").code == 0
    return terminal


def test_a_sync_before_the_schema_is_applied_says_what_to_run(postgres: Any, terminal: Terminal) -> None:
    """The first thing that goes wrong on a new server."""
    with database(postgres, "cli_empty") as url:
        result = terminal.run("sync", "--quarter", "2024-Q1", ONA_DATABASE_URL=url)
    result.refused(1, "primero-ona: 2024-Q1: ", "run `primero-ona schema apply`")


def test_after_apply_the_plan_is_empty(applied: Terminal) -> None:
    """Applying twice must be harmless, and say so."""
    result = applied.run("schema", "plan")
    assert (result.code, result.out.strip()) == (0, "Nothing is missing.")


def test_a_second_sync_writes_nothing_and_status_tells_the_quarters(applied: Terminal) -> None:
    """What operators look at; the JSON is what their scripts read."""
    backfill = applied.run("backfill", "--from", "2024-Q1", "--to", "2024-Q2", "--json")
    assert backfill.code == 0, backfill.err
    first, second = json.loads(backfill.out)
    assert [first["quarter"], second["quarter"]] == ["2024-Q1", "2024-Q2"]
    assert first["load"]["ona/cases"]["inserted"] > 0
    assert all(check["passed"] for check in first["checks"] if check["severity"] == "ERROR")
    (again,) = json.loads(applied.run("sync", "--quarter", "2024-Q1", "--json").out)
    for table in ("ona/cases", "ona/services"):
        counts = again["load"][table]
        assert (counts["inserted"], counts["updated"], counts["removed"]) == (0, 0, 0)
        assert counts["unchanged"] == first["load"][table]["inserted"]
    rows = json.loads(applied.run("status", "--json").out)
    assert [(row["quarter"], row["loads"]) for row in rows] == [("2024-Q1", 2), ("2024-Q2", 1)]
    shown = applied.run("status")
    assert shown.code == 0
    assert "2024-Q2" in shown.out


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"PYTHONIOENCODING": "latin-1"}, id="latin-1"),
        pytest.param({"PYTHONIOENCODING": "ascii"}, marks=pytest.mark.ci, id="ascii"),
        pytest.param({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, marks=pytest.mark.ci, id="LC_ALL=C"),
    ],
)  # fmt: skip
@pytest.mark.proves("output")
def test_a_terminal_that_knows_few_letters_does_not_make_a_sync_fail(
    applied: Terminal, changed: dict[str, str]
) -> None:
    """The dash in "Jan–Mar" ended a sync that was committed with exit code 1, and the job was run again and again.

    And what is piped is neither folded nor cut: a search for a UUID, or for a table, found half of it at 80 columns.
    """
    run = applied.interpret if "LC_ALL" in changed else applied.run
    shown = run("sync", "--quarter", "2024-Q1", COLUMNS="40", **changed)
    assert (shown.code, shown.err) == (0, "")
    assert "…" not in shown.out.encode("ascii").decode("unicode-escape")
    row = next(line for line in shown.out.splitlines() if "ona/services" in line)
    assert "2024-Q1 (Jan\\u2013Mar)" in row
    listed = run("status", "--json", **changed)
    assert (listed.code, json.loads(listed.out)[0]["quarter"]) == (0, "2024-Q1")


SYNC, STATUS = ("sync", "--quarter", "2024-Q1"), ("status", "--json")
OUTPUTS = [
    ("reader left", "| true", ""),
    ("closed", ">&-", ""),
    ("all closed", ">&- 2>&- <&-", ""),
    ("disk full", ">/dev/full", "the output cannot be written (No space left on device)"),
    ("not for writing", "1</dev/null", "the output cannot be written (Bad file descriptor)"),
]
QUICK = {(STATUS, "reader left"), (STATUS, "disk full")}


@pytest.mark.parametrize(
    ("arguments", "redirect", "said"),
    [
        pytest.param(
            words, redirect, said, id=f"{words[0]}, {name}", marks=[] if (words, name) in QUICK else pytest.mark.ci
        )
        for words in (SYNC, STATUS)
        for name, redirect, said in OUTPUTS
    ],
)
@pytest.mark.proves("output")
def test_output_that_cannot_be_written_does_not_change_the_exit_code(
    applied: Terminal, arguments: tuple[str, ...], redirect: str, said: str
) -> None:
    """`primero-ona status | head -1` in a script with `pipefail`, or a log on a full disk, is no failed sync."""
    result = applied.interpret(*arguments, script=f'"$@" {redirect}')
    assert result.code == 0
    assert result.err.count("primero-ona: ") == bool(said)
    assert said in result.err
    assert "unexpected" not in result.err


@pytest.mark.proves("output")
def test_what_looks_like_markup_or_an_emoji_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """`[/b]` in a label of Primero's ended `labels diff` with an internal error, and ONA's administrators were given the address
    `2001:db8:a🅱2` to admit.
    """
    texts = ("2001:db8:a:b:2", "[red]x", "[/b]")
    output.out.print(output.table(("code", "in use"), [(texts[0], " ".join(texts))], texts=True))
    output.note(" ".join(texts))
    output.error(" ".join(texts))
    shown = capsys.readouterr()
    assert [(shown.out + shown.err).count(text) for text in texts] == [4, 3, 3]


def test_a_wrong_password_is_told_once_and_names_the_variables(applied: Terminal) -> None:
    """Six failed logins lock the account."""
    result = applied.run("sync", "--quarter", "2024-Q1", PRIMERO_PASSWORD="not-the-one")
    result.refused(3, "refuses the login; check PRIMERO_USERNAME and PRIMERO_PASSWORD")
    assert "not-the-one" not in result.out + result.err


@pytest.mark.parametrize(
    ("command", "url", "text"),
    [
        (("status",), "postgresql://sync:s3cret@127.0.0.1:9/ona", "is not listening there; check host and port"),
        (("sync", "--quarter", "2024-Q1"), "postgresql://sync:s3cret@127.0.0.1:9/ona", "is not listening there"),
        (("schema", "plan"), "stranger", "refuses the login; check user and password in ONA_DATABASE_URL"),
    ],
    ids=["status, closed port", "sync, closed port", "schema plan, unknown user"],
)
def test_an_ona_that_refuses_us_is_told_in_one_sentence(
    applied: Terminal, command: tuple[str, ...], url: str, text: str
) -> None:
    """Its administrators have to hear the right question."""
    if url == "stranger":
        url = applied.variables["ONA_DATABASE_URL"].replace("postgres:", "stranger:s3cret", 1)
    result = applied.run(*command, ONA_DATABASE_URL=url)
    result.refused(3, text)
    assert "s3cret" not in result.out + result.err


def test_missing_and_malformed_variables_are_named_all_at_once(applied: Terminal) -> None:
    """Who sets up a server must not learn of them one by one."""
    result = applied.run(
        "sync", PRIMERO_URL=None, PRIMERO_PASSWORD="", ONA_DATABASE_URL="mysql://x", PRIMERO_ONA_STORAGE_KEYS=None
    )
    result.refused(
        2,
        "PRIMERO_URL is not set",
        "PRIMERO_PASSWORD is not set",
        "ONA_DATABASE_URL is malformed",
        "PRIMERO_ONA_STORAGE_KEYS is not set",
    )


@pytest.mark.parametrize(
    ("arguments", "changed", "texts"),
    [
        (("sync", "--quarter", "2024-Q5"), {}, ("'2024-Q5' is not a quarter; write it like 2024-Q1",)),
        (("sync", "--quarter", "2021-Q1"), {}, ("there is no quarter 2021-Q1", "2023-Q4 (PRIMERO_ONA_START)")),
        (("sync", "--quarter", "2190-Q1"), {}, ("there is no quarter 2190-Q1", "which is still open")),
        (("backfill", "--from", "2024-Q2", "--to", "2024-Q1"), {}, ("--from 2024-Q2 is later than --to 2024-Q1",)),
        (("sync",), {"PRIMERO_ONA_START": "long ago"}, ("PRIMERO_ONA_START is malformed",)),
        (("sync",), {"DAGSTER_HOME": "home"}, ("DAGSTER_HOME must be an absolute path",)),
        (("sync",), {"PRIMERO_ONA_STORAGE_KEYS": "a-secret"}, ("PRIMERO_ONA_STORAGE_KEYS is malformed",)),
    ],
    ids=["no quarter", "before the start", "in the future", "backwards", "start", "home", "key"],
)
def test_a_command_that_was_used_wrongly_ends_with_two(
    applied: Terminal, arguments: tuple[str, ...], changed: dict[str, str], texts: tuple[str, ...]
) -> None:
    """A script can tell a mistake of its own from a server that is down."""
    result = applied.run(*arguments, **changed)
    result.refused(2, *texts)
    assert "a-secret" not in result.out + result.err


def test_an_unknown_option_ends_with_two(applied: Terminal) -> None:
    """As every command of a Unix system does."""
    result = applied.run("sync", "--quartier", "2024-Q1")
    assert result.code == 2
    assert "Traceback" not in result.err


def test_a_host_that_does_not_exist_is_told_as_such(applied: Terminal) -> None:
    """A typing error in PRIMERO_URL is the commonest fault of all."""
    result = applied.run("sync", "--quarter", "2024-Q1", pauses=False, PRIMERO_URL="https://primero.invalid")
    result.refused(3, "the host primero.invalid of PRIMERO_URL is not known")


def test_a_command_under_a_faulty_machine_ends_with_one_sentence(applied: Terminal) -> None:
    """Scripts tell by the exit code whether to wait or to call an operator."""
    result = applied.run("sync", "--quarter", "2024-Q1", DAGSTER_HOME="/dev/null/home")
    result.refused(2, "does not let this account use a file or a folder (ENOTDIR, /dev)")
    result = applied.run("sync", "--quarter", "2024-Q1", PRIMERO_ONA_STORAGE_URL="/dev/null/partitions")
    result.refused(2, "2024-Q1: this machine does not let this account", "nothing is half-written")


@pytest.mark.proves("machine-fault")
def test_a_history_that_cannot_be_written_ends_with_one_sentence(applied: Terminal) -> None:
    """Dagster fails there by itself, where no step of ours could name it; afterwards the same folder serves."""
    home = str(applied.folder / "limited_home")
    # Python itself would leave half a compiled module under this limit.
    script = 'ulimit -f 20; PYTHONDONTWRITEBYTECODE=1 "$@"'
    limited = applied.interpret("sync", "--quarter", "2024-Q1", script=script, DAGSTER_HOME=home)
    assert limited.code == 3, limited.err
    assert "primero-ona: Dagster's history in DAGSTER_HOME cannot be read or written (SQLITE_IOERR" in limited.err
    assert limited.out == ""
    again = applied.run("sync", "--quarter", "2024-Q1", "--json", DAGSTER_HOME=home)
    assert (again.code, json.loads(again.out)[0]["failure"]) == (0, None)


def test_the_version_is_that_of_the_installed_package(applied: Terminal) -> None:
    """The first question of who is asked for help."""
    result = applied.run("--version")
    assert (result.code, result.out.strip()) == (0, f"primero-ona {metadata.version('primero-ona')}")


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, (*path, name))


def test_the_command_line_imports_no_library_before_a_command_needs_it() -> None:
    """A command waits for its own libraries only; Dagster alone takes a second."""
    heavy = ("dagster", "numpy", "pyarrow", "pandas", "psycopg", "pydantic", "requests", "sqlalchemy", "yaml")
    script = f"import sys, primero_ona.cli.app; print([name for name in {heavy!r} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert loaded.stdout.strip() == "[]"


def test_what_a_command_fails_at_when_it_is_imported_is_no_lack_of_the_command(monkeypatch) -> None:
    """`No such command` would send people looking for another one."""
    monkeypatch.setattr("primero_ona.cli.app.import_module", mock.Mock(side_effect=KeyError("anything")))
    with pytest.raises(KeyError):
        CliRunner().invoke(app, ["status"], catch_exceptions=False)


@pytest.mark.parametrize("path", list(commands(typer.main.get_command(app))), ids=" ".join)
def test_every_command_explains_itself(path: tuple[str, ...]) -> None:
    """The help is the documentation that is at hand on a server."""
    result = CliRunner().invoke(app, [*path, "--help"])
    assert result.exit_code == 0
    assert "Usage: " in result.output
    lines = [line.strip() for line in result.output.splitlines() if line.strip()]
    assert len(lines[1]) > 10, "a sentence about what it does"


@pytest.mark.parametrize(
    ("words", "whole"), [(("sync",), False), (("sync", "--full"), True), (("verify", "--repair"), True)], ids=str
)
@pytest.mark.proves("whole-walk")
def test_a_full_sync_and_a_repair_demand_a_walk_of_the_whole_quarter(monkeypatch, words, whole):
    """Where somebody doubts what is stored, or it was found wrong, nothing of it may be carried over."""
    demanded = []
    found = SimpleNamespace(to_sync=[current_quarter()], removable=[], passed=True)
    monkeypatch.setattr("primero_ona.cli.verify._reconcile", lambda _: found)
    monkeypatch.setattr("primero_ona.cli.output.show_reconciliation", lambda _: None)
    for module in ("sync", "verify"):
        replaced = f"primero_ona.cli.{module}.sync_quarters"
        monkeypatch.setattr(replaced, lambda *_, whole, **__: demanded.append(whole) or [])
    CliRunner().invoke(app, list(words))
    assert demanded == [whole]
