"""The proxy of deploy/nginx.conf, for real: nginx with TLS before two Dagster webservers, all on 127.0.0.1."""

from __future__ import annotations

import base64
import contextlib
import re
import socket
import ssl
import time
from collections.abc import Sequence

import pytest
import requests

from primero_ona_tests.deploy.proxied import ALMOST, DOTTED, LAUNCH, LOGINS, NAME, OPERATOR, VIEWER, Place, place

__all__ = ["place"]  # fixture

pytestmark = [pytest.mark.nginx, pytest.mark.ci]


@pytest.mark.proves("ui")
def test_nobody_comes_in_without_a_login(place):
    """The UI shows which quarters a ministry has, and its buttons start runs."""
    for path in ("/", "/graphql", "/server_info"):
        assert place.ask(path=path, login=None).status_code in (401, 405)
    assert place.graphql("{version}", login=None).status_code == 401
    assert place.graphql("{version}", login=("olga", "wrong")).status_code == 401
    assert place.graphql(LAUNCH, login=None).status_code == 401


def test_the_page_comes_to_those_who_may_with_its_headers(place):
    """A frame, a sniffed type or a cached page would each be a way around the login."""
    for login in (OPERATOR, VIEWER):
        page = place.ask(login=login)
        assert page.status_code == 200
        assert "<html" in page.text
        assert page.headers["X-Frame-Options"] == "DENY"
        assert page.headers["X-Content-Type-Options"] == "nosniff"
        assert "max-age" in page.headers["Strict-Transport-Security"]
        assert page.headers["Cache-Control"].endswith("no-store")
        assert "uvicorn" not in str(page.headers)


@pytest.mark.proves("ui")
def test_a_query_by_post_works_and_by_get_nothing_does(place):
    """dagster-webserver runs a mutation that comes by GET, so any page that staff opens could start runs."""
    assert place.graphql("{version}").json()["data"]["version"]
    for query in ("{version}", LAUNCH):
        assert place.ask(path="/graphql", params={"query": query}).status_code == 405
        assert place.ask("HEAD", "/graphql", params={"query": query}).status_code == 405


def test_a_websocket_request_cannot_smuggle_a_mutation(place):
    """GET is open for websockets; the query in its address must not reach Dagster."""
    before = runs(place)
    headers = {"Upgrade": "websocket", "Connection": "Upgrade"}
    with contextlib.suppress(requests.RequestException):
        answer = place.ask(path="/graphql", params={"query": LAUNCH}, headers=headers)
        assert "launchRun" not in answer.text
    assert runs(place) == before


def runs(place: Place) -> int:
    return len(place.graphql("{runsOrError {... on Runs {results {runId}}}}").json()["data"]["runsOrError"]["results"])


def test_subscriptions_pass_by_websocket_from_our_own_pages_only(place):
    """Without them the UI shows a run's events only after a reload; with them open to all, another site could listen."""
    assert _upgraded(place, f"https://{NAME}") == "101"
    assert _upgraded(place, f"https://{NAME}:{place.port}") == "403"
    assert _upgraded(place, "https://evil.example.org") == "403"
    assert _upgraded(place, f"https://{NAME}.evil.example.org") == "403"
    assert _upgraded(place, f"https://{NAME}", login=False) == "401"


def _upgraded(place: Place, origin: str, *, login: bool = True) -> str:
    """The status of a websocket's handshake."""
    more = [
        "Upgrade: websocket", "Connection: Upgrade", f"Origin: {origin}", "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol: graphql-ws",
    ]  # fmt: skip
    return _status(place, "GET", "/graphql", more, login=login)


def _status(place: Place, method: str, path: str, more: Sequence[str] = (), *, login: bool = True) -> str:
    """The status of a request that is sent to the letter: a library would tidy up the path."""
    context = ssl.create_default_context(cafile=str(place.authority))
    basic = base64.b64encode(":".join(OPERATOR).encode()).decode()
    known = [f"Authorization: Basic {basic}", f"Cookie: primero_ona={LOGINS['olga']}"] if login else []
    lines = [f"{method} {path} HTTP/1.1", f"Host: {NAME}", "Content-Length: 0", *more, *known]
    with (
        socket.create_connection(("127.0.0.1", place.port), 20) as raw,
        context.wrap_socket(raw, server_hostname=NAME) as secure,
    ):
        secure.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        return secure.recv(4_096).split(b" ")[1].decode()


