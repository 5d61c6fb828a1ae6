"""The proxy of deploy/nginx.conf, for real: nginx with TLS before two Dagster webservers, all on 127.0.0.1."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter

from primero_ona_tests.certificates import Authority

pytestmark = pytest.mark.nginx

SITE = Path(__file__).parents[2] / "deploy" / "nginx.conf"
NAME = "primero-ona.example.org"
#: bcrypt of `open-sesame`, as `htpasswd -B -C 5` writes it: no secret, it opens nothing but this test.
BCRYPT = "$2y$05$cJUNrhlnsNsuPYluJvOAsun5x5Zf8cnoTD5bZzng9mmzBoyI5Dh8a"
OPERATOR, VIEWER = ("olga", "open-sesame"), ("vera", "open-sesame")

CODE = """
import dagster as dg

@dg.op
def nothing() -> None: ...

@dg.job
def tiny():
    nothing()

defs = dg.Definitions(jobs=[tiny])
"""

LAUNCH = """
mutation {
  launchRun(executionParams: {selector: {repositoryName: "__repository__", repositoryLocationName: "tiny_graph.py", jobName: "tiny"}}) {
    __typename ... on PythonError { message }
  }
}
"""


@dataclass
class Place:
    """A running proxy; `ask` sends a request to it by its name."""

    port: int
    plain_port: int
    authority: Path

    def ask(
        self, method: str = "GET", path: str = "/", *, host: str = NAME, login: Any = OPERATOR, **more: Any
    ) -> requests.Response:
        with requests.Session() as session:
            session.mount("https://", _ToUs(host))
            headers = {"Host": host, **more.pop("headers", {})}
            url = f"https://127.0.0.1:{self.port}{path}"
            return session.request(
                method,
                url,
                auth=login,
                headers=headers,
                verify=self.authority,
                timeout=60,
                allow_redirects=False,
                **more,
            )

    def graphql(self, query: str, login: Any = OPERATOR, **more: Any) -> requests.Response:
        return self.ask("POST", "/graphql", json={"query": query}, login=login, **more)


class _ToUs(HTTPAdapter):
    """Dials 127.0.0.1, and names and checks another host in TLS."""

    def __init__(self, host: str) -> None:
        self._host = host
        super().__init__()

    def init_poolmanager(self, *args: Any, **more: Any) -> None:
        super().init_poolmanager(*args, server_hostname=NAME, assert_hostname=NAME, **more)


def nginx() -> str:
    """The nginx of this machine; where there is none these tests are skipped, in plain sight."""
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    assert found, "install nginx (Debian: apt-get install nginx-light)"
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory: Any) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("proxy")
    (folder / "home").mkdir()
    (folder / "home" / "dagster.yaml").write_text("telemetry: {enabled: false}\nnux: {enabled: false}\n")
    (folder / "tiny_graph.py").write_text(CODE)
    https, http, operators, viewers = _free_ports(4)
    authority = Authority(folder)
    site = _site(folder, authority, {"443": https, "80": http, "3000": operators, "3001": viewers})
    with (
        _webserver(folder, operators),
        _webserver(folder, viewers, "--read-only"),
        _process([nginx(), "-p", str(folder), "-c", str(site)], https, signal.SIGQUIT),
    ):
        yield Place(https, http, authority.path)


def _site(folder: Path, authority: Authority, ports: dict[str, int]) -> Path:
    """The shipped site with the test's ports and paths, inside the least of a main configuration."""
    chain, key = authority.issue(NAME)
    text = SITE.read_text()
    for port, ours in ports.items():
        text = text.replace(f"listen {port}", f"listen 127.0.0.1:{ours}").replace(
            f"127.0.0.1:{port};", f"127.0.0.1:{ours};"
        )
    text = "\n".join(line for line in text.splitlines() if "listen [::]" not in line)
    for name, file in (("primero-ona.pem", chain), ("primero-ona.key", key)):
        text = text.replace(f"/etc/nginx/{name}", str(file))
    text = text.replace("/etc/nginx/", f"{folder}/").replace("/var/log/nginx/", f"{folder}/")
    (folder / "primero-ona.htpasswd").write_text("".join(f"{name}:{BCRYPT}\n" for name in ("olga", "vera")))
    (folder / "primero-ona.operators").write_text("olga 1;\n")
    user = "user root;\n" if os.geteuid() == 0 else ""
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    main = folder / "main.conf"
    main.write_text(
        f"{user}daemon off;\npid {folder}/nginx.pid;\nerror_log {folder}/error.log;\nevents {{}}\n"
        f"http {{\n{temporary}\n{text}\n}}\n"
    )
    return main


