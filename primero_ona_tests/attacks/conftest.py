"""One installation for all attacks: what each of them stores is counted before and after."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from primero_ona_tests.attacks.installation import Installation, installed
from primero_ona_tests.harness import Graph, small, wired


@pytest.fixture(scope="package")
def graph(postgres: Any) -> Iterator[Graph]:
    with wired(postgres, "attacks", small(60)) as graph:
        yield graph


@pytest.fixture(scope="package")
def installation(graph: Graph, tmp_path_factory: Any) -> Iterator[Installation]:
    """No daemon: what was launched stays in the queue, and nothing starts a run but a request."""
    with installed(graph, tmp_path_factory.mktemp("installation")) as found:
        yield found