@pytest.mark.proves("ui")
def test_a_post_from_another_site_is_refused(place):
    """A browser sends the login along with a form of any site."""
    for origin in (
        "https://evil.example.org", "null", f"http://{NAME}", f"https://{NAME}:{place.port}", f"https://{NAME}:8443",
        f"https://{NAME}.", f"https://x.{NAME}", f"https://{NAME}@evil.example.org",
    ):  # fmt: skip
        answer = place.graphql("{version}", headers={"Origin": origin})
        assert answer.status_code == 403, origin
    assert place.graphql("{version}", headers={"Origin": f"https://{NAME}"}).status_code == 200


@pytest.mark.proves("ui")
def test_a_foreign_host_gets_no_answer(place):
    """A page whose name is rebound to this address would pass for our own."""
    with pytest.raises(requests.ConnectionError):
        place.ask(host="evil.example.org")
    context = ssl.create_default_context(cafile=str(place.authority))
    with (
        socket.create_connection(("127.0.0.1", place.port), 20) as raw,
        pytest.raises(ssl.SSLError),
    ):
        context.wrap_socket(raw, server_hostname="evil.example.org")
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://127.0.0.1:{place.plain_port}/", timeout=20)
    moved = requests.get(
        f"http://127.0.0.1:{place.plain_port}/runs", headers={"Host": NAME}, allow_redirects=False, timeout=20
    )
    assert (moved.status_code, moved.headers["Location"]) == (308, f"https://{NAME}/runs")


@pytest.mark.proves("ui")
def test_a_viewer_reads_and_cannot_launch_a_run_and_an_operator_can(place):
    """Whoever reads the dashboards must not be able to reload a quarter, or to delete its history."""
    assert place.graphql("{version}", login=VIEWER).json()["data"]["version"]
    refused = place.graphql(LAUNCH, login=VIEWER).json()["data"]["launchRun"]["__typename"]
    assert refused == "UnauthorizedError"
    before = runs(place)
    launched = place.graphql(LAUNCH).json()["data"]["launchRun"]
    assert launched["__typename"] == "LaunchRunSuccess", launched
    assert runs(place) == before + 1


@pytest.mark.proves("ui")
def test_a_login_that_differs_in_case_has_its_own_rights_only(place):
    """nginx compares names regardless of case where it can; a viewer had an operator's rights by that."""
    for login in (ALMOST, DOTTED, VIEWER):
        answer = place.graphql(LAUNCH, login=login).json()["data"]["launchRun"]["__typename"]
        assert answer == "UnauthorizedError", login
    assert place.graphql(LAUNCH).json()["data"]["launchRun"]["__typename"] == "LaunchRunSuccess"


@pytest.mark.proves("ui")
def test_guesses_of_a_password_are_limited_by_address(place):
    """Sixty guesses in a fifth of a second find a weak password in a night."""
    guess = {"login": ("olga", "wrong"), "source": "127.0.0.2"}
    answers = [place.graphql("{version}", cookie=None, **guess).status_code for _ in range(60)]
    assert set(answers) == {401, 429}
    assert 30 < answers.count(429) < 40
    assert answers.index(429) < 25
    # Nor does another way count apart, another name, another's cookie, or the right password.
    for path in ("/", "/runs", "/_next/static/x.js", "/server_info"):
        assert place.ask(path=path, cookie=None, **guess).status_code == 429
    assert place.ask(cookie=None, login=("nobody", "wrong"), source="127.0.0.2").status_code == 429
    for cookie in (LOGINS["vera"], "", "x", f"{LOGINS['olga']}|{LOGINS['olga']}"):
        assert place.ask(cookie=cookie, **guess).status_code == 429
    assert place.ask(cookie=None, source="127.0.0.2").status_code == 429
    # Who had got in before goes on, at the same address and at others, and so does who only asks for the page.
    assert place.ask(source="127.0.0.2").status_code == 200
    assert place.ask(login=None, source="127.0.0.2").status_code == 401
    assert place.ask(cookie=None, source="127.0.0.3").status_code == 200


