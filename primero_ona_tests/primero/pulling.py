"""Pulls against the sandbox's Primero, and the truth from its own store."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pandas as pd
import pytest

from primero_ona.primero.client import PrimeroClient
from primero_ona.primero.fields import KnownFields
from primero_ona.primero.pull import PullReport, pull_cases
from primero_ona.primero.walk import Window
from primero_ona.quarters import Quarter
from primero_ona.sandbox.cases import Wish
from primero_ona.sandbox.primero import SandboxPrimero

CLOSED, OPEN = Quarter(2026, 3), Quarter(2026, 4)
NOW = datetime(2026, 11, 20, 3, 0, tzinfo=UTC)


class Kept:
    """A sink that keeps all frames."""

    def restart(self) -> None:
        self.frames: list[pd.DataFrame] = []

    def write(self, frame: pd.DataFrame) -> None:
        self.frames.append(frame)

    @property
    def ids(self) -> list[str]:
        return [case for frame in self.frames for case in frame["id"]]


@pytest.fixture
def primero() -> Iterator[SandboxPrimero]:
    """3,200 cases in two quarters, so that each takes more than one page."""
    with SandboxPrimero(Wish(3_200, seed=3, now=NOW, quarters=2)).serve() as server:
        yield server


def window(quarter: Quarter) -> Window:
    return Window(quarter.start, quarter.end, quarter is OPEN)


def pull(
    primero: SandboxPrimero, quarter: Quarter = CLOSED, sink: Kept | None = None, known: KnownFields | None = None
) -> tuple[PullReport, Kept]:
    sink = sink or Kept()
    with PrimeroClient(primero.url, primero.username, primero.password, pause=0) as client:
        return pull_cases(client, window(quarter), sink, known), sink


def truth(primero: SandboxPrimero, quarter: Quarter = CLOSED) -> set[str]:
    """The cases that lie in the window now."""
    cases = primero.cases.records("id", "last_updated_at")
    return {
        case["id"] for case in cases if quarter.start <= datetime.fromisoformat(case["last_updated_at"]) < quarter.end
    }
