"""What is shown of the settings: each variable with its value or `set, not shown`, and the page that documents them all.

Both are made from `settings.py`, where a variable is written down once. `python -m primero_ona.cli.settings_docs` writes
`docs/settings.md`; a test keeps it in step.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, get_args
from urllib.parse import urlsplit

from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from primero_ona.errors import ConfigError
from primero_ona.settings import FILE_SUFFIX, GROUPS, OnaSettings, PrimeroSettings, environment, is_secret, read_one
from primero_ona.tls import dagster_protection, database_protection, web_protection

#: Where the page of all settings is, seen from the root of the repository.
PAGE = Path("docs/settings.md")

#: How the value of a connection begins that would not be opened.
REFUSED = "refused: "

#: Variables that are Dagster's, or PostgreSQL's, and that this project reads or sets.
_OTHERS = {
    "DAGSTER_HOME": "absolute folder of Dagster's history, cursors and schedules; default: .dagster_home here",
}
#: Where `deploy/dagster.yaml` finds Dagster's own database; it may hold a password.
_DAGSTER_URL = "DAGSTER_POSTGRES_URL"
_DAGSTER_URL_TEXT = (
    "Dagster's own database in production, postgresql+psycopg2://…; on another machine with sslmode=verify-full"
)


@dataclass(frozen=True)
class Shown:
    """One line of `config show`: a variable, its value in words, its default in words, and what it is."""

    variable: str
    value: str
    default: str
    description: str


def show_settings() -> list[Shown]:
    """Every setting as this process sees it, and how the two connections are protected. No secret is in it."""
    lines = [_show(field, group) for group in GROUPS for field in group.model_fields.values()]
    named = environment()
    others = [Shown(name, named.get(name) or "not set", "", text) for name, text in _OTHERS.items()]
    dagster_url = "set, not shown" if named.get(_DAGSTER_URL) else "not set"
    others.append(Shown(_DAGSTER_URL, dagster_url, "", _DAGSTER_URL_TEXT))
    return [*lines, *others, *_protections()]


def _show(field: FieldInfo, group: type[BaseSettings]) -> Shown:
    variable = str(field.validation_alias)
    named = environment()
    file = named.get(variable + FILE_SUFFIX) if is_secret(field) else None
    value = "set, not shown" if named.get(variable) else f"set by {variable}{FILE_SUFFIX}, not shown"
    if not (named.get(variable) or file):
        value = "not set" if field.is_required() else f"{_words(field.default)} (default)"
    elif not is_secret(field):
        value = _without_login(str(named[variable])) + _fault_of(variable, group)
    return Shown(variable, value, _default(field), field.description or "")


def _without_login(value: str) -> str:
    """An address without what stands before an @: it may hold a password."""
    login = urlsplit(value).netloc.rpartition("@")[0] if "://" in value else ""
    return value.replace(login + "@", "…@", 1) if login else value


def _fault_of(variable: str, group: type[BaseSettings]) -> str:
    """Says behind a value that it is malformed."""
    try:
        group()
    except ValidationError as error:
        return " (malformed)" if any(variable in fault["loc"] for fault in error.errors(include_input=False)) else ""
    except ConfigError:
        return ""
    return ""


def _protections() -> Iterator[Shown]:
    """How each connection would be protected, override or not, as far as its address is known."""
    for name, protection in (
        ("connection to Primero", _primero_protection),
        ("connection to ONA", _ona_protection),
        ("connection to Dagster's database", _dagster_protection),
    ):
        try:
            yield Shown(name, protection(), "", "how it is protected")
        except ConfigError as failure:
            yield Shown(name, f"{REFUSED}{failure}", "", "how it is protected")


def _primero_protection() -> str:
    settings = read_one(PrimeroSettings)
    return web_protection(settings.url, override=settings.insecure)


def _ona_protection() -> str:
    from primero_ona.ona.connection import parameters_of

    settings = read_one(OnaSettings)
    parameters = parameters_of(settings.database_url.get_secret_value())
    return database_protection(parameters, override=settings.insecure)


def _dagster_protection() -> str:
    url = environment().get(_DAGSTER_URL)
    return dagster_protection(url) if url else "none, DAGSTER_POSTGRES_URL is not set"


def _default(field: FieldInfo) -> str:
    return "none, it must be set" if field.is_required() else _words(field.default)


def _words(value: Any) -> str:  # noqa: ANN401
    if value is None or value == "":
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _type(field: FieldInfo) -> str:
    """The type of a setting in words."""
    kind: Any = field.annotation
    if isinstance(kind, UnionType):
        kind = next(part for part in get_args(kind) if part is not type(None))
    if choices := get_args(kind):
        return " or ".join(f"`{choice}`" for choice in choices)
    return {SecretStr: "secret", bool: "`yes` or `no`", int: "whole number"}.get(kind, "text")


def settings_page() -> str:
    """The page of all settings, in Markdown."""
    lines = [
        "# Settings",
        "",
        "Made from `primero_ona/settings.py` by `make docs`; change them there.",
        "",
        "They come from the environment, or from `.env` in the working directory. A secret may stand in a file instead:",
        f"`<variable>{FILE_SUFFIX}` names it (the variable itself must then not be set). A file with a secret, `.env` as well, must",
        "not be open to other accounts (`chmod o= FILE`). `primero-ona config show` prints what is set, with no secret.",
        "",
        "| variable | type | default | what it is |",
        "| --- | --- | --- | --- |",
    ]
    for group in GROUPS:
        for field in group.model_fields.values():
            file = f" (or `{field.validation_alias}{FILE_SUFFIX}`)" if is_secret(field) else ""
            lines.append(
                f"| `{field.validation_alias}`{file} | {_type(field)} | {_default(field)} | {field.description} |"
            )
    lines += [f"| `{name}` | text | | {text} |" for name, text in _OTHERS.items()]
    lines.append(f"| `{_DAGSTER_URL}` | secret | | {_DAGSTER_URL_TEXT} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(settings_page(), encoding="utf-8")
