"""Settings: secrets in files, plain sentences, and what is shown of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from primero_ona.cli import settings_docs
from primero_ona.cli.app import app
from primero_ona.errors import ConfigError
from primero_ona.settings import (
    GROUPS,
    GraphSettings,
    OnaSettings,
    PrimeroSettings,
    StorageSettings,
    is_secret,
    read,
    read_one,
)

SECRET = "hunter2-never-shown"
ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def bare(monkeypatch, tmp_path):
    """An environment without any setting, in a folder without `.env`."""
    for name in [name for name in os.environ if name.startswith(("PRIMERO_", "ONA_", "PG"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def private(path: Path, content: str | bytes, mode: int = 0o600) -> Path:
    """A file that only its owner may read."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)
    return path


def secrets() -> list[tuple[type, str, str]]:
    return [
        (group, name, str(field.validation_alias))
        for group in GROUPS
        for name, field in group.model_fields.items()
        if is_secret(field)
    ]


def others(monkeypatch, but: str) -> None:
    """Set what is required, except one variable."""
    for name in {
        "PRIMERO_URL",
        "PRIMERO_USERNAME",
        "PRIMERO_PASSWORD",
        "ONA_DATABASE_URL",
        "PRIMERO_ONA_STORAGE_KEYS",
    } - {but}:
        monkeypatch.setenv(name, "https://primero.example.org" if name == "PRIMERO_URL" else "postgresql://ona/db")


@pytest.mark.parametrize(("group", "name", "variable"), secrets(), ids=str)
@pytest.mark.proves("primero-password")
def test_every_secret_may_stand_in_a_file(monkeypatch, tmp_path, group, name, variable):
    """Secrets in the environment show up in crash dumps and in `docker inspect`; a file is what an operator asks for."""
    others(monkeypatch, variable)
    value = f"postgresql://u:{SECRET}@h/d"
    private(tmp_path / "secret", value + "\n")
    monkeypatch.setenv(f"{variable}_FILE", str(tmp_path / "secret"))
    assert getattr(read_one(group), name).get_secret_value() == value


def test_a_file_may_be_named_in_dotenv(monkeypatch, tmp_path):
    """A developer's `.env` would otherwise be the one place where files do not work."""
    private(tmp_path / "secret", SECRET)
    private(tmp_path / ".env", f"PRIMERO_ONA_STORAGE_KEYS_FILE={tmp_path / 'secret'}\n", 0o644)
    assert read_one(StorageSettings).storage_keys.get_secret_value() == SECRET


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + SECRET.encode(),
        b"\xef\xbb\xbf" + SECRET.encode() + b"\r\n",
        SECRET.encode() + b"\r\n\r\n",
        b"  " + SECRET.encode() + b"\t\n",
    ],
    ids=["mark", "mark and CRLF", "lines", "blanks"],
)
@pytest.mark.proves("settings-files")
def test_what_an_editor_adds_is_no_part_of_a_secret(monkeypatch, tmp_path, content):
    """Notepad's byte-order mark went along with the password, and six refused logins lock the account."""
    private(tmp_path / "secret", content)
    monkeypatch.setenv("PRIMERO_ONA_STORAGE_KEYS_FILE", str(tmp_path / "secret"))
    assert read_one(StorageSettings).storage_keys.get_secret_value() == SECRET


NO_TEXT = {
    "UTF-16 with a mark": SECRET.encode("utf-16"),
    "UTF-16 without": SECRET.encode("utf-16-le"),
    "UTF-32": SECRET.encode("utf-32"),
    "latin-1": f"{SECRET}é".encode("latin-1"),
    "a zero": SECRET.encode() + b"\0",
}


