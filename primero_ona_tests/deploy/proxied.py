"""nginx with deploy/nginx.conf before two Dagster webservers, and how to ask them as a browser does."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
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

SITE = Path(__file__).parents[2] / "deploy" / "nginx.conf"
GUIDE = Path(__file__).parents[2] / "docs" / "deployment.md"
NAME = "primero-ona.example.org"
#: bcrypt of `open-sesame`, as `htpasswd -B -C 5` writes it: no secret, it opens nothing but this test.
BCRYPT = "$2y$05$cJUNrhlnsNsuPYluJvOAsun5x5Zf8cnoTD5bZzng9mmzBoyI5Dh8a"
#: The same by the command of docs/deployment.md: nginx must be able to check what it says to write.
AS_DOCUMENTED = "$2y$10$cJUNrhlnsNsuPYluJvOAsudphBh81wxmUnT73CThcPcYAPeW0eFmW"
OPERATOR, VIEWER = ("olga", "open-sesame"), ("vera", "open-sesame")
#: The operator's name but for the case of a letter; and a name with a character that means more in a pattern.
ALMOST, DOTTED = ("Olga", "open-sesame"), ("o.ga", "open-sesame")
#: What primero-ona.logins says of each.
LOGINS = {
    "olga": f"operator-{'0a' * 16}", "Olga": f"viewer-{'1b' * 16}", "vera": f"viewer-{'2c' * 16}",
    "o.ga": f"viewer-{'3d' * 16}",
}  # fmt: skip

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
        """Ask as a browser that has got in with this login before, unless `cookie` says otherwise; `source` is its address."""
        cookie = more.pop("cookie", LOGINS.get(login[0]) if login else None)
        with requests.Session() as session:
            session.mount("https://", _ToUs(host, more.pop("source", "127.0.0.1")))
            headers = {
                "Host": host,
                **({"Cookie": f"primero_ona={cookie}"} if cookie else {}),
                **more.pop("headers", {}),
            }
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

    def __init__(self, host: str, source: str) -> None:
        self._host, self._source = host, (source, 0)
        super().__init__()

    def init_poolmanager(self, *args: Any, **more: Any) -> None:
        super().init_poolmanager(*args, server_hostname=NAME, assert_hostname=NAME, source_address=self._source, **more)


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
    hashes = dict.fromkeys(LOGINS, BCRYPT) | {"o.ga": AS_DOCUMENTED}
    (folder / "primero-ona.htpasswd").write_text("".join(f"{name}:{text}\n" for name, text in hashes.items()))
    # As the guide writes the lines, which a slip of quoting would make say something else.
    (pattern,) = re.findall(r"(?m)^printf '([^']+)' ", GUIDE.read_text())
    words = [word for name, line in reversed(LOGINS.items()) for word in (name, *line.split("-"))]
    lines = subprocess.run(["printf", pattern, *words], capture_output=True, text=True, check=True).stdout
    (folder / "primero-ona.logins").write_text(lines)
    user = "user root;\n" if os.geteuid() == 0 else ""
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    main = folder / "main.conf"
    main.write_text(
        f"{user}daemon off;\npid {folder}/nginx.pid;\nerror_log {folder}/error.log;\nevents {{}}\n"
        # Without a log of its own here nginx opens the machine's, which belongs to root.
        f"http {{\naccess_log off;\n{temporary}\n{text}\n}}\n"
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
