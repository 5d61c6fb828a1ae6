"""Group 1_extract: one pull of a quarter from Primero, three assets."""

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

import dagster as dg

from primero_ona.contract.tables import BIRTH_FIELD
from primero_ona.errors import NAMED_CASES
from primero_ona.graph.metadata import (
    EXTRACT,
    QUARTER_NOTE,
    SEEN,
    SOURCE,
    quarter_metadata,
    raw_metadata,
    traffic_metadata,
)
from primero_ona.graph.partitions import WHOLE_TAG
from primero_ona.graph.resources import OnaDatabaseResource, PrimeroResource
from primero_ona.pipeline.stored import EXITS, PULL_VERSION, REINTEGRATION, UNDER18, StoredAssets
from primero_ona.primero.fields import EXIT_COLUMNS, FIELDS_MISSING, RAW_COLUMNS, WITHOUT_BIRTH, PullPolicy
from primero_ona.quarters import Quarter, local_time

if TYPE_CHECKING:
    from primero_ona.pipeline.extract import Pulled
    from primero_ona.primero.pull import PullReport

PRIMERO = dg.AssetSpec(
    "primero",
    description="Primero (CPIMS+), where case workers record children's cases.\n\nRead only, over its API; nothing is ever written there.",
    group_name=SOURCE,
    kinds={"primero"},
    freshness_policy=SEEN,
)

_AHEAD = (
    "%d cases are stamped more than an hour ahead of Primero's own time; they came with the open quarter, stamped with its "
    "start. Let Primero's administrators look at the server's clock. The first: %s"
)

_DESCRIPTIONS = {
    REINTEGRATION: "Children undergoing reintegration, as Primero sent them.\n\nThe set of indicator 4.8.",
    UNDER18: "Children who were under 18 when they were registered.\n\nThe set of indicator 4.11a. Who grows up stays.",
    EXITS: "Cases of neither set, or disabled; their rows leave ONA.",
}


def raw_assets(quarters: dg.PartitionsDefinition[str], policy: PullPolicy) -> dg.AssetsDefinition:
    """The three raw assets, made by one pull."""

    @dg.multi_asset(
        name="pull_quarter",
        specs=[
            dg.AssetSpec(
                asset,
                deps=[PRIMERO],
                description=_DESCRIPTIONS[asset] + QUARTER_NOTE,
                group_name=EXTRACT,
                kinds={"primero", "parquet"},
                code_version=PULL_VERSION + policy.suffix,
                metadata=raw_metadata(EXIT_COLUMNS if asset == EXITS else RAW_COLUMNS),
            )
            for asset in _DESCRIPTIONS
        ],
        partitions_def=quarters,
        pool="primero_api",
    )
    def pull_quarter(
        context: dg.AssetExecutionContext,
        primero: dg.ResourceParam[PrimeroResource],
        ona: dg.ResourceParam[OnaDatabaseResource],
        partitions: dg.ResourceParam[StoredAssets],
    ) -> Iterator[dg.MaterializeResult[Any]]:
        """Walk the quarter, or its changes, and sort its cases while they arrive."""
        from primero_ona.pipeline import extract

        quarter = Quarter.parse(context.partition_key)
        with primero.client() as client:
            whole = WHOLE_TAG in context.run.tags
            pulled = extract.pull_quarter(client, ona.connection, partitions, quarter, policy, whole=whole)
        _warn(context.log, pulled)
        facts = {"policy": policy.description, "connection to Primero": client.protection, **_metadata(pulled)}
        for asset, rows in pulled.rows.items():
            yield dg.MaterializeResult(asset_key=asset, metadata={**quarter_metadata(quarter, rows), **facts})

    return pull_quarter


def _warn(log: dg.DagsterLogManager, pulled: "Pulled") -> None:
    """Say in the run's log what its readers should look into, with Primero's ids at most."""
    missing = pulled.report.fields.missing
    if missing:
        log.warning(FIELDS_MISSING)
    if BIRTH_FIELD in missing:
        log.warning(WITHOUT_BIRTH)
    if pulled.report.ahead:
        log.warning(_AHEAD, len(pulled.report.ahead), ", ".join(pulled.ahead[:NAMED_CASES]))


def _walk(report: "PullReport") -> dict[str, Any]:
    """How the quarter was walked: whole, and why, or its changes, and what was carried over."""
    if report.since is None:
        because = f", since {report.whole_because}" if report.whole_because else ""
        return {"walked": f"the whole quarter{because}"}
    return {
        "walked": f"changes since {local_time(datetime.fromisoformat(report.since))}, Phnom Penh",
        "cases that came": report.kept + report.other_modules,
        "carried over": report.carried,
        "last whole walk": f"{local_time(datetime.fromisoformat(report.whole_at))}, Phnom Penh",
    }


def _metadata(pulled: "Pulled") -> dict[str, Any]:
    """What a pull saw; why a case is not included would tell its consent, its module or its age."""
    report = pulled.report
    return {
        "cases in the window": report.kept + report.other_modules + report.carried,
        **_walk(report),
        "not included": pulled.rows[EXITS],
        "excluded as erased": pulled.erased,
        "Primero version": report.version or "not visible to this account",
        "walks": report.walks,
        "stamped ahead": len(report.ahead),
        **traffic_metadata(report.requests, report.bytes, report.seconds),
    }
