"""The faults that the sandbox can show: each is a way in which a server, a proxy or a network fails us."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

Kind = Literal[
    "status",  # an error in Primero's shape, `status` says which
    "html",  # an error page of a proxy, with this `status`
    "too many",  # 429, text/plain, without Retry-After
    "unavailable",  # 503 while a configuration is applied, with `Retry-After: <seconds>`
    "reset",  # the connection is reset before an answer
    "cut",  # the connection ends in the middle of the body
    "truncated",  # half of the body, declared as all of it
    "broken gzip",  # a body that says it is gzip and is none half-way
    "endless",  # a body that begins well and never ends
    "silence",  # nothing for `seconds`, then the honest answer
    "swallow",  # 200 with total 0, as when the database was cancelled
    "wrong total",  # metadata.total is off by `by`
    "short page",  # the last `by` rows of the page are missing, metadata unchanged
]
Send = Callable[[Any], Awaitable[None]]

CASES = "/api/v2/cases"
KINDS: tuple[str, ...] = get_args(Kind)


@dataclass
class Fault:
    """One fault: for requests of `path` ("" is any), after the first `after` of them, `times` times (None: for ever)."""

    kind: Kind
    path: str = CASES
    times: int | None = 1
    after: int = 0
    status: int = 500
    seconds: float = 60
    by: int = 1

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"{self.kind!r} is no fault of the sandbox; there are: {', '.join(KINDS)}")

    def meets(self, path: str) -> bool:
        """Count a request; whether it meets the fault."""
        if (self.path and self.path != path) or self.times == 0:
            return False
        if self.after > 0:
            self.after -= 1
            return False
        if self.times is not None:
            self.times -= 1
        return True


class Faults:
    """The faults that wait for their requests, in the order in which they were added. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[Fault] = []

    def add(self, kind: Kind, **details: Any) -> Fault:  # noqa: ANN401
        """Wait for a request; `details` are the fields of Fault."""
        fault = Fault(kind, **details)
        with self._lock:
            self._waiting.append(fault)
        return fault

    def clear(self) -> None:
        """Be well again."""
        with self._lock:
            self._waiting.clear()

    def take(self, path: str) -> Fault | None:
        """The fault that a request of this path meets."""
        with self._lock:
            return next((fault for fault in self._waiting if fault.meets(path)), None)


def hang_up(send: Send, *, reset: bool) -> None:
    """End the connection under an answer: at once with a RST, or with a FIN after what was sent.

    ASGI has no way to do so. `send` is a method of uvicorn's cycle, which knows the transport.
    """
    transport = send.__self__.transport  # type: ignore[attr-defined]
    if reset:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    else:
        transport.close()


async def never_end(send: Send, stopping: threading.Event) -> int:
    """Begin a list of cases and go on with blanks until the client or the sandbox stops; the bytes sent."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    sent, part = 0, b'{"data":['
    gone = send.__self__  # type: ignore[attr-defined]
    while not stopping.is_set() and not gone.disconnected:
        await send({"type": "http.response.body", "body": part, "more_body": True})
        sent, part = sent + len(part), b" " * 1_024
        await asyncio.sleep(0.02)
    return sent


async def keep_silent(seconds: float, stopping: threading.Event) -> None:
    """Say nothing for so long, or until the sandbox stops."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while loop.time() < until and not stopping.is_set():
        await asyncio.sleep(min(0.05, max(until - loop.time(), 0)))
