"""The change sensor on a sandbox whose clock stands, with what Dagster and ONA know of its quarters."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import psycopg
import pytest
from dagster._core.events import AssetMaterializationPlannedData, StepMaterializationData
from dagster._core.storage.dagster_run import DagsterRun

from primero_ona.definitions import build_defs
from primero_ona.graph.due import PULLED
from primero_ona.graph.steps import stop_run_retries
from primero_ona.pipeline.stored import current_versions
from primero_ona.quarters import Quarter
from primero_ona.sandbox.primero import SandboxPrimero
from primero_ona.settings import GraphSettings
from primero_ona_tests.harness import Clock, GivenOna, GivenPrimero

DEFS = build_defs(settings=GraphSettings(PRIMERO_ONA_START="2023-Q1"))

#: 31 December in UTC, New Year's morning in Phnom Penh.
NEW_YEAR = datetime(2024, 12, 31, 18, 0, tzinfo=UTC)


@dataclass
class Watch:
    """The sensor on a sandbox whose clock stands; keeps the cursor as the daemon does."""

    primero: SandboxPrimero
    clock: Clock
    instance: dg.DagsterInstance
    ona_url: str
    ona: psycopg.Connection
    cursor: str | None = None
    url: str | None = None

    def look(self) -> Any:
        context = dg.build_sensor_context(
            instance=self.instance,
            cursor=self.cursor,
            definitions=DEFS,
            resources={
                "primero": GivenPrimero(self.url or self.primero.url, self.primero.username, self.primero.password),
                "ona": GivenOna(self.ona_url),
            },
        )
        data = DEFS.resolve_sensor_def("watch_primero").evaluate_tick(context)
        self.cursor = data.cursor
        return data

    def asked(self) -> list[str]:
        """The quarters that a look requests, each of which is then pulled and loaded."""
        keys = [str(request.partition_key) for request in self.look().run_requests or []]
        for key in keys:
            loaded(self.ona, Quarter.parse(key).name, *current_versions(""))
        return keys

    def pulled(self, quarter: Quarter, at: datetime) -> None:
        """Let Dagster's history hold a pull of the quarter at this time."""
        event = dg.AssetMaterialization("raw_under18_cases", partition=quarter.key)
        self.instance.handle_new_event(
            dg.EventLogEntry(
                error_info=None, level="debug", user_message="", run_id=str(uuid.uuid4()), timestamp=at.timestamp(),
                dagster_event=dg.DagsterEvent(
                    dg.DagsterEventType.ASSET_MATERIALIZATION.value, "sync_quarter",
                    event_specific_data=StepMaterializationData(event),
                ),
            )
        )  # fmt: skip

    def run(self, quarter: Quarter, status: dg.DagsterRunStatus = dg.DagsterRunStatus.STARTED, **more: Any) -> str:
        """Let Dagster know of a run that is to pull the quarter, by default one that goes on; more: job's name, tags."""
        run_id, job = str(uuid.uuid4()), more.get("job", "sync_quarter")
        tags = {"dagster/partition": quarter.key, **more.get("tags", {})}
        self.instance.add_run(DagsterRun(job, run_id=run_id, tags=tags, status=status))
        planned = AssetMaterializationPlannedData(PULLED, quarter.key)
        event = dg.DagsterEvent(
            dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED.value, job, event_specific_data=planned
        )
        self.instance.handle_new_event(
            dg.EventLogEntry(
                error_info=None, level="debug", user_message="", run_id=run_id, timestamp=1.0, dagster_event=event
            )
        )
        return run_id

    def end(self, run_id: str, how: str) -> None:
        """End a run: it `failed` by what may pass, `failed for good`, or was `cancelled`."""
        run = self.instance.get_run_by_id(run_id)
        if how == "cancelled":
            self.instance.report_run_canceled(run)
            return
        if how == "failed for good":
            stop_run_retries(self.instance, run_id)
        self.instance.report_run_failed(run)


@pytest.fixture
def watch(ona_url: str, ona: psycopg.Connection) -> Iterator[Watch]:
    """A sandbox with one old case and one of today, never looked at; today is New Year's morning."""
    clock = Clock(NEW_YEAR)
    with SandboxPrimero(0, clock=clock).serve() as primero, dg.DagsterInstance.ephemeral() as instance:
        primero.create(case_id_display="old", created_at=NEW_YEAR, last_updated_at=NEW_YEAR - timedelta(days=200))
        primero.create(case_id_display="new", created_at=NEW_YEAR)
        yield Watch(primero, clock, instance, ona_url, ona)


def loaded(
    ona: psycopg.Connection,
    quarter: str,
    pull: str | None,
    mapping: str,
    run_id: str = "a-run",
    number: int | None = None,
) -> None:
    """Let ONA's bookkeeping hold a load under these versions, of a pull that begins now or has this number."""
    ona.execute(
        "INSERT INTO primero_sync.runs (run_id, quarter, started_at, pull, pull_version, mapping_version, counts)"
        " VALUES (%s, %s, now(), COALESCE(%s, nextval('primero_sync.pulls')), %s, %s, '{}')",
        (run_id, quarter, number, pull, mapping),
    )
