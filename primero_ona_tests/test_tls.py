"""Connections to other machines: verified, or refused, or overridden in plain sight. Against real TLS servers."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
import uvicorn
from cryptography.fernet import Fernet

from primero_ona.errors import ConfigError, RefusedError, SyncError, TransientError
from primero_ona.graph.resources import OnaDatabaseResource, PrimeroResource
from primero_ona.ona.connection import connect
from primero_ona.primero.client import PrimeroClient
from primero_ona.sandbox.primero import SandboxPrimero
from primero_ona.tls import dagster_protection, database_protection, is_local, web_protection
from primero_ona_tests.certificates import Authority
from primero_ona_tests.harness import GivenOna
from primero_ona_tests.primero.test_bounds import serving

NAME = "ona.example.org"


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    """A private authority, and a certificate for NAME."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def tls_port(postgres: Any, authority: Authority) -> Iterator[int]:
    """The tests' PostgreSQL, reached over TLS on 127.0.0.1 with a certificate for NAME.

    The embedded server has no TLS of its own, so a thread before it speaks PostgreSQL's TLS handshake, then passes bytes on.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue(NAME))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_accept, args=(listener, context, str(postgres.get_uri())), daemon=True).start()
        yield listener.getsockname()[1]


def _accept(listener: socket.socket, context: ssl.SSLContext, url: str) -> None:
    parameters = psycopg.conninfo.conninfo_to_dict(url)
    behind = f"{parameters['host']}/.s.PGSQL.{parameters.get('port') or 5432}"
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_front, args=(client, context, behind), daemon=True).start()


def _front(client: socket.socket, context: ssl.SSLContext, behind: str) -> None:
    with contextlib.suppress(OSError), client, socket.socket(socket.AF_UNIX) as server:
        assert client.recv(8)[4:] == bytes([4, 210, 22, 47])  # SSLRequest
        client.sendall(b"S")
        with context.wrap_socket(client, server_side=True) as secure:
            server.connect(behind)
            threading.Thread(target=_pass_on, args=(server, secure), daemon=True).start()
            _pass_on(secure, server)


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(65_536):
            sink.sendall(piece)
        sink.shutdown(socket.SHUT_WR)


def url_of(postgres: Any, port: int, host: str = NAME, **options: str) -> str:
    """A URL that names another machine, and reaches 127.0.0.1 all the same: libpq checks `host`, and dials `hostaddr`."""
    user = psycopg.conninfo.conninfo_to_dict(postgres.get_uri())["user"]
    asked = "&".join(f"{name}={quote(value, safe='')}" for name, value in {"hostaddr": "127.0.0.1", **options}.items())
    return f"postgresql://{user}@{host}:{port}/postgres?{asked}"


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("", True), ("/run/postgresql", True), ("@abstract", True), ("localhost", True), ("LOCALHOST.", True),
        ("127.0.0.1", True), ("127.8.9.10", True), ("::1", True), ("[::1]", True),
        ("ona.example.org", False), ("10.0.0.5", False), ("localhost.example.org", False), ("127.0.0.1.example.org", False),
        ("169.254.0.1", False), ("::", False), ("fe80::1", False), ("1270.0.0.1", False),
    ],
)  # fmt: skip
def test_only_this_machine_is_local(host, local):
    """A name that merely looks local would send children's data in the clear."""
    assert is_local(host) is local


@pytest.mark.parametrize("mode", ["", "disable", "allow", "prefer", "require", "verify-ca"])
@pytest.mark.proves("way-to-ona")
def test_any_weaker_mode_to_another_machine_is_refused(monkeypatch, mode):
    """`require` encrypts, but to whom? Anybody on the way can answer."""
    monkeypatch.delenv("PGSSLMODE", raising=False)
    parameters = {"host": NAME, "sslmode": mode}
    with pytest.raises(ConfigError, match="verify-full"):
        database_protection(parameters, override=False)
    assert "PRIMERO_ONA_INSECURE_ONA" in database_protection(parameters, override=True)


