"""Every fault does what it says, as often as it is told to, and the next answer is honest again."""

from __future__ import annotations

import time

import pytest
import requests

from primero_ona.sandbox.primero import SandboxPrimero
from primero_ona_tests.sandbox.conftest import Client, client_of

BROKEN = (requests.ConnectionError, requests.exceptions.ChunkedEncodingError, requests.exceptions.ContentDecodingError)


@pytest.fixture
def some(empty: Client) -> Client:
    for number in range(5):
        empty.server.create(case_id_display=str(number))
    return empty


@pytest.mark.parametrize(
    ("kind", "status", "content", "retry_after"),
    [
        ("status", 502, "application/json", None),
        ("html", 502, "text/html", None),
        ("too many", 429, "text/plain", None),
        ("unavailable", 503, "application/json", "60"),
    ],
)
def test_an_error_comes_as_often_as_it_was_asked_for(some: Client, kind, status, content, retry_after) -> None:
    """Retries are proved with them: twice wrong, then right."""
    some.server.fail(kind, times=2, status=status)
    answers = [some.get() for _ in range(3)]
    assert [answer.status_code for answer in answers] == [status, status, 200]
    assert answers[0].headers["Content-Type"].startswith(content)
    assert answers[0].headers.get("Retry-After") == retry_after


def test_a_fault_may_last_for_ever_begin_later_and_be_of_one_path(some: Client) -> None:
    """The three ways to aim."""
    some.server.fail("status", times=None, after=1, path="/api/v2/lookups")
    codes = [some.get(path="/api/v2/lookups").status_code for _ in range(4)]
    assert codes == [200, 500, 500, 500]
    assert some.get().status_code == 200
    some.server.faults.clear()
    assert some.get(path="/api/v2/lookups").status_code == 200


@pytest.mark.parametrize("kind", ["reset", "cut", "broken gzip"])
def test_a_broken_connection_or_body_is_noticed_and_the_next_request_works(some: Client, kind) -> None:
    """The proxy and the network have these."""
    some.server.fail(kind)
    with pytest.raises(BROKEN):
        some.get()
    assert len(some.rows()) == 5


def test_a_truncated_body_is_no_json(some: Client) -> None:
    """HTTP is content with it, only the decoder is not."""
    some.server.fail("truncated")
    answer = some.get()
    assert answer.status_code == 200
    with pytest.raises(requests.JSONDecodeError):
        answer.json()


def test_an_endless_answer_goes_on_until_the_client_leaves(some: Client) -> None:
    """A read timeout alone does not end it: something comes all the time."""
    some.server.fail("endless")
    with some.get(stream=True) as answer:
        size = sum(len(part) for part, _ in zip(answer.iter_content(512), range(20), strict=False))
    assert size > 5_000
    assert len(some.rows()) == 5


def test_silence_runs_into_the_read_timeout_of_the_client(some: Client) -> None:
    """And the sandbox stops at once all the same."""
    some.server.fail("silence", seconds=600)
    with pytest.raises(requests.ReadTimeout):
        some.session.get(some.server.url + "/api/v2/cases", timeout=0.2)


def test_an_answer_may_be_wrong_and_look_right(some: Client) -> None:
    """Total 0, a total that does not fit, a page that is short: what the pull's distrust is for."""
    some.server.fail("swallow")
    some.server.fail("wrong total", by=-2)
    some.server.fail("short page", by=2)
    answers = [some.get("per=10").json() for _ in range(4)]
    assert [(len(answer["data"]), answer["metadata"]["total"]) for answer in answers] == [
        (0, 0),
        (5, 3),
        (3, 5),
        (5, 5),
    ]


def test_the_cap_of_a_page_can_be_lowered_and_is_echoed(some: Client) -> None:
    """An instance may have less than 1,000; the client must believe `metadata.per`."""
    some.server.switches.per_cap = 2
    assert some.get("per=1000").json()["metadata"] == {"total": 5, "per": 2, "page": 1}


