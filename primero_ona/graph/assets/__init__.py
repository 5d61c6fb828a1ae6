"""All assets with their checks, thin wrappers around pipeline/, and the jobs that make them."""

from typing import Any

import dagster as dg

from primero_ona.graph.assets.indicators import figure_checks, figures_asset, report_asset
from primero_ona.graph.assets.ona import DASHBOARDS, FIGURES_KEY, REPORT_KEY, ona_assets, ona_checks
from primero_ona.graph.assets.quarterly import PRIMERO, mapped_assets, raw_assets
from primero_ona.graph.assets.reference import REFERENCE_ASSETS, REFERENCE_CHECKS
from primero_ona.graph.checks import asset_checks
from primero_ona.graph.metadata import EXTRACT, LOAD, MAP, REFERENCE
from primero_ona.settings import GraphSettings

_JOBS = {
    "sync_quarter": "Sync one quarter: pull it from Primero, map it, load it into ONA and check it. Safe to repeat.",
    "remap_quarter": "Map a stored quarter again, load it into ONA and check it, without asking Primero. For changed labels.",
    "refresh_reference": "Read Primero's places, options and forms again, and bring ONA's lookup and dictionary up to date.",
    "compute_figures": "Compute all figures of the indicators in ONA and check them; writes only those that differ.",
    "write_report": "Write the internal report of a quarter from the figures in ONA, as HTML, XLSX and CSV.",
    "reconcile_ona": "Compare all of Primero with all of ONA, without trusting the syncs. Changes nothing.",
}


def all_assets(settings: GraphSettings, quarters: dg.PartitionsDefinition[str]) -> list[Any]:
    """The assets with their owners, and with the links of an installation on what stands outside of it."""
    links = {PRIMERO.key: settings.primero_link, DASHBOARDS.key: settings.dashboards_link}

    def dress(spec: dg.AssetSpec) -> dg.AssetSpec:
        link = links.get(spec.key)
        metadata = {**spec.metadata, "open": dg.MetadataValue.url(link)} if link else spec.metadata
        return spec.replace_attributes(owners=settings.owner_names, metadata=metadata)

    plain: list[dg.AssetsDefinition | dg.AssetSpec] = [
        PRIMERO,
        *REFERENCE_ASSETS,
        raw_assets(quarters, settings.policy),
        *mapped_assets(quarters),
        ona_assets(quarters),
        figures_asset(settings),
        report_asset(settings, quarters),
        DASHBOARDS,
    ]
    return list(dg.map_asset_specs(dress, plain))


def all_checks(settings: GraphSettings, quarters: dg.PartitionsDefinition[str]) -> list[dg.AssetChecksDefinition]:
    """The checks of these assets that are no part of making them; but for that of the dashboards, in `reconciliation.py`."""
    stored = asset_checks(quarters, gbv_agreed=settings.gbv_agreed)
    return [*REFERENCE_CHECKS, *stored, ona_checks(quarters), figure_checks(settings)]


def asset_jobs() -> dict[str, Any]:
    """The jobs that materialize assets or answer a check, by their names."""
    groups, figures = dg.AssetSelection.groups, dg.AssetSelection.assets(FIGURES_KEY)
    selected = {
        "sync_quarter": groups(EXTRACT, MAP, LOAD) | figures,
        "remap_quarter": groups(MAP, LOAD) | figures,
        "refresh_reference": groups(REFERENCE),
        "compute_figures": figures,
        "write_report": dg.AssetSelection.assets(REPORT_KEY),
        "reconcile_ona": dg.AssetSelection.checks_for_assets(DASHBOARDS.key),
    }
    return {name: dg.define_asset_job(name, selected[name], description=text) for name, text in _JOBS.items()}
