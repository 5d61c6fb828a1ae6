"""Refuse unencrypted or unverified connections to remote hosts; and where hosts are."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from threading import Thread
from urllib.parse import urlsplit

from primero_ona.errors import ConfigError

#: How a connection is protected, as `config show` and the metadata of a run tell it.
LOCAL, VERIFIED, UNPROTECTED = "on this machine", "encrypted, server verified", "NOT PROTECTED"


def is_local(host: str) -> bool:
    """Whether a host name, address or folder of a unix socket is on this machine; an empty name is the socket."""
    if not host or host.startswith(("/", "@")) or host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _protection(local: bool, verified: bool, refusal: str, override: str = "") -> str:
    """How a connection is protected; raises ConfigError with the refusal where it is not, unless a variable overrides that."""
    if local:
        return LOCAL
    if verified:
        return VERIFIED
    if override:
        return f"{UNPROTECTED}, admitted by {override}"
    raise ConfigError(refusal, see="unverified")


def database_protection(parameters: Mapping[str, object], *, override: bool) -> str:
    """How a connection to ONA with these libpq parameters is protected.

    Raises ConfigError where it would be to another machine without `sslmode=verify-full`, unless overridden.
    """
    return _protection(
        *_of_libpq(parameters),
        "ONA's database is on another machine, and ONA_DATABASE_URL does not ask for a verified connection; add "
        "?sslmode=verify-full&sslrootcert=/path/ca.pem (or =system), or set PRIMERO_ONA_INSECURE_ONA=yes to accept the risk",
        "PRIMERO_ONA_INSECURE_ONA" if override else "",
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
    return _protection(
        *_of_libpq(parameters),
        "Dagster's database is on another machine, and DAGSTER_POSTGRES_URL does not ask for a verified connection; add "
        "?sslmode=verify-full&sslrootcert=/path/ca.pem (or =system)",
    )


def _of_libpq(parameters: Mapping[str, object]) -> tuple[bool, bool]:
    """Whether a connection with these parameters is local, and verified; what they leave out libpq takes from the environment."""
    host, hostaddr, service, sslmode = (
        str(parameters.get(name) or os.environ.get(f"PG{name.upper()}") or "")
        for name in ("host", "hostaddr", "service", "sslmode")
    )
    # What a service file names is not known here, so it counts as another machine.
    local = not service and all(is_local(one) for one in f"{host},{hostaddr}".split(",") if one)
    return local, sslmode == "verify-full"


def web_protection(url: str, *, override: bool) -> str:
    """How requests to Primero at this address are protected; raises ConfigError as `database_protection` does."""
    return _protection(
        *_of_web(url),
        "PRIMERO_URL names another machine without https; write https://, or set PRIMERO_ONA_INSECURE_PRIMERO=yes to accept the risk",
        "PRIMERO_ONA_INSECURE_PRIMERO" if override else "",
    )


def bucket_protection(url: str) -> str:
    """How requests to a bucket at this address are protected; raises ConfigError as `database_protection`, without override."""
    return _protection(*_of_web(url), "AWS_ENDPOINT_URL names another machine without https; write https://")


def _of_web(url: str) -> tuple[bool, bool]:
    address = urlsplit(url)
    return is_local(address.hostname or "?"), address.scheme == "https"


def message_protection(host: str, setting: str, *, verified: bool) -> str:
    """How a message to this host is protected; `verified`: whether TLS is used, and the server's certificate checked.

    Raises ConfigError, with the `setting` that has the address, where it would be to another machine without that.
    """
    return _protection(
        is_local(host or "?"),
        verified,
        f"{setting} has an address on another machine without a verified connection; use https, or mailtos://, jsons:// and the "
        "like, without verify=no",
    )


def resolve(host: str) -> list[str]:
    """Look up the addresses of a host name; none where it is not known, or the name server does not answer in time."""
    found: list[str] = []

    def look_up() -> None:
        with suppress(OSError, UnicodeError):
            found.extend(str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))

    thread = Thread(target=look_up, daemon=True)
    thread.start()
    thread.join(10)  # seconds: looking up a name knows no time limit of its own
    return list(dict.fromkeys(found))


def own_address(address: str) -> str | None:
    """Find the address of this machine on the way to another address; nothing is sent. None where no way is known."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))
            return str(probe.getsockname()[0])
    except OSError:
        return None
