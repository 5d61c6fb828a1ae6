"""Whether a connection may be opened at all: to another machine only where nobody can read along or pretend to be it.

What belongs here: the two rules, on addresses alone. Opening connections is for `ona/connection.py` and
`primero/client.py`, which ask here first, and what the overriding settings are called is told here, too.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from urllib.parse import urlsplit

from primero_ona.failures import SettingsFailure

ONA_OVERRIDE = "PRIMERO_ONA_INSECURE_ONA"
PRIMERO_OVERRIDE = "PRIMERO_ONA_INSECURE_PRIMERO"

#: How a connection is protected, as `config show` and the metadata of a run tell it.
LOCAL, VERIFIED = "on this machine", "encrypted, server verified"


def unprotected(override: str) -> str:
    """The words for a connection that only an override admits."""
    return f"NOT PROTECTED, admitted by {override}"


def is_local(host: str) -> bool:
    """Whether a host name, address or folder of a unix socket is on this machine; an empty name is the socket."""
    if not host or host.startswith(("/", "@")) or host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def database_protection(parameters: Mapping[str, object], *, override: bool) -> str:
    """How a connection with these libpq parameters is protected; what they leave out libpq takes from the environment.

    Raises SettingsFailure where it would be to another machine without `sslmode=verify-full`, unless overridden.
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
    if named["sslmode"] == "verify-full":
        return VERIFIED
    if override:
        return unprotected(ONA_OVERRIDE)
    raise SettingsFailure(
        "ONA's database is on another machine, and ONA_DATABASE_URL does not ask for a verified connection; add "
        f"?sslmode=verify-full&sslrootcert=/path/ca.pem (or =system), or set {ONA_OVERRIDE}=yes and bear the risk"
    )


def web_protection(url: str, *, override: bool) -> str:
    """How requests to this address are protected; raises SettingsFailure as `database_protection` does."""
    address = urlsplit(url)
    if is_local(address.hostname or "?"):
        return LOCAL
    if address.scheme == "https":
        return VERIFIED
    if override:
        return unprotected(PRIMERO_OVERRIDE)
    raise SettingsFailure(
        f"PRIMERO_URL names another machine without https; write https://, or set {PRIMERO_OVERRIDE}=yes and bear the risk"
    )