def _webserver(folder: Path, port: int, *more: str) -> Any:
    command = [
        sys.executable,
        "-m",
        "dagster_webserver",
        "-f",
        "tiny_graph.py",
        "-h",
        "127.0.0.1",
        "-p",
        str(port),
        *more,
    ]
    return _process(command, port, signal.SIGINT, cwd=folder, env={**os.environ, "DAGSTER_HOME": str(folder / "home")})


@contextlib.contextmanager
def _process(command: list[str], port: int, end: signal.Signals, **more: Any) -> Iterator[None]:
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, **more
    )
    try:
        until = time.monotonic() + 90
        while not _listens(port):
            assert process.poll() is None, f"{command[0]} ended at once"
            assert time.monotonic() < until, f"{command[0]} does not listen"
            time.sleep(0.1)
        yield
    finally:
        process.send_signal(end)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [found.getsockname()[1] for found in sockets]


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
    assert _upgraded(place, f"https://{NAME}:{place.port}") == "101"
    assert _upgraded(place, "https://evil.example.org") == "403"
    assert _upgraded(place, f"https://{NAME}.evil.example.org") == "403"
    assert _upgraded(place, f"https://{NAME}", login=False) == "401"


def _upgraded(place: Place, origin: str, *, login: bool = True) -> str:
    """The status of a websocket's handshake."""
    import base64

    context = ssl.create_default_context(cafile=str(place.authority))
    basic = base64.b64encode(":".join(OPERATOR).encode()).decode()
    lines = [
        "GET /graphql HTTP/1.1", f"Host: {NAME}", "Upgrade: websocket", "Connection: Upgrade", f"Origin: {origin}",
        "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol: graphql-ws",
        *([f"Authorization: Basic {basic}"] if login else []),
    ]  # fmt: skip
    with (
        socket.create_connection(("127.0.0.1", place.port), 20) as raw,
        context.wrap_socket(raw, server_hostname=NAME) as secure,
    ):
        secure.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        return secure.recv(4_096).split(b" ")[1].decode()


def test_a_post_from_another_site_is_refused(place):
    """A browser sends the login along with a form of any site."""
    for origin in ("https://evil.example.org", "null", f"http://{NAME}"):
        answer = place.graphql("{version}", headers={"Origin": origin})
        assert answer.status_code == 403, origin
    assert place.graphql("{version}", headers={"Origin": f"https://{NAME}"}).status_code == 200


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


def test_a_viewer_reads_and_cannot_launch_a_run_and_an_operator_can(place):
    """Whoever reads the dashboards must not be able to reload a quarter, or to delete its history."""
    assert place.graphql("{version}", login=VIEWER).json()["data"]["version"]
    refused = place.graphql(LAUNCH, login=VIEWER).json()["data"]["launchRun"]["__typename"]
    assert refused == "UnauthorizedError"
    before = runs(place)
    launched = place.graphql(LAUNCH).json()["data"]["launchRun"]
    assert launched["__typename"] == "LaunchRunSuccess", launched
    assert runs(place) == before + 1


@pytest.mark.parametrize("path", ["/report_asset_materialization/x", "/logs/x", "/download_debug/x", "/notebook"])
def test_side_doors_are_shut(place, path):
    """The webserver takes events and hands out files on ways beside GraphQL."""
    for method in ("GET", "POST"):
        assert place.ask(method, path).status_code == 403
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
