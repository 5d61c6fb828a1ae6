"""The code location: `build_defs` is the only place that puts the graph together, for production, tests and commands."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from typing import Any

import dagster as dg

from primero_ona.graph.alerts import alert_sensor
from primero_ona.graph.assets import all_assets, all_checks, asset_jobs
from primero_ona.graph.automation import change_sensor, purge_job, remove_job, schedule
from primero_ona.graph.partitions import quarterly_partitions
from primero_ona.graph.reconciliation import complete_check
from primero_ona.graph.resources import (
    OnaDatabaseResource,
    PartitionStorage,
    PrimeroResource,
    no_values,
    refuse_local_storage,
    runs_elsewhere,
)
from primero_ona.graph.run_guard import guarded_executor
from primero_ona.graph.steps import NotLoadedError, attach_safe_step
from primero_ona.process import described, prepare_process
from primero_ona.quarters import Quarter
from primero_ona.settings import GraphSettings, read_one

# The one preview of Dagster that the graph needs: a check of one quarter is `partitions_def` of its AssetCheckSpec. Without this
# each process prints a warning for each check. Since a preview may change in any release, setup.py pins Dagster exactly; so do
# the few private modules, in graph/run_guard.py, dagster_storage.py, webserver.py and steps.py.
warnings.filterwarnings("ignore", "Specifying a partitions_def on an AssetCheckSpec", dg.PreviewWarning)


@dg.logger(config_schema={}, description="Writes nothing to the console; the event log has all.")
def quiet(_context: dg.InitLoggerContext) -> logging.Logger:
    """The logger that commands choose. It is the only one, so that no run can choose another, or a level."""
    logger = logging.getLogger("primero_ona.quiet")
    # Not by `disabled`, which a configuration of other loggers takes back.
    logger.propagate = False
    logger.handlers = [logging.NullHandler()]
    return logger


def build_defs(*, settings: GraphSettings | None = None, resources: Mapping[str, Any] | None = None) -> dg.Definitions:
    """The whole graph. `resources` replaces resources by name (`primero`, `ona`, `partitions`), which tests do.

    Raises ConfigError where a setting that shapes the graph is malformed.
    """
    settings = settings or read_one(GraphSettings)
    quarters = quarterly_partitions(settings.start)
    assets, checks = all_assets(settings, quarters), [*all_checks(settings, quarters), complete_check(settings)]
    attach_safe_step(*(each.op for each in (*assets, *checks) if isinstance(each, dg.AssetsDefinition)))
    jobs = asset_jobs()
    sync, remove = jobs["sync_quarter"], remove_job(settings.runs_days)
    has_folder = settings.reports is not None or not runs_elsewhere()
    purges = [purge_job(settings.retention_quarters)] if settings.retention_quarters else []
    return dg.Definitions(
        assets=assets,
        asset_checks=checks,
        jobs=[*jobs.values(), remove, *purges],
        schedules=[
            schedule("refresh_reference", jobs["refresh_reference"], quarters),
            schedule("close_quarter", sync, quarters),
            schedule("refresh_nightly", sync, quarters, on=False),
            schedule("compute_figures", jobs["compute_figures"], quarters),
            schedule("write_reports", jobs["write_report"], quarters, on=has_folder),
            schedule("verify_monthly", jobs["reconcile_ona"], quarters),
            schedule("remove_runs", remove, quarters),
            *(schedule("purge_nightly", purge, quarters) for purge in purges),
        ],
        # The sensor looks at all modules: a case that moves to one that is not included has to leave ONA.
        sensors=[change_sensor(sync, quarters, settings.policy.suffix), alert_sensor(Quarter.parse(settings.start))],
        resources={
            "primero": PrimeroResource(),
            "ona": OnaDatabaseResource(),
            "partitions": PartitionStorage(rules=settings.policy.suffix),
            "io_manager": no_values,
            **(resources or {}),
        },
        executor=guarded_executor,
        loggers={"quiet": quiet},
    )


def load() -> dg.Definitions:
    """The graph for Dagster, which loads it by the name `defs`."""
    try:
        refuse_local_storage()
        return build_defs()
    except Exception as error:  # noqa: BLE001 masked, its text would be nowhere
        raise NotLoadedError(described(error)[0]) from None


prepare_process()
defs = load()
