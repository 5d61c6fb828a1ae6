"""Retention: a job and a schedule that delete stored partitions older than so many quarters.

Only what is stored between the steps goes; ONA keeps its rows, and Dagster its history. What may be deleted at all is told
in `docs/data-protection.md`.
"""

from typing import Any

import dagster as dg

from primero_ona.graph.resources import OnaDatabaseResource
from primero_ona.graph.steps import attach_safe_step
from primero_ona.pipeline.stored import StoredAssets
from primero_ona.quarters import TIME_ZONE, Quarter, current_quarter

#: 01:00 each night: before the nightly refresh and the quarterly close.
PURGE_CRON = "0 1 * * *"


def oldest_kept(now: Quarter, quarters: int) -> Quarter:
    """The oldest quarter whose partitions stay: the open one, and so many before it."""
    for _ in range(quarters):
        now = now.previous()
    return now


def purge_job(quarters: int) -> dg.JobDefinition:
    """The job that deletes what is older."""

    @dg.op(name="purge_partitions", out=dg.Out(dg.Nothing), config_schema={})
    def purge_partitions(
        context: dg.OpExecutionContext,
        ona: dg.ResourceParam[OnaDatabaseResource],
        partitions: dg.ResourceParam[StoredAssets],
    ) -> None:
        """Delete the stored partitions of the quarters before the oldest one that is kept."""
        from primero_ona.pipeline.upkeep import purge

        before = oldest_kept(current_quarter(), quarters)
        count = purge(partitions, ona.connection, before)
        context.log.info("%d stored partitions of quarters before %s deleted", count, before)

    attach_safe_step(purge_partitions)

    @dg.job(
        name="purge_stored",
        description=f"Deletes stored partitions of quarters that ended more than {quarters} quarters ago.",
    )
    def purge_stored() -> None:
        purge_partitions()

    return purge_stored


def purge_schedule(job: Any) -> dg.ScheduleDefinition:  # noqa: ANN401
    """Each night; it exists only where PRIMERO_ONA_RETENTION_QUARTERS is set, and runs then by itself."""
    return dg.ScheduleDefinition(
        name="purge_nightly",
        job=job,
        cron_schedule=PURGE_CRON,
        execution_timezone=TIME_ZONE,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Each night at 01:00 (Phnom Penh), deletes stored partitions that are older than the retention setting.",
    )
