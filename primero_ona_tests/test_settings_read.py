"""Reading settings from the environment and `.env`: forms that are taken, faults that are named, values that are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from primero_ona.errors import ConfigError
from primero_ona.settings import GraphSettings, OnaSettings, PrimeroSettings, StorageSettings, read, read_one

VARIABLES = {
    "PRIMERO_URL": "https://primero.example.org",
    "PRIMERO_USERNAME": "sync",
    "PRIMERO_PASSWORD": "a-secret",
    "ONA_DATABASE_URL": "postgresql://sync:a-secret@ona.example.org/ona",
    "PRIMERO_ONA_STORAGE_KEYS": "a-secret-key",
}
GROUPS = (PrimeroSettings, OnaSettings, StorageSettings, GraphSettings)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The five variables that are needed, no other one, and no `.env`."""
    monkeypatch.chdir(tmp_path)
    for name in ("PRIMERO_ONA_START", "PRIMERO_ONA_MODULES", "PRIMERO_ONA_STORAGE_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)


def test_five_variables_are_all_that_is_needed_and_no_secret_is_in_their_texts() -> None:
    """Settings are printed by accident, in a traceback or a log."""
    found = read(*GROUPS)
    graph = found[3]
    assert isinstance(graph, GraphSettings)
    assert (graph.start, graph.modules) == ("2020-01-01", "")
    assert "a-secret" not in "".join(f"{group!r}{group}" for group in found)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PRIMERO_URL", "primero.example.org/a-secret"),
        ("ONA_DATABASE_URL", "a-secret@ona"),
        ("PRIMERO_ONA_START", "a-secret"),
        ("PRIMERO_ONA_START", "2024-02-01"),
        ("PRIMERO_ONA_CONSENT_POLICY", "a-secret"),
    ],
)
def test_a_malformed_variable_is_named_and_its_value_is_not(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """A password often stands in the wrong variable; the message is copied into tickets."""
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=f"{name} is malformed") as caught:
        read(*GROUPS)
    assert value not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("start", ["2024-Q1", "2024-01-01"])
def test_the_start_is_a_quarter_or_its_first_day(monkeypatch: pytest.MonkeyPatch, start: str) -> None:
    """People write the one, Dagster the other."""
    monkeypatch.setenv("PRIMERO_ONA_START", start)
    assert read_one(GraphSettings).start == "2024-01-01"


@pytest.mark.proves("settings-files")
def test_dot_env_may_have_a_mark_and_the_line_ends_of_windows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Read with its mark, the first variable of the file has another name, and is "not set"; capitals do not matter there."""
    for name in ("PRIMERO_URL", "PRIMERO_USERNAME", "PRIMERO_PASSWORD"):
        monkeypatch.delenv(name)
    content = "PRIMERO_URL=https://other.example.org\r\nprimero_username=ចន្ទា\r\nPRIMERO_PASSWORD='pass word'\r\n"
    (tmp_path / ".env").write_bytes(b"\xef\xbb\xbf" + content.encode())
    (tmp_path / ".env").chmod(0o600)
    settings = read_one(PrimeroSettings)
    assert (settings.url, settings.username) == ("https://other.example.org", "ចន្ទា")
    assert settings.password.get_secret_value() == "pass word"


def test_dot_env_is_read_and_the_environment_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A developer's file must not override what a server was told."""
    monkeypatch.delenv("PRIMERO_USERNAME")
    (tmp_path / ".env").write_text("PRIMERO_USERNAME=developer\nPRIMERO_URL=https://other.example.org\nUNKNOWN=1\n")
    settings = read_one(PrimeroSettings)
    assert (settings.username, settings.url) == ("developer", "https://primero.example.org")
