"""Ask Primero over HTTP Basic, one request at a time, and turn every odd answer into an error with a safe message.

No message or log line holds a query string, a response body or a value of a case. HTTP Basic works on every version and keeps no
session: since 2.11 `POST /tokens` gives no token, and since 2.12 a login ends the same user's other sessions.
"""

from __future__ import annotations

import logging
import math
import random
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cached_property
from itertools import count
from typing import Any, NamedTuple, Protocol, Self, TypeGuard
from urllib.parse import urlsplit

import numpy as np
import requests
import urllib3
from requests import exceptions
from requests.auth import HTTPBasicAuth

from primero_ona.errors import Anchor, DataError, PermanentError, RefusedError, TransientError
from primero_ona.primero.raw import decode
from primero_ona.primero.wire import Line, LineAdapter, TooLargeError, read
from primero_ona.tls import is_local, web_protection

logger = logging.getLogger(__name__)

#: Rows per page. Primero cuts anything above to 1,000 without a word; less of it costs a scan of the whole case table more often.
PAGE_ROWS = 1_000

#: A range without a lower end is silently dropped by Primero, so ranges begin before any date that data hold: a
#: spreadsheet's zero is 30 December 1899, a program's the year 1. A range without an upper end is fair.
EARLIEST = "0001-01-01T00:00:00Z"
ALL_TIME = f"{EARLIEST}.."

#: How cases are asked for: the newest first, the last changed first, or in the one order that is total and never changes.
NEWEST = {"order_by": "created_at", "order": "desc"}
BY_IDENTIFIER = {"order_by": "unique_identifier", "order": "asc"}
LATEST = {"order_by": "last_updated_at", "order": "desc", "fields": "status"}

#: Seconds to connect, and to wait between two pieces of an answer. A cold list of 1,000 cases was seen to take tens of
#: seconds on a busy server; its own proxies give up much later, so a shorter wait would turn slow into failed.
TIMEOUT = (5.0, 180.0)

#: Seconds that one answer may take altogether, from the connection to the last byte: one that trickles meets no limit above.
ANSWER_SECONDS = 600.0

#: Bytes that one answer may have, decompressed. A page of 1,000 cases with fifty services each has about 10 MB; 256 MB fit
#: into the memory of a small machine, and a few MB of gzip can become gigabytes.
ANSWER_BYTES = 256_000_000

#: Attempts after the first, one count for all that may pass, so that two kinds of trouble do not multiply. The pauses are
#: 1 + 2 + 4 + 8 + 16 seconds, each with up to 1 s of jitter, or what the server asks for by Retry-After, up to 60 seconds each
#: (Primero itself says 60 while a configuration is applied).
RETRIES = 5
RETRY_AFTER_MAX = 60.0

#: Of those, attempts after a silence or a reset: each may have cost the 180 seconds above.
SILENT_RETRIES = 2

#: Seconds that one question may take with all its attempts and pauses, before Dagster's run retry takes over. It holds the
#: worst honest cases: 3 × 180 s of silence, 5 × 60 s of Retry-After.
PATIENCE = 900.0

#: The stock web server in front of Primero refuses request lines above 1 KB (414).
URL_BYTES = 1_000

#: Statuses that pass: a request or a client that was too slow, too early or too often; and from 500 on all, those of proxies
#: included, but not implemented, not this version of HTTP, and not before a login to the network.
_PASSING = {408, 425, 429, 499, *range(500, 1000)} - {501, 505, 511}

#: How far a stamp may lie beyond Primero's own time, since clocks differ a little. One further ahead is no time of a change.
AHEAD = timedelta(hours=1)


@dataclass
class Traffic:
    """What a client has done so far: requests sent, bytes received on the wire, seconds spent waiting for Primero."""

    requests: int = 0
    bytes: int = 0
    seconds: float = 0.0


class Page(NamedTuple):
    """One page of a list: its rows, and Primero's own `total` and `per` (which may be less than was asked)."""

    rows: list[dict[str, Any]]
    total: int
    per: int


class LoginMemory(Protocol):
    """Where a refused login is remembered, so that it is asked once: six failed logins lock the account."""

    def refused_at(self) -> datetime | None:
        """When Primero refused the login (aware, UTC); None where nothing is known of that."""

    def note_refused(self) -> None:
        """Remember that Primero has refused the login."""


