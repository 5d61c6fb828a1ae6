"""A client for the sandbox's Primero, and five cases whose answers are known from a real one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import requests

from primero_ona.sandbox.columns import ABSENT
from primero_ona.sandbox.primero import SandboxPrimero

CASES = "/api/v2/cases"


@dataclass
class Client:
    """Asks a sandbox as the pipeline does: Basic, one session."""

    server: SandboxPrimero
    session: requests.Session

    def get(self, query: str = "", path: str = CASES, **options: Any) -> requests.Response:
        url = self.server.url + path + (f"?{query}" if query else "")
        return self.session.get(url, timeout=20, **options)

    def rows(self, query: str = "") -> list[dict[str, Any]]:
        answer = self.get(query)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def names(self, query: str) -> str:
        """The short names (registry numbers) of the cases a filter selects, in alphabetical order."""
        return "".join(sorted(row["case_id_display"] for row in self.rows(f"{query}&fields=case_id_display&per=1000")))


def client_of(server: SandboxPrimero) -> Client:
    session = requests.Session()
    session.auth = (server.username, server.password)
    return Client(server, session)


@pytest.fixture
def empty() -> Iterator[Client]:
    """A sandbox without cases."""
    with SandboxPrimero(0).serve() as server:
        yield client_of(server)


@pytest.fixture(scope="module")
def five() -> Iterator[Client]:
    """A age 0, B age 18, C age 19, D no age and disabled, E age 5; each with more to be told apart by."""
    with SandboxPrimero(0).serve() as server:
        add = server.create
        add(
            case_id_display="A",
            age=0,
            sex="male",
            type_of_case="x_1",
            consent_reporting="true",
            location_current="10060802",
            protection_concerns=["disabled"],
            type_of_placement="kinship_care_99289",
            owned_by="worker_1",
            location_caregiver=10060802,
        )
        add(
            case_id_display="B",
            age=18,
            sex="female",
            type_of_case=["x_1", "y_2"],
            consent_reporting=True,
            location_current="1006",
            protection_concerns=["refugee", "disabled"],
            owned_by="worker_1",
        )
        add(
            case_id_display="C",
            age=19,
            sex="male",
            type_of_case="y_2",
            consent_reporting="false",
            location_current="10",
            owned_by="worker_2",
        )
        add(
            case_id_display="D",
            age=ABSENT,
            sex="female",
            record_state=False,
            enabled=False,
            consent_reporting=None,
            protection_concerns=None,
            status="closed",
            owned_by="worker_2",
        )
        add(
            case_id_display="E",
            age=5,
            sex="male",
            type_of_case=None,
            location_current="12",
            consent_reporting=False,
            owned_by="worker_2",
        )
        yield client_of(server)
