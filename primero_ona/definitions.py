"""The code location: `build_defs` is the only place that puts the graph together, for production, tests and commands."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from primero_ona.errors import ConfigError
from primero_ona.graph.alerts import alert_sensor
from primero_ona.graph.assets.indicators import figure_checks, indicator_assets, report_asset
from primero_ona.graph.assets.ona import DASHBOARDS, ona_assets, ona_checks
from primero_ona.graph.assets.quarterly import PRIMERO, mapped_assets, raw_assets
from primero_ona.graph.assets.reference import reference_assets, reference_checks
from primero_ona.graph.automation import (
    asset_job,
    change_sensor,
    close_schedule,
    refresh_schedule,
    reports_schedule,
    schedule,
)
from primero_ona.graph.checks import asset_checks
from primero_ona.graph.partitions import quarterly_partitions
from primero_ona.graph.reconciliation import COMPLETE, complete_check
from primero_ona.graph.resources import (
    NoValues,
    OnaDatabaseResource,
    PartitionStorage,
    PrimeroResource,
    refuse_local_storage,
    runs_elsewhere,
)
from primero_ona.graph.retention import purge_job, remove_job
from primero_ona.graph.run_guard import guarded
from primero_ona.graph.steps import SafeText, attach_safe_step
from primero_ona.pipeline.stored import Scope, current_versions
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


def build_defs(
    *,
    settings: GraphSettings | None = None,
    resources: Mapping[str, Any] | None = None,
) -> dg.Definitions:
    """The whole graph. `resources` replaces resources by name (`primero`, `ona`, `partitions`), which tests do.

    Raises ConfigError where a setting that shapes the graph is malformed.
    """
    settings = settings or read_one(GraphSettings)
    quarters = quarterly_partitions(settings.start)
    raw, from_raw = raw_assets(quarters, settings.policy), [*mapped_assets(quarters), ona_assets(quarters)]
    quarterly, reference, figures = [raw, *from_raw], reference_assets(), indicator_assets(settings)
    report = report_asset(settings, quarters)
    selected = dg.AssetSelection.assets
    job = asset_job("sync_quarter", selected(*quarterly, *figures))
    remap = asset_job("remap_quarter", selected(*from_raw, *figures))
    compute = asset_job("compute_figures", selected(*figures))
    write = asset_job("write_report", selected(report))
    refresh = asset_job("refresh_reference", selected(*reference))
    verify = asset_job("reconcile_ona", dg.AssetSelection.checks(COMPLETE))
    remove = remove_job(settings.runs_days)
    purges = [purge_job(settings.retention_quarters)] if settings.retention_quarters else []
    checks = [
        *reference_checks(),
        *asset_checks(quarters, gbv_agreed=settings.gbv_agreed),
        ona_checks(quarters),
        figure_checks(settings),
        complete_check(Scope(Quarter.parse(settings.start), settings.policy)),
    ]
    attach_safe_step(*(each.op for each in (*reference, *quarterly, *figures, report, *checks)))
    return dg.Definitions(
        assets=_for_people([PRIMERO, *reference, *quarterly, *figures, report, DASHBOARDS], settings),
        asset_checks=checks,
        jobs=[job, remap, compute, write, refresh, verify, remove, *purges],
        schedules=[
            schedule("refresh_reference", refresh),
            close_schedule(job),
            refresh_schedule(job),
            schedule("compute_figures", compute),
            reports_schedule(write, quarters, on=settings.reports is not None or not runs_elsewhere()),
            schedule("verify_monthly", verify),
            schedule("remove_runs", remove),
            *(schedule("purge_nightly", purge) for purge in purges),
        ],
        # The sensor looks at all modules: a case that moves to one that is not included has to leave ONA.
        sensors=[
            change_sensor(job, quarters, current_versions(settings.policy.suffix)),
            alert_sensor(Quarter.parse(settings.start)),
        ],
        resources={
            "primero": PrimeroResource(),
            "ona": OnaDatabaseResource(),
            "partitions": PartitionStorage(rules=settings.policy.suffix),
            "io_manager": NoValues(),
            **(resources or {}),
        },
        executor=guarded(dg.in_process_executor),
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
        raise NotLoadedError(described(error)[0]) from None


prepare_process()
defs = load()
