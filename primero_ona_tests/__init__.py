"""Tests of primero-ona, on real parts: a PostgreSQL, an HTTP sandbox of Primero, runs of Dagster."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

#: Whether all tests run, as in `.ci/run`; else those marked `ci` are left to it, and samples are small.
ALL = bool(os.environ.get("PRIMERO_ONA_TESTS_ALL"))

#: The database of the tests' server that has all tables and no rows; a copy of it is quicker than migrations.
TEMPLATE = "all_tables"

_MEMORY, _ENOUGH = Path("/dev/shm"), 4 * 2**30

#: Where servers and graphs keep their data: in memory where there is enough, for it need not outlive the tests.
SCRATCH = "/dev/shm" if _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _ENOUGH else "/tmp"


def quick(names: Iterable[Any], *always: Any) -> list[Any]:
    """The parameters of a test of which some are tried always, and the others in CI only."""
    return [pytest.param(name, id=str(name), marks=() if name in always else pytest.mark.ci) for name in names]
