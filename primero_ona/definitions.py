"""The code location: `build_defs` is the only place that puts the graph together, for production, tests and commands."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import dagster as dg

# Checks by partition are a preview in Dagster 1.13; without this each process prints a warning for each of them.
warnings.filterwarnings("ignore", category=dg.PreviewWarning)
warnings.filterwarnings("ignore", category=dg.BetaWarning)

from primero_ona.assets.mapped import mapped_assets  # noqa: E402
from primero_ona.assets.ona import DASHBOARDS, ona_assets  # noqa: E402
from primero_ona.assets.raw import PRIMERO, raw_assets  # noqa: E402
from primero_ona.automation import change_sensor, close_schedule, refresh_schedule, sync_job  # noqa: E402
from primero_ona.checks import asset_checks  # noqa: E402
from primero_ona.partitions import quarterly_partitions  # noqa: E402
from primero_ona.resources import OnaDatabaseResource, PartitionStorage, PrimeroResource  # noqa: E402
from primero_ona.settings import GraphSettings, read_one  # noqa: E402

_EXECUTORS = {"in_process": dg.in_process_executor, "multiprocess": dg.multiprocess_executor}


def build_defs(
    *,
    settings: GraphSettings | None = None,
    resources: Mapping[str, Any] | None = None,
    executor: dg.ExecutorDefinition | None = None,
) -> dg.Definitions:
    """The whole graph. `resources` replaces resources by name (`primero`, `ona`, `io_manager`), which tests do.

    Raises SettingsFailure where a setting that shapes the graph is malformed.
    """
    settings = settings or read_one(GraphSettings)
    quarters = quarterly_partitions(settings.start)
    modules = tuple(name.strip() for name in settings.modules.split(",") if name.strip())
    quarterly = [raw_assets(quarters, modules), *mapped_assets(quarters), ona_assets(quarters)]
    job = sync_job(quarters, dg.AssetSelection.assets(*quarterly))
    return dg.Definitions(
        assets=[PRIMERO, *quarterly, DASHBOARDS],
        asset_checks=asset_checks(quarters),
        jobs=[job],
        schedules=[close_schedule(job), refresh_schedule(job)],
        sensors=[change_sensor(job, quarters, modules)],
        resources={
            "primero": PrimeroResource(),
            "ona": OnaDatabaseResource(),
            "io_manager": PartitionStorage(),
            **(resources or {}),
        },
        executor=executor or _EXECUTORS[settings.executor],
    )


defs = build_defs()
