"""Exit codes."""

from __future__ import annotations

import pytest

import primero_ona.definitions  # noqa: F401 - it has an error of its own
from primero_ona.cli.exit_codes import CODES, exit_code
from primero_ona.errors import SyncError
from primero_ona.graph.steps import UNEXPECTED


def kinds(of: type[SyncError]) -> set[str]:
    """The names of an error and of all that are derived from it."""
    return {of.__name__}.union(*map(kinds, of.__subclasses__()))


def test_every_error_has_its_exit_code():
    """One that the table lacks would end with 1, as data that is not as it must be: nobody would look at the settings."""
    assert kinds(SyncError) == set(CODES)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (None, 0),
        ("CheckError", 1),
        (UNEXPECTED, 1),
        ("ConfigError", 2),
        ("UsageError", 2),
        ("RefusedError", 3),
        ("TransientError", 3),
    ],
)
def test_scripts_tell_by_the_code_what_to_do(kind: str | None, code: int):
    """They call an operator, change a setting, or wait."""
    assert exit_code(kind) == code
