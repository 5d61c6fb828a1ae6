"""What a step does when something below it fails: a SyncError keeps its message, any other exception its type and place only.

Permanent failures are not retried, neither the step nor the run.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import dagster as dg
from dagster._core.definitions.decorators.op_decorator import DecoratedOpFunction
from dagster._utils.error import USER_FACING_ERROR_ID_ATTR_NAME

from primero_ona.errors import UNEXPECTED, ConfigError, SyncError
from primero_ona.process import machine_error, unexpected

#: Dagster's run retries start a run again after any failed step, unless the run carries this tag.
NO_RUN_RETRY = {"dagster/retry_on_asset_or_op_failure": "false"}

#: The metadata of a failed step that holds the kind of its error.
KIND = "kind"


class SafeText:
    """What an exception of ours is, besides, so that Dagster shows its text.

    Dagster masks an exception that carries an error id (DAGSTER_REDACT_USER_CODE_ERRORS, which is defence in depth); one of
    these never takes any. The other half is a DagsterError, which Dagster passes on where it wraps and masks all others.
    """


setattr(SafeText, USER_FACING_ERROR_ID_ATTR_NAME, property(lambda _self: None, lambda _self, _value: None))


class StepError(SafeText, dg.Failure, dg.DagsterError):
    """A failed step, sensor or schedule whose text is safe to show."""

    #: Dagster puts the module before the text; without it the page begins with the sentence.
    __module__ = "builtins"


class NotLoadedError(SafeText, ConfigError, dg.DagsterError):
    """The graph cannot be loaded; Dagster shows this text, in the UI and in its log, where it would mask another's."""

    __module__ = "builtins"


def attach_safe_step(*ops: dg.OpDefinition) -> None:
    """Let each op turn what fails inside into a dg.Failure that is safe to show, and keep Dagster from retrying what cannot help.

    Once for the whole graph, where it is put together: an op that is not passed here is not safe.
    """
    for op in ops:
        function = op.compute_fn
        # An op of a module is passed for each graph that is built.
        if isinstance(function, DecoratedOpFunction) and not hasattr(function.decorated_fn, "__wrapped__"):
            op._compute_fn = DecoratedOpFunction(_safe(function.decorated_fn))  # noqa: SLF001  no public way around an op


def _safe(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function inside a safe step; a generator stays one, by which Dagster knows what it yields."""
    if not inspect.isgeneratorfunction(function):
        return _safe_step()(function)

    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> Iterator[Any]:  # noqa: ANN401
        with _safe_step():
            yield from function(*args, **kwargs)

    return run


@contextmanager
def _safe_step() -> Iterator[None]:
    context = dg.OpExecutionContext.get()
    try:
        with safe_tick():
            yield
    except dg.Failure as failure:
        if not failure.allow_retries:
            stop_run_retries(context.instance, context.run_id)
        raise


@contextmanager
def safe_tick() -> Iterator[None]:
    """Turn what fails inside a sensor, a schedule or a step into a dg.Failure that is safe to show."""
    try:
        with unexpected_withheld():
            yield
    except SyncError as error:
        raise _failure(error.shown, error.kind, retry=error.retry) from None


@contextmanager
def unexpected_withheld() -> Iterator[None]:
    """Let failures pass, name a fault of this machine, and of any other exception tell its type and place only."""
    try:
        yield
    except (SyncError, dg.Failure, dg.RetryRequested):
        raise
    except Exception as error:  # noqa: BLE001 whatever it is, its text may quote a row, so it ends here
        raise machine_error(error) or _failure(unexpected(error), UNEXPECTED, retry=False) from None


def _failure(text: str, kind: str, *, retry: bool) -> StepError:
    return StepError(description=text, metadata={KIND: dg.MetadataValue.text(kind)}, allow_retries=retry)


def kind_of_failure(event: dg.DagsterEvent | None) -> str | None:
    """Return the kind of the error that `_failure` recorded; None where something else ended the step."""
    failure = event.step_failure_data.user_failure_data if event else None
    kind = failure.metadata.get(KIND) if failure else None
    return kind.text if isinstance(kind, dg.TextMetadataValue) else None


def stop_run_retries(instance: dg.DagsterInstance, run_id: str) -> None:
    """Keep Dagster from starting the run again: what failed in it would fail again."""
    if instance.has_run(run_id):
        instance.add_run_tags(run_id, NO_RUN_RETRY)
