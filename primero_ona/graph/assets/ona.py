"""Group 3_load: a quarter's rows go into ONA, cases and services in one transaction; and who reads them."""

from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg

from primero_ona.contract.derived import INDICATOR_FIGURES
from primero_ona.contract.tables import CASES, SERVICES
from primero_ona.graph.metadata import (
    LOAD,
    LOADED,
    QUARTER_NOTE,
    READERS,
    contract_metadata,
    count_table,
    lineage_from,
    quarter_metadata,
)
from primero_ona.graph.resources import OnaDatabaseResource
from primero_ona.mapping.labels import MAPPING_VERSION
from primero_ona.pipeline.stored import EXITS, MAPPED_CASES, MAPPED_SERVICES, StoredAssets
from primero_ona.quarters import Quarter

if TYPE_CHECKING:
    from primero_ona.ona.load import TableCounts

CASES_KEY = dg.AssetKey(["ona", "cases"])
SERVICES_KEY = dg.AssetKey(["ona", "services"])
FIGURES_KEY = dg.AssetKey(["ona", INDICATOR_FIGURES.name])
REPORT_KEY = dg.AssetKey("indicator_report")

_TABLES = {
    CASES_KEY: (CASES, MAPPED_CASES, "Cases in ONA's database, which the dashboards read."),
    SERVICES_KEY: (SERVICES, MAPPED_SERVICES, "Services in ONA's database, which the dashboards read."),
}

DASHBOARDS = dg.AssetSpec(
    "ona_dashboards",
    deps=[CASES_KEY, SERVICES_KEY, FIGURES_KEY],
    description="The ONA dashboards of UNICEF and the ministries.\n\nFed by `cases`, `services` and the indicators' figures.",
    group_name=READERS,
    kinds={"dashboard"},
)


def ona_assets(quarters: dg.PartitionsDefinition[str]) -> dg.AssetsDefinition:
    """Both tables, loaded together."""

    @dg.multi_asset(
        name="load_quarter",
        specs=[
            dg.AssetSpec(
                key,
                deps=[MAPPED_CASES, MAPPED_SERVICES, EXITS],
                description=text
                + "\n\nUpserted: a row is written only where something changed, an older state never overwrites a newer one, "
                "and a case that left takes its services with it. `last_updated_date` is the UTC time of the sync that last "
                "changed the row." + QUARTER_NOTE,
                group_name=LOAD,
                kinds={"postgres", "table"},
                code_version=MAPPING_VERSION,
                freshness_policy=LOADED,
                metadata={
                    **contract_metadata(table, loaded=True),
                    "dagster/table_name": table.name,
                },
            )
            for key, (table, _, text) in _TABLES.items()
        ],
        partitions_def=quarters,
        pool="ona_database",
    )
    def load_quarter_into_ona(
        context: dg.AssetExecutionContext,
        ona: dg.ResourceParam[OnaDatabaseResource],
        partitions: dg.ResourceParam[StoredAssets],
    ) -> Iterator[dg.MaterializeResult[Any]]:
        """Load the quarter in one transaction and report by table what was written."""
        from primero_ona.pipeline.load import load_stored_quarter, table_sizes

        quarter = Quarter.parse(context.partition_key)
        with ona.connection() as connection:
            result = load_stored_quarter(connection, partitions, quarter, context.run_id, datetime.now(UTC))
            sizes = table_sizes(connection)
        for key, counts in ((CASES_KEY, result.cases), (SERVICES_KEY, result.services)):
            table, mapped, _ = _TABLES[key]
            size = {"dagster/row_count": sizes[table.name], "connection to ONA": ona.protection()}
            metadata = {**_metadata(quarter, counts), **size, **lineage_from(dg.AssetKey(mapped), table)}
            yield dg.MaterializeResult(asset_key=key, metadata=metadata)

    return load_quarter_into_ona


def _metadata(quarter: Quarter, counts: "TableCounts") -> dict[str, Any]:
    numbers = asdict(counts)
    return {
        **quarter_metadata(quarter, counts.inserted + counts.updated + counts.unchanged),
        **numbers,
        "rows by outcome": count_table(numbers, "outcome"),
    }