@pytest.mark.parametrize(
    "parameters",
    [
        {"host": "localhost", "hostaddr": "10.0.0.5"},
        {"host": f"localhost,{NAME}"},
        {"service": "ona"},
    ],
    ids=["an address behind a local name", "one of several hosts", "a service file"],
)
def test_what_hides_another_machine_is_refused(parameters):
    """libpq connects to what these name, whatever the first host looks like."""
    with pytest.raises(ConfigError):
        database_protection(parameters, override=False)


@pytest.mark.parametrize(
    "rest",
    [
        f"{NAME}/dagster", f"{NAME}/dagster?sslmode=require", f"{NAME}/dagster?sslmode=verify-ca", f"/dagster?host={NAME}",
        f"/dagster?host=localhost&host={NAME}", "localhost/dagster?hostaddr=10.0.0.5", "localhost/dagster?service=x",
    ],
)  # fmt: skip
@pytest.mark.parametrize("driver", ["postgresql+psycopg2", "postgresql+psycopg", "postgresql"])
@pytest.mark.proves("dagster-database")
def test_dagsters_own_database_meets_the_same_rules(monkeypatch, driver, rest):
    """Metadata of every run passes there, and the password with which runs can be queued."""
    for variable in ("PGHOST", "PGSSLMODE"):
        monkeypatch.delenv(variable, raising=False)
    url = f"{driver}://dagster:hunter2@{rest}"
    with pytest.raises(ConfigError, match="DAGSTER_POSTGRES_URL") as refused:
        dagster_protection(url)
    assert "hunter2" not in str(refused.value)
    verified = url.replace("sslmode=require", "").replace("sslmode=verify-ca", "")
    verified += ("&" if "?" in verified else "?") + "sslmode=verify-full"
    assert dagster_protection(verified) == "encrypted, server verified"


@pytest.mark.parametrize("rest", ["localhost:5432/dagster", "/dagster?host=/run/postgresql", "/dagster", "127.0.0.1/d"])
def test_dagsters_own_database_on_this_machine_needs_no_tls(monkeypatch, rest):
    """The usual place of it; a rule that shuts it out would be switched off."""
    monkeypatch.delenv("PGHOST", raising=False)
    assert dagster_protection(f"postgresql+psycopg2://dagster@{rest}") == "on this machine"


@pytest.mark.parametrize("url", ["hunter2", "postgresql+none://hunter2@h/d", "postgresql://u:hunter2@h:port/d"])
def test_what_is_no_url_of_a_database_is_refused_without_it(url):
    """SQLAlchemy's own message quotes it, password and all."""
    with pytest.raises(ConfigError, match="is not a database URL") as refused:
        dagster_protection(url)
    assert "hunter2" not in str(refused.value)


def test_a_host_from_the_environment_counts(monkeypatch):
    """libpq takes what the URL leaves out from PGHOST."""
    monkeypatch.setenv("PGHOST", NAME)
    with pytest.raises(ConfigError):
        connect("postgresql:///postgres")


def test_a_verified_connection_to_another_machine_works(postgres, tls_port, authority):
    """The rule would otherwise shut ONA out altogether."""
    url = url_of(postgres, tls_port, sslmode="verify-full", sslrootcert=str(authority.path))
    with connect(url) as conn:
        assert conn.execute("SELECT 1").fetchone() == (1,)
        assert conn.pgconn.ssl_in_use
    assert GivenOna(url).protection() == "encrypted, server verified"


@pytest.mark.proves("way-to-ona")
def test_a_wrong_name_and_a_strange_authority_are_refused(postgres, tls_port, authority, tmp_path):
    """Somebody who answers in ONA's place would get every row."""
    for url in (
        url_of(postgres, tls_port, host="other.example.org", sslmode="verify-full", sslrootcert=str(authority.path)),
        url_of(postgres, tls_port, sslmode="verify-full", sslrootcert=str(Authority(tmp_path).path)),
    ):
        with pytest.raises(RefusedError, match="no secure connection"):
            connect(url)