@pytest.mark.parametrize("content", NO_TEXT.values(), ids=NO_TEXT)
@pytest.mark.proves("settings-files")
def test_a_file_in_another_encoding_is_named_with_what_to_do(monkeypatch, tmp_path, content):
    """Read as it is, it would be a wrong password; as an exception, "unexpected UnicodeDecodeError" helps no operator."""
    private(tmp_path / "secret", content)
    others(monkeypatch, "PRIMERO_PASSWORD")
    monkeypatch.setenv("PRIMERO_PASSWORD_FILE", str(tmp_path / "secret"))
    with pytest.raises(ConfigError) as failure:
        read_one(PrimeroSettings)
    text = str(failure.value)
    assert (
        "the file that PRIMERO_PASSWORD_FILE names is not text in UTF-8; save it again with the encoding UTF-8" in text
    )
    assert SECRET not in text
    private(tmp_path / ".env", content)
    for arguments in (["config", "show"], ["status"]):
        result = CliRunner().invoke(app, arguments)
        assert str(result.exception).count(".env is not text in UTF-8; save it again with the encoding UTF-8") == 1
        assert isinstance(result.exception, ConfigError)


@pytest.mark.proves("settings-files")
def test_an_empty_file_and_one_that_is_no_file_are_named(monkeypatch, tmp_path):
    """A secret that was never written there must not become an empty password, or an error of a library."""
    others(monkeypatch, "PRIMERO_PASSWORD")
    private(tmp_path / "secret", b"\xef\xbb\xbf\r\n")
    monkeypatch.setenv("PRIMERO_PASSWORD_FILE", str(tmp_path / "secret"))
    with pytest.raises(ConfigError, match="the file that PRIMERO_PASSWORD_FILE names is empty"):
        read_one(PrimeroSettings)
    monkeypatch.setenv("PRIMERO_PASSWORD_FILE", str(tmp_path))
    with pytest.raises(ConfigError, match=r"PRIMERO_PASSWORD_FILE names cannot be read \(Is a directory\)"):
        read_one(PrimeroSettings)
    monkeypatch.delenv("PRIMERO_PASSWORD_FILE")
    monkeypatch.setenv("PRIMERO_PASSWORD", SECRET)
    monkeypatch.setenv("PRIMERO_CA_BUNDLE", str(tmp_path / "absent.pem"))
    with pytest.raises(ConfigError, match=r"PRIMERO_CA_BUNDLE is malformed \(names no file that can be read\)"):
        read_one(PrimeroSettings)


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602, 0o666])
@pytest.mark.parametrize(("group", "name", "variable"), secrets(), ids=str)
@pytest.mark.proves("primero-password")
def test_a_secret_that_every_account_may_read_is_refused(monkeypatch, tmp_path, group, name, variable, mode):
    """Each account of the machine, a webserver's too, would have Primero's password, or the key of all partitions."""
    others(monkeypatch, variable)
    file = private(tmp_path / "secret", f"postgresql://u:{SECRET}@h/d", mode)
    monkeypatch.setenv(f"{variable}_FILE", str(file))
    with pytest.raises(ConfigError, match=rf"{variable}_FILE names .*chmod o=") as failure:
        read_one(group)
    assert SECRET not in str(failure.value)
    file.chmod(0o640)
    assert read_one(group)


@pytest.mark.parametrize(("group", "name", "variable"), secrets(), ids=str)
@pytest.mark.proves("primero-password")
def test_a_dotenv_with_a_secret_is_a_file_with_a_secret(monkeypatch, tmp_path, group, name, variable):
    """Copied from .env.example it is open to all, as most files are."""
    others(monkeypatch, variable)
    monkeypatch.delenv(variable, raising=False)
    file = private(tmp_path / ".env", f"{variable}=postgresql://u:{SECRET}@h/d\n", 0o644)
    with pytest.raises(ConfigError, match=r"\.env holds a secret"):
        read_one(group)
    file.chmod(0o600)
    assert getattr(read_one(group), name).get_secret_value().endswith("@h/d")
    file.chmod(0o644)
    file.write_text(f"{variable.lower()}=postgresql://u:{SECRET}@h/d\n")
    monkeypatch.setenv(f"{variable}_FILE", str(private(tmp_path / "secret", f"postgresql://u:{SECRET}@h/d", 0o600)))
    with pytest.raises(ConfigError, match=r"\.env holds a secret"):
        read_one(group)


