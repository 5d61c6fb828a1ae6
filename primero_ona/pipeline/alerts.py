"""Messages about faults: what they say, who has been sent which, and sending them, by Apprise.

A message has no data: no id of a case, no count by value. The address of a channel is a secret and shown nowhere.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import socket
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypedDict

from primero_ona.errors import PAGE, ConfigError
from primero_ona.settings import AlertSettings
from primero_ona.tls import message_protection

_URLS = "PRIMERO_ONA_ALERT_URLS"

#: Faults that one message describes, and quarters that one line names; more of them have one cause, mostly.
_DESCRIBED, NAMED = 10, 5

#: Raised when the shape of the state changes; an older one is forgotten, and standing faults are reported once more.
_VERSION = 1

_ID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", re.IGNORECASE)


@dataclass(frozen=True)
class Fault:
    """What failed, for people. The `key` is the same as long as the fault is, whatever numbers and quarters it names.

    `stale`: since when which data are behind. `heals`: whether it does so by itself. `confirm`: it counts once looks have
    found it for a while, since after a restart everything is old for a moment.
    """

    key: str
    text: str
    heals: str
    command: str
    link: str
    stale: str = ""
    quarters: tuple[str, ...] = ()
    confirm: bool = False

    def described(self) -> str:
        """The fault in some lines."""
        whole = "Nothing is half-written: ONA has a quarter's new state whole, or what it had before."
        parts = (self.text, self.stale, whole, self.heals, f"Try: {self.command}")
        return "\n".join([*(_ID.sub("(an id)", part) for part in parts if part), f"See: {self.link}"])

    def reported(self, now: datetime) -> Reported:
        """What is remembered once a channel has taken it."""
        return {"text": _ID.sub("(an id)", self.text), "quarters": list(self.quarters), "at": now.isoformat()}


class Reported(TypedDict):
    """What a channel was sent of a fault: its text, the quarters it had then, and when (ISO, UTC)."""

    text: str
    quarters: list[str]
    at: str


@dataclass
class State:
    """What is remembered from one look to the next, without an address: see `report`.

    `reported`: by channel and fault. `seen`: the keys of the last look, and since when looks find them. `silent`: since when a
    channel takes no message. `pinged`: the day of the last ping.
    """

    reported: dict[str, dict[str, Reported]] = field(default_factory=dict)
    seen: dict[str, str] = field(default_factory=dict)
    silent: dict[str, str] = field(default_factory=dict)
    pinged: str = ""

    @classmethod
    def read(cls, text: str | None) -> State:
        """Read what `write` wrote; empty where there is nothing, or an older version wrote it."""
        found: dict[str, Any] = json.loads(text) if text else {}
        if found.pop("version", None) != _VERSION:
            return cls()
        return cls(**found)

    def write(self) -> str:
        """The state as JSON."""
        return json.dumps({"version": _VERSION, **asdict(self)})


@dataclass(frozen=True)
class Channel:
    """One address that messages go to, as a plugin of Apprise. `name` tells it from others without showing it."""

    name: str
    plugin: Any = field(repr=False)

    def send(self, title: str, body: str) -> bool:
        """Send a message; whether it was taken."""
        try:
            return bool(self.plugin.notify(body=body, title=title))
        except Exception:  # noqa: BLE001  whatever a plugin raises, its text may quote the address
            return False


def channels(settings: AlertSettings) -> list[Channel]:
    """The channels that the settings name; none where they name none.

    Raises ConfigError where Apprise does not know one, or one is on another machine and not verified.
    """
    if settings.alert_urls is None:
        return []
    from apprise import Apprise, AppriseAsset  # noqa: PLC0415  takes a while to import

    # What a library says of a failed message may quote its address.
    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
    asset = AppriseAsset(app_id="primero-ona", app_desc="primero-ona", http_redirects=False)
    found = []
    for number, url in enumerate(settings.alert_urls.get_secret_value().split(), 1):
        plugin: Any = Apprise.instantiate(url, asset=asset, suppress_exceptions=True)
        if plugin is None:
            raise ConfigError(
                f"address {number} in {_URLS} is none that Apprise knows; see https://appriseit.com, and put blanks between them",
                see="alert-address",
            )
        host = getattr(plugin, "smtp_host", None) or getattr(plugin, "host", None)
        message_protection(str(host or ""), _URLS, verified=_is_verified(plugin))
        kind = type(plugin).__name__.removeprefix("Notify").lower()
        found.append(Channel(f"{kind} {hashlib.sha256(url.encode()).hexdigest()[:8]}", plugin))
    return found


def _is_verified(plugin: Any) -> bool:  # noqa: ANN401
    """Whether a plugin uses TLS and checks the certificate. One that has no plain protocol uses TLS always."""
    mode = getattr(plugin, "secure_mode", None)
    encrypted = mode != "insecure" if mode else plugin.secure or (plugin.secure_protocol and not plugin.protocol)
    return bool(encrypted and plugin.verify_certificate)


def report(faults: Sequence[Fault], state: State, to: Sequence[Channel], now: datetime) -> tuple[State, int]:
    """Send each channel what it has not been sent: new faults, grown ones, and those that are over.

    A channel that takes no message gets it with the next look. Returns the new state and the number of messages sent.
    """
    seen = {fault.key: state.seen.get(fault.key, now.isoformat()) for fault in faults}
    # Twice the time between two looks of the sensor at Primero.
    confirmed = timedelta(minutes=30)
    standing = [fault for fault in faults if not fault.confirm or _since(seen[fault.key], now) >= confirmed]
    reported, silent, sent = {}, {}, 0
    for channel in to:
        before = state.reported.get(channel.name, {})
        current = {fault.key: fault for fault in [*standing, *_silent_others(channel, to, state, now)]}
        due = {key: fault for key, fault in current.items() if _is_due(fault, before.get(key), now)}
        # What is there and not confirmed yet is not over.
        over = [entry["text"] for key, entry in before.items() if key not in seen and key not in current]
        reported[channel.name] = before
        if not due and not over:
            continue
        if channel.send(*message([*due.values()], over)):
            sent += 1
            reported[channel.name] = {
                key: fault.reported(now) if key in due else before[key] for key, fault in current.items()
            }
        else:
            silent[channel.name] = state.silent.get(channel.name, now.isoformat())
    return State(reported, seen, silent, state.pinged), sent


def _since(moment: str, now: datetime) -> timedelta:
    return now - datetime.fromisoformat(moment)


def _is_due(fault: Fault, before: Reported | None, now: datetime) -> bool:
    """Whether a fault is new; with further quarters it is so again after a day, so that a storm of it is one message."""
    if before is None:
        return True
    return not set(fault.quarters) <= set(before["quarters"]) and _since(before["at"], now) >= timedelta(days=1)


def _silent_others(channel: Channel, to: Sequence[Channel], state: State, now: datetime) -> Iterator[Fault]:
    """A fault for each other channel that has taken no message for an hour."""
    for other in to:
        since = state.silent.get(other.name)
        if other is not channel and since and _since(since, now) >= timedelta(hours=1):
            yield Fault(
                key=f"silent:{other.name}",
                text=f"Alerts do not arrive by another channel ({other.name}).",
                heals="Each message is tried again every few minutes.",
                command=f"check its address in {_URLS}, then primero-ona alerts test",
                link=f"{PAGE}#alert-address",
            )


def message(faults: Sequence[Fault], over: Sequence[str]) -> tuple[str, str]:
    """Title and body of a message about new faults and those that are over."""
    counts = [f"{len(faults)} new fault{'s' if len(faults) > 1 else ''}"] if faults else []
    counts += [f"{len(over)} over"] if over else []
    parts = [fault.described() for fault in faults[:_DESCRIBED]]
    if len(faults) > _DESCRIBED:
        parts.append(f"And {len(faults) - _DESCRIBED} more: primero-ona doctor, and the Dagster UI.")
    parts += [f"Over: {text}" for text in over[:_DESCRIBED]]
    return f"primero-ona on {socket.gethostname()}: {', '.join(counts)}", "\n\n".join(parts)


def ping(url: str) -> bool:
    """Ask for the dead-man's address; whether it answered well.

    Raises ConfigError where it is on another machine without https.
    """
    import requests  # noqa: PLC0415  every process of Dagster loads the graph, and few ping
    from urllib3.util import parse_url  # noqa: PLC0415

    address = parse_url(url)
    message_protection(address.host or "", "PRIMERO_ONA_PING_URL", verified=address.scheme == "https")
    try:
        return requests.get(url, timeout=10, allow_redirects=False).status_code == 200
    except requests.RequestException:
        return False
