"""Every setting, once: its variable, its type, its default and what it is for.

Settings come from the environment, or from `.env` in the working directory during development; a secret may stand in a
file instead, which `<variable>_FILE` names. Nothing is read when this module is imported. A missing or malformed variable
is named in one plain sentence, all of them at once; values are never shown, because some are secrets. What is shown of a
setting, and the page that documents them all, is made in `settings_docs.py`.
"""

from __future__ import annotations

import io
import os
import re
import stat
from pathlib import Path
from typing import Literal, TypeVar, get_args
from urllib.parse import quote

from dotenv import dotenv_values
from pydantic import Field, HttpUrl, SecretStr, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from primero_ona.errors import ConfigError, UsageError
from primero_ona.primero.fields import ConsentPolicy, LocationPrecision, PullPolicy
from primero_ona.quarters import Quarter

#: A bucket by S3's rules for names, and a prefix; no user, no password, no options.
_BUCKET = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9._-]+)*/?")
#: An owner as Dagster takes one.
_OWNER = re.compile(r"team:[\w-]+|[\w.+-]+@[\w-]+(\.[\w-]+)+", re.ASCII)

_MARKUP = str.maketrans({character: quote(character) for character in "\"'<>()[]`\\|"})


def _listed(value: str) -> list[str]:
    """The entries of a list with commas, each once."""
    return list(dict.fromkeys(filter(None, map(str.strip, value.split(",")))))


#: What is appended to a secret's variable to name a file that holds it.
FILE_SUFFIX = "_FILE"


def is_secret(field: FieldInfo) -> bool:
    """Whether the value of a setting must never be shown."""
    return SecretStr in (field.annotation, *get_args(field.annotation))


def environment() -> dict[str, str | None]:
    """What the environment says, and below it `.env` in the working directory.

    Raises ConfigError where `.env` cannot be read as text.
    """
    return {**_dotenv(), **os.environ}


def _dotenv() -> dict[str, str | None]:
    path = Path(".env")
    return dotenv_values(stream=io.StringIO(_text_of(path, ".env"))) if path.exists() and not path.is_dir() else {}


