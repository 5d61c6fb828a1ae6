"""Runs that a command hands to the daemon: followed to their end, given up where no daemon is alive."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest
import typer
from dagster._core.storage.tags import (
    AUTO_RETRY_RUN_ID_TAG,
    GRPC_INFO_TAG,
    REPOSITORY_LABEL_TAG,
    WILL_RETRY_TAG,
)

from primero_ona.cli.common import _run
from primero_ona.definitions import build_defs
from primero_ona.errors import DataError, TransientError
from primero_ona.graph import queue
from primero_ona.graph.dead_runs import (
    ENDED,
    ask_for_lost_retries,
    held_by_this_process,
)
from primero_ona.graph.queue import follow, is_served, last_beat, submit
from primero_ona.graph.runs import Outcome, RunOutcome
from primero_ona.quarters import Quarter
from primero_ona_tests.graph.queued import ELSEWHERE, HERE, beat, dead_process, report

Q1 = Quarter(2024, 1)


def two() -> list[Outcome]:
    return [Outcome(quarter=Q1), Outcome(quarter=Quarter(2024, 2))]


def test_a_daemon_is_alive_while_it_says_so_and_the_queue_is_in_use(instance: dg.DagsterInstance) -> None:
    """Handed to a queue that nothing looks at, a run would wait for ever."""
    assert is_served(instance)
    beat(instance, ago=queue._ALIVE + 1)
    assert not is_served(instance)
    with dg.DagsterInstance.ephemeral() as other:
        beat(other)
        assert not is_served(other), "its runs are launched at once"


def submitted(instance: dg.DagsterInstance) -> str:
    return submit(build_defs(), "refresh_reference", instance, {})


def ended(kind: dg.DagsterEventType, **tags: str) -> Callable[[dg.DagsterInstance, str], None]:
    def do(instance: dg.DagsterInstance, run_id: str) -> None:
        instance.add_run_tags(run_id, tags)
        instance.report_dagster_event(dg.DagsterEvent(kind.value, "refresh_reference"), run_id)

    return do


def interrupted(instance: dg.DagsterInstance, run_id: str) -> None:
    run = instance.get_run_by_id(run_id)
    instance.report_run_failed(run, ENDED)
    instance.add_run_tags(run_id, {WILL_RETRY_TAG: "false"})


@pytest.mark.parametrize(
    ("happens", "kind", "words"),
    [
        (ended(dg.DagsterEventType.RUN_SUCCESS), None, ""),
        (ended(dg.DagsterEventType.RUN_CANCELED), "TransientError", "The run was terminated"),
        (interrupted, "TransientError", "ended before the run did"),
        (ended(dg.DagsterEventType.RUN_FAILURE, **{"dagster/max_retries": "0"}), "unexpected", "see it in the Dagster UI"),
    ],
    ids=["success", "terminated", "its process died", "failed for good"],
)  # fmt: skip
def test_a_run_is_followed_to_its_end(instance: dg.DagsterInstance, happens: Any, kind: str | None, words: str) -> None:
    """A script goes by the exit code, which is that of the run."""
    run_id, outcome, shown = submitted(instance), RunOutcome(), []

    def show(text: str) -> None:
        shown.append(text)
        happens(instance, run_id)

    follow(instance, run_id, outcome, show, last_beat(instance))
    assert shown[0] == "waits in the queue"
    assert (outcome.run_id, outcome.kind) == (run_id, kind)
    assert words in (outcome.failure or "")


@pytest.mark.proves("queue")
def test_a_run_whose_daemon_died_or_that_was_deleted_ends_the_command(instance: dg.DagsterInstance) -> None:
    """A command that waits for ever in a job of cron keeps all later ones from running."""
    run_id = submitted(instance)

    def daemon_dies(_: str) -> None:
        beat(instance, ago=queue._ALIVE + 1)

    with pytest.raises(TransientError, match=r"gives no sign of life any more; the run .* waits in its queue"):
        follow(instance, run_id, RunOutcome(), daemon_dies, last_beat(instance))
    assert instance.get_run_by_id(run_id).status == dg.DagsterRunStatus.QUEUED
    beat(instance)
    with pytest.raises(DataError, match="was deleted"):
        follow(instance, run_id, RunOutcome(), lambda _: instance.delete_run(run_id), 0)


def test_runs_that_a_dead_daemon_was_handed_are_executed_here(instance: dg.DagsterInstance, monkeypatch: Any) -> None:
    """Its last sign of life was half a minute old: for two minutes nobody can know."""
    monkeypatch.setattr(
        "primero_ona.cli.common.execute", lambda _job, _instance, outcome: setattr(outcome, "run_id", "here")
    )
    outcomes = two()

    def show(_number: int, _label: str, words: str) -> None:
        if words == "waits in the queue":
            monkeypatch.setattr(queue, "_ALIVE", -1)

    _run("sync_quarter", outcomes, instance, show, here=False)
    assert [outcome.run_id for outcome in outcomes] == ["here", "here"]
    assert {run.status for run in instance.get_runs()} == {dg.DagsterRunStatus.CANCELED}
    assert len(instance.get_runs()) == 2


def test_ctrl_c_leaves_the_runs_and_says_where_they_are(instance: dg.DagsterInstance, capsys: Any) -> None:
    """Who presses it believes that nothing happens any more."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(typer.Exit) as left:
        _run("sync_quarter", [Outcome(quarter=Q1)], instance, interrupt, here=False)
    on_page = {REPOSITORY_LABEL_TAG: "__repository__@primero_ona", "quarter": "2024-Q1", "dagster/partition": Q1.key}
    (run,) = instance.get_runs(dg.RunsFilter(job_name="sync_quarter", tags=on_page))
    assert (left.value.exit_code, run.status) == (130, dg.DagsterRunStatus.QUEUED)
    said = capsys.readouterr().err
    assert "goes on with what was asked" in said
    assert f"http://127.0.0.1:3000/runs/{run.run_id}" in said


