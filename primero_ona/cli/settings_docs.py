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

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from primero_ona.errors import Area, ConfigError, Diagnosis
from primero_ona.ona.connection import parameters_of
from primero_ona.settings import FILE_SUFFIX, GROUPS, OnaSettings, PrimeroSettings, environment, is_secret, read_one
from primero_ona.tls import UNPROTECTED, dagster_protection, database_protection, web_protection

#: Where the page of all settings is, seen from the root of the repository.
PAGE = Path("docs/settings.md")

#: Variables of Dagster's that this project reads or sets: their types and what they are.
_OTHERS = {
    "DAGSTER_HOME": (
        "text",
        "absolute folder of Dagster's history, cursors and schedules; default: .dagster_home here",
    ),
    "DAGSTER_POSTGRES_URL": (
        "secret",
        "Dagster's own database in production, postgresql+psycopg2://…; on another machine with sslmode=verify-full",
    ),
}


@dataclass(frozen=True)
class Shown:
    """One line of `config show`: a variable, its value in words, its default in words, and what it is."""

    variable: str
    value: str
    default: str
    description: str


def show_settings() -> list[Shown]:
    """Every setting as this process sees it, and how the connections are protected. No secret is in it."""
    named = environment()
    lines = [_show(field, group, named) for group in GROUPS for field in group.model_fields.values()]
    for name, (kind, text) in _OTHERS.items():
        value = "set, not shown" if named.get(name) and kind == "secret" else named.get(name) or "not set"
        lines.append(Shown(name, value, "", text))
    for name, protection in _protections():
        value = f"refused: {protection}" if isinstance(protection, ConfigError) else protection
        lines.append(Shown(f"connection to {name}", value, "", "how it is protected"))
    return lines


def _show(field: FieldInfo, group: type[BaseSettings], named: dict[str, str | None]) -> Shown:
    variable = str(field.validation_alias)
    if value := named.get(variable):
        value = "set, not shown" if is_secret(field) else _without_login(value) + _fault_of(variable, group)
    elif is_secret(field) and named.get(variable + FILE_SUFFIX):
        value = f"set by {variable}{FILE_SUFFIX}, not shown"
    else:
        value = "not set" if field.is_required() else f"{_words(field.default)} (default)"
    return Shown(variable, value, _default(field), field.description or "")


def _without_login(value: str) -> str:
    """An address without what stands before an @: it may hold a password."""
    login = urlsplit(value).netloc.rpartition("@")[0] if "://" in value else ""
    return value.replace(login + "@", "…@", 1) if login else value


def _fault_of(variable: str, group: type[BaseSettings]) -> str:
    """Says behind a value that it is malformed."""
    try:
        read_one(group)
    except ConfigError as failure:
        return " (malformed)" if f"{variable} is malformed" in str(failure) else ""
    return ""


def _protections() -> Iterator[tuple[str, str | ConfigError]]:
    """How each connection would be protected, override or not, as far as its address is known; or why it would be refused."""
    for name, protection in (("Primero", _of_primero), ("ONA", _of_ona), ("Dagster's database", _of_dagster)):
        try:
            yield name, protection()
        except ConfigError as failure:
            yield name, failure


def _of_primero() -> str:
    settings = read_one(PrimeroSettings)
    return web_protection(settings.url, override=settings.insecure)


def _of_ona() -> str:
    settings = read_one(OnaSettings)
    return database_protection(parameters_of(settings.database_url.get_secret_value()), override=settings.insecure)


def _of_dagster() -> str:
    url = environment().get("DAGSTER_POSTGRES_URL")
    return dagster_protection(url) if url else "none, DAGSTER_POSTGRES_URL is not set"


def look_at_settings() -> Iterator[Diagnosis]:
    """Look at each group of settings, and at how its connection would be protected."""
    area, unset = Area("settings"), set()
    for name, group in zip(("Primero", "ONA", "storage", "graph", "alerts"), GROUPS, strict=True):
        try:
            read_one(group)
            yield area.ok(name, "complete")
        except ConfigError as failure:
            unset.add(name)
            yield area.failure(name, failure)
    for name, protection in _protections():
        what = f"connection to {name}"
        if name in unset:
            continue
        if isinstance(protection, ConfigError):
            yield area.failure(what, protection)
        elif protection.startswith(UNPROTECTED):
            yield area.warning(what, f"{protection}; use https, or sslmode=verify-full, as soon as you can")
        else:
            yield area.ok(what, protection)


def _default(field: FieldInfo) -> str:
    return "none, it must be set" if field.is_required() else _words(field.default)


def _words(value: Any) -> str:  # noqa: ANN401
    if value is None or value == "":
        return "none"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


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
    rows = ""
    for group in GROUPS:
        for field in group.model_fields.values():
            variable = field.validation_alias
            file = f" (or `{variable}{FILE_SUFFIX}`)" if is_secret(field) else ""
            rows += f"| `{variable}`{file} | {_type(field)} | {_default(field)} | {field.description} |\n"
    for name, (kind, text) in _OTHERS.items():
        rows += f"| `{name}` | {kind} | | {text} |\n"
    return f"""\
# Settings

Made from `primero_ona/settings.py` by `make docs`; change them there.

They come from the environment, or from `.env` in the working directory. A secret may stand in a file instead:
`<variable>{FILE_SUFFIX}` names it (the variable itself must then not be set). A file with a secret, `.env` as well, must
not be open to other accounts (`chmod o= FILE`). `primero-ona config show` prints what is set, with no secret.

| variable | type | default | what it is |
| --- | --- | --- | --- |
{rows}"""


if __name__ == "__main__":
    PAGE.write_text(settings_page(), encoding="utf-8")
