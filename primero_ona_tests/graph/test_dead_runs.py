"""Runs that are ended where their process is gone, asked for again, and removed where they say nothing more."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.storage.tags import (
    RESUME_RETRY_TAG,
    WILL_RETRY_TAG,
)

from primero_ona.graph import dead_runs
from primero_ona.graph.automation import remove_runs
from primero_ona.graph.dead_runs import (
    PROCESS_TAG,
    ask_for_lost_retries,
    end_dead_runs,
)
from primero_ona_tests.graph.queued import ELSEWHERE, ENDS, dead_process, event, launched, report


@pytest.mark.parametrize(
    ("make", "ends"),
    [
        (lambda i: launched(i, pid=dead_process()), True),
        (lambda i: launched(i, pid=os.getpid()), False),
        (lambda i: launched(i, pid=os.getpid(), ago=86_400), True),
        (lambda i: launched(i, ELSEWHERE, pid=dead_process()), False),
        (lambda i: launched(i, json.dumps({"host": "no.such.host.invalid", "port": 1}), pid=dead_process()), False),
        (lambda i: launched(i, json.dumps({"host": "localhost", "socket": "/tmp/none"}), pid=dead_process()), True),
        (lambda i: launched(i, None, pid=dead_process()), False),
        (launched, False),
    ],
    ids=["gone", "alive", "another with its number", "other machine", "unknown machine", "own server of dev", "pod", "none yet"],
)  # fmt: skip
def test_a_launched_run_is_ended_where_its_process_was_here_and_is_gone(
    instance: dg.DagsterInstance, make: Any, ends: bool
) -> None:
    """After a power cut it stood as started for half a day, and the queue waited for it; a run in a pod is none of ours."""
    run = make(instance)
    assert end_dead_runs(instance) == ends
    found = instance.get_run_by_id(run.run_id)
    assert found.status == (dg.DagsterRunStatus.FAILURE if ends else dg.DagsterRunStatus.STARTED)
    assert found.tags.get(WILL_RETRY_TAG) == ("true" if ends else None), "Dagster asks for it again"


@pytest.mark.proves("killed")
def test_a_run_that_ends_while_its_process_is_looked_for_keeps_its_end(
    instance: dg.DagsterInstance, monkeypatch: Any
) -> None:
    """Its process writes its success and is gone: taken for dead it was tried again, and its quarter called failed."""
    run = launched(instance, pid=dead_process())

    def ends(*_: Any) -> bool:
        instance.report_dagster_event(dg.DagsterEvent("PIPELINE_SUCCESS", run.job_name), run.run_id)
        return False

    monkeypatch.setattr(dead_runs, "_is_same", ends)
    assert end_dead_runs(instance) == 0
    assert instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.SUCCESS


@pytest.mark.proves("killed")
def test_a_dead_run_of_a_command_is_found_until_its_end_is_recorded(
    instance: dg.DagsterInstance, monkeypatch: Any
) -> None:
    """Once its lock was removed a run whose end could not be written stood as started for ever."""
    lock = Path(instance.root_directory) / "processes" / "gone.lock"
    lock.parent.mkdir(exist_ok=True)
    lock.touch()
    run = dg.DagsterRun("sync_quarter", tags={PROCESS_TAG: "gone"}, status=dg.DagsterRunStatus.STARTED)
    instance.add_run(run)

    def full(*_: Any) -> None:
        raise PermissionError

    with monkeypatch.context() as disk:
        disk.setattr(instance, "report_run_failed", full)
        with pytest.raises(PermissionError):
            end_dead_runs(instance)
    assert end_dead_runs(instance) == 1
    assert instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.FAILURE
    assert not lock.exists()


def test_a_retry_that_no_code_server_answered_is_asked_for_again(
    instance: dg.DagsterInstance, monkeypatch: Any
) -> None:
    """Dagster asks once, five seconds after a run died with its code server, which takes ten to be back."""
    lost, given_up = launched(instance), launched(instance)
    for run in (lost, given_up):
        instance.report_run_failed(run)
        instance.add_run_tags(run.run_id, {WILL_RETRY_TAG: "false"})
    report(instance, lost, "Failed to retry run")
    seen = []
    report_failed = instance.report_run_failed

    def watched(run: dg.DagsterRun, message: str) -> None:
        seen.append(instance.get_run_by_id(run.run_id).tags[WILL_RETRY_TAG])
        report_failed(run, message)

    monkeypatch.setattr(instance, "report_run_failed", watched)
    assert ask_for_lost_retries(instance) == 1
    assert seen == ["true"], "or whoever sees the failure before Dagster has judged it takes it for the last word"
    assert [instance.get_run_by_id(run.run_id).tags[WILL_RETRY_TAG] for run in (lost, given_up)] == ["true", "false"]
    failures = instance.get_records_for_run(lost.run_id, of_type=dg.DagsterEventType.RUN_FAILURE).records
    assert len(failures) == 2, "an event that Dagster has not looked at yet"
    assert ask_for_lost_retries(instance) == 0


@pytest.mark.proves("old-runs")
def test_runs_that_newer_ones_have_made_needless_are_removed_and_no_other() -> None:
    """With a run Dagster forgets what it loaded; with none removed its database grows for ever."""
    fail, well, stop = ENDS
    resumed = {RESUME_RETRY_TAG: "true"}
    runs = [  # oldest first: job, quarter, status, tags, days ago, and whether it stays
        ("sync_quarter", "2024-01-01", fail, {}, 300, False),
        ("sync_quarter", "2024-01-01", well, {}, 299, False),
        ("sync_quarter", "2024-01-01", well, {}, 298, True),
        ("sync_quarter", "2024-04-01", stop, {}, 250, False),
        ("sync_quarter", "2024-04-01", well, {}, 249, True),
        ("sync_quarter", "2024-04-01", fail, {}, 248, True),  # what holds now
        ("sync_quarter", "2024-07-01", fail, {}, 200, True),  # has the pull of the next one
        ("sync_quarter", "2024-07-01", well, resumed, 199, True),
        ("remap_quarter", "2024-01-01", well, {}, 190, True),
        ("compute_figures", None, well, {}, 190, False),
        ("compute_figures", None, well, {}, 100, True),
        ("compute_figures", None, well, {}, 1, True),
        ("sync_quarter", "2024-10-01", dg.DagsterRunStatus.STARTED, {}, 200, True),
    ]
    now = datetime.now(UTC)
    with dg.DagsterInstance.ephemeral() as instance:
        stay = set()
        for job, quarter, status, tags, days, stays in runs:
            of = {"dagster/partition": quarter} if quarter else {}
            run = dg.DagsterRun(job, tags={**tags, **of}, status=dg.DagsterRunStatus.STARTED)
            instance.add_run(run)
            if status in ENDS:
                event(instance, run, dg.DagsterEvent(ENDS[status], job), ago=days * 86_400)
            stay |= {run.run_id} if stays else set()
        assert remove_runs(instance, now - timedelta(days=180)) == 4
        assert {run.run_id for run in instance.get_runs()} == stay
