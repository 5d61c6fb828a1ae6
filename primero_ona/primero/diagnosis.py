"""Look at Primero as the settings name it: its name, TLS, login, cases, version, clock, and each field that is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import requests

from primero_ona.contract.tables import BIRTH_FIELD
from primero_ona.errors import Area, Diagnosis, RefusedError, SyncError, TransientError
from primero_ona.primero.client import AHEAD, AnswerRefusedError, LoginRefusedError, PrimeroClient
from primero_ona.primero.fields import CASE_FIELDS, WITHOUT_BIRTH, KnownFields
from primero_ona.primero.inventory import presence_of
from primero_ona.primero.pull import survey
from primero_ona.primero.visible import check_fields
from primero_ona.tls import is_local, resolve

AREA = Area("Primero")

#: The first and the last minor version on which the tests play all syncs.
_TESTED = ((2, 10), (2, 15))


def diagnose(client: PrimeroClient, known: KnownFields | None) -> Iterator[Diagnosis]:
    """Look at one thing after the other, up to the first that the rest needs; a wrong password is sent once."""
    name = _name(client.url)
    yield name
    if name.state != "ok":
        return
    try:
        zone, _ = survey(client)  # needs a connection, the login, and cases that are shown
    except SyncError as failure:
        yield from _refused(client, failure)
        return
    yield AREA.ok("connection", client.protection)
    yield AREA.ok("login", "admitted, and shown cases")
    yield _clock(client)
    if zone:
        text = f"stamps are kept {zone} off UTC; windows are asked accordingly, its administrators should know"
        yield AREA.warning("time zone", text)
    yield _version(client)
    yield from _fields(client, known)


def scope(client: PrimeroClient, cases: Sequence[str]) -> Diagnosis:
    """Ask for some cases of ONA (Primero ids), one by one: what is out of the account's scope is there, and refused."""
    try:
        found = [presence_of(client, case) for case in cases]
    except SyncError as failure:
        return AREA.failure("scope", failure)
    if hidden := found.count("out of scope"):
        text = (
            f"{hidden} of ONA's newest {len(cases)} cases are out of this account's scope, so changes would not be seen; let "
            "Primero's administrators give its role the scope `all`"
        )
        return AREA.failed("scope", text, RefusedError, "missing-field")
    return AREA.ok("scope", f"none of ONA's newest {len(cases)} cases is hidden; `primero-ona verify` asks about all")


def _name(url: str) -> Diagnosis:
    address = urlsplit(url)
    host = address.hostname or ""
    if is_local(host):
        return AREA.ok("name", "on this machine")
    if requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url)):
        return AREA.ok("name", f"{host} is looked up by the proxy that the environment names")
    if found := resolve(host):
        return AREA.ok("name", f"{host} has the address {found[0]}")
    text = (
        f"the host {host} of PRIMERO_URL is not known; check the address, then this machine's name server and network"
    )
    return AREA.failed("name", text, TransientError, "primero-unreachable")


def _refused(client: PrimeroClient, failure: SyncError) -> Iterator[Diagnosis]:
    """Say how far the first question came, and what ended it."""
    if isinstance(failure, (LoginRefusedError, AnswerRefusedError)) or client.server_time is not None:
        yield AREA.ok("connection", client.protection)
        yield AREA.failure("login" if isinstance(failure, LoginRefusedError) else "cases", failure)
    else:
        yield AREA.failure("connection", failure)
    yield AREA.skipped("version, clock and fields", "they can be asked for once the above is well")


def _version(client: PrimeroClient) -> Diagnosis:
    try:
        version = client.version()
    except SyncError as failure:
        return AREA.failure("version", failure)
    if version is None:
        return AREA.ok("version", "not visible to this account, which is no fault")
    number = tuple(int(part) for part in version.split(".")[:2])
    if _TESTED[0] <= number <= _TESTED[1]:
        return AREA.ok("version", version)
    tested = " to ".join(".".join(map(str, one)) for one in _TESTED)
    return AREA.warning(
        "version", f"{version}; this program is tested with {tested}: run `primero-ona verify` after the first sync"
    )


def _clock(client: PrimeroClient) -> Diagnosis:
    if client.server_time is None:
        return AREA.ok("clock", "not shown")
    ahead = client.server_time - datetime.now(UTC)
    text = f"{abs(round(ahead.total_seconds())):,} s {'ahead of' if ahead > timedelta() else 'behind'} this machine's"
    advice = f"{text}; set both by a time server (`timedatectl set-ntp true`), or tell Primero's administrators"
    if abs(ahead) > AHEAD:
        return AREA.failed("clock", advice, TransientError, "unreliable-answers")
    # Its stamps decide which quarter an edit of the last day belongs to.
    return AREA.warning("clock", advice) if abs(ahead) > timedelta(minutes=5) else AREA.ok("clock", text)


def _fields(client: PrimeroClient, known: KnownFields | None) -> Iterator[Diagnosis]:
    try:
        found = check_fields(client, (), known or KnownFields())
    except SyncError as failure:
        yield AREA.failure("fields", failure)
        return
    if BIRTH_FIELD in found.missing:
        yield AREA.warning("fields", WITHOUT_BIRTH)
    if others := [name for name in found.missing if name != BIRTH_FIELD]:
        yield AREA.warning(
            "fields",
            f"none of the newest cases has {', '.join(others)}, so their columns stay empty: no case has them yet, or the "
            "account's role may not read their form; ask Primero's administrators",
        )
    if not found.missing:
        yield AREA.ok("fields", f"all {len(CASE_FIELDS)} that are asked for occur")
