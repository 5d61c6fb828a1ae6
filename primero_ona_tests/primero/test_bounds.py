"""Bounds in time and bytes: an answer may trickle, hang, swell or repeat itself in any form, and the question ends.

Raw sockets, since no honest server has these forms. The limits of the client are shortened.
"""

from __future__ import annotations

import gzip
import json
import socket
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from itertools import repeat

import pytest

from primero_ona.errors import DataError, TransientError
from primero_ona.primero.changes import changes_since
from primero_ona.primero.client import Page, PrimeroClient
from primero_ona.primero.inventory import take_inventory
from primero_ona.primero.pull import pull_cases
from primero_ona.primero.reference import read_list
from primero_ona.primero.walk import Window
from primero_ona.quarters import Quarter
from primero_ona.sandbox.cases import Wish
from primero_ona.sandbox.primero import SandboxPrimero
from primero_ona_tests.primero.pulling import Kept

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
EMPTY = b'{"data":[],"metadata":{"total":0,"per":1,"page":1}}'


@contextmanager
def serving(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server on 127.0.0.1 that lets `answer` speak to each connection, after its first request; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def talk(connection: socket.socket) -> None:
            with connection, suppress(OSError):  # the other side may not wait for the end
                if connection.recv(65_536):
                    answer(connection)

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=talk, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def whole(body: bytes, headers: bytes = b"") -> bytes:
    return OK + headers + b"Content-Length: %d\r\n\r\n" % len(body) + body


BODY = b'{"data":[' + b" " * 3_000
ZIPPED = gzip.compress(bytes(range(256)) * 40, 0)

#: By form: what is sent at once, and what then trickles, over and over.
TRICKLES: dict[str, tuple[bytes, bytes]] = {
    "nothing": (b"", b""),
    "a status line": (b"HTTP/1.1 200 ", b"O"),
    "a header": (OK + b"X-A: ", b"a"),
    "headers": (OK, b"X-A: a\r\n"),
    "100 Continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "a body with a length": (OK + b"Content-Length: 9000000\r\n\r\n", b" "),
    "a body without a length": (OK + b"\r\n", b" "),
    "a gzip body": (OK + b"Content-Encoding: gzip\r\nContent-Length: 9000000\r\n\r\n" + ZIPPED[:20], ZIPPED[20:21]),
    "one large chunk": (OK + b"Transfer-Encoding: chunked\r\n\r\nFFFFFF\r\n", b" "),
    "small chunks": (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "the head of a chunk": (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"0"),
    "what follows the last chunk": (OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X-A: a\r\n"),
    "an error's body": (b"HTTP/1.1 503 No\r\nContent-Length: 9000000\r\n\r\n", b" "),
}
LIMITS = {"one answer": "ANSWER_SECONDS", "all attempts": "PATIENCE", "a tick of the sensor": None}
CLIENT = "primero_ona.primero.client"


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("form", TRICKLES)
@pytest.mark.proves("slow-answer")
def test_an_answer_that_trickles_in_any_form_is_left_at_each_deadline_and_is_transient(form, limit, monkeypatch):
    """A piece that comes in time meets no limit on silence, so a run was held for ever, and Primero's place in the queue."""
    begun, piece = TRICKLES[form]
    if LIMITS[limit]:
        monkeypatch.setattr(f"{CLIENT}.{LIMITS[limit]}", 0.3)
    monkeypatch.setattr(f"{CLIENT}.TIMEOUT", (5, 30))
    stopped, hung_up = threading.Event(), threading.Event()

    def trickle(connection: socket.socket) -> None:
        try:
            connection.sendall(begun)
            for _ in repeat(None):
                if stopped.wait(0.02):
                    return
                connection.sendall(piece or b"")
                connection.setblocking(False)
                with suppress(BlockingIOError):
                    if not connection.recv(1):
                        break
                connection.setblocking(True)
        except OSError:
            pass
        hung_up.set()

    with (
        serving(trickle) as url,
        PrimeroClient(url, "u", "p", pause=0, total=None if LIMITS[limit] else 0.3) as client,
        pytest.raises(TransientError, match="did not end its answer to cases"),
    ):
        client.page("cases", {"per": 1})
    found = hung_up.wait(5)
    stopped.set()
    assert found, "the connection was left open"


@pytest.mark.proves("slow-answer")
def test_a_handshake_of_tls_that_trickles_is_left(monkeypatch):
    """It comes before anything of HTTP, and its socket is another one than the answer's."""
    monkeypatch.setattr(f"{CLIENT}.ANSWER_SECONDS", 0.3)
    stopped = threading.Event()

    def trickle(connection: socket.socket) -> None:
        connection.sendall(b"\x16\x03\x03\x40\x00")  # a record of 16 KB begins
        while not stopped.wait(0.02):
            connection.sendall(b"\x02")

    with (
        serving(trickle) as url,
        PrimeroClient(url.replace("http", "https"), "u", "p", pause=0) as client,
        pytest.raises(TransientError, match="did not end its answer"),
    ):
        client.page("cases", {"per": 1})
    stopped.set()


@pytest.mark.proves("slow-answer")
def test_a_name_server_that_hangs_is_not_waited_for(monkeypatch):
    """Looking up a name knows no time limit at all, and there is no socket that could be shut."""
    stopped = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_more: stopped.wait(30) and [])
    monkeypatch.setattr(f"{CLIENT}.ANSWER_SECONDS", 0.3)
    with (
        PrimeroClient("https://primero.example.org", "u", "p", pause=0) as client,
        pytest.raises(TransientError, match="did not end its answer"),
    ):
        client.page("cases", {"per": 1})
    assert not stopped.is_set()
    stopped.set()


@pytest.mark.proves("slow-answer")
def test_the_deadline_of_one_answer_does_not_end_the_next_one(monkeypatch):
    """The timer belongs to a request, and the connection is kept for the next."""
    monkeypatch.setattr(f"{CLIENT}.ANSWER_SECONDS", 0.5)

    def answer(connection: socket.socket) -> None:
        while True:
            connection.sendall(whole(EMPTY))
            if not connection.recv(65_536):
                return

    with serving(answer) as url, PrimeroClient(url, "u", "p", pause=0) as client:
        until = datetime.now(UTC).timestamp() + 1.2
        while datetime.now(UTC).timestamp() < until:
            assert client.page("cases", {"per": 1}).rows == []


LARGE: dict[str, bytes] = {
    "gzip": whole(gzip.compress(bytes(60_000_000)), b"Content-Encoding: gzip\r\n"),
    "gzip within gzip": whole(gzip.compress(gzip.compress(bytes(60_000_000))), b"Content-Encoding: gzip, gzip\r\n"),
    "gzip in one chunk": b"".join((
        OK, b"Transfer-Encoding: chunked\r\nContent-Encoding: gzip\r\n\r\n",
        b"%x\r\n" % len(gzip.compress(bytes(60_000_000))), gzip.compress(bytes(60_000_000)), b"\r\n0\r\n\r\n",
    )),
}  # fmt: skip


@pytest.mark.parametrize("form", LARGE)
@pytest.mark.proves("huge-answer")
def test_an_answer_that_swells_is_left_at_the_limit_and_takes_no_more_memory(form, monkeypatch):
    """Ten megabytes of gzip became 2.8 GB, which ends the process, and with it what it worked at."""
    monkeypatch.setattr(f"{CLIENT}.ANSWER_BYTES", 2_000_000)
    with serving(lambda connection: connection.sendall(LARGE[form])) as url:
        client = PrimeroClient(url, "u", "p", pause=0)
        tracemalloc.start()
        try:
            with client, pytest.raises(DataError, match="more than 2,000,000 bytes"):
                client.page("cases", {"per": 1})
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert most < 10_000_000


@pytest.mark.parametrize("head", [b"", b"Content-Length: 99999999999\r\n", b"Transfer-Encoding: chunked\r\n"], ids=str)
@pytest.mark.proves("huge-answer")
def test_a_body_without_an_end_is_left_at_the_limit(head, monkeypatch):
    """It comes quickly, so that no deadline saves the memory."""
    monkeypatch.setattr(f"{CLIENT}.ANSWER_BYTES", 2_000_000)
    piece = b" " * 65_536
    sent = (b"10000\r\n" + piece + b"\r\n") if b"chunked" in head else piece

    def pour(connection: socket.socket) -> None:
        connection.sendall(OK + head + b"\r\n")
        for _ in repeat(None):
            connection.sendall(sent)

    with (
        serving(pour) as url,
        PrimeroClient(url, "u", "p", pause=0) as client,
        pytest.raises(DataError, match="more than 2,000,000 bytes"),
    ):
        client.page("cases", {"per": 1})


@pytest.mark.parametrize(
    "asked", ["nan", "inf", "-inf", "-5", "1e999", "NaN", "", "soon", "Fri, 31 Dec 9999 23:59:59 GMT"]
)
@pytest.mark.proves("retries")
def test_a_pause_that_is_no_number_of_seconds_is_not_made(asked, monkeypatch):
    """`nan` compares with nothing, so it passed every limit and broke the pause; the others wait for ever, or back in time."""
    made: list[float] = []
    monkeypatch.setattr("primero_ona.primero.client.time.sleep", made.append)
    no = b"HTTP/1.1 503 No\r\nRetry-After: %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % asked.encode()
    with (
        serving(lambda connection: connection.sendall(no)) as url,
        PrimeroClient(url, "u", "p") as client,
        pytest.raises(TransientError, match="6 times over"),
    ):
        client.page("cases", {"per": 1})
    assert [2**n <= pause <= 2**n + 1 for n, pause in enumerate(made)] == [True] * 5


@pytest.mark.parametrize(
    ("header", "year"),
    [
        ("Fri, 31 Dec 9999 23:59:59 GMT", None),
        ("Fri, 31 Dec 9999 23:59:59 -1200", None),
        ("Mon, 99 Jan 2024 99:99:99 GMT", None),
        ("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", None),
        ("Mon, 01 Jan 2024 00:00:00 +99999999999999", None),
        ("garbage", None),
        (",", None),
        ("", None),
        ("Mon, 01 Jan 2001 00:00:00 GMT", 2001),  # wrong by much, and yet the time by which stamps are made
        ("Mon, 01 Jan 2001 00:00:00 -0000", 2001),
        ("Mon, 01 Jan 2091 00:00:00 GMT", 2091),
    ],
)
@pytest.mark.proves("server-clock")
def test_a_date_that_cannot_be_reckoned_with_is_ignored_and_a_wrong_clock_is_not(header, year):
    """It overflowed, and the run broke with an error that says nothing."""
    with (
        serving(lambda connection: connection.sendall(whole(EMPTY, b"Date: %s\r\n" % header.encode()))) as url,
        PrimeroClient(url, "u", "p", pause=0) as client,
    ):
        client.page("cases", {"per": 1})
        assert client.now().year == (year or datetime.now(UTC).year)


VERSIONS = {
    "2.15.2.1": True,
    "2.6": True,
    "2.10.0-rc2": True,
    "2.11.0.pre": True,
    "2.15.2.1\n": False,
    "Sok Dara, 12": False,
    "2.15 Sok Dara": False,
    "2.15.sokdara": False,
    "2" * 30: False,
    "1.1.1.1.1.1.1": False,
    "<script>": False,
    "": False,
}


@pytest.mark.parametrize("text", VERSIONS)
@pytest.mark.proves("only-asked-fields")
def test_a_version_is_shown_only_where_it_looks_like_one(text):
    """It goes into logs and the UI; a server may send any text in its place, and a name with it."""
    body = json.dumps({"data": {"primero_version": text}}).encode()
    with (
        serving(lambda connection: connection.sendall(whole(body))) as url,
        PrimeroClient(url, "u", "p", pause=0) as client,
    ):
        assert client.version() == (text if VERSIONS[text] else None)


QUARTER = Quarter(2024, 1)
WINDOW = Window(QUARTER.start, QUARTER.end, is_open=False)

#: By list: reading it whole.
LISTS: dict[str, Callable[[PrimeroClient], object]] = {
    "tied cases": lambda client: pull_cases(client, WINDOW, Kept()),
    "inventory": lambda client: take_inventory(client, Kept()),
    "stamps ahead": lambda client: changes_since(client, None),
}


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.proves("endless-list")
def test_a_server_that_ignores_the_page_is_asked_twice_and_is_then_an_error(name, monkeypatch):
    """It was asked 5,647 times in 40 seconds, and would have been for ever."""
    now = datetime(2024, 6, 1, tzinfo=UTC)
    with SandboxPrimero(
        Wish(60, seed=1, now=now, quarter=QUARTER, import_block=50), clock=lambda: now
    ).serve() as primero:
        primero.switches.per_cap = 20
        if name == "stamps ahead":
            for number, case in enumerate([record["id"] for record in primero.cases.records()]):
                primero.update(case, last_updated_at=datetime(2030, 1, 1, tzinfo=UTC) + timedelta(hours=number))
        asked: list[int] = []
        page = PrimeroClient.page

        def first_page(client: PrimeroClient, path: str, params: dict[str, str | int]) -> Page:
            asked.append(int(params.get("page", 0)))
            return page(client, path, params if "page" not in params else {**params, "page": 1})

        monkeypatch.setattr(PrimeroClient, "page", first_page)
        with (
            PrimeroClient(primero.url, primero.username, primero.password, pause=0) as client,
            pytest.raises(DataError, match="brings nothing but what came before"),
        ):
            LISTS[name](client)
    assert [number for number in asked if number] == [1, 2]


@pytest.mark.proves("endless-list")
def test_a_reference_list_whose_pages_are_all_alike_is_asked_for_twice():
    """Its loop had the same condition, and the same lack of an end."""
    asked: list[int] = []
    alike = whole(b'{"data":[{"code":"1"}],"metadata":{"total":9,"per":1,"page":1}}', b"Connection: close\r\n")

    def answer(connection: socket.socket) -> None:
        asked.append(1)
        connection.sendall(alike)

    with (
        serving(answer) as url,
        PrimeroClient(url, "u", "p", pause=0) as client,
        pytest.raises(DataError, match="page 2 of locations brings nothing"),
    ):
        read_list(client, "locations")
    assert len(asked) == 2