@pytest.mark.parametrize(
    ("fault", "first", "statuses", "said"),
    [
        (KeyboardInterrupt, None, "QUEUED CANCELED", "goes on with what was asked"),
        (OSError, None, "CANCELED CANCELED", ""),
        (OSError, "PIPELINE_STARTING", "STARTING CANCELED", "asked before this fault"),
    ],
    ids=["ctrl-c", "error", "error, and one has begun"],
)
@pytest.mark.proves("queue")
def test_an_end_while_runs_are_submitted_leaves_none_unnamed(
    instance: dg.DagsterInstance, monkeypatch: Any, capsys: Any, fault: Any, first: Any, statuses: str, said: str
) -> None:
    """Of forty quarters twenty were pulled by night that the operator believed had never been asked for."""
    submit_run, runs = instance.submit_run, []

    def second_fails(run_id: str, workspace: Any) -> None:
        runs.append(run_id)
        if len(runs) == 1:
            submit_run(run_id, workspace)
            return
        if first:
            instance.report_dagster_event(dg.DagsterEvent(first, "sync_quarter"), runs[0])
        raise fault

    monkeypatch.setattr(instance, "submit_run", second_fails)
    with pytest.raises(typer.Exit if fault is KeyboardInterrupt else fault):
        _run("sync_quarter", two(), instance, lambda *_: None, here=False)
    assert [instance.get_run_by_id(run_id).status.value for run_id in runs] == statuses.split()
    err = capsys.readouterr().err
    assert said in err
    assert (f"/runs/{runs[0]}" in err) == bool(said)


@pytest.mark.proves("queue")
def test_a_fault_while_runs_are_followed_names_those_that_go_on(instance: dg.DagsterInstance, capsys: Any) -> None:
    """A moment without the database of the history ended the command, and forty quarters went on unnamed."""

    def breaks(*_: Any) -> None:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        _run("sync_quarter", two(), instance, breaks, here=False)
    said = capsys.readouterr().err
    assert all(f"/runs/{run.run_id}" in said for run in instance.get_runs())
    assert {run.status for run in instance.get_runs()} == {dg.DagsterRunStatus.QUEUED}


@pytest.mark.parametrize(
    ("tags", "process", "refused"),
    [
        ({GRPC_INFO_TAG: HERE}, os.getpid, True),
        ({GRPC_INFO_TAG: ELSEWHERE}, os.getpid, True),
        ({"dagster-k8s/a": "pod"}, None, True),
        ({GRPC_INFO_TAG: HERE}, dead_process, False),
        (None, None, False),
    ],
    ids=["of the daemon", "on another machine", "in a pod", "dead", "of a command"],
)
@pytest.mark.proves("stopped-daemon")
def test_no_run_begins_here_beside_one_that_a_stopped_daemon_has_left(
    instance: dg.DagsterInstance, monkeypatch: Any, tags: Any, process: Any, refused: bool
) -> None:
    """`systemctl restart` stops the daemon first, and its run pulls on: Primero was asked by two."""
    monkeypatch.setattr(
        "primero_ona.cli.common.execute", lambda _job, _instance, outcome: setattr(outcome, "run_id", "here")
    )
    with held_by_this_process(instance) as held:
        if tags is None:
            run = dg.DagsterRun("sync_quarter", tags=held, status=dg.DagsterRunStatus.STARTED)
            instance.add_run(run)
            run_id = run.run_id
        else:
            run_id = submitted(instance)
            instance.add_run_tags(run_id, tags)
            instance.report_dagster_event(dg.DagsterEvent("PIPELINE_START", "refresh_reference"), run_id)
            if process:
                report(instance, instance.get_run_by_id(run_id), f"Started process for run (pid: {process()}).")
        beat(instance, ago=queue._ALIVE + 1)
        outcomes = two()
        _run("sync_quarter", outcomes, instance, lambda *_: None, here=False)
    for outcome in outcomes:
        assert (outcome.run_id, outcome.kind) == (("", "TransientError") if refused else ("here", None))
        assert not refused or (run_id in outcome.failure and "#stuck-run" in outcome.failure)


