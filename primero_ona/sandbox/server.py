"""The sandbox over HTTP: an ASGI application with compression, a request log, nginx's limits and the faults."""

from __future__ import annotations

import threading
import time
import zlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC
from email.utils import format_datetime
from typing import Any

import orjson
from starlette.requests import Request

from primero_ona.sandbox.app import Answer, Endpoints, error
from primero_ona.sandbox.faults import Fault, Faults, Send, hang_up, keep_silent, never_end

#: nginx's `large_client_header_buffers 2 1k`: a longer request line is 414.
_LINE = 1_024
_METHODS = frozenset({"GET", "PUT", "POST", "PATCH", "DELETE"})
#: How many requests the log keeps; a million cases in pages of 1,000 are a thousand.
_LOG = 20_000
#: What gzip costs at level 1 is a third of level 6 for a tenth more bytes, and a page has to be ready in milliseconds.
_LEVEL = 1
_PAGE = (
    b"<html><head><title>%d</title></head><body><center><h1>%d</h1></center><hr><center>nginx</center></body></html>"
)

Control = Callable[[Request], Any]


@dataclass(frozen=True)
class LogEntry:
    """One request as it was answered; status 0: the connection was ended without an answer. `bytes` is the body sent.

    `together` is the number of requests that were under way at its start, itself included.
    """

    method: str
    path: str
    query: str
    status: int
    bytes: int
    seconds: float
    together: int


class SandboxServer:
    """The ASGI application. `after` holds calls to run after the answer of a request was made and before it is sent."""

    def __init__(self, endpoints: Endpoints, faults: Faults, control: Control | None = None) -> None:
        self.endpoints = endpoints
        self.faults = faults
        self.control = control
        self.log: deque[LogEntry] = deque(maxlen=_LOG)
        self.after: list[Callable[[str], None]] = []
        self.stopping = threading.Event()
        self._together = 0

    @property
    def under_way(self) -> int:
        """Requests whose answer has not ended, or is not in the log yet."""
        return self._together

    async def __call__(self, scope: Any, receive: Any, send: Send) -> None:  # noqa: ANN401
        """Answer one request."""
        request = Request(scope, receive)
        if self.control and scope["path"] == "/_sandbox":
            await self._send(send, Answer(200, orjson.dumps(await self.control(request))), gzip=False)
            return
        self._together += 1
        started, together = time.perf_counter(), self._together
        try:
            status, size = await self._handle(request, send)
            query = scope["query_string"].decode("latin-1")
            seconds = time.perf_counter() - started
            self.log.append(LogEntry(request.method, scope["path"], query, status, size, seconds, together))
        finally:
            self._together -= 1

    async def _handle(self, request: Request, send: Send) -> tuple[int, int]:
        path = request.url.path
        await keep_silent(self.endpoints.switches.latency_ms / 1_000, self.stopping)
        if (limit := self._limit(request)) is not None:
            return (0, _ended(send)) if limit == 444 else await self._send(send, _html(limit), gzip=False)
        fault = self.faults.take(path)
        if fault is not None and fault.kind == "reset":
            return 0, _ended(send)
        if fault is not None and fault.kind == "endless":
            return 200, await never_end(send, self.stopping)
        if fault is not None and fault.kind == "silence":
            await keep_silent(fault.seconds, self.stopping)
        answer = _failed(fault, path) or self._answer(request, fault)
        for call in tuple(self.after):
            call(path)
        return await self._send(send, answer, gzip="gzip" in request.headers.get("accept-encoding", ""), fault=fault)

    def _limit(self, request: Request) -> int | None:
        if not self.endpoints.switches.gateway:
            return None
        if request.method not in _METHODS:
            return 444
        line = (
            len(request.scope["raw_path"])
            + len(request.scope["query_string"])
            + len(request.method)
            + len(" ? HTTP/1.1")
        )
        return 414 if line > _LINE else None

    def _answer(self, request: Request, fault: Fault | None) -> Answer:
        if request.method != "GET":
            return Answer(404, type="text/html")
        query = request.scope["query_string"].decode("latin-1")
        return self.endpoints.answer(request.url.path, query, request.headers.get("authorization"), fault)

    async def _send(self, send: Send, answer: Answer, *, gzip: bool, fault: Fault | None = None) -> tuple[int, int]:
        kind = fault.kind if fault else None
        body = answer.body[: len(answer.body) // 2] if kind == "truncated" else answer.body
        date = format_datetime(self.endpoints.login.clock().astimezone(UTC), usegmt=True)
        headers = {"Date": date, "Content-Type": f"{answer.type}; charset=utf-8", **answer.headers}
        if (gzip and body) or kind == "broken gzip":
            headers |= {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
            body = _broken_gzip(body) if kind == "broken gzip" else _gzip(body)
        if answer.status != 204:
            headers["Content-Length"] = str(len(body))
        body = body[: len(body) // 2] if kind == "cut" else body
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": answer.status, "headers": raw})
        await send({"type": "http.response.body", "body": body, "more_body": kind == "cut"})
        if kind == "cut":
            hang_up(send, reset=False)
        return answer.status, len(body)


def _failed(fault: Fault | None, path: str) -> Answer | None:
    """The whole answer that a fault gives in the place of an honest one."""
    if fault is None:
        return None
    if fault.kind == "status":
        return error(fault.status, path, "sandbox fault")
    if fault.kind == "html":
        return _html(fault.status)
    if fault.kind == "too many":
        return Answer(429, b"Retry later\n", "text/plain")
    if fault.kind == "unavailable":
        locked = error(503, path, "Service Unavailable")
        return Answer(503, locked.body, headers={"Retry-After": f"{fault.seconds:g}"})
    return None


def _html(status: int) -> Answer:
    return Answer(status, _PAGE % (status, status), "text/html")


def _ended(send: Send) -> int:
    hang_up(send, reset=True)
    return 0


def _broken_gzip(body: bytes) -> bytes:
    """Half of the body, then no deflate at all: bits that begin no block."""
    squeeze = zlib.compressobj(_LEVEL, wbits=31)
    return squeeze.compress(body[: len(body) // 2]) + squeeze.flush(zlib.Z_FULL_FLUSH) + b"\xff" * 64


def _gzip(body: bytes) -> bytes:
    squeeze = zlib.compressobj(_LEVEL, wbits=31)
    return squeeze.compress(body) + squeeze.flush()
