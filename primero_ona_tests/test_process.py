"""How processes end: without a core dump, and without a word of what they saw."""

from __future__ import annotations

import subprocess
import sys

import pytest

from primero_ona.process import unexpected

LIMIT = "import resource; print(resource.getrlimit(resource.RLIMIT_CORE)[0])"
#: PR_GET_DUMPABLE of Linux: 1 where another process of the same user may read this one's memory.
DUMPABLE = "import ctypes; print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
STARTS = ["import primero_ona.definitions", "import primero_ona.cli.app as c; c.prepare_process()"]


def said(code: str) -> list[str]:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    return result.stdout.split()


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.proves("memory")
def test_no_process_leaves_a_core_dump_or_may_be_read_by_another_of_its_user(start):
    """A core dump is the memory of a step, rows and all, in the clear; its limit holds neither for a program that the kernel
    hands it to, nor for a debugger.
    """
    looks = [LIMIT, DUMPABLE] if sys.platform == "linux" else [LIMIT]
    assert said("; ".join([DUMPABLE] * (len(looks) - 1))) == ["1"] * (len(looks) - 1)
    assert said("; ".join([start, *looks])) == ["0"] * len(looks)


@pytest.mark.proves("crash")
def test_what_is_said_of_an_unexpected_exception_is_its_type_alone():
    """Its text may quote a row."""
    said = unexpected(KeyError("Sok Dara, 9"))
    assert said.startswith("internal error KeyError at an unknown place")
    assert "Sok" not in said
