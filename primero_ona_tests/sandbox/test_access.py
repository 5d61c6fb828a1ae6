"""Logging in, and what is refused how."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import requests

from primero_ona.sandbox.primero import SandboxPrimero
from primero_ona_tests.sandbox.conftest import Client, client_of


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer undefined"}, {"Authorization": "Basic %%%"}])
def test_without_credentials_the_401_has_a_body_of_its_own(empty: Client, headers: dict[str, str]) -> None:
    """Not the `errors` array, and `Bearer` in the challenge whatever was tried."""
    answer = requests.get(empty.server.url + "/api/v2/cases", headers=headers, timeout=20)
    assert answer.status_code == 401
    assert answer.json() == {"error": "You need to sign in or sign up before continuing."}
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="Primero" charset="UTF8"'


def test_six_failures_lock_the_account_for_half_an_hour() -> None:
    """While it is locked the right password is refused in the words for a wrong one: never retry a 401."""
    now = datetime(2024, 4, 1, tzinfo=UTC)
    with SandboxPrimero(0, clock=lambda: now).serve() as server:
        client = client_of(server)
        wrong = (server.username, "wrong")
        for _ in range(5):
            assert client.get(auth=wrong).status_code == 401
        assert client.get().status_code == 200, "a good login counts anew"
        texts = {client.get(auth=wrong).text for _ in range(6)} | {client.get().text}
        assert texts == {'{"error":"Invalid User name or password."}'}
        now += timedelta(minutes=30)
        answer = client.get()
        assert (answer.status_code, answer.headers["Date"]) == (200, "Mon, 01 Apr 2024 00:30:00 GMT"), (
            "the sandbox's clock"
        )


@pytest.mark.parametrize("name", ["SANDBOX", "Sandbox", " sandbox", "sandbox "])
def test_the_user_name_is_exact(empty: Client, name: str) -> None:
    """A setting with a blank in it works nowhere, so it must not work here."""
    assert empty.get(auth=(name, empty.server.password)).status_code == 401
    assert empty.get().status_code == 200


def test_the_user_may_be_inactive(empty: Client) -> None:
    """The right password is refused in words of its own then."""
    empty.server.login.active = False
    assert empty.get().json() == {"error": "Your account is not activated yet."}


@pytest.mark.parametrize("name", ["cases", "lookups", "locations", "forms"])
def test_a_list_may_be_refused_to_the_role(empty: Client, name: str) -> None:
    """403 in the shape of all errors but 401; the key is `status`, whatever the documentation says."""
    empty.server.role.refused.add(name)
    answer = empty.get(path=f"/api/v2/{name}")
    assert answer.status_code == 403
    assert answer.json() == {"errors": [{"status": 403, "resource": f"/api/v2/{name}", "message": "Forbidden"}]}


def test_no_such_route_is_a_404_without_a_body(empty: Client) -> None:
    """A client that decodes every body as JSON must not fall over this one."""
    answer = empty.get(path="/api/v2/nothing")
    assert (answer.status_code, answer.content) == (404, b"")
    assert answer.headers["Content-Type"].startswith("text/html")


def test_the_proxy_refuses_long_urls_and_hangs_up_on_head(empty: Client) -> None:
    """The stock nginx allows one kilobyte for the request line, and drops methods that Primero has no use for."""
    assert empty.get("x=" + "y" * 900).status_code == 200
    assert empty.get("x=" + "y" * 1_000).status_code == 414
    with pytest.raises(requests.ConnectionError):
        empty.session.head(empty.server.url + "/health", timeout=20)


def test_health_and_the_locales_need_no_login(empty: Client) -> None:
    """What a pre-flight may ask without a password."""
    assert requests.get(empty.server.url + "/health", timeout=20).status_code == 204
    assert requests.get(empty.server.url + "/api/v2/primero", timeout=20).json()["data"]["locales"] == ["en", "km"]
