"""Asking Primero: one request at a time over HTTP Basic, and every odd answer turned into a failure with a safe message.

What belongs here: what holds for any single request (login, retries, time limits, decoding, the shape of a list). What a
complete and stable pull needs beyond that is in `pull.py`. No message or log line of this module holds a query string,
a response body or a value of a case.

Why HTTP Basic: since 2.11 `POST /tokens` gives no token any more, and since 2.12 a login ends the same user's other
sessions; Basic works on every version and keeps no session.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Self
from urllib.parse import urlsplit

import orjson
import requests
from requests.adapters import HTTPAdapter
from requests.auth import HTTPBasicAuth
from urllib3.util import Retry

from primero_ona.failures import DataFailure, PermanentFailure, RefusedFailure, SyncFailure, TransientFailure

logger = logging.getLogger(__name__)

#: Rows per page. Primero cuts anything above to 1,000 without a word; less of it costs a scan of the whole case table more often.
PAGE_ROWS = 1_000

#: Seconds to connect, and to wait between two pieces of an answer. A cold list of 1,000 cases was seen to take tens of
#: seconds on a busy server; its own proxies give up much later, so a shorter wait would turn slow into failed.
TIMEOUT = (5, 180)

#: Seconds that one answer may take altogether: an answer that trickles for ever never meets the time limit above.
ANSWER_SECONDS = 600

#: Attempts after the first, and the longest pauses (seconds) between them: 1 + 2 + 4 + 8 + 16 with up to 1 s of jitter,
#: so about half a minute in sum where the server says nothing, and at most 5 × 60 s where it asks for more by
#: Retry-After (Primero itself says 60 while a configuration is applied). After that Dagster's run retry takes over.
RETRIES = 5
RETRY_AFTER_MAX = 60

#: Of those, attempts after a connection that was reset or silent: each may cost the 180 seconds above.
READ_RETRIES = 2

#: Answers that broke off after their first bytes (cut, broken gzip, no JSON) are asked again this often.
BODY_RETRIES = 2

#: The stock web server in front of Primero refuses request lines above 1 KB (414).
URL_BYTES = 1_000

_RETRY_STATUS = (429, 500, 502, 503, 504)


@dataclass
class Traffic:
    """What a client has done so far: requests sent, bytes received on the wire, seconds spent waiting for Primero."""

    requests: int = 0
    bytes: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Page:
    """One page of a list: its rows, and Primero's own `total` and `per` (which may be less than was asked)."""

    rows: list[dict[str, Any]]
    total: int
    per: int