def test_latency_is_added_and_the_log_tells_each_request(some: Client) -> None:
    """Counts, sizes and politeness are proved by the log: one request at a time."""
    some.server.switches.latency_ms = 50
    some.get("per=0", headers={"Accept-Encoding": "identity"})
    entry = some.server.log[-1]
    assert (entry.method, entry.path, entry.query, entry.status, entry.together) == (
        "GET",
        "/api/v2/cases",
        "per=0",
        200,
        1,
    )
    assert entry.seconds >= 0.05
    assert entry.bytes == len('{"data":[],"metadata":{"total":5,"per":0,"page":1}}')


def test_answers_are_compressed_only_when_asked(some: Client) -> None:
    """Rack::Deflater does; a pull that forgets to ask moves five times the bytes."""
    assert some.get(headers={"Accept-Encoding": "gzip"}).headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in some.get(headers={"Accept-Encoding": "identity"}).headers


def test_it_stops_at_once_whatever_is_under_way() -> None:
    """A test that hangs at its end hides what it found."""
    with SandboxPrimero(1).serve() as server:
        server.fail("silence", seconds=600)
        with pytest.raises(requests.ReadTimeout):
            client_of(server).session.get(server.url + "/api/v2/cases", timeout=0.1)
        started = time.monotonic()
    assert time.monotonic() - started < 5


def test_an_unknown_fault_is_refused_with_those_there_are(some: Client) -> None:
    """A typing error in a test must not become a fault that never happens."""
    with pytest.raises(ValueError, match="broken gzip"):
        some.server.fail("gremlins")


def test_without_a_proxy_there_is_no_date_header(some: Client) -> None:
    """Puma sends none; nginx before it does."""
    assert "Date" in some.get().headers
    some.server.switches.dated = False
    assert "Date" not in some.get().headers


@pytest.mark.parametrize(
    ("query", "total"),
    [
        ("per=0", 5),
        ("created_at=0001-01-01T00:00:00Z..", 5),
        ("status=open", 5),
        ("last_updated_at=0001-01-01T00:00:00Z..", 0),
        ("status=open&last_updated_at=0001-01-01T00:00:00Z..", 0),
        ("case_id_display=1", 0),
        ("id={id}&last_updated_at=0001-01-01T00:00:00Z..", 1),
    ],
)
def test_a_database_that_gives_up_hides_the_cases_of_questions_that_read_all_their_json(
    some: Client, query: str, total: int
) -> None:
    """Primero swallows the time-out: the account seems to see nothing, while it counts all."""
    asked = query.format(id=some.rows()[0]["id"])
    some.server.switches.scans_time_out = True
    answer = some.get(asked)
    assert (answer.status_code, answer.json()["metadata"]["total"]) == (200, total)


def test_in_2_12_every_filter_reads_json(some: Client) -> None:
    """The columns came with 2.13."""
    some.server.switches.version = "2.12.0"
    some.server.switches.scans_time_out = True
    assert some.get("status=open").json()["metadata"]["total"] == 0


@pytest.mark.parametrize("path", ["/api/v2/cases", "/api/v2/primero", "/api/v2/system_settings", "/health/api"])
def test_while_a_configuration_is_applied_everything_is_unavailable(some: Client, path: str) -> None:
    """Before any login, and for an hour if it is a large one; the bare `/health` is the web server's alone."""
    assert some.get(path=path).status_code in {200, 204}
    some.server.switches.config_lock = True
    answer = some.get(path=path, auth=("nobody", ""))
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "60")
    assert answer.json()["errors"][0]["detail"] == "Retry-After: 60"
    assert some.get(path="/health").status_code == 204


@pytest.mark.parametrize(("version", "compressed"), [("2.14.5", True), ("2.15.2.1", False)])
def test_an_answer_has_an_etag_except_a_compressed_one_of_2_15(some: Client, version: str, compressed: bool) -> None:
    """A client that reckons with 304 is told nothing by 2.15."""
    some.server.switches.version = version
    plain, gzip = {"Accept-Encoding": "identity"}, {"Accept-Encoding": "gzip"}
    asked = "order_by=unique_identifier"
    tag = some.get(asked, headers=plain).headers["ETag"]
    assert some.get(asked, headers={**plain, "If-None-Match": tag}).status_code == 304
    other = some.get(asked, headers=gzip).headers.get("ETag")
    assert (other is not None, other != tag) == (compressed, True)
