"""A foreign web page, open in the browser of somebody who runs `make dev`, tries to start runs."""

from __future__ import annotations

import html
import json
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests

from primero_ona.errors import ConfigError
from primero_ona.graph.webserver import run_ui_and_daemon
from primero_ona_tests.attacks.browser import EVIL, driven, foreign_site
from primero_ona_tests.attacks.installation import (
    Installation,
    free_port,
    installed,
    process,
    wait,
)
from primero_ona_tests.harness import Graph

MUTATION = (
    'mutation { launchRun(executionParams: {selector: {repositoryName: "__repository__", '
    'repositoryLocationName: "primero_ona", jobName: "refresh_reference"}}) { __typename } }'
)


def asked(installation: Installation, method: str, path: str, **headers: str) -> int:
    """The status of an answer to a request with these headers."""
    body = json.dumps({"query": MUTATION}) if method == "POST" else None
    sent = {"Content-Type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
    url = f"{installation.url}{path}"
    return requests.request(method, url, data=body, headers=sent, timeout=60, allow_redirects=False).status_code


QUERY = f"/graphql?query={quote(MUTATION)}"

#: `{port}` is that of the installation.
REFUSED = {
    "by GET": ("GET", QUERY, {}, 405),
    "by GET from a browser's address bar": ("GET", QUERY, {"Accept": "text/html"}, 405),
    "by GET with an escaped path": ("GET", QUERY.replace("graphql", "gr%61phql"), {}, 405),
    "by HEAD": ("HEAD", QUERY, {}, 405),
    "by PUT": ("PUT", "/graphql", {}, 405),
    "a question before a foreign POST": ("OPTIONS", "/graphql", {"Origin": f"http://{EVIL}"}, 403),
    "a foreign page": ("POST", "/graphql", {"Origin": f"http://{EVIL}"}, 403),
    "a foreign page, all in the address": ("POST", QUERY, {"Origin": f"http://{EVIL}"}, 403),
    "a page of nowhere": ("POST", "/graphql", {"Origin": "null"}, 403),
    "a page of this machine on another port": ("POST", "/graphql", {"Origin": "http://127.0.0.1:8080"}, 403),
    "our address by https": ("POST", "/graphql", {"Origin": "https://127.0.0.1:{port}"}, 403),
    "a longer name": ("POST", "/graphql", {"Origin": f"http://127.0.0.1:{{port}}.{EVIL}"}, 403),
    "a name that is rebound": ("POST", "/graphql", {"Host": f"{EVIL}:{{port}}"}, 403),
    "a rebound name with its own origin": (
        "POST", "/graphql", {"Host": f"{EVIL}:{{port}}", "Origin": f"http://{EVIL}:{{port}}"}, 403,
    ),
    "our name on another port": ("POST", "/graphql", {"Host": "127.0.0.1:1"}, 403),
    "our name without a port": ("POST", "/graphql", {"Host": "localhost"}, 403),
    "a page for a rebound name": ("GET", "/", {"Host": f"{EVIL}:{{port}}"}, 403),
    "an event": ("POST", "/report_asset_materialization/mapped_cases", {}, 405),
    "an event of a foreign page": ("POST", "/report_asset_check/mapped_cases", {"Origin": "null"}, 403),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.proves("dev-ui")
def test_what_is_not_ours_is_refused(installation: Installation, name: str):
    """Each way by which a page, or a name that was rebound, reaches the webserver of whoever reads it."""
    before = installation.stored()
    method, path, headers, status = REFUSED[name]
    sent = {key: value.format(port=installation.port) for key, value in headers.items()}
    assert asked(installation, method, path, **sent) == status
    assert installation.stored() == before


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LocalHost"])
@pytest.mark.proves("dev-ui")
def test_our_own_pages_and_scripts_are_admitted(installation: Installation, host: str):
    """Else the refusals above would prove nothing. A script sends no Origin."""
    before = installation.stored()
    assert asked(installation, "GET", "/", Host=f"{host}:{installation.port}") == 200
    assert asked(installation, "GET", "/assets/primero_reference") == 200
    origin = f"http://{host.lower()}:{installation.port}"
    assert asked(installation, "POST", "/graphql", Host=f"{host}:{installation.port}", Origin=origin) == 200
    assert asked(installation, "POST", "/graphql") == 200
    assert installation.stored() == (before[0] + 2, before[1])


def handshake(installation: Installation, *lines: str, path: str = "/graphql") -> bytes:
    """The status of a websocket's handshake with these lines, or of no answer."""
    sent = [
        f"GET {path} HTTP/1.1", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol: graphql-ws", *lines,
    ]  # fmt: skip
    with socket.create_connection(("127.0.0.1", installation.port), 60) as connection:
        connection.sendall(("\r\n".join(sent) + "\r\n\r\n").encode())
        return connection.recv(4_096).split(b" ")[1]


def test_a_websocket_is_opened_for_our_own_pages_only(installation: Installation):
    """The same-origin rule of browsers does not hold for websockets: whoever is admitted can listen and ask."""
    ours = f"127.0.0.1:{installation.port}"
    assert handshake(installation, f"Host: {ours}", f"Origin: http://{ours}") == b"101"
    assert handshake(installation, f"Host: {ours}") == b"101"
    assert handshake(installation, f"Host: {ours}", f"Origin: http://{EVIL}") == b"403"
    assert handshake(installation, f"Host: {EVIL}:{installation.port}", f"Origin: http://{ours}") == b"403"
    assert handshake(installation, f"Host: {ours}", f"Origin: http://{ours}", f"Origin: http://{EVIL}") in (
        b"400",
        b"403",
    )
    assert handshake(installation, f"Host: {ours}", f"Host: {EVIL}") in (b"400", b"403")
    assert handshake(installation, f"Host: {ours}", path="/other") == b"403"


def attack(url: str) -> str:
    """A page that tries all that a page can, and then says so."""
    get, body = f"{url}/graphql?query={quote(MUTATION)}", json.dumps({"query": MUTATION})
    start, end = body[:-1] + ', "x": "', '"}'
    return f"""<!doctype html><title>Kittens</title>
    <img src="{html.escape(get)}"><script src="{html.escape(get)}"></script><iframe src="{html.escape(get)}"></iframe>
    <link rel="stylesheet" href="{html.escape(get)}">
    <iframe name="one"></iframe><iframe name="two"></iframe>
    <form id="text" method="post" target="one" enctype="text/plain" action="{url}/graphql">
      <input name="{html.escape(start)}" value="{html.escape(end)}"></form>
    <form id="address" method="post" target="two" action="{html.escape(get)}"><input name="x" value="y"></form>
    <script>
      const get = {json.dumps(get)}, url = {json.dumps(url)}, body = {json.dumps(body)};
      const socket = new Promise(done => {{
        const each = new WebSocket(url.replace("http", "ws") + "/graphql", "graphql-ws");
        each.onopen = () => {{
          each.send(JSON.stringify({{type: "connection_init"}}));
          each.send(JSON.stringify({{id: "1", type: "start", payload: {{query: {json.dumps(MUTATION)}}}}}));
          setTimeout(() => done("open"), 1000);
        }};
        each.onerror = () => done("refused");
      }});
      window.onload = async () => {{
        document.getElementById("text").submit();
        document.getElementById("address").submit();
        const post = (to, kind, mode) => fetch(to, {{method: "POST", mode, body, headers: {{"Content-Type": kind}}}}).catch(() => 0);
        await Promise.all([
          post(url + "/graphql", "text/plain", "no-cors"), post(get, "text/plain", "no-cors"),
          post(url + "/graphql", "application/json", "cors"), fetch(get, {{mode: "no-cors"}}).catch(() => 0),
          new Promise(done => setTimeout(done, 3000)),
        ]);
        navigator.sendBeacon(get, body);
        await new Promise(done => setTimeout(done, 1000));
        document.title = "websocket " + await socket;
      }};
    </script>"""


@pytest.mark.chromium
@pytest.mark.ci
@pytest.mark.proves("dev-ui")
def test_a_foreign_page_starts_a_run_through_dagster_s_own_webserver_and_none_through_ours(
    installation: Installation,
):
    """The same page, in a real browser: against the webserver as Dagster ships it the attack works."""
    told = {}
    plain = free_port()
    words = ["dagster_webserver", "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", str(plain)]
    with (
        process(words, installation.folder, installation.environment) as started,
        driven() as browser,
    ):
        bare = Installation(plain, installation.folder, installation.environment, installation.instance)
        wait(bare, started)
        page = browser.new_page()
        page.set_default_timeout(90_000)
        for name, target in (("theirs", bare), ("ours", installation)):
            before, _ = installation.stored()
            with foreign_site(attack(target.url)) as site:
                page.goto(site)
                page.wait_for_function('document.title.startsWith("websocket")')
            told[name] = (installation.stored()[0] - before, page.title())
        page.goto(f"http://{EVIL}:{installation.port}/")
        assert "this is not the address" in page.inner_text("body")
    assert told["theirs"][0] > 0, told
    assert told["theirs"][1] == "websocket open"
    assert told["ours"] == (0, "websocket refused")


@pytest.mark.ci
def test_dev_runs_behind_the_guard_with_a_daemon_and_leaves_nothing_behind(graph: Graph, tmp_path: Any):
    """The whole command: what it starts is guarded, launches runs, and ends with it."""
    with installed(graph, tmp_path, daemon=True) as found:
        assert asked(found, "GET", QUERY) == 405
        assert asked(found, "POST", "/graphql", Origin=f"http://{EVIL}") == 403
        daemons = "{ instance { daemonHealth { allDaemonStatuses { daemonType lastHeartbeatTime } } } }"
        statuses = found.graphql(daemons)["daemonHealth"]["allDaemonStatuses"]
        assert "SENSOR" in {each["daemonType"] for each in statuses}
        ours = _processes(found)
        # Only root may look into processes that forbid it, as those that load the graph do.
        assert len(ours) >= (3 if os.geteuid() == 0 else 1), ours
    assert _processes(found) == []
    assert "Traceback" not in (tmp_path / "output.txt").read_text()


def test_dev_does_not_start_on_an_instance_that_believes_what_runs_bring(tmp_path: Any, monkeypatch: Any):
    """DAGSTER_HOME keeps its dagster.yaml over an upgrade, and with the old one nothing is refused before it is stored."""
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with pytest.raises(ConfigError, match="instance_class"):
        run_ui_and_daemon(free_port())


def _processes(installation: Installation) -> list[str]:
    """The numbers of the processes that have the installation's home in their environment."""
    home = f"DAGSTER_HOME={installation.environment['DAGSTER_HOME']}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # It may have ended since.
            if home in (folder / "environ").read_bytes().split(b"\0"):
                found.append(folder.name)
    return found