def test_a_browser_that_got_in_is_not_counted_any_more(place):
    """The page is dozens of files, each asked for with the login: a limit that hits them would be switched off."""
    first = place.ask(cookie=None, login=VIEWER, source="127.0.0.4")
    given = first.headers["Set-Cookie"]
    assert given.split(";")[0] == f"primero_ona={LOGINS['vera']}"
    assert {"Secure", "HttpOnly", "SameSite=Strict", "Path=/"} <= set(given.split("; "))
    more = {"login": VIEWER, "source": "127.0.0.4", "cookie": given.split(";")[0].split("=")[1]}
    assert {place.ask(path="/favicon.ico", **more).status_code for _ in range(60)} == {200}
    for login in (None, ("vera", "wrong")):
        refused = place.ask(login=login, source="127.0.0.4")
        assert refused.status_code == 401
        assert "Set-Cookie" not in refused.headers


#: Ways beside the page and GraphQL, in the spellings that a proxy and a webserver may read differently.
SIDE_DOORS = (
    "/report_asset_materialization/x", "/report_asset_check/x", "/report_asset_observation/x", "/logs/x", "/logs/..%2fx",
    "/logs/%2e%2e/x", "/download_debug/x", "/notebook", "/dagit/notebook", "/dagit_info", "//logs/x", "/%6cogs/x", "/Logs/x",
    "/runs/../logs/x", "/runs/..%2flogs/x", "/runs/..%2Flogs%2Fx", "/runs/%2e%2e/logs/x", "/runs/.%2e/logs/x", "/runs/..",
    "/runs/%252e%252e/logs/x", "/runs/..%5clogs/x", "/runs/x%00", "/runs/x%0ay", "/_next/static/../../logs/x",
    "/_next/static/..%2f..%2flogs/x", "/_next/static/%2e%2e/x", "/graphql/", "/graphql%2f", "/graphiql", "/runsx",
    "/runs/%2E%2E%2Flogs/x", "https://primero-ona.example.org/logs/x", "/anything-else", "/vendor/graphiql/graphiql.min.js", "/;/logs/x",
    "/.git/config",
)  # fmt: skip
#: Ways that the UI has in its address bar, or loads.
FRONT_DOORS = (
    "/", "/?x=..%2f", "/runs", "/runs/0e4bbb0c-7a52-4b6b-8bd6-3ce3b1c0f6a1", "/runs?q%5B0%5D=tag%3Aquarter%3D2024-Q1",
    "/overview/activity/timeline", "/assets", "/assets/ona/cases?view=partitions&partition=2024-01-01", "/asset-groups",
    "/asset-groups?expanded=global@global:0_reference", "/asset-groups~key%3A%22ona%2Fcases%22%2B/ona%2Fcases",
    "/locations/primero_ona/asset-groups/3_load/list", "/locations/primero_ona/jobs/repair_ona/playground", "/automation",
    "/locations/primero_ona/sensors/watch_primero", "/deployment/daemons", "/health", "/config", "/favicon.ico",
    "/manifest.json",
)  # fmt: skip


@pytest.mark.parametrize("path", SIDE_DOORS)
@pytest.mark.proves("ui")
def test_side_doors_are_shut(place, path):
    """The webserver takes events and hands out files on ways beside GraphQL, and decodes what the proxy has not."""
    for method in ("GET", "POST"):
        assert _status(place, method, path) == ("400" if "%00" in path else "403"), method


def test_the_front_door_is_open_for_reading_only(place):
    """A page that cannot be reloaded is one that people work around."""
    for path in FRONT_DOORS:
        assert place.ask(path=path, login=VIEWER).status_code == 200, path
    files = set(re.findall(r'(?:src|href)="(/_next/[^"]+)"', place.ask().text))
    assert len(files) > 3
    assert {place.ask(path=path).status_code for path in files} == {200}
    assert place.ask("POST", "/", data="x").status_code == 403
    assert place.ask("DELETE", "/").status_code == 403


def test_the_access_log_holds_no_query_and_no_login(place, tmp_path_factory):
    """Logs are copied to places that nobody thought of."""
    place.ask(path="/runs", params={"q": "find-me-not"})
    log = place.authority.parent / "primero-ona.log"
    latest = time.monotonic() + 10
    while "GET /runs" not in (text := log.read_text()) and time.monotonic() < latest:
        time.sleep(0.05)  # nginx answers first and writes then
    assert "GET /runs" in text
    assert "find-me-not" not in text
    assert "open-sesame" not in text
