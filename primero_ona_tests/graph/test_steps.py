"""What a failing step shows and whether Dagster tries it again, asked of Dagster's own code for run retries."""

import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.errors import SensorExecutionError, user_code_error_boundary
from dagster._daemon.auto_run_reexecution.auto_run_reexecution import filter_runs_to_should_retry
from dagster._utils.error import serializable_error_info_from_exc_info

from primero_ona.definitions import build_defs
from primero_ona.errors import ConfigError, DataError, RefusedError, SyncError, TransientError
from primero_ona.graph.resources import PartitionStorage
from primero_ona.graph.steps import attach_safe_step, unexpected_withheld
from primero_ona.pipeline.stored import StoredAssets
from primero_ona.quarters import Quarter
from primero_ona.settings import GraphSettings

SECRET = "a-name-that-must-not-be-read"


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """An instance that retries failed runs, as the project's dagster.yaml says."""
    (tmp_path / "dagster.yaml").write_text(
        "telemetry: {enabled: false}\nrun_retries: {enabled: true, max_retries: 2}\n"
        "compute_logs: {module: dagster._core.storage.noop_compute_log_manager, class: NoOpComputeLogManager}\n"
    )
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with dg.DagsterInstance.get() as found:
        yield found


def run_of(instance: dg.DagsterInstance, work: Callable[[], object]) -> dg.DagsterRun:
    """Run an asset that does `work` inside a safe step."""

    @dg.asset
    def one() -> None:
        work()

    attach_safe_step(one.op)
    result = dg.materialize([one], instance=instance, raise_on_error=False)
    run = instance.get_run_by_id(result.run_id)
    assert run is not None
    return run


def told(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    """What the UI shows as the reason of the failed step: the message of the error, which comes first, says the same."""
    records = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE).records
    failed = records[0].event_log_entry.dagster_event.step_failure_data  # type: ignore[union-attr]
    assert failed.user_failure_data is not None
    assert failed.error is not None
    text = failed.user_failure_data.description or ""
    assert failed.error.message == f"StepError: {text}\n"
    return text