@dataclass
class PrimeroClient:
    """A connection to one Primero as one user. Use it as a context manager; it is for one thread at a time.

    `total`: seconds that all questions may take together from now on (None: no limit). `pause` scales the pauses between
    attempts, and before an empty answer is believed. `insecure` admits plain http to another machine; `protection` tells how
    the connection is protected; `logins` remembers a refused login beyond this client. `server_time`: Primero's own clock at
    its last answer; `newest_stamp`: the measure of its time where its answers, as Puma's, do not have it (both aware).
    Raises RefusedError where login or permission is refused (never asked twice: six failed logins lock the account),
    TransientError where Primero cannot be reached or breaks off, DataError where an answer has not the known shape.
    """

    url: str
    username: str
    password: str = field(repr=False)
    ca_bundle: str | None = None
    pause: float = 1.0
    insecure: bool = False
    total: float | None = None
    logins: LoginMemory | None = None
    traffic: Traffic = field(default_factory=Traffic, init=False)
    server_time: datetime | None = field(default=None, init=False)
    newest_stamp: datetime | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._end = math.inf if self.total is None else time.monotonic() + self.total
        self.url = self.url.rstrip("/")
        self.protection = web_protection(self.url, override=self.insecure)
        self._host = urlsplit(self.url).netloc.rpartition("@")[2]
        # urllib3 warns with the whole URL; what is worth saying is said here, without it.
        logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
        self._session = requests.Session()
        self._session.auth = HTTPBasicAuth(self.username.encode(), self.password.encode())
        headers = {"Accept": "application/json", "Accept-Encoding": "gzip", "User-Agent": "primero-ona"}
        self._session.headers.update(headers)
        self._session.verify = self.ca_bundle or True
        self._line = Line()
        for scheme in ("https://", "http://"):
            self._session.mount(scheme, LineAdapter(self._line))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()
        self._line.close()

    def get(self, path: str, params: Mapping[str, str | int] | None = None) -> dict[str, Any]:
        """GET `/api/v2/<path>` and decode its JSON object; what may pass is asked again, within PATIENCE and `total`."""
        if self._refused_at:
            raise LoginRefusedError(
                f"Primero at {self._host} refused the login on {self._refused_at:%Y-%m-%d %H:%M} UTC, and it is not asked again: "
                "six failed logins lock the account. Correct PRIMERO_USERNAME or PRIMERO_PASSWORD; where they are right, as "
                "after an account was unlocked, run `primero-ona account retry-login`"
            )
        deadline = min(time.monotonic() + PATIENCE, self._end)
        for attempt in range(RETRIES + 1):
            try:
                return self._ask(path, params or {}, deadline)
            except _PassingError as passing:
                pause = passing.retry_after or self.pause * (2**attempt + random.random())  # jitter, no secret  # noqa: S311  # nosec B311
                if attempt >= passing.retries or time.monotonic() + pause > deadline:
                    raise TransientError(
                        f"Primero at {self._host} {passing.said.format(path=path)}, {attempt + 1} times over; try again later",
                        see="primero-unreachable",
                    ) from None
                logger.warning("%s %s; attempt %d", path, passing.said.format(path="it"), attempt + 1)
                time.sleep(pause)
        raise AssertionError  # the last attempt returns or raises

    def page(self, path: str, params: Mapping[str, str | int]) -> Page:
        """GET one page of a list, and check that it has the shape of one."""
        answer = self.get(path, params)
        rows, metadata = answer.get("data"), answer.get("metadata")
        if not is_list_of_objects(rows) or not isinstance(metadata, dict):
            raise DataError(
                f"Primero's answer to {path} has no list `data` with `metadata`; is PRIMERO_URL a Primero v2?",
                see="not-primero",
            )
        total, per = metadata.get("total"), metadata.get("per")
        if not isinstance(total, int) or not isinstance(per, int):
            raise DataError(
                f"Primero's answer to {path} gives no `total` and `per`, so whether it is complete cannot be known",
                see="unreliable-answers",
            )
        return Page(rows, total, per)

    def count(self, params: Mapping[str, str | int]) -> int:
        """How many cases Primero counts; 0, too, where its database gave the question up."""
        return self.page("cases", {**params, "per": 0, "fields": "status"}).total

    def pages(self, path: str, params: Mapping[str, str | int], key: str = "id") -> Iterator[Page]:
        """GET the pages of a list up to the first that is not full; `key` identifies a row. Raises DataError where none is."""
        seen: list[np.ndarray[Any, np.dtype[np.int64]]] = []
        for number in count(1):
            page = self.page(path, {**params, "per": PAGE_ROWS, "page": number})
            yield page
            if len(page.rows) < page.per or page.per <= 0:
                return
            own = np.fromiter((hash(str(row.get(key))) for row in page.rows), np.int64, len(page.rows))
            if all(any((earlier == one).any() for earlier in seen) for one in own):
                raise DataError(
                    f"Primero's page {number} of {path} brings nothing but what came before, so the list has no end; does "
                    "something between here and Primero drop `page` from the address?",
                    see="not-primero",
                )
            seen.append(own)

    def now(self) -> datetime:
        """Primero's own time (aware), as well as it is known; this machine's, where nothing is known of it."""
        return self.server_time or self.newest_stamp or datetime.now(UTC)

    def latest(self) -> datetime:
        """The latest stamp that can be (aware): an hour beyond Primero's own time, or beyond this machine's clock."""
        return (self.server_time or max(self.now(), datetime.now(UTC))) + AHEAD

    def version(self) -> str | None:
        """The version Primero runs (`2.15.2.1`); None where the account may not ask, or the answer looks like no version."""
        try:
            settings = self.get("system_settings").get("data")
        except LoginRefusedError:
            raise
        except PermanentError:
            return None
        version = settings.get("primero_version") if isinstance(settings, dict) else None
        shape = r"[0-9]{1,4}(\.[0-9]{1,4}){1,3}([-.]?(alpha|beta|pre|rc|dev)[-.]?[0-9]{0,2})?"  # any other text is not shown
        return version if isinstance(version, str) and re.fullmatch(shape, version) else None

    def _ask(self, path: str, params: Mapping[str, str | int], deadline: float) -> dict[str, Any]:
        """Send one request and decode the answer."""
        url = f"{self.url}/api/v2/{path}"
        request = self._session.prepare_request(requests.Request("GET", url, params=dict(params)))
        if len(request.url or "") > URL_BYTES:
            raise DataError(
                f"the request for {path} would be longer than {URL_BYTES} bytes, which Primero's web server refuses",
                see="unreliable-answers",
            )
        failure: Exception | None = None
        started = time.monotonic()
        ends = min(started + ANSWER_SECONDS, deadline)
        self.traffic.requests += 1
        try:
            with (
                self._line.until(ends),
                self._session.send(
                    request, timeout=TIMEOUT, stream=True, allow_redirects=False, **self._environment(request.url)
                ) as response,
            ):
                content = read(response.raw, ANSWER_BYTES)
                self.traffic.bytes += response.raw.tell()
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            failure = self._unreachable(error)
        except TooLargeError:
            raise DataError(
                f"Primero's answer to {path} has more than {ANSWER_BYTES:,} bytes, more than any page of cases; is "
                "PRIMERO_URL a Primero v2?",
                see="unreliable-answers",
            ) from None
        finally:
            self.traffic.seconds += time.monotonic() - started
        if time.monotonic() >= ends:  # without a length, a body that was cut looks whole
            raise TransientError(  # it has cost minutes, so it is not asked for again
                f"Primero at {self._host} did not end its answer to {path} in the time that one may take; try again later",
                see="primero-unreachable",
            )
        if failure:
            raise failure
        if response.status_code != 200:
            raise self._refused(response, path)
        self._note_time(response.headers.get("Date"))
        try:
            answer = decode(content)
        except (ValueError, RecursionError):
            raise _PassingError("answered {path} with something that is not JSON") from None
        if not isinstance(answer, dict):
            raise DataError(
                f"Primero's answer to {path} is no JSON object; is PRIMERO_URL a Primero v2?", see="not-primero"
            )
        return answer

    @cached_property
    def _refused_at(self) -> datetime | None:
        """When the login was refused, to this client or, as its memory says, to another."""
        return self.logins.refused_at() if self.logins else None

    def _environment(self, url: str | None) -> dict[str, Any]:
        """Proxies and certificates as environment and setting name them; no proxy to this machine, where plain http is admitted."""
        merged = self._session.merge_environment_settings(url or "", {}, None, self._session.verify, None)
        proxies = {} if is_local(urlsplit(url or "").hostname or "?") else merged["proxies"]
        return {"proxies": proxies, "verify": merged["verify"]}

    def _note_time(self, header: str | None) -> None:
        """Remember Primero's own clock, by which stamps are made, however wrong it is; a header that is no time is ignored."""
        try:
            moment = parsedate_to_datetime(header or "")
            moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
        except (ValueError, TypeError, IndexError, OverflowError):
            return
        if 1 < moment.year < 9999:  # beyond them, adding an hour or a zone would overflow
            self.server_time = moment

    def _unreachable(self, error: requests.RequestException | urllib3.exceptions.HTTPError) -> Exception:
        """The failure for a request that got no whole answer."""
        match error:
            case exceptions.SSLError() | urllib3.exceptions.SSLError():
                return RefusedError(
                    f"the certificate of Primero at {self._host} is not trusted; check PRIMERO_URL, or name the private "
                    "authority's certificate in PRIMERO_CA_BUNDLE",
                    see="unverified",
                )
            case urllib3.exceptions.ProtocolError() | urllib3.exceptions.DecodeError():
                return _PassingError("broke off while answering {path}")
            case exceptions.InvalidURL() | exceptions.InvalidSchema() | exceptions.MissingSchema():
                text = "PRIMERO_URL is no web address; write it like https://primero.example.org"
                return RefusedError(text, see="settings")
        if "NameResolutionError" in repr(error) or "Failed to resolve" in str(error):
            return TransientError(
                f"the host {self._host} of PRIMERO_URL is not known; check the address, then the network",
                see="primero-unreachable",
            )
        if isinstance(error, exceptions.ConnectTimeout):
            return _PassingError("cannot be reached for {path} (no connection in time; check the network)")
        if isinstance(error, (exceptions.Timeout, urllib3.exceptions.TimeoutError)):
            return _PassingError("did not answer {path} in time", retries=SILENT_RETRIES)
        return _PassingError("cannot be reached, or broke off at {path} (check the network)", retries=SILENT_RETRIES)

    def _refused(self, response: requests.Response, path: str) -> Exception:
        """The failure for an answer other than 200."""
        status = response.status_code
        if status == 401:
            self._refused_at = datetime.now(UTC)
            if self.logins:
                self.logins.note_refused()
            return LoginRefusedError(
                f"Primero at {self._host} refuses the login; check PRIMERO_USERNAME and PRIMERO_PASSWORD (it was asked once, "
                "and is not asked again until they change: after six failed logins Primero locks the account for 30 minutes)"
            )
        if status in _PASSING:
            asked = _retry_after(response.headers.get("Retry-After"))
            return _PassingError(f"kept answering {{path}} with {status}", retry_after=asked * min(self.pause, 1.0))
        if 300 <= status < 400:
            return RefusedError(
                f"Primero at {self._host} redirects {path} ({status}); set PRIMERO_URL to the final https address",
                see="not-primero",
            )
        text = f"Primero at {self._host} refuses {path} with status {status}; trying again would not help"
        if status == 403:
            text = f"Primero refuses {path} to this account (403); its role needs read permission for it"
        elif status == 404:
            text = f"there is no {path} at {self._host} (404); check that PRIMERO_URL is the address of a Primero v2"
        return AnswerRefusedError(text, status, see="not-primero" if status == 404 else None)


class LoginRefusedError(RefusedError):
    """The login was refused; asked exactly once."""

    anchor = "refused-login"


class AnswerRefusedError(RefusedError):
    """Primero answered with an error that asking again does not change; `status` is that of HTTP."""

    anchor = "missing-field"

    def __init__(self, text: str, status: int, *, see: Anchor | None = None) -> None:
        super().__init__(text, see=see)
        self.status = status


@dataclass(eq=False)
class _PassingError(Exception):
    """What may pass: `said`, with `{path}`, is what Primero did; `retry_after`: seconds, where the server named a time."""

    said: str
    retries: int = RETRIES
    retry_after: float = 0.0


def is_list_of_objects(value: object) -> TypeGuard[list[dict[str, Any]]]:
    """Whether a value of an answer is a list of JSON objects only."""
    return isinstance(value, list) and all(isinstance(each, dict) for each in value)


def _retry_after(header: str | None) -> float:
    """Seconds that the server asks us to wait, up to RETRY_AFTER_MAX; 0 where it says nothing of use, or names a date."""
    try:
        seconds = float(header or 0)
    except ValueError:
        return 0.0
    return min(max(seconds, 0.0), RETRY_AFTER_MAX) if math.isfinite(seconds) else 0.0
