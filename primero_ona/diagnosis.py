"""What a look at one part of an installation found, in a line for people and for scripts; and addresses on the network."""

from __future__ import annotations

import socket
from contextlib import suppress
from dataclasses import dataclass
from threading import Thread
from typing import Literal

from primero_ona.errors import Anchor, SyncError

State = Literal["ok", "warning", "failed", "not looked at"]

#: Seconds that a name server may take; looking up a name knows no time limit of its own.
_NAME_SECONDS = 10.0


@dataclass(frozen=True)
class Diagnosis:
    """One thing of an installation: whether it is well, what was found, and what to do where it is not.

    `kind` is that of the failure, as `errors.py` names it, where `state` is `failed`.
    """

    area: str
    what: str
    state: State
    text: str
    kind: str | None = None


@dataclass(frozen=True)
class Area:
    """Makes the lines of one area."""

    name: str

    def ok(self, what: str, text: str) -> Diagnosis:
        """Make a line about what is well."""
        return Diagnosis(self.name, what, "ok", text)

    def warning(self, what: str, text: str) -> Diagnosis:
        """Make a line about what works and should be looked into."""
        return Diagnosis(self.name, what, "warning", text)

    def failed(self, what: str, text: str, kind: type[SyncError], see: Anchor | None = None) -> Diagnosis:
        """Make a line about what has to change; the text says how. `see`: as of SyncError."""
        return self.failure(what, kind(text, see=see))

    def failure(self, what: str, failure: SyncError) -> Diagnosis:
        """Make the line of a failure, whose message says what to do."""
        return Diagnosis(self.name, what, "failed", failure.shown, failure.kind)

    def skipped(self, what: str, why: str) -> Diagnosis:
        """Make a line about what cannot be looked at as long as something else is not well."""
        return Diagnosis(self.name, what, "not looked at", why)


def resolve(host: str) -> list[str]:
    """Look up the addresses of a host name; none where it is not known, or the name server does not answer in time."""
    found: list[str] = []

    def look_up() -> None:
        with suppress(OSError, UnicodeError):
            found.extend(str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))

    thread = Thread(target=look_up, daemon=True)
    thread.start()
    thread.join(_NAME_SECONDS)
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
