"""Tests that need nginx: run where it is, left out in plain sight where it is not, failed where all must run (CI)."""

from __future__ import annotations

import os
import shutil
from typing import Any

import pytest

#: Set by `.ci/run`, which installs nginx first: then a missing one is a failure.
ALL = "PRIMERO_ONA_TESTS_ALL"

_left_out: list[str] = []


def _has_nginx() -> bool:
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin") is not None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Take the tests that need nginx away where it is not, and remember them."""
    if _has_nginx() or os.environ.get(ALL):
        return
    kept = [item for item in items if item.get_closest_marker("nginx") is None]
    _left_out.extend(item.nodeid for item in items if item not in kept)
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say what was left out, and how to have it."""
    if _left_out:
        terminalreporter.write_line(
            f"{len(_left_out)} tests of deploy/nginx.conf were left out: there is no nginx on this machine "
            "(Debian: apt-get install nginx-light)",
            yellow=True,
        )
