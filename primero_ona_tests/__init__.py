"""Tests of primero-ona, on real parts: a PostgreSQL, an HTTP sandbox of Primero, runs of Dagster."""

import shutil
from pathlib import Path

#: The database of the tests' server that has all tables and no rows; a copy of it is quicker than migrations.
TEMPLATE = "all_tables"

_MEMORY, _ENOUGH = Path("/dev/shm"), 4 * 2**30

#: Where servers and graphs keep their data: in memory where there is enough, for it need not outlive the tests.
SCRATCH = "/dev/shm" if _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _ENOUGH else "/tmp"
