"""Group 2_map: raw cases become rows of ONA's tables, frame by frame."""

import dagster as dg

from primero_ona.contract.tables import CASES, SERVICES
from primero_ona.graph.assets.common import MAP, OWNERS, QUARTER_NOTE, contract_metadata
from primero_ona.graph.assets.reference import LOOKUP_KEY, REFERENCE_KEY, places_in_ona
from primero_ona.graph.io_manager import PartitionIOManager
from primero_ona.graph.resources import OnaDatabaseResource
from primero_ona.graph.steps import safe_step
from primero_ona.mapping.labels import MAPPING_VERSION
from primero_ona.storage.frames import Frames


def mapped_assets(quarters: dg.PartitionsDefinition[str]) -> list[dg.AssetsDefinition]:
    """The mapped cases and the mapped services."""
    return [_mapped_cases(quarters), _mapped_services(quarters)]


def _mapped_cases(quarters: dg.PartitionsDefinition[str]) -> dg.AssetsDefinition:
    @dg.asset(
        deps=[REFERENCE_KEY, LOOKUP_KEY],
        description="Cases as rows of ONA's table: codes became labels, places have names." + QUARTER_NOTE,
        group_name=MAP,
        owners=OWNERS,
        kinds={"pandas", "parquet"},
        code_version=MAPPING_VERSION,
        metadata=contract_metadata(CASES),
        partitions_def=quarters,
        config_schema={},
    )
    def mapped_cases(
        context: dg.AssetExecutionContext,
        raw_reintegration_cases: Frames,
        raw_under18_cases: Frames,
        io_manager: dg.ResourceParam[PartitionIOManager],
        ona: dg.ResourceParam[OnaDatabaseResource],
    ) -> Frames:
        """Give the mapped cases as a stream of frames, at most BATCH_ROWS rows each, as `CASES` in the table contract tells."""
        from primero_ona.pipeline.reference import mapping_reference
        from primero_ona.pipeline.transform import map_quarter_cases

        with safe_step(context.instance, context.run_id):
            places, known = places_in_ona(context, ona, io_manager), mapping_reference(io_manager.store)
            return map_quarter_cases(raw_reintegration_cases, raw_under18_cases, places, known)

    return mapped_cases


def _mapped_services(quarters: dg.PartitionsDefinition[str]) -> dg.AssetsDefinition:
    @dg.asset(
        deps=[REFERENCE_KEY],
        description="Services of the mapped cases, one row each." + QUARTER_NOTE,
        group_name=MAP,
        owners=OWNERS,
        kinds={"pandas", "parquet"},
        code_version=MAPPING_VERSION,
        metadata=contract_metadata(SERVICES),
        partitions_def=quarters,
        config_schema={},
    )
    def mapped_services(
        context: dg.AssetExecutionContext,
        raw_reintegration_cases: Frames,
        raw_under18_cases: Frames,
        io_manager: dg.ResourceParam[PartitionIOManager],
    ) -> Frames:
        """Give the mapped services as a stream of frames, at most BATCH_ROWS rows each, as `SERVICES` in the contract tells."""
        from primero_ona.pipeline.reference import mapping_reference
        from primero_ona.pipeline.transform import map_quarter_services

        with safe_step(context.instance, context.run_id):
            known = mapping_reference(io_manager.store)
            return map_quarter_services(raw_reintegration_cases, raw_under18_cases, known)

    return mapped_services
