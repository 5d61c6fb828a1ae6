"""What is made of a quarter: one pull from Primero, three raw assets (group 1_extract), and two mapped ones (2_map)."""

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

import dagster as dg

from primero_ona.contract.column import Table
from primero_ona.contract.tables import CASES, SERVICES
from primero_ona.errors import NAMED_CASES
from primero_ona.graph.assets.reference import LOOKUP_KEY, REFERENCE_KEY
from primero_ona.graph.metadata import (
    EXTRACT,
    MAP,
    QUARTER_NOTE,
    SEEN,
    SOURCE,
    contract_metadata,
    lineage_from_raw,
    quarter_metadata,
    raw_metadata,
    stored_metadata,
    traffic_metadata,
)
from primero_ona.graph.partitions import WHOLE_TAG
from primero_ona.graph.resources import Ona, Partitions, Primero
from primero_ona.pipeline.stored import EXITS, MAPPED_CASES, MAPPED_SERVICES, REINTEGRATION, UNDER18, current_versions
from primero_ona.primero.fields import EXIT_COLUMNS, RAW_COLUMNS, PullPolicy, warn_of_fields
from primero_ona.quarters import Quarter, local_time

if TYPE_CHECKING:
    from primero_ona.pipeline.extract import Pulled

PRIMERO = dg.AssetSpec(
    "primero",
    description="Primero (CPIMS+), where case workers record children's cases.\n\nRead only, over its API; nothing is ever written there.",
    group_name=SOURCE,
    kinds={"primero"},
    freshness_policy=SEEN,
)

_DESCRIPTIONS = {
    REINTEGRATION: "Children undergoing reintegration, as Primero sent them.\n\nThe set of indicator 4.8.",
    UNDER18: "Children who were under 18 when they were registered.\n\nThe set of indicator 4.11a. Who grows up stays.",
    EXITS: "Cases of neither set, or disabled; their rows leave ONA.",
}


def raw_assets(quarters: dg.PartitionsDefinition[str], policy: PullPolicy) -> dg.AssetsDefinition:
    """The three raw assets, made by one pull."""
    version, _ = current_versions(policy.suffix)

    @dg.multi_asset(
        name="pull_quarter",
        specs=[
            dg.AssetSpec(
                asset,
                deps=[PRIMERO],
                description=_DESCRIPTIONS[asset] + QUARTER_NOTE,
                group_name=EXTRACT,
                kinds={"primero", "parquet"},
                code_version=version,
                metadata=raw_metadata(EXIT_COLUMNS if asset == EXITS else RAW_COLUMNS),
            )
            for asset in _DESCRIPTIONS
        ],
        partitions_def=quarters,
        pool="primero_api",
    )
    def pull_quarter(
        context: dg.AssetExecutionContext, primero: Primero, ona: Ona, partitions: Partitions
    ) -> Iterator[dg.MaterializeResult[Any]]:
        """Walk the quarter, or its changes, and sort its cases while they arrive."""
        from primero_ona.pipeline import extract

        quarter = Quarter.parse(context.partition_key)
        with primero.client() as client:
            whole = WHOLE_TAG in context.run.tags
            pulled = extract.pull_quarter(client, ona.connection, partitions, quarter, policy, whole=whole)
        report = pulled.report
        for text in warn_of_fields(report.fields.missing):
            context.log.warning(text)
        if report.ahead:
            context.log.warning(
                "%d cases are stamped more than an hour ahead of Primero's own time; they came with the open quarter, stamped "
                "with its start. Let Primero's administrators look at the server's clock. The first: %s",
                len(report.ahead),
                ", ".join(pulled.ahead[:NAMED_CASES]),
            )
        facts = {"policy": policy.description, "connection to Primero": client.protection, **_metadata(pulled)}
        for asset, rows in pulled.rows.items():
            yield dg.MaterializeResult(asset_key=asset, metadata={**quarter_metadata(quarter, rows), **facts})

    return pull_quarter


def _metadata(pulled: "Pulled") -> dict[str, Any]:
    """What a pull saw, and how; why a case is not included would tell its consent, its module or its age."""
    report = pulled.report
    walked: dict[str, Any] = {"walked": f"the whole quarter, since {report.whole_because}"}
    if report.since is not None:
        walked = {
            "walked": f"changes since {local_time(datetime.fromisoformat(report.since))}, Phnom Penh",
            "cases that came": report.kept + report.other_modules,
            "carried over": report.carried,
            "last whole walk": f"{local_time(datetime.fromisoformat(report.whole_at))}, Phnom Penh",
        }
    return {
        "cases in the window": report.kept + report.other_modules + report.carried,
        **walked,
        "not included": pulled.rows[EXITS],
        "excluded as erased": pulled.erased,
        "Primero version": report.version or "not visible to this account",
        "walks": report.walks,
        "stamped ahead": len(report.ahead),
        **traffic_metadata(report.traffic),
    }


def mapped_assets(quarters: dg.PartitionsDefinition[str]) -> list[dg.AssetsDefinition]:
    """The mapped cases and the mapped services."""
    cases = "Cases as rows of ONA's table: codes became labels, places have names."
    services = "Services of the mapped cases, one row each."
    return [
        _mapped_asset(quarters, MAPPED_CASES, CASES, cases, [LOOKUP_KEY]),
        _mapped_asset(quarters, MAPPED_SERVICES, SERVICES, services, []),
    ]


def _mapped_asset(
    quarters: dg.PartitionsDefinition[str], name: str, table: Table, text: str, more: list[dg.AssetKey]
) -> dg.AssetsDefinition:
    """The asset of a table's rows; `more`: what it reads beside the raw cases and the reference data."""

    @dg.asset(
        name=name,
        deps=[REINTEGRATION, UNDER18, REFERENCE_KEY, *more],
        description=text + QUARTER_NOTE,
        metadata=contract_metadata(table),
        group_name=MAP,
        kinds={"pandas", "parquet"},
        code_version=current_versions("")[1],
        partitions_def=quarters,
        config_schema={},
    )
    def mapped(context: dg.AssetExecutionContext, ona: Ona, partitions: Partitions) -> dg.MaterializeResult[Any]:
        """Map and store the rows of a quarter, with the columns of the table contract."""
        from primero_ona.pipeline.transform import map_quarter

        quarter = Quarter.parse(context.partition_key)
        rows, summary = map_quarter(ona.connection, partitions, quarter, name)
        lineage = lineage_from_raw((REINTEGRATION, UNDER18), table)
        return dg.MaterializeResult(metadata={**stored_metadata(quarter, rows, summary), **lineage})

    return mapped