@pytest.mark.proves("way-to-ona")
def test_an_unverified_connection_is_refused_before_it_is_opened_and_opens_only_by_the_override(
    postgres, tls_port, monkeypatch
):
    """The password would be on its way before anything could be checked."""
    url = url_of(postgres, tls_port, sslmode="require")
    with pytest.raises(ConfigError, match="PRIMERO_ONA_INSECURE_ONA"):
        connect(url)
    monkeypatch.setenv("ONA_DATABASE_URL", url)
    monkeypatch.setenv("PRIMERO_ONA_INSECURE_ONA", "yes")
    with OnaDatabaseResource().connection() as conn:
        assert conn.execute("SELECT 1").fetchone() == (1,)
    assert "NOT PROTECTED" in OnaDatabaseResource().protection()


@pytest.mark.proves("way-from-primero")
def test_plain_http_to_another_machine_is_refused_unless_overridden(monkeypatch):
    """HTTP Basic sends the password with every request."""
    with pytest.raises(ConfigError, match="https"):
        PrimeroClient("http://primero.example.org", "user", "password")
    for name, value in {"URL": "http://primero.example.org", "USERNAME": "u", "PASSWORD": "p"}.items():
        monkeypatch.setenv(f"PRIMERO_{name}", value)
    with pytest.raises(ConfigError):
        PrimeroResource().client()
    monkeypatch.setenv("PRIMERO_ONA_INSECURE_PRIMERO", "yes")
    with PrimeroResource().client() as client:
        assert "NOT PROTECTED" in client.protection
    assert web_protection("https://primero.example.org", override=False) == "encrypted, server verified"
    assert web_protection("http://127.0.0.1:8000", override=False) == "on this machine"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST", "127.0.0.53", "127.1.2.3", "[::1]"])
@pytest.mark.proves("way-from-primero")
def test_a_primero_on_this_machine_is_never_asked_through_a_proxy(host, monkeypatch):
    """Plain http is admitted there, so a proxy that the environment names would be sent the password in the clear."""
    received: list[bytes] = []

    def note(connection: socket.socket) -> None:
        received.append(b"a connection")
        connection.sendall(b"HTTP/1.1 502 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    with serving(note) as proxy, SandboxPrimero(3).serve() as primero:
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy)
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        url = primero.url.replace("127.0.0.1", host)
        with PrimeroClient(url, "user", "password", pause=0) as client, contextlib.suppress(SyncError):
            client.page("cases", {"per": 1})  # where nothing listens, it fails
        assert (received, client.traffic.requests > 0) == ([], True)
        with (
            PrimeroClient("http://primero.example.org", "user", "password", pause=0, insecure=True) as client,
            pytest.raises(TransientError, match="502"),
        ):
            client.page("cases", {"per": 1})
        assert received, "no proxy was in force, so nothing was proved"


@contextlib.contextmanager
def tls_primero(certificate: tuple[Path, Path]) -> Iterator[str]:
    """A sandbox Primero over https on 127.0.0.1."""
    app = SandboxPrimero(3)._app
    chain, key = certificate
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(
            app, loop="asyncio", lifespan="off", log_config=None, date_header=False, server_header=False,
            ssl_certfile=chain, ssl_keyfile=key, timeout_graceful_shutdown=1,
        )  # fmt: skip
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join(10)


@pytest.mark.proves("way-from-primero")
def test_primero_is_verified_by_the_bundle_that_is_set(authority, tmp_path):
    """A private authority must be nameable, and a certificate for another host must not pass."""
    with tls_primero(authority.issue("127.0.0.1")) as url:
        ask = {"username": SandboxPrimero.username, "password": SandboxPrimero.password, "pause": 0.0}
        with PrimeroClient(url, ca_bundle=str(authority.path), **ask) as client:
            assert client.page("cases", {"per": 1}).total == 3
        with PrimeroClient(url, **ask) as client, pytest.raises(RefusedError, match="PRIMERO_CA_BUNDLE"):
            client.page("cases", {"per": 1})
    with (
        tls_primero(authority.issue("primero.example.org")) as url,
        PrimeroClient(url, ca_bundle=str(authority.path), **ask) as client,
        pytest.raises(RefusedError, match="not trusted"),
    ):
        client.page("cases", {"per": 1})


def test_no_secret_is_in_the_text_of_a_client_or_a_resource():
    """A traceback prints the objects it meets."""
    key = Fernet.generate_key().decode()
    client = PrimeroClient("https://primero.example.org", "user", key)
    assert key not in repr(client)
