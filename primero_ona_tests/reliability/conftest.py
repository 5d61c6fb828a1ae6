"""What the tests of reliability share: a small Primero with two quarters, an ONA, and a real graph between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest

from primero_ona_tests.harness import Graph, small, wired
from primero_ona_tests.reliability.oracle import differences

_numbers = count(1)


@pytest.fixture
def graph(postgres: Any) -> Iterator[Graph]:
    """A graph on 60 cases in two quarters, odd shapes included; nothing is synced yet."""
    with wired(postgres, f"reliability_{next(_numbers)}", small(60)) as made:
        yield made


@pytest.fixture
def is_right(graph: Graph) -> Callable[[], None]:
    """Asserts that ONA holds what the sandbox's own store says it must, by an oracle that knows nothing of the mapping."""

    def check() -> None:
        assert differences(graph.primero, graph.sql) == []

    return check
