"""Dagster's own records of runs that a daemon and a code server have, as the tests of both need them."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import dagster as dg
from dagster._core.events import EngineEventData
from dagster._core.storage.tags import (
    GRPC_INFO_TAG,
)
from dagster._daemon.types import DaemonHeartbeat

ENDS = {
    dg.DagsterRunStatus.FAILURE: "PIPELINE_FAILURE",
    dg.DagsterRunStatus.SUCCESS: "PIPELINE_SUCCESS",
    dg.DagsterRunStatus.CANCELED: "PIPELINE_CANCELED",
}
HERE, ELSEWHERE = json.dumps({"host": "127.0.0.1", "port": 4000}), json.dumps({"host": "192.0.2.1", "port": 4000})


def beat(instance: dg.DagsterInstance, ago: float = 0) -> None:
    instance.add_daemon_heartbeat(DaemonHeartbeat(time.time() - ago, "QUEUED_RUN_COORDINATOR", "a-daemon", []))


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def launched(instance: dg.DagsterInstance, server: str | None = HERE, pid: int = 0, ago: float = 0) -> dg.DagsterRun:
    """A run that a code server has started, in a process if it has one."""
    tags = {GRPC_INFO_TAG: server} if server else {"dagster-k8s/a": "pod"}
    run = dg.DagsterRun("sync_quarter", tags=tags, status=dg.DagsterRunStatus.STARTED)
    instance.add_run(run)
    if pid:
        report(instance, run, f"Started process for run (pid: {pid}).", ago)
    return run


def report(instance: dg.DagsterInstance, run: dg.DagsterRun, message: str, ago: float = 0) -> None:
    said = dg.DagsterEvent("ENGINE_EVENT", run.job_name, message=message, event_specific_data=EngineEventData({}))
    event(instance, run, said, ago)


def event(instance: dg.DagsterInstance, run: dg.DagsterRun, event: dg.DagsterEvent, ago: float) -> None:
    entry = dg.EventLogEntry(
        error_info=None, level="debug", user_message="", run_id=run.run_id, timestamp=time.time() - ago,
        job_name=run.job_name, dagster_event=event,
    )  # fmt: skip
    instance.handle_new_event(entry)
