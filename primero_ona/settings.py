"""Every setting, once: its variable, its type, its default and what it is for.

Settings come from the environment, or from `.env` in the working directory during development. Nothing is read when this
module is imported. A missing or malformed variable is named in one plain sentence, all of them at once; values are
never shown, because some are secrets.
"""

from __future__ import annotations

from typing import Literal, TypeVar

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from primero_ona.failures import SettingsFailure
from primero_ona.quarters import Quarter

_CONFIG = SettingsConfigDict(
    env_file=".env", extra="ignore", frozen=True, hide_input_in_errors=True, env_ignore_empty=True
)


class PrimeroSettings(BaseSettings):
    """Where Primero is and who asks."""

    model_config = _CONFIG

    url: str = Field(
        validation_alias="PRIMERO_URL",
        pattern=r"^https?://[^\s/]+",
        description="address of Primero, https://primero.example.org",
    )
    username: str = Field(
        validation_alias="PRIMERO_USERNAME", min_length=1, description="user name of the integration account"
    )
    password: SecretStr = Field(validation_alias="PRIMERO_PASSWORD", min_length=1, description="its password")
    ca_bundle: str | None = Field(
        None,
        validation_alias="PRIMERO_CA_BUNDLE",
        description="certificates of a private authority, a file in PEM form",
    )


class OnaSettings(BaseSettings):
    """Where ONA's database is."""

    model_config = _CONFIG

    database_url: SecretStr = Field(
        validation_alias="ONA_DATABASE_URL",
        min_length=1,
        description="libpq URL, postgresql://user:password@host:5432/database",
    )

    @field_validator("database_url")
    @classmethod
    def _is_url(cls, value: SecretStr) -> SecretStr:
        if not value.get_secret_value().startswith(("postgresql://", "postgres://")):
            raise ValueError("must start with postgresql://")
        return value


class StorageSettings(BaseSettings):
    """Where stored partitions are, and the keys that encrypt them."""

    model_config = _CONFIG

    storage_url: str | None = Field(
        None,
        validation_alias="PRIMERO_ONA_STORAGE_URL",
        description="folder or bucket of the stored partitions (a path, s3://…, gs://…, abfs://…); default: partitions/ in DAGSTER_HOME",
    )
    storage_keys: SecretStr = Field(
        validation_alias="PRIMERO_ONA_STORAGE_KEYS",
        min_length=1,
        description="Fernet keys of the stored partitions, separated by commas, newest first; make one with `primero-ona keys new`",
    )


class GraphSettings(BaseSettings):
    """What shapes the graph when the code location is loaded."""

    model_config = _CONFIG

    start: str = Field(
        "2020-01-01",
        validation_alias="PRIMERO_ONA_START",
        description="first quarter: 2020-Q1, or its first day 2020-01-01",
    )
    executor: Literal["in_process", "multiprocess"] = Field(
        "in_process", validation_alias="PRIMERO_ONA_EXECUTOR", description="how a run executes its steps"
    )
    modules: str = Field(
        "",
        validation_alias="PRIMERO_ONA_MODULES",
        description="Primero modules to include, separated by commas; default: all",
    )

    @field_validator("start")
    @classmethod
    def _is_quarter(cls, value: str) -> str:
        try:
            return Quarter.parse(value).key
        except SettingsFailure:
            raise ValueError("must be a quarter like 2020-Q1, or its first day") from None


SettingsClass = TypeVar("SettingsClass", bound=BaseSettings)


def read(*classes: type[SettingsClass]) -> tuple[SettingsClass, ...]:
    """Read groups of settings from the environment.

    Raises SettingsFailure, which names every missing or malformed variable of all the groups in one sentence.
    """
    found: list[SettingsClass] = []
    faults: list[str] = []
    for group in classes:
        try:
            found.append(group())
        except ValidationError as error:
            faults += [_fault(fault["loc"], fault["type"], fault["msg"]) for fault in error.errors(include_input=False)]
    if faults:
        raise SettingsFailure(f"settings: {'; '.join(faults)}; see the table of settings in README.md")
    return tuple(found)


def read_one(group: type[SettingsClass]) -> SettingsClass:
    """Read one group of settings; as `read`."""
    return read(group)[0]


def _fault(location: tuple[int | str, ...], kind: str, message: str) -> str:
    """Say what is wrong with one variable, without its value."""
    name = str(location[0]) if location else "?"
    if kind == "missing":
        return f"{name} is not set"
    return f"{name} is malformed ({message.removeprefix('Value error, ')})"