def test_a_secret_that_is_set_twice_or_cannot_be_read_is_named_without_its_value(monkeypatch, tmp_path):
    """Of two passwords one is old; taking either in silence may lock the account."""
    others(monkeypatch, "none")
    monkeypatch.setenv("PRIMERO_PASSWORD", SECRET)
    monkeypatch.setenv("PRIMERO_PASSWORD_FILE", str(tmp_path / "secret"))
    monkeypatch.delenv("ONA_DATABASE_URL")
    monkeypatch.setenv("ONA_DATABASE_URL_FILE", str(tmp_path / "absent"))
    with pytest.raises(ConfigError) as failure:
        read(PrimeroSettings, OnaSettings)
    text = str(failure.value)
    assert "PRIMERO_PASSWORD and PRIMERO_PASSWORD_FILE are both set" in text
    assert "ONA_DATABASE_URL_FILE names cannot be read" in text
    assert SECRET not in text


def test_all_missing_and_malformed_settings_are_told_at_once_without_values(monkeypatch):
    """One complaint per start costs an operator an hour; a value in a complaint costs a password."""
    monkeypatch.setenv("ONA_DATABASE_URL", SECRET)
    monkeypatch.setenv("PRIMERO_ONA_CONSENT_POLICY", SECRET)
    with pytest.raises(ConfigError) as failure:
        read(PrimeroSettings, OnaSettings, GraphSettings)
    text = str(failure.value)
    for variable in (
        "PRIMERO_URL",
        "PRIMERO_USERNAME",
        "PRIMERO_PASSWORD",
        "ONA_DATABASE_URL",
        "PRIMERO_ONA_CONSENT_POLICY",
    ):
        assert variable in text
    assert SECRET not in text


@pytest.mark.proves("primero-password")
def test_config_show_tells_every_setting_and_no_secret(monkeypatch, tmp_path):
    """Its output goes into tickets and chats."""
    private(tmp_path / "secret", SECRET)
    monkeypatch.setenv("PRIMERO_URL", f"https://someone:{SECRET}@primero.example.org")
    monkeypatch.setenv("PRIMERO_USERNAME", "integration")
    monkeypatch.setenv("PRIMERO_PASSWORD", SECRET)
    monkeypatch.setenv("ONA_DATABASE_URL", f"postgresql://u:{SECRET}@ona.example.org/d")
    monkeypatch.setenv("PRIMERO_ONA_STORAGE_KEYS_FILE", str(tmp_path / "secret"))
    for arguments in (["config", "show"], ["config", "show", "--json"]):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        assert SECRET not in result.output
        for group in GROUPS:
            for field in group.model_fields.values():
                assert str(field.validation_alias) in result.output
        assert "set, not shown" in result.output
        assert "set by PRIMERO_ONA_STORAGE_KEYS_FILE, not shown" in result.output


def test_config_show_tells_an_override_of_the_protection(monkeypatch):
    """An override that nobody sees stays for ever."""
    others(monkeypatch, "none")
    monkeypatch.setenv("ONA_DATABASE_URL", "postgresql://ona.example.org/d")
    shown = {line.variable: line.value for line in settings_docs.show_settings()}
    assert shown["connection to ONA"].startswith("refused")
    monkeypatch.setenv("PRIMERO_ONA_INSECURE_ONA", "yes")
    shown = {line.variable: line.value for line in settings_docs.show_settings()}
    assert shown["PRIMERO_ONA_INSECURE_ONA"] == "yes"
    assert "NOT PROTECTED" in shown["connection to ONA"]
    assert shown["connection to Primero"] == "encrypted, server verified"


def test_the_page_of_settings_is_in_step():
    """A variable that the page does not tell is one that nobody sets. `make docs` writes it."""
    assert (ROOT / settings_docs.PAGE).read_text(encoding="utf-8") == settings_docs.settings_page()
