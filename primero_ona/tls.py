"""Refuse unencrypted or unverified connections to remote hosts."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from urllib.parse import urlsplit

from primero_ona.errors import ConfigError

ONA_OVERRIDE = "PRIMERO_ONA_INSECURE_ONA"
PRIMERO_OVERRIDE = "PRIMERO_ONA_INSECURE_PRIMERO"

#: How a connection is protected, as `config show` and the metadata of a run tell it.
LOCAL, VERIFIED, UNPROTECTED = "on this machine", "encrypted, server verified", "NOT PROTECTED"


def unprotected(override: str) -> str:
    """The words for a connection that only an override admits."""
    return f"{UNPROTECTED}, admitted by {override}"


def is_local(host: str) -> bool:
    """Whether a host name, address or folder of a unix socket is on this machine; an empty name is the socket."""
    if not host or host.startswith(("/", "@")) or host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def database_protection(parameters: Mapping[str, object], *, override: bool) -> str:
    """How a connection to ONA with these libpq parameters is protected.

    Raises ConfigError where it would be to another machine without `sslmode=verify-full`, unless overridden.
    """
    if protection := _safe_protection(parameters):
        return protection
    if override:
        return unprotected(ONA_OVERRIDE)
    raise ConfigError(
        "ONA's database is on another machine, and ONA_DATABASE_URL does not ask for a verified connection; add "
        f"?sslmode=verify-full&sslrootcert=/path/ca.pem (or =system), or set {ONA_OVERRIDE}=yes to accept the risk",
        see="unverified",
    )


def dagster_protection(url: str) -> str:
    """How the connection to Dagster's own database is protected; `url` is SQLAlchemy's, as in DAGSTER_POSTGRES_URL.

    Raises ConfigError as `database_protection` does; there is no override.
    """
    from sqlalchemy.engine import make_url  # noqa: PLC0415 - takes a while to import
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415

    try:
        address = make_url(url)
        _, parameters = address.get_dialect()().create_connect_args(address)
    except (SQLAlchemyError, ValueError, ImportError):
        raise ConfigError(
            "DAGSTER_POSTGRES_URL is not a database URL; write it like postgresql+psycopg2://user:password@host:5432/dagster"
        ) from None
    if protection := _safe_protection(parameters):
        return protection
    raise ConfigError(
        "Dagster's database is on another machine, and DAGSTER_POSTGRES_URL does not ask for a verified connection; add "
        "?sslmode=verify-full&sslrootcert=/path/ca.pem (or =system)",
        see="unverified",
    )


def _safe_protection(parameters: Mapping[str, object]) -> str | None:
    """How a connection with these libpq parameters is protected, None where it is not.

    What they leave out libpq takes from the environment.
    """
    named = {
        name: str(parameters.get(name) or os.environ.get(variable) or "")
        for name, variable in {
            "host": "PGHOST",
            "hostaddr": "PGHOSTADDR",
            "service": "PGSERVICE",
            "sslmode": "PGSSLMODE",
        }.items()
    }
    hosts = [host for name in ("host", "hostaddr") for host in named[name].split(",") if host]
    # What a service file names is not known here, so it counts as another machine.
    if all(map(is_local, hosts)) and not named["service"]:
        return LOCAL
    return VERIFIED if named["sslmode"] == "verify-full" else None


def web_protection(url: str, *, override: bool) -> str:
    """How requests to this address are protected; raises ConfigError as `database_protection` does."""
    address = urlsplit(url)
    if is_local(address.hostname or "?"):
        return LOCAL
    if address.scheme == "https":
        return VERIFIED
    if override:
        return unprotected(PRIMERO_OVERRIDE)
    raise ConfigError(
        f"PRIMERO_URL names another machine without https; write https://, or set {PRIMERO_OVERRIDE}=yes to accept the risk",
        see="unverified",
    )


def bucket_protection(url: str) -> str:
    """How requests to a bucket at this address are protected; raises ConfigError as `database_protection`, without override."""
    address = urlsplit(url)
    if is_local(address.hostname or "?"):
        return LOCAL
    if address.scheme == "https":
        return VERIFIED
    raise ConfigError("AWS_ENDPOINT_URL names another machine without https; write https://", see="unverified")


def message_protection(host: str, setting: str, *, verified: bool) -> str:
    """How a message to this host is protected; `verified`: whether TLS is used, and the server's certificate checked.

    Raises ConfigError, with the `setting` that has the address, where it would be to another machine without that.
    """
    if is_local(host or "?"):
        return LOCAL
    if verified:
        return VERIFIED
    raise ConfigError(
        f"{setting} has an address on another machine without a verified connection; use https, or mailtos://, jsons:// and the "
        "like, without verify=no",
        see="unverified",
    )
