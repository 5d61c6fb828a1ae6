"""How processes end: without a core dump, and without a word of what they saw."""

from __future__ import annotations

import subprocess
import sys

import pytest

from primero_ona.process import unexpected

LIMIT = "import resource; print(resource.getrlimit(resource.RLIMIT_CORE)[0])"


@pytest.mark.parametrize(
    "start", ["import primero_ona.definitions", "import primero_ona.cli as c; c.prepare_process()"]
)
def test_no_process_leaves_a_core_dump(start):
    """A core dump is the memory of a step, rows and all, in the clear."""
    result = subprocess.run(
        [sys.executable, "-c", f"{start}; {LIMIT}"], capture_output=True, text=True, check=True, timeout=120
    )
    assert result.stdout.split()[-1] == "0"


def test_what_is_said_of_an_unexpected_exception_is_its_type_alone():
    """Its text may quote a row."""
    said = unexpected(KeyError("Sok Dara, 9"))
    assert said.startswith("unexpected KeyError at an unknown place")
    assert "Sok" not in said