def everything(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    return "".join(str(entry) for entry in instance.all_logs(run.run_id))


def fail_with(error: Exception) -> Callable[[], object]:
    def work() -> None:
        raise error

    return work


@pytest.mark.parametrize("redacted", ["0", "1"])
@pytest.mark.parametrize(
    ("error", "tried_again"),
    [
        (TransientError("Primero did not answer"), True),
        (RefusedError("Primero refuses the login"), False),
        (DataError("a column is missing"), False),
        (ConfigError("PRIMERO_URL is not set"), False),
    ],
    ids=["transient", "refused", "data", "settings"],
)
@pytest.mark.proves("named-in-ui")
def test_only_a_transient_failure_is_tried_again_and_its_message_is_shown(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, error: SyncError, tried_again: bool, redacted: str
) -> None:
    """A refused login that is tried again and again locks the account; a dropped connection that is not, costs a night."""
    monkeypatch.setenv("DAGSTER_REDACT_USER_CODE_ERRORS", redacted)
    run = run_of(instance, fail_with(error))
    assert told(instance, run) == error.shown
    assert list(filter_runs_to_should_retry([run], instance)) == ([run] if tried_again else [])


def test_of_an_unexpected_exception_only_type_and_place_are_told(instance: dg.DagsterInstance) -> None:
    """Its text may quote a row: a KeyError names the key, a validation error the value."""

    run = run_of(instance, lambda: datetime.fromisoformat(SECRET))
    text = told(instance, run)
    assert text.startswith("internal error ValueError at an unknown place; please report this line (details withheld")
    assert SECRET not in everything(instance, run)
    assert list(filter_runs_to_should_retry([run], instance)) == []


def test_an_unexpected_exception_names_the_line_of_this_package(instance: dg.DagsterInstance) -> None:
    """Without the place nobody could mend it."""
    run = run_of(instance, lambda: Quarter(2024, 9).start)
    assert told(instance, run).startswith("internal error ValueError at quarters.py:")


@pytest.mark.proves("named-in-ui")
def test_what_is_raised_outside_our_own_wall_is_masked_by_dagsters(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second wall: that our own failures are shown must not take it away."""
    monkeypatch.setenv("DAGSTER_REDACT_USER_CODE_ERRORS", "1")

    @dg.asset
    def one() -> None:
        raise ValueError(SECRET)

    @dg.asset
    def another() -> None:
        raise dg.Failure(SECRET) from ValueError(SECRET)

    result = dg.materialize([one, another], instance=instance, raise_on_error=False)
    errors = [event.step_failure_data.error for event in result.all_events if event.is_step_failure]
    assert len(errors) == 2
    assert all(error is not None and "has been masked" in error.message for error in errors)
    assert "DagsterRedactedUserCodeError" in {error.cls_name for error in errors if error}


@pytest.mark.parametrize("redacted", ["0", "1"])
@pytest.mark.proves("named-in-ui")
def test_a_failure_inside_a_sensor_is_shown_as_in_a_step(monkeypatch: pytest.MonkeyPatch, redacted: str) -> None:
    """Around a sensor Dagster wraps and masks whatever is not an error of its own; the tick then said nothing at all."""
    monkeypatch.setenv("DAGSTER_REDACT_USER_CODE_ERRORS", redacted)
    try:
        with user_code_error_boundary(SensorExecutionError, lambda: "the tick failed"), unexpected_withheld():
            datetime.fromisoformat(SECRET)
    except Exception:  # noqa: BLE001 whatever Dagster makes of it
        shown = serializable_error_info_from_exc_info(sys.exc_info())
    assert shown.message.startswith("StepError: internal error ValueError at")
    assert "masked" not in shown.message
    assert SECRET not in str(shown)


def test_a_cause_does_not_travel_along(instance: dg.DagsterInstance) -> None:
    """Dagster writes the causes of an exception into the event log, too."""

    def work() -> None:
        try:
            int(SECRET)
        except ValueError:
            raise DataError("a value is not as it must be")  # noqa: B904 the fault that is tested

    run = run_of(instance, work)
    assert SECRET not in everything(instance, run)


def test_an_interrupt_is_not_swallowed() -> None:
    """Somebody who stops a run wants it stopped."""
    with pytest.raises(KeyboardInterrupt), unexpected_withheld():
        raise KeyboardInterrupt


@pytest.mark.parametrize("redacted", ["0", "1"])
def test_a_missing_key_is_told_by_the_step_that_needs_it_and_the_run_is_not_tried_again(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, redacted: str
) -> None:
    """A run started in the UI has no command line that would check the settings before."""
    monkeypatch.setenv("DAGSTER_REDACT_USER_CODE_ERRORS", redacted)
    monkeypatch.delenv("PRIMERO_ONA_STORAGE_KEYS", raising=False)

    @dg.asset
    def mapped_cases(partitions: dg.ResourceParam[StoredAssets]) -> None:
        partitions.writer("mapped_cases", Quarter(2024, 1))

    attach_safe_step(mapped_cases.op)
    result = dg.materialize(
        [mapped_cases], instance=instance, raise_on_error=False, resources={"partitions": PartitionStorage()}
    )
    run = instance.get_run_by_id(result.run_id)
    assert run is not None
    assert told(instance, run).startswith("settings: PRIMERO_ONA_STORAGE_KEYS is not set")
    assert list(filter_runs_to_should_retry([run], instance)) == []


def test_every_step_of_the_graph_is_safe() -> None:
    """One op that is forgotten shows the text of its exceptions, which quote rows."""
    jobs = build_defs(settings=GraphSettings(PRIMERO_ONA_RETENTION_QUARTERS=4)).get_repository_def().get_all_jobs()
    ops = {op.name: op for job in jobs for op in job.all_node_defs if isinstance(op, dg.OpDefinition)}
    assert len(ops) > 12
    assert [name for name, op in ops.items() if not hasattr(op.compute_fn.decorated_fn, "__wrapped__")] == []