@pytest.mark.parametrize("seen", [True, False], ids=["the daemon died", "one was deleted"])
@pytest.mark.proves("queue")
def test_what_befalls_one_run_does_not_drop_the_others(
    instance: dg.DagsterInstance, monkeypatch: Any, seen: bool
) -> None:
    """Of a backfill of forty quarters nothing was said, since one was deleted in the UI."""
    outcomes = two()

    def show(number: int, _label: str, words: str) -> None:
        (run,) = instance.get_runs(dg.RunsFilter(tags={"quarter": outcomes[number].quarter.name}))
        if seen:
            beat(instance, ago=queue._ALIVE + 1)
        elif number == 0:
            instance.delete_run(run.run_id)
        else:
            instance.report_dagster_event(dg.DagsterEvent("PIPELINE_SUCCESS", "sync_quarter"), run.run_id)

    _run("sync_quarter", outcomes, instance, show, here=False)
    if seen:
        for outcome in outcomes:
            assert outcome.kind == "TransientError"
            assert outcome.run_id in outcome.failure
        assert [run.status for run in instance.get_runs()] == [dg.DagsterRunStatus.QUEUED] * 2
        assert len({outcome.run_id for outcome in outcomes}) == 2
    else:
        assert [outcome.kind for outcome in outcomes] == ["DataError", None]
        assert outcomes[1].run_id == instance.get_runs()[0].run_id


def begun(instance: dg.DagsterInstance, run_id: str, pid: int = 0) -> None:
    """A daemon that is dead now has launched a run."""
    instance.add_run_tags(run_id, {GRPC_INFO_TAG: HERE})
    instance.report_dagster_event(dg.DagsterEvent("PIPELINE_START", "refresh_reference"), run_id)
    if pid:
        report(instance, instance.get_run_by_id(run_id), f"Started process for run (pid: {pid}).")
    beat(instance, ago=queue._ALIVE + 1)


@pytest.mark.parametrize(
    ("happens", "words"),
    [
        (ended(dg.DagsterEventType.RUN_FAILURE, **{WILL_RETRY_TAG: "true"}), "see it in the Dagster UI"),
        (lambda i, run_id: begun(i, run_id, dead_process()), "ended before the run did"),
        (begun, "nothing says whether the run"),
    ],
    ids=["a retry that does not come", "dead with its daemon", "unknown"],
)
@pytest.mark.proves("queue")
def test_nothing_is_waited_for_for_ever(
    instance: dg.DagsterInstance, monkeypatch: Any, happens: Any, words: str
) -> None:
    """A command that waits for ever in a job of cron keeps all later ones from running."""
    monkeypatch.setattr(queue, "_PATIENCE", 8)
    run_id, outcome, looks = submitted(instance), RunOutcome(), []

    def show(_: str) -> None:
        looks.append(1)
        assert len(looks) < 20
        if len(looks) == 1:
            happens(instance, run_id)

    try:
        follow(instance, run_id, outcome, show, last_beat(instance))
    except TransientError as error:
        outcome.failure = str(error)
    assert words in outcome.failure


@pytest.mark.proves("code-server")
def test_a_retry_that_was_lost_with_the_code_server_is_followed_when_it_comes(instance: dg.DagsterInstance) -> None:
    """Dagster gives it up before the code server is back; the command said that the quarter had failed, and it came."""
    run_id, outcome, looks = submitted(instance), RunOutcome(), []

    def show(_: str) -> None:
        looks.append(1)
        assert len(looks) < 20
        run = instance.get_run_by_id(run_id)
        if len(looks) == 1:
            instance.report_run_failed(run, ENDED)
            instance.add_run_tags(run_id, {WILL_RETRY_TAG: "false"})
            report(instance, run, "Failed to retry run")
        elif len(looks) == 4:
            assert ask_for_lost_retries(instance) == 1
            retry = submitted(instance)
            instance.report_dagster_event(dg.DagsterEvent("PIPELINE_SUCCESS", "refresh_reference"), retry)
            instance.add_run_tags(run_id, {AUTO_RETRY_RUN_ID_TAG: retry})

    follow(instance, run_id, outcome, show, last_beat(instance))
    assert (outcome.failure, outcome.run_id != run_id) == (None, True)


@pytest.mark.proves("code-server")
def test_a_retry_that_is_asked_for_between_two_readings_is_followed(
    instance: dg.DagsterInstance, monkeypatch: Any
) -> None:
    """The command read the run before the code server was back and its events afterwards, and said that it had failed."""
    run_id, outcome = submitted(instance), RunOutcome()
    run = instance.get_run_by_id(run_id)
    instance.report_run_failed(run, ENDED)
    instance.add_run_tags(run_id, {WILL_RETRY_TAG: "false"})
    report(instance, run, "Failed to retry run")

    def back(*_: Any) -> bool:
        assert ask_for_lost_retries(instance) == 1
        return False

    def show(_: str) -> None:
        retry = submitted(instance)
        instance.report_dagster_event(dg.DagsterEvent("PIPELINE_SUCCESS", "refresh_reference"), retry)
        instance.add_run_tags(run_id, {AUTO_RETRY_RUN_ID_TAG: retry})

    monkeypatch.setattr(queue, "retry_failed", back)
    follow(instance, run_id, outcome, show, last_beat(instance))
    assert (outcome.failure, outcome.run_id != run_id) == (None, True)
