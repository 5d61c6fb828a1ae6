"""Chromium without a window, and a foreign web server whose page attacks."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import playwright.sync_api as playwright
from websockets.sync.client import ClientConnection, connect

#: A name of the attacker's, which the browser finds on this machine: so it is rebound, and near enough to be admitted.
EVIL = "evil.example.org"

_OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--remote-debugging-port=0", f"--host-resolver-rules=MAP {EVIL} 127.0.0.1",
)  # fmt: skip


@dataclass
class Browser:
    """One page of a browser, driven by Chromium's own protocol; `events` are those of the domains that were enabled."""

    connection: ClientConnection
    number: int = field(default=0)
    events: list[dict[str, Any]] = field(default_factory=list)

    def call(self, method: str, **parameters: Any) -> Any:
        self.number += 1
        self.connection.send(json.dumps({"id": self.number, "method": method, "params": parameters}))
        while (answer := json.loads(self.connection.recv(timeout=60))).get("id") != self.number:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)

    def run(self, script: str) -> Any:
        """The value of an expression in the page; of a promise, what it comes to."""
        found = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        return found["result"].get("value")

    def wait(self, script: str, seconds: float = 90) -> Any:
        """The value of an expression as soon as it is true."""
        until = time.monotonic() + seconds
        while not (value := self.run(script)):
            assert time.monotonic() < until, (script, str(self.run("document.body?.innerText"))[:500])
            time.sleep(0.2)
        return value


@contextlib.contextmanager
def chromium(folder: Path) -> Iterator[Browser]:
    """A new browser with nothing in it."""
    program = shutil.which("chromium")
    assert program, "install chromium (Debian: apt-get install chromium)"
    profile = folder / "profile"
    words = [program, *_OPTIONS, f"--user-data-dir={profile}", "about:blank"]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        opened = profile / "DevToolsActivePort"
        until = time.monotonic() + 90
        while not (opened.exists() and opened.read_text().count("\n")):
            assert process.poll() is None
            assert time.monotonic() < until, "chromium does not start"
            time.sleep(0.1)
        port, path = opened.read_text().split("\n")[:2]
        with connect(f"ws://127.0.0.1:{port}{path}", proxy=None, max_size=None) as whole:
            target = Browser(whole).call("Target.createTarget", url="about:blank")["targetId"]
            with connect(f"ws://127.0.0.1:{port}/devtools/page/{target}", proxy=None, max_size=None) as page:
                yield Browser(page)
    finally:
        process.terminate()
        process.wait(30)


@contextlib.contextmanager
def driven() -> Iterator[playwright.Browser]:
    """The same browser, driven by Playwright, whose own is never downloaded."""
    program = shutil.which("chromium")
    assert program, "install chromium (Debian: apt-get install chromium)"
    options = ["--no-sandbox", "--disable-gpu", "--disable-quic", f"--host-resolver-rules=MAP {EVIL} 127.0.0.1"]
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=program, args=options)
        yield browser
        browser.close()


@contextlib.contextmanager
def foreign_site(page: str) -> Iterator[str]:
    """The address of a web server that gives the same page to everybody."""

    class Site(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://{EVIL}:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
