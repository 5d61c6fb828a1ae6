"""Group 2_map: raw cases become rows of ONA's tables, frame by frame."""

from typing import TYPE_CHECKING, Any

import dagster as dg

from primero_ona.contract.column import Table
from primero_ona.contract.tables import CASES, SERVICES
from primero_ona.graph.assets.reference import LOOKUP_KEY, REFERENCE_KEY
from primero_ona.graph.metadata import MAP, QUARTER_NOTE, contract_metadata, lineage_from_raw, stored_metadata
from primero_ona.graph.resources import OnaDatabaseResource
from primero_ona.mapping.labels import MAPPING_VERSION
from primero_ona.pipeline.stored import MAPPED_CASES, MAPPED_SERVICES, REINTEGRATION, UNDER18, StoredAssets
from primero_ona.quarters import Quarter

if TYPE_CHECKING:
    from primero_ona.pipeline.transform import StoredRows


def mapped_assets(quarters: dg.PartitionsDefinition[str]) -> list[dg.AssetsDefinition]:
    """The mapped cases and the mapped services."""

    @dg.asset(
        name=MAPPED_CASES,
        deps=[REINTEGRATION, UNDER18, REFERENCE_KEY, LOOKUP_KEY],
        description="Cases as rows of ONA's table: codes became labels, places have names." + QUARTER_NOTE,
        metadata=contract_metadata(CASES),
        group_name=MAP,
        kinds={"pandas", "parquet"},
        code_version=MAPPING_VERSION,
        partitions_def=quarters,
        config_schema={},
    )
    def mapped_cases(
        context: dg.AssetExecutionContext,
        ona: dg.ResourceParam[OnaDatabaseResource],
        partitions: dg.ResourceParam[StoredAssets],
    ) -> dg.MaterializeResult[Any]:
        """Map and store the cases of a quarter, with the columns of `CASES` in the table contract."""
        from primero_ona.pipeline.transform import map_quarter_cases

        quarter = Quarter.parse(context.partition_key)
        mapped = map_quarter_cases(ona.connection, partitions, quarter)
        return dg.MaterializeResult(metadata=_metadata(quarter, mapped, CASES))

    @dg.asset(
        name=MAPPED_SERVICES,
        deps=[REINTEGRATION, UNDER18, REFERENCE_KEY],
        description="Services of the mapped cases, one row each." + QUARTER_NOTE,
        metadata=contract_metadata(SERVICES),
        group_name=MAP,
        kinds={"pandas", "parquet"},
        code_version=MAPPING_VERSION,
        partitions_def=quarters,
        config_schema={},
    )
    def mapped_services(
        context: dg.AssetExecutionContext,
        ona: dg.ResourceParam[OnaDatabaseResource],
        partitions: dg.ResourceParam[StoredAssets],
    ) -> dg.MaterializeResult[Any]:
        """Map and store the services of a quarter, with the columns of `SERVICES` in the table contract."""
        from primero_ona.pipeline.transform import map_quarter_services

        quarter = Quarter.parse(context.partition_key)
        mapped = map_quarter_services(ona.connection, partitions, quarter)
        return dg.MaterializeResult(metadata=_metadata(quarter, mapped, SERVICES))

    return [mapped_cases, mapped_services]


def _metadata(quarter: Quarter, mapped: "StoredRows", table: Table) -> dict[str, Any]:
    lineage = lineage_from_raw((REINTEGRATION, UNDER18), table)
    return {**stored_metadata(quarter, mapped.rows, mapped.summary), **lineage}
