"""The connection under the requests to Primero: what bounds one answer in time and in bytes, wherever it hangs.

The time limits of a socket hold for a single wait, and one byte a minute meets none of them: neither in a TLS handshake, a
status line or a header, nor among endless `100 Continue` or in a body. So one timer shuts the connection at the deadline.
"""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from threading import Lock, Thread, Timer
from typing import Any

import urllib3
from requests.adapters import HTTPAdapter


class TooLargeError(Exception):
    """An answer has more bytes than one may have."""


class Line:
    """The connection of a client that sends one request at a time; within `until` it ends at a deadline."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._socket: socket.socket | None = None
        self._request: object | None = None
        self._deadline = math.inf

    @contextmanager
    def until(self, deadline: float) -> Iterator[None]:
        """Shut the connection at `deadline` (of `time.monotonic`), or where the block fails; then waiting for it fails."""
        request = object()
        with self._lock:
            self._request, self._deadline = request, deadline
        timer = Timer(max(deadline - time.monotonic(), 0), self._shut, (request,))
        timer.daemon = True
        timer.start()
        try:
            yield
        except BaseException:
            self._shut(request)
            raise
        finally:
            timer.cancel()
            with self._lock:
                self._request = None

    def connect(self, make: Callable[[], socket.socket]) -> socket.socket:
        """Open a connection in a thread of its own: looking up a name cannot be ended. Raises TimeoutError at the deadline."""
        made: Future[socket.socket] = Future()

        def work() -> None:
            try:
                made.set_result(make())
            except BaseException as error:  # noqa: BLE001  raised again below
                made.set_exception(error)

        Thread(target=work, daemon=True).start()
        try:
            opened = made.result(max(self._deadline - time.monotonic(), 0))
        except TimeoutError:
            made.add_done_callback(_close)
            raise
        with self._lock:
            if self._socket is not None:
                self._socket.close()
            # A socket of our own on the same connection: TLS takes the first one's place, and a response the second's.
            self._socket = opened.dup()
        return opened

    def close(self) -> None:
        """Let go of the connection."""
        with self._lock:
            if self._socket is not None:
                self._socket.close()
                self._socket = None

    def _shut(self, request: object) -> None:
        """End the connection under a request, unless it is over."""
        with self._lock, suppress(OSError):  # not connected any more
            if self._request is request and self._socket is not None:
                self._socket.shutdown(socket.SHUT_RDWR)


def _close(late: Future[socket.socket]) -> None:
    if late.exception() is None:
        late.result().close()


class LineAdapter(HTTPAdapter):
    """Requests' transport over a Line. It repeats nothing by itself: urllib3's own retries know no total."""

    def __init__(self, line: Line) -> None:
        super().__init__(max_retries=0)
        self._line = line

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """The pool for a request, to Primero or to a proxy, whose connections are opened over the line."""
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        if "ConnectionCls" not in vars(pool):
            line, plain = self._line, pool.ConnectionCls
            open_one = plain._new_conn  # noqa: SLF001  urllib3 has no other place between the address and the first byte
            opening = {"_new_conn": lambda connection: line.connect(lambda: open_one(connection))}
            pool.ConnectionCls = type(plain.__name__, (plain,), opening)
        return pool


def read(response: urllib3.BaseHTTPResponse, most: int) -> bytes:
    """Read an answer whole, decompressed; raises TooLargeError beyond `most` bytes, and what urllib3 raises."""
    content = bytearray()
    # 256 KB at once, also when decompressed. `stream` would read the head of a chunk without any limit.
    while block := response.read(1 << 18, decode_content=True):
        content += block
        if len(content) > most:
            raise TooLargeError
    return bytes(content)
