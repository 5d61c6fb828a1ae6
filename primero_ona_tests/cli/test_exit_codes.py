"""Exit codes."""

from __future__ import annotations

import pytest

from primero_ona import errors
from primero_ona.cli.output import CODES, exit_code
from primero_ona.errors import UNEXPECTED, SyncError
from primero_ona.graph.steps import NotLoadedError
from primero_ona.primero.client import AnswerRefusedError


@pytest.mark.proves("exit-codes")
def test_every_error_has_its_exit_code():
    """One that the table lacks would end with 1, as data that is not as it must be: nobody would look at the settings."""
    kinds = {name for name, each in vars(errors).items() if isinstance(each, type) and issubclass(each, SyncError)}
    assert kinds == set(CODES)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.CheckError(), 1),
        (errors.ConfigError(), 2),
        (errors.UsageError(), 2),
        (errors.RefusedError(), 3),
        (errors.TransientError(), 3),
        (NotLoadedError(), 2),
        (AnswerRefusedError("", 422), 3),
    ],
    ids=lambda each: type(each).__name__,
)
@pytest.mark.proves("exit-codes")
def test_scripts_tell_by_the_code_what_to_do(error: SyncError, code: int):
    """They call an operator, change a setting, or wait; an error that is derived from another is of its kind."""
    assert exit_code(error.kind) == code


def test_a_success_and_what_nobody_foresaw():
    """Neither has an error in the table."""
    assert (exit_code(None), exit_code(UNEXPECTED)) == (0, 1)
