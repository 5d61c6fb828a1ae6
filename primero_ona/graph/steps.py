"""The Dagster side of failures: what a step does when the rooms below it fail.

Every asset, check and IO manager runs the rooms inside `safe_step`. A SyncError keeps its message; any other exception
loses it, since its text may quote a row, and keeps its type and place. Permanent failures are not retried, neither the
step nor the run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
from dagster._utils.error import USER_FACING_ERROR_ID_ATTR_NAME

from primero_ona.errors import SyncError
from primero_ona.process import machine_error, unexpected

#: Dagster's run retries start a run anew after any failed step, unless the run carries this tag.
NO_RUN_RETRY = {"dagster/retry_on_asset_or_op_failure": "false"}


class SafeText:
    """What an exception of ours is, besides, so that Dagster shows its text.

    Dagster masks an exception that carries an error id (DAGSTER_REDACT_USER_CODE_ERRORS, the second wall behind ours); one of
    these never takes any. The other half is a DagsterError, which Dagster passes on where it wraps and masks all others.
    """


setattr(SafeText, USER_FACING_ERROR_ID_ATTR_NAME, property(lambda _self: None, lambda _self, _value: None))


class StepError(SafeText, dg.Failure, dg.DagsterError):
    """A failed step, sensor or schedule whose text is safe to show."""

    #: Dagster puts the module before the text; without it the page begins with the sentence.
    __module__ = "builtins"


@contextmanager
def safe_step(instance: dg.DagsterInstance | None = None, run_id: str | None = None) -> Iterator[None]:
    """Turn what fails inside into a dg.Failure that is safe to show; keep Dagster from retrying what cannot help."""
    try:
        with unexpected_withheld():
            yield
    except SyncError as failure:
        if not failure.retry:
            stop_run_retries(instance, run_id)
        raise _failure(str(failure), type(failure).__name__, failure.exit_code, retry=failure.retry) from None
    except dg.Failure as failure:
        if not failure.allow_retries:
            stop_run_retries(instance, run_id)
        raise


@contextmanager
def unexpected_withheld() -> Iterator[None]:
    """Let failures pass, name a fault of this machine, and of any other exception tell its type and place only."""
    try:
        yield
    except (SyncError, dg.Failure, dg.RetryRequested):
        raise
    except Exception as error:  # noqa: BLE001 whatever it is, its text may quote a row, so it ends here
        raise machine_error(error) or _failure(unexpected(error), type(error).__name__, 1, retry=False) from None


def _failure(text: str, kind: str, exit_code: int, *, retry: bool) -> StepError:
    metadata = {"kind": dg.MetadataValue.text(kind), "exit_code": dg.MetadataValue.int(exit_code)}
    return StepError(description=text, metadata=metadata, allow_retries=retry)


def stop_run_retries(instance: dg.DagsterInstance | None, run_id: str | None) -> None:
    """Keep Dagster from starting the run anew: what failed in it would fail again."""
    if instance is not None and run_id is not None and instance.has_run(run_id):
        instance.add_run_tags(run_id, NO_RUN_RETRY)