@dataclass
class PrimeroClient:
    """A connection to one Primero as one user. Use it as a context manager; it is for one thread at a time.

    `timeout` is seconds to connect and seconds of silence; `pause` scales the pauses between attempts (seconds).
    Raises RefusedFailure where login or permission is refused (never asked twice: six failed logins lock the account),
    TransientFailure where Primero cannot be reached or breaks off, DataFailure where an answer has not the known shape.
    """

    url: str
    username: str
    password: str = field(repr=False)
    ca_bundle: str | None = None
    timeout: tuple[float, float] = TIMEOUT
    pause: float = 1.0
    traffic: Traffic = field(default_factory=Traffic)

    def __post_init__(self) -> None:
        self.url = self.url.rstrip("/")
        self._host = urlsplit(self.url).netloc.rpartition("@")[2]
        # urllib3 warns of every retry with the whole URL; what is worth saying is said in the failure.
        logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
        self._session = requests.Session()
        self._session.auth = HTTPBasicAuth(self.username.encode(), self.password.encode())
        self._session.headers.update(
            {"Accept": "application/json", "Accept-Encoding": "gzip", "User-Agent": "primero-ona"}
        )
        self._session.verify = self.ca_bundle or True
        retry = Retry(
            total=RETRIES,
            read=READ_RETRIES,
            backoff_factor=self.pause,
            backoff_jitter=self.pause,
            status_forcelist=_RETRY_STATUS,
            allowed_methods={"GET"},
            raise_on_status=False,
            retry_after_max=RETRY_AFTER_MAX,
        )
        for scheme in ("https://", "http://"):
            self._session.mount(scheme, HTTPAdapter(max_retries=retry))
        self.server_time: datetime | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def get(self, path: str, params: Mapping[str, str | int] | None = None) -> dict[str, Any]:
        """GET `/api/v2/<path>` and decode its JSON object."""
        for attempt in range(BODY_RETRIES + 1):
            try:
                return self._ask(path, params or {})
            except _BrokenAnswerError as broken:
                reason = str(broken)
                logger.warning("Primero's answer to %s was not usable (%s), attempt %d", path, reason, attempt + 1)
                time.sleep(attempt * self.pause)
        raise TransientFailure(f"Primero at {self._host} answered {path} {BODY_RETRIES + 1} times unusably: {reason}")

    def page(self, path: str, params: Mapping[str, str | int]) -> Page:
        """GET one page of a list, and check that it has the shape of one."""
        answer = self.get(path, params)
        rows, metadata = answer.get("data"), answer.get("metadata")
        if (
            not isinstance(rows, list)
            or not isinstance(metadata, dict)
            or not all(isinstance(row, dict) for row in rows)
        ):
            raise DataFailure(
                f"Primero's answer to {path} has no list `data` with `metadata`; is PRIMERO_URL a Primero v2?"
            )
        total, per = metadata.get("total"), metadata.get("per")
        if not isinstance(total, int) or not isinstance(per, int):
            raise DataFailure(
                f"Primero's answer to {path} gives no `total` and `per`, so nobody could say whether it is complete"
            )
        return Page(rows, total, per)

    def version(self) -> str | None:
        """The version Primero runs (`2.15.2.1`), or None where the account may not ask."""
        try:
            settings = self.get("system_settings").get("data")
        except PermanentFailure as refused:
            if isinstance(refused, LoginRefusedFailure):
                raise
            return None
        version = settings.get("primero_version") if isinstance(settings, dict) else None
        return version if isinstance(version, str) else None

    def _ask(self, path: str, params: Mapping[str, str | int]) -> dict[str, Any]:
        """Send one request (urllib3 repeats it where that can help) and decode the answer."""
        request = self._session.prepare_request(
            requests.Request("GET", f"{self.url}/api/v2/{path}", params=dict(params)),
        )
        if len(request.url or "") > URL_BYTES:
            raise DataFailure(
                f"the request for {path} would be longer than {URL_BYTES} bytes, which Primero's web server refuses"
            )
        started = time.monotonic()
        self.traffic.requests += 1
        try:
            with self._session.send(
                request, timeout=self.timeout, stream=True, allow_redirects=False, **self._environment(request.url)
            ) as response:
                content = _read(response, started + ANSWER_SECONDS)
                self.traffic.bytes += response.raw.tell()
        except requests.RequestException as error:
            raise self._unreachable(error, path) from None
        finally:
            self.traffic.seconds += time.monotonic() - started
        if response.status_code != 200:
            raise self._refused(response.status_code, path)
        self._note_time(response.headers.get("Date"))
        try:
            answer = orjson.loads(content)
        except orjson.JSONDecodeError:
            raise _BrokenAnswerError("it is not JSON") from None
        if not isinstance(answer, dict):
            raise DataFailure(f"Primero's answer to {path} is no JSON object; is PRIMERO_URL a Primero v2?")
        return answer

    def _environment(self, url: str | None) -> dict[str, Any]:
        """Proxies and certificates as the environment and our setting name them."""
        merged = self._session.merge_environment_settings(url or "", {}, None, self._session.verify, None)
        return {"proxies": merged["proxies"], "verify": merged["verify"]}

    def _note_time(self, header: str | None) -> None:
        """Remember Primero's own clock: "now" on this machine says nothing about stamps made on that one."""
        if header:
            try:
                self.server_time = parsedate_to_datetime(header).astimezone(UTC)
            except ValueError:
                self.server_time = None

    def _unreachable(self, error: requests.RequestException, path: str) -> Exception:
        """The failure for a request that got no whole answer."""
        if isinstance(error, requests.exceptions.SSLError):
            return RefusedFailure(
                f"the certificate of Primero at {self._host} is not trusted; check PRIMERO_URL, or name the private "
                "authority's certificate in PRIMERO_CA_BUNDLE"
            )
        if isinstance(error, (requests.exceptions.ChunkedEncodingError, requests.exceptions.ContentDecodingError)):
            return _BrokenAnswerError("it broke off")
        if isinstance(error, requests.exceptions.RetryError):
            return TransientFailure(f"Primero at {self._host} kept answering {path} with errors; try again later")
        if isinstance(
            error,
            (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, requests.exceptions.MissingSchema),
        ):
            return RefusedFailure("PRIMERO_URL is no web address; write it like https://primero.example.org")
        if "NameResolutionError" in repr(error) or "Failed to resolve" in str(error):
            return TransientFailure(
                f"the host {self._host} of PRIMERO_URL is not known; check the address, then the network"
            )
        if isinstance(error, requests.exceptions.Timeout):
            return TransientFailure(f"Primero at {self._host} did not answer {path} in time; try again later")
        return TransientFailure(
            f"Primero at {self._host} cannot be reached, or broke off at {path}; check the network, try again later"
        )

    def _refused(self, status: int, path: str) -> SyncFailure:
        """The failure for an answer other than 200."""
        if status == 401:
            return LoginRefusedFailure(
                f"Primero at {self._host} refuses the login; check PRIMERO_USERNAME and PRIMERO_PASSWORD (it was asked once; "
                "after six failed logins Primero locks the account for 30 minutes)"
            )
        if status == 403:
            return RefusedFailure(
                f"Primero refuses {path} to this account (403); its role needs read permission for it"
            )
        if status in _RETRY_STATUS:
            return TransientFailure(f"Primero at {self._host} kept answering {path} with {status}; try again later")
        if 300 <= status < 400:
            return RefusedFailure(
                f"Primero at {self._host} redirects {path} ({status}); set PRIMERO_URL to the final https address"
            )
        if status == 404:
            return RefusedFailure(
                f"there is no {path} at {self._host} (404); check that PRIMERO_URL is the address of a Primero v2"
            )
        return RefusedFailure(
            f"Primero at {self._host} refuses {path} with status {status}; trying again would not help"
        )


class LoginRefusedFailure(RefusedFailure):
    """The login was refused; asked exactly once."""


class _BrokenAnswerError(Exception):
    """An answer that began and is not usable; asked again a few times."""


def _read(response: requests.Response, deadline: float) -> bytes:
    """Read a streamed answer whole, unless it takes longer than one answer may."""
    pieces = []
    for piece in response.iter_content(chunk_size=1 << 18):
        pieces.append(piece)
        if time.monotonic() > deadline:
            raise TransientFailure(f"an answer of Primero did not end within {ANSWER_SECONDS} seconds; try again later")
    return b"".join(pieces)
