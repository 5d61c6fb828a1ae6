"""The code location: `build_defs` is the only place that puts the graph together, for production, tests and commands."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from primero_ona.errors import ConfigError, SyncError
from primero_ona.graph.alerts import alert_sensor
from primero_ona.graph.assets.indicators import indicator_assets, report_asset
from primero_ona.graph.assets.mapped import mapped_assets
from primero_ona.graph.assets.ona import DASHBOARDS, ona_assets, ona_checks
from primero_ona.graph.assets.raw import PRIMERO, raw_assets
from primero_ona.graph.assets.reference import reference_assets
from primero_ona.graph.automation import (
    change_sensor,
    close_schedule,
    figures_job,
    figures_schedule,
    reference_job,
    reference_schedule,
    refresh_schedule,
    remap_job,
    reports_job,
    reports_schedule,
    sync_job,
)
from primero_ona.graph.checks import asset_checks
from primero_ona.graph.figure_checks import figure_checks
from primero_ona.graph.partitions import quarterly_partitions
from primero_ona.graph.reconciliation import complete_check, reconcile_job, reconcile_schedule
from primero_ona.graph.reference_checks import reference_checks
from primero_ona.graph.resources import (
    NoValues,
    OnaDatabaseResource,
    PartitionStorage,
    PrimeroResource,
    refuse_local_storage,
    runs_elsewhere,
)
from primero_ona.graph.retention import purge_job, purge_schedule, remove_job, remove_schedule
from primero_ona.graph.run_guard import guarded
from primero_ona.graph.steps import SafeText, attach_safe_step
from primero_ona.pipeline.scope import Scope
from primero_ona.pipeline.stored import current_versions
from primero_ona.process import (
    machine_error,
    prepare_process,
    unexpected,
)
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


def build_defs(
    *,
    settings: GraphSettings | None = None,
    resources: Mapping[str, Any] | None = None,
    executor: dg.ExecutorDefinition | None = None,
) -> dg.Definitions:
    """The whole graph. `resources` replaces resources by name (`primero`, `ona`, `partitions`), which tests do.

    Raises ConfigError where a setting that shapes the graph is malformed.
    """
    settings = settings or read_one(GraphSettings)
    quarters = quarterly_partitions(settings.start)
    raw, from_raw = raw_assets(quarters, settings.policy), [*mapped_assets(quarters), ona_assets(quarters)]
    quarterly, reference, figures = [raw, *from_raw], reference_assets(), indicator_assets(settings)
    report = report_asset(settings, quarters)
    scope = Scope(Quarter.parse(settings.start), settings.policy)
    job = sync_job(dg.AssetSelection.assets(*quarterly, *figures))
    remap = remap_job(dg.AssetSelection.assets(*from_raw, *figures))
    compute = figures_job(dg.AssetSelection.assets(*figures))
    refresh, verify = reference_job(dg.AssetSelection.assets(*reference)), reconcile_job()
    purges = [purge_job(settings.retention_quarters)] if settings.retention_quarters else []
    write, remove = reports_job(dg.AssetSelection.assets(report)), remove_job(settings.runs_days)
    checks = [
        *reference_checks(),
        *asset_checks(quarters, gbv_agreed=settings.gbv_agreed),
        ona_checks(quarters),
        figure_checks(settings),
        complete_check(scope),
    ]
    attach_safe_step(*(each.op for each in (*reference, *quarterly, *figures, report, *checks)))
    return dg.Definitions(
        assets=_for_people([PRIMERO, *reference, *quarterly, *figures, report, DASHBOARDS], settings),
        asset_checks=checks,
        jobs=[job, remap, compute, write, refresh, verify, remove, *purges],
        schedules=[
            reference_schedule(refresh),
            close_schedule(job),
            refresh_schedule(job),
            figures_schedule(compute),
            reports_schedule(write, quarters, on=settings.reports_folder is not None or not runs_elsewhere()),
            reconcile_schedule(verify),
            remove_schedule(remove),
            *map(purge_schedule, purges),
        ],
        # The sensor looks at all modules: a case that moves to one that is not included has to leave ONA.
        sensors=[
            change_sensor(job, quarters, (), current_versions(settings.policy.suffix)),
            alert_sensor(Quarter.parse(settings.start)),
        ],
        resources={
            "primero": PrimeroResource(),
            "ona": OnaDatabaseResource(),
            "partitions": PartitionStorage(rules=settings.policy.suffix),
            "io_manager": NoValues(),
            **(resources or {}),
        },
        executor=executor or guarded(dg.in_process_executor),
        loggers={"quiet": quiet},
    )


def _for_people(assets: Sequence[dg.AssetsDefinition | dg.AssetSpec], settings: GraphSettings) -> Sequence[Any]:
    """The assets with their owners, and with the links of an installation on what stands outside of it."""
    links = {PRIMERO.key: settings.primero_link, DASHBOARDS.key: settings.dashboards_link}

    def dress(spec: dg.AssetSpec) -> dg.AssetSpec:
        link = links.get(spec.key)
        metadata = {**spec.metadata, "open": dg.MetadataValue.url(link)} if link else spec.metadata
        return spec.replace_attributes(owners=settings.owner_names, metadata=metadata)

    return list(dg.map_asset_specs(dress, assets))


class NotLoadedError(SafeText, ConfigError, dg.DagsterError):
    """The graph cannot be loaded; Dagster shows this text, in the UI and in its log, where it would mask another's."""

    __module__ = "builtins"


def load() -> dg.Definitions:
    """The graph for Dagster, which loads it by the name `defs`."""
    try:
        refuse_local_storage()
        return build_defs()
    except Exception as error:  # noqa: BLE001 masked, its text would be nowhere
        failure = error if isinstance(error, SyncError) else machine_error(error)
        raise NotLoadedError(failure.shown if failure else unexpected(error)) from None


prepare_process()
defs = load()