def _text_of(path: Path, name: str) -> str:
    """The text of a file that people write, without the byte-order mark that some editors add unseen.

    Raises ConfigError with `name` where it cannot be read, or is in another encoding than UTF-8.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{name} cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:  # UTF-16 without a mark reads as UTF-8 with zeros
        raise ConfigError(f"{name} is not text in UTF-8; save it again with the encoding UTF-8")
    return text


def refuse_open_secret(path: Path, what: str) -> None:
    """Raise ConfigError where every account may read or write the file; `what` is how the message calls it.

    Raises OSError where there is no such file.
    """
    if path.stat().st_mode & (stat.S_IROTH | stat.S_IWOTH):
        raise ConfigError(
            f"{what} holds a secret and is open to every account of this machine; take their rights away (chmod o= FILE)",
            see="open-secret",
        )


def _from_files(group: type[BaseSettings]) -> dict[str, str]:
    """What is set of a group in the files that `<variable>_FILE` names, which secrets may have, and in `.env`; by variable.

    As of the environment, capitals do not matter in `.env`, and an empty text is not set. Raises ConfigError where a variable
    and its file are both set, and where every account of the machine may read a file with a secret.
    """
    named, dotenv = environment(), {name.lower(): value for name, value in _dotenv().items()}
    found = {}
    for field in group.model_fields.values():
        variable = str(field.validation_alias)
        value = dotenv.get(variable.lower())
        if is_secret(field) and value and not os.environ.get(variable):
            refuse_open_secret(Path(".env"), ".env")
        if is_secret(field) and (path := named.get(variable + FILE_SUFFIX)):
            if named.get(variable):
                raise ConfigError(f"{variable} and {variable}{FILE_SUFFIX} are both set; keep one of them")
            file = f"the file that {variable}{FILE_SUFFIX} names"
            if not (value := _text_of(Path(path), file).strip()):
                raise ConfigError(f"{file} is empty")
            refuse_open_secret(Path(path), file)
        if value:
            found[variable] = value
    return found


class _Settings(BaseSettings):
    """What all groups share: a field's variable is its name in capitals behind a prefix, its description the text below it."""

    model_config = SettingsConfigDict(
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        env_ignore_empty=True,
        use_attribute_docstrings=True,
        alias_generator=lambda name: f"PRIMERO_ONA_{name.upper()}",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        *_: PydanticBaseSettingsSource,
        **_pydantics_own: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment, then secrets in files, then `.env`."""
        return init_settings, env_settings, InitSettingsSource(settings_cls, dict(_from_files(settings_cls)))


class PrimeroSettings(_Settings, alias_generator=lambda name: f"PRIMERO_{name.upper()}"):
    """Where Primero is and who asks."""

    url: str = Field(pattern=r"^https?://[^\s/]+")
    """address of Primero, https://primero.example.org"""
    username: str = Field(min_length=1)
    """user name of the integration account"""
    password: SecretStr = Field(min_length=1)
    """its password"""
    ca_bundle: str | None = None
    """certificates of a private authority, a file in PEM form"""
    insecure: bool = Field(False, validation_alias="PRIMERO_ONA_INSECURE_PRIMERO")
    """`yes` lets a Primero on another machine be asked without https: passwords and cases are sent unencrypted"""

    @field_validator("ca_bundle")
    @classmethod
    def _can_be_read(cls, value: str | None) -> str | None:
        if value and not os.access(value, os.R_OK):
            raise ValueError("names no file that can be read")
        return value


class OnaSettings(_Settings, alias_generator=lambda name: f"ONA_{name.upper()}"):
    """Where ONA's database is."""

    database_url: SecretStr = Field(min_length=1)
    """libpq URL, postgresql://user:password@host:5432/database?sslmode=verify-full&sslrootcert=/path/ca.pem"""
    insecure: bool = Field(False, validation_alias="PRIMERO_ONA_INSECURE_ONA")
    """`yes` lets an ONA database on another machine be written to without sslmode=verify-full: others may read along"""

    @field_validator("database_url")
    @classmethod
    def _is_url(cls, value: SecretStr) -> SecretStr:
        if not value.get_secret_value().startswith(("postgresql://", "postgres://")):
            raise ValueError("must start with postgresql://")
        return value


class StorageSettings(_Settings):
    """Where stored partitions are, and the keys that encrypt them."""

    storage_url: str | None = Field(
        None,
        description="where stored partitions are: a folder of this machine (a path, or file:///path), or s3://bucket/prefix with "
        "primero-ona[s3]; default: partitions/ in DAGSTER_HOME",
    )
    storage_keys: SecretStr = Field(min_length=1)
    """Fernet keys of the stored partitions, separated by commas, newest first; make one with `primero-ona keys new`"""

    @field_validator("storage_url")
    @classmethod
    def _is_place(cls, value: str | None) -> str | None:
        if value and "://" in value and not value.startswith("file:///") and not _BUCKET.fullmatch(value):
            raise ValueError(
                "must name a folder of this machine, or s3://bucket/prefix without anything else; other clouds are not offered"
            )
        return value

    @property
    def bucket(self) -> str | None:
        """The bucket that is set, s3://bucket/prefix."""
        return self.storage_url if self.storage_url and _BUCKET.fullmatch(self.storage_url) else None

    @property
    def folder(self) -> Path | None:
        """The folder that is set."""
        return Path(self.storage_url.removeprefix("file://")) if self.storage_url and not self.bucket else None


class GraphSettings(_Settings):
    """What shapes the graph when the code location is loaded."""

    start: str = "2020-01-01"
    """first quarter: 2020-Q1, or its first day 2020-01-01"""
    modules: str = ""
    """Primero modules to include, separated by commas; cases of other modules leave ONA; default: all"""
    gbv_agreed: bool = False
    """`yes` says that cases of `primeromodule-gbv` are included by written agreement; until then a check warns of them"""
    location_precision: LocationPrecision = "village"
    """how exact locations are kept: `village`, `commune` or `district`; the rest is cut before anything is stored"""
    consent_policy: ConsentPolicy = "include"
    """which cases come by consent to share for reporting: `include` all, `exclude_refused`, or `given_only`"""
    retention_quarters: int | None = Field(None, ge=1)
    """how many past quarters of stored partitions are kept; older ones are deleted each night; default: all"""
    runs_days: int = Field(180, ge=7)
    """days for which Dagster keeps a run after a newer one of the same job and quarter has gone well"""
    scope_loss_percent: float = Field(2.0, ge=0, le=100)
    """a pull fails where the account sees fewer cases than before, or than stand in ONA, by more than so many per cent"""
    scope_loss_cases: int = Field(10, ge=0)
    """… and by more than so many cases"""
    whole_walk_days: int = Field(7, ge=0)
    """the open quarter is pulled by its changes, and whole when that was last done so many days ago or earlier; 0: always"""
    indicator_4_8: Literal["event", "registered"] = "event"
    """definition of indicator 4.8 that the view `indicator_4_8` shows; the ministry has confirmed none"""
    indicator_4_11a: Literal["served", "open", "registered_or_served"] = "served"
    """definition of indicator 4.11a that the view `indicator_4_11a` shows; the ministry has confirmed none"""
    change_limit: int = Field(50, ge=1)
    """a check warns where an indicator differs by more than so many percent from the quarter or the year before"""
    coverage_limit: int = Field(90, ge=0, le=100)
    """a check warns where less than so many percent of an indicator's children have a known age and a date"""
    reports: Path | None = None
    """folder of the reports on this machine, a path; default: reports/ in DAGSTER_HOME"""
    owners: str = "team:child-protection-data"
    """whom the UI names as owners of the data: `team:` and a name, or e-mail addresses, separated by commas"""
    primero_link: str | None = None
    """address that the UI links `primero` to, https://primero.example.org; default: none"""
    dashboards_link: str | None = None
    """address that the UI links `ona_dashboards` to; default: none"""

    @field_validator("reports", mode="before")
    @classmethod
    def _is_path(cls, value: str | None) -> str | None:
        if value and "://" in value:
            raise ValueError("must be a path of this machine")
        return value

    @field_validator("owners")
    @classmethod
    def _are_owners(cls, value: str) -> str:
        owners = _listed(value)
        if not owners or not all(_OWNER.fullmatch(owner) for owner in owners):
            raise ValueError(
                "must name owners like team:child-protection-data or name@example.org, separated by commas"
            )
        return value

    @field_validator("primero_link", "dashboards_link")
    @classmethod
    def _is_link(cls, value: str | None) -> str | None:
        try:
            link = HttpUrl(value) if value else None
        except ValidationError:
            raise ValueError("must be an address that begins with https:// or http://") from None
        if link and (link.username or link.password):
            raise ValueError("must not hold a user name or a password: everybody who opens the UI sees it")
        # Where a browser would read a character as markup, it is a %-code.
        return str(link).translate(_MARKUP) if link else None

    @field_validator("start")
    @classmethod
    def _is_quarter(cls, value: str) -> str:
        try:
            return Quarter.parse(value).key
        except UsageError:
            raise ValueError("must be a quarter like 2020-Q1, or its first day") from None

    @property
    def owner_names(self) -> list[str]:
        """Who owns the data, as Dagster names owners."""
        return _listed(self.owners)

    @property
    def indicators(self) -> dict[str, str]:
        """Which variant of each indicator the views show."""
        return {"4.8": self.indicator_4_8, "4.11a": self.indicator_4_11a}

    @property
    def policy(self) -> PullPolicy:
        """What of Primero's cases may come."""
        modules = tuple(sorted(_listed(self.modules)))
        return PullPolicy(self.location_precision, self.consent_policy, modules)


class AlertSettings(_Settings):
    """Who hears of faults, and from when on something is overdue."""

    alert_urls: SecretStr | None = Field(
        None,
        description="where faults are reported: Apprise URLs, separated by blanks, as mailtos://user:password@smtp.example.org?"
        "to=a@example.org, slack://…, jsons://host/path; default: nowhere",
    )
    ping_url: SecretStr | None = None
    """an address that is asked for once a day as long as nothing is overdue (a dead-man's switch); default: none"""
    ui_url: str = Field("http://127.0.0.1:3000", pattern=r"^https?://[^\s/]+")
    """address of the Dagster UI, for links in messages"""
    stale_hours: int = Field(24, ge=1)
    """hours after which what ONA has of the open quarter is overdue"""
    least_space_gb: int = Field(2, ge=1)
    """free space in GB below which a disk of this machine is reported"""
    keys_backup: str = ""
    """the newest storage key of which a copy is kept elsewhere, by the name that `primero-ona doctor` gives it"""


#: All groups, in the order in which they are documented.
GROUPS: tuple[type[BaseSettings], ...] = (PrimeroSettings, OnaSettings, StorageSettings, GraphSettings, AlertSettings)

SettingsClass = TypeVar("SettingsClass", bound=BaseSettings)


def read(*classes: type[SettingsClass]) -> tuple[SettingsClass, ...]:
    """Read groups of settings from the environment.

    Raises ConfigError, which names every missing or malformed variable of all the groups in one sentence.
    """
    found: list[SettingsClass] = []
    faults: list[str] = []
    for group in classes:
        try:
            found.append(group())
        except ValidationError as error:
            for fault in error.errors(include_input=False):
                malformed = f"is malformed ({fault['msg'].removeprefix('Value error, ')})"
                faults.append(f"{fault['loc'][0]} {'is not set' if fault['type'] == 'missing' else malformed}")
        except ConfigError as failure:
            faults.append(str(failure))
    if faults:
        raise ConfigError(f"settings: {'; '.join(dict.fromkeys(faults))}; see docs/settings.md")
    return tuple(found)


def read_one(group: type[SettingsClass]) -> SettingsClass:
    """Read one group of settings; as `read`."""
    return read(group)[0]
