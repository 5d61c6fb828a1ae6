"""A Primero with an open quarter, and a place into which it is pulled by its changes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from primero_ona.ona.connection import connect
from primero_ona.ona.migrations import apply, plan
from primero_ona.pipeline.extract import Pulled
from primero_ona.primero.fields import PullPolicy
from primero_ona.quarters import Quarter
from primero_ona.sandbox.cases import Wish
from primero_ona.sandbox.primero import SandboxPrimero
from primero_ona_tests.harness import Clock, database
from primero_ona_tests.reliability.syncing import Place, pull, stored_content

OPEN = Quarter(2024, 2)
NOW = datetime(2024, 5, 15, 3, 0, tzinfo=UTC)


@dataclass
class World:
    """A Primero with an open quarter and a place into which it is pulled."""

    primero: SandboxPrimero
    clock: Clock
    place: Place
    beside: Path

    def pull(self, **how: Any) -> Pulled:
        return pull(self.place, OPEN, **how)

    def whole(self) -> Place:
        """Another place into which the whole quarter is walked now."""
        other = replace(self.place, storage=str(self.beside))
        pull(other, OPEN, whole=True)
        return other

    def open_ids(self) -> list[str]:
        stamps = {case["id"]: datetime.fromisoformat(case["last_updated_at"]) for case in self.primero.cases.records()}
        return sorted(case for case, stamp in stamps.items() if OPEN.start <= stamp < OPEN.end)


@pytest.fixture(scope="module")
def migrated(postgres: Any) -> Iterator[str]:
    with database(postgres, "carry") as url:
        with connect(url) as conn:
            apply(conn, plan(conn))
        yield url


@pytest.fixture
def world(migrated: str, tmp_path: Path) -> Iterator[World]:
    clock, ona_url = Clock(NOW), migrated
    with connect(ona_url) as conn:
        conn.execute("TRUNCATE cases, services, primero_sync.runs, primero_sync.exits")
        conn.execute("TRUNCATE primero_sync.erasures, primero_sync.fields, primero_sync.visible_cases")
    with SandboxPrimero(Wish(60, seed=11, now=NOW, quarters=2), clock=clock).serve() as primero:
        key = Fernet.generate_key().decode()
        place = Place(primero.url, primero.username, primero.password, ona_url, str(tmp_path / "parts"), key)
        yield World(primero, clock, place, tmp_path / "whole")


def content(place: Place) -> dict[str, Any]:
    return stored_content(place, OPEN)


CP = PullPolicy(modules=("primeromodule-cp",))


def is_young(primero: SandboxPrimero, case: str) -> bool:
    record = primero.cases.record(primero.cases.row_of(case) or 0)
    return record.get("record_state") is True and str(record.get("date_of_birth"))[:4] in {
        "2012",
        "2013",
        "2014",
        "2015",
    }
