"""Retention: stored partitions that are older than so many quarters go, and runs that say nothing any more.

ONA keeps its rows. `docs/data-protection.md` says what may be deleted.
"""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg
from dagster._core.storage.event_log.schema import AssetEventTagsTable, SqlEventLogStorageTable
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from dagster._core.storage.sqlalchemy_compat import db_select
from dagster._core.storage.tags import PARTITION_NAME_TAG, RESUME_RETRY_TAG, STEP_SELECTION_TAG

from primero_ona.graph.resources import OnaDatabaseResource
from primero_ona.graph.steps import attach_safe_step
from primero_ona.pipeline.stored import EXITS, MAPPED_CASES, MAPPED_SERVICES, REINTEGRATION, UNDER18, StoredAssets
from primero_ona.quarters import Quarter, last_quarters

if TYPE_CHECKING:
    from primero_ona.ona.connection import Connect


def purge(instance: dg.DagsterInstance, stored: StoredAssets, connect: "Connect", before: Quarter) -> int:
    """Delete the stored partitions of all quarters before `before`, and let Dagster show them as missing; how many there were.

    Raises as `pipeline.upkeep.purge`.
    """
    from primero_ona.pipeline.stored import purge as purge_stored

    count = purge_stored(stored, connect, before)
    storage = instance.event_log_storage
    if isinstance(storage, SqlEventLogStorage):  # Dagster cannot forget single partitions of an asset by itself
        events, tags = SqlEventLogStorageTable, AssetEventTagsTable
        keys = [dg.AssetKey(name) for name in (REINTEGRATION, UNDER18, EXITS, MAPPED_CASES, MAPPED_SERVICES)]
        gone = (
            events.c.asset_key.in_([key.to_string() for key in keys])
            & (events.c.partition < before.key)
            & (events.c.dagster_event_type == dg.DagsterEventType.ASSET_MATERIALIZATION.value)
        )
        with storage.index_connection() as connection:
            connection.execute(tags.delete().where(tags.c.event_id.in_(db_select([events.c.id]).where(gone))))
            connection.execute(events.delete().where(gone))
        for key in keys:
            storage.wipe_asset_cached_status(key)
    return count


def purge_job(quarters: int) -> dg.JobDefinition:
    """The job that deletes stored partitions of all quarters but the open one and so many before it."""

    @dg.op(out=dg.Out(dg.Nothing), config_schema={})
    def purge_partitions(
        context: dg.OpExecutionContext,
        ona: dg.ResourceParam[OnaDatabaseResource],
        partitions: dg.ResourceParam[StoredAssets],
    ) -> None:
        """Delete the stored partitions of the quarters before the oldest one that is kept."""
        before = last_quarters(quarters + 1)[0]
        count = purge(context.instance, partitions, ona.connection, before)
        context.log.info("%d stored partitions of quarters before %s deleted", count, before)

    description = f"Deletes stored partitions of quarters that ended more than {quarters} quarters ago."
    return _job("purge_stored", purge_partitions, description)


def remove_runs(instance: dg.DagsterInstance, before: datetime) -> int:
    """Remove each run that ended before a time (aware) and whose job has been whole and well again since; how many there were.

    With a run Dagster forgets what it materialized and checked, so the last whole success of each job, quarter and selection stays,
    and all that came after it.
    """
    ended = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
    seen, gone, cursor = set(), [], None
    while page := instance.get_run_records(dg.RunsFilter(statuses=ended), limit=200, cursor=cursor):  # newest first
        for record in page:
            run = record.dagster_run
            does = (run.job_name, run.tags.get(PARTITION_NAME_TAG), run.asset_selection, run.asset_check_selection)
            if does in seen and record.end_time and datetime.fromtimestamp(record.end_time, UTC) < before:
                gone.append(run.run_id)
            # A retry that began where another run had failed did not do the whole.
            elif run.is_success and not {RESUME_RETRY_TAG, STEP_SELECTION_TAG} & set(run.tags):
                seen.add(does)
        cursor = page[-1].dagster_run.run_id
    for run_id in gone:
        instance.delete_run(run_id)
    return len(gone)


def remove_job(days: int) -> dg.JobDefinition:
    """The job that removes runs of more than so many days ago which say nothing any more."""

    @dg.op(out=dg.Out(dg.Nothing), config_schema={})
    def remove_old_runs(context: dg.OpExecutionContext) -> None:
        """Remove the runs that ended so many days ago, and that newer ones have made needless."""
        count = remove_runs(context.instance, datetime.now(UTC) - timedelta(days=days))
        context.log.info("%d runs removed", count)

    description = f"Removes runs of more than {days} days ago whose job has gone well since, for the same quarter."
    return _job("remove_runs", remove_old_runs, description)


def _job(name: str, op: dg.OpDefinition, description: str) -> dg.JobDefinition:
    """A job of one step."""
    attach_safe_step(op)
    return dg.GraphDefinition(name=name, node_defs=[op]).to_job(description=description)
