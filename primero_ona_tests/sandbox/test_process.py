"""The sandbox as a process of its own, and its control endpoint."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import requests

from primero_ona.errors import TransientError
from primero_ona.sandbox import births
from primero_ona.sandbox.access import PASSWORD, USERNAME
from primero_ona.sandbox.primero import SandboxPrimero


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    command = [
        sys.executable,
        "-m",
        "primero_ona.sandbox.primero",
        "--cases",
        "30",
        "--seed",
        "4",
        "--version",
        "2.12.0",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield re.search(r"http://\S+", process.stdout.readline())[0]
        process.terminate()


def _ask(url: str, query: str = "") -> requests.Response:
    return requests.get(f"{url}/api/v2/cases?per=1000&{query}", auth=(USERNAME, PASSWORD), timeout=20)


def _order(url: str, **order) -> dict:
    return requests.post(url + "/_sandbox", json=order, timeout=20).json()


def test_it_answers_and_takes_orders(url: str) -> None:
    """A demo and a bench drive it from another process."""
    rows = _ask(url).json()["data"]
    assert len(rows) == 30
    case = rows[0]["id"]
    done = _order(
        url,
        switches={"per_cap": 40},
        role={"withheld": ["sex"]},
        edits=[
            {"edit": "update", "id": case, "changes": {"age": 7}},
            {"edit": "create"},
            {"edit": "delete", "id": rows[1]["id"]},
        ],
        faults=[{"kind": "status", "status": 502}],
    )
    assert (done["done"], len(done["created"])) == (True, 1)
    assert _ask(url).status_code == 502
    answer = _ask(url).json()
    assert answer["metadata"] == {"total": 30, "per": 40, "page": 1}
    assert next(row for row in answer["data"] if row["id"] == case)["age"] == 7
    assert "sex" not in answer["data"][0]


def test_an_edit_can_wait_for_requests(url: str) -> None:
    """Editing in mid-pull, from outside."""
    case = _ask(url).json()["data"][0]["id"]
    _order(url, edits=[{"edit": "disable", "id": case, "after": 1}])
    states = [next(row["record_state"] for row in _ask(url).json()["data"] if row["id"] == case) for _ in range(2)]
    assert states[1] is False


def test_the_night_in_which_ages_grow_can_be_ordered(url: str) -> None:
    """A demo of a new year, from another process."""
    today = datetime.now(UTC).date()
    birth = today.replace(year=today.year - 10, day=min(today.day, 28)).isoformat()
    (case,) = _order(url, edits=[{"edit": "create", "changes": {"date_of_birth": birth, "age": 3}}])["created"]
    assert _order(url, night=True)["done"]
    age = next(row["age"] for row in _ask(url).json()["data"] if row["id"] == case)
    assert age == (births.raised_age(birth, today) or 3)


def test_it_tells_its_state_and_refuses_what_it_does_not_understand(url: str) -> None:
    """An order that was misspelt must not pass for done."""
    state = requests.get(url + "/_sandbox", timeout=20).json()
    assert state["version"] == "2.12.0"
    assert state["requests"] >= len(state["log"]) > 0
    assert _order(url, faults=[{"kind": "gremlins"}])["done"] is False
    assert _order(url, edits=[{"edit": "nothing", "id": "x"}])["done"] is False


def test_in_process_there_is_no_control_endpoint_and_a_taken_port_is_said_so() -> None:
    """The control endpoint asks for no password; it exists only where it was asked for."""
    with SandboxPrimero(0).serve() as server:
        assert requests.get(server.url + "/_sandbox", timeout=20).status_code == 404
        with (
            pytest.raises(TransientError, match="choose another port"),
            SandboxPrimero(0).serve(int(server.url.rsplit(":", 1)[1])),
        ):
            pass
