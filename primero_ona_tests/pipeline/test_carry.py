"""Pulls of an open quarter by its changes: what they store is what a walk of the whole quarter stores, or they walk it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import psycopg
import pytest
from cryptography.fernet import Fernet

from primero_ona.pipeline import carry
from primero_ona.pipeline.extract import OF_WHOLE_WALK, Pulled
from primero_ona.pipeline.stored import EXITS, REINTEGRATION, UNDER18
from primero_ona.pipeline.upkeep import forget
from primero_ona.primero.policy import PullPolicy
from primero_ona.primero.pull import PullReport
from primero_ona.quarters import Quarter
from primero_ona.sandbox.cases import Wish
from primero_ona.sandbox.primero import SandboxPrimero
from primero_ona_tests.conftest import ALL
from primero_ona_tests.harness import Clock
from primero_ona_tests.reliability.syncing import Place, pull

OPEN = Quarter(2024, 2)
NOW = datetime(2024, 5, 15, 3, 0, tzinfo=UTC)
TYPE = "children_undergoing_reintegration_55427"


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


@pytest.fixture
def world(ona: psycopg.Connection, ona_url: str, tmp_path: Path) -> Iterator[World]:
    clock = Clock(NOW)
    with SandboxPrimero(Wish(60, seed=11, now=NOW, quarters=2), clock=clock).serve() as primero:
        key = Fernet.generate_key().decode()
        place = Place(primero.url, primero.username, primero.password, ona_url, str(tmp_path / "parts"), key)
        yield World(primero, clock, place, tmp_path / "whole")


def content(place: Place) -> dict[str, Any]:
    """What is stored of the open quarter: rows by asset, in the order of their ids, and the reasons that rows show."""
    found: dict[str, Any] = {}
    for asset in (REINTEGRATION, UNDER18, EXITS):
        frames = place.stored.open(asset, OPEN)
        rows = [row for frame in frames for row in frame.astype(object).where(frame.notna(), None).to_dict("records")]
        found[asset] = sorted(rows, key=lambda row: row["id"])
    summary = frames.summary
    unknown = {name.removesuffix(OF_WHOLE_WALK) for name in summary["reasons"] if name.endswith(OF_WHOLE_WALK)}
    found["reasons"] = {k: v for k, v in summary["reasons"].items() if v and k not in unknown and OF_WHOLE_WALK not in k}
    return found | {"carry": summary[carry.CARRY]}


def test_smoke(world):
    first = world.pull()
    print(first.report)
    world.clock.move(hours=3)
    case = world.open_ids()[0]
    world.primero.update(case, sex="other")
    second = world.pull()
    print(second.report)
    print(content(world.place)["reasons"], content(world.whole())["reasons"])
    print(world.place.stored.open(EXITS, OPEN).summary)
    assert content(world.place) == content(world.whole())
