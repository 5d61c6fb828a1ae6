"""Debian's Chromium, driven by Playwright, and a foreign web server whose page attacks."""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from playwright.sync_api import Browser, sync_playwright

#: A name of the attacker's, which the browser finds on this machine: so it is rebound, and near enough to be admitted.
EVIL = "evil.example.org"

_OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-quic", f"--host-resolver-rules=MAP {EVIL} 127.0.0.1"]


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A browser without a window, and with nothing in it; Playwright's own is never downloaded."""
    program = shutil.which("chromium")
    assert program, "install chromium (Debian: apt-get install chromium)"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=_OPTIONS)
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
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://{EVIL}:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
