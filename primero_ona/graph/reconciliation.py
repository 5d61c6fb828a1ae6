"""The asset check that proves ONA complete.

The check is unpartitioned, since it compares all of Primero with all of ONA. It belongs to the
asset `ona_dashboards`, which is not materialized here: Dagster runs an asset's checks with each of its materializations, and
a reconciliation reads all of Primero.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg

from primero_ona.errors import with_anchor
from primero_ona.graph.assets.ona import DASHBOARDS
from primero_ona.graph.checks import ERROR, WARN, report
from primero_ona.graph.metadata import traffic_metadata
from primero_ona.graph.resources import OnaDatabaseResource, PrimeroResource
from primero_ona.pipeline.stored import Scope, StoredAssets

if TYPE_CHECKING:
    from primero_ona.ona.reconcile import QuarterDifferences
    from primero_ona.pipeline.reconcile import Reconciliation

CHECK_NAME = "complete"
COMPLETE = dg.AssetCheckKey(DASHBOARDS.key, CHECK_NAME)

#: A change that the sensor may not have brought yet is no difference for the monthly check: it looks every 15 minutes,
#: and a sync of a large quarter takes a while.
GRACE = timedelta(hours=2)


def complete_check(scope: Scope) -> dg.AssetChecksDefinition:
    """The check that compares all of Primero with all of ONA."""

    @dg.asset_check(
        asset=DASHBOARDS.key,
        name=CHECK_NAME,
        pool="primero_api",
        config_schema={},
        description=(
            "All of Primero's cases that belong in ONA stand there in their present state with their services, mapped by the "
            "present rules, and nothing else does: proved by an inventory of Primero that knows nothing of the syncs. "
            "It warns where only the quarantine keeps ONA from being complete. Monthly; `primero-ona verify` does the same, "
            "and repairs with `--repair`."
        ),
    )
    def complete(
        primero: dg.ResourceParam[PrimeroResource],
        ona: dg.ResourceParam[OnaDatabaseResource],
        partitions: dg.ResourceParam[StoredAssets],
    ) -> Any:  # noqa: ANN401  a generator; Dagster looks at nothing but what it yields
        """Take an inventory of Primero and compare all of it with all of ONA; changes nothing."""
        from primero_ona.pipeline.reconcile import reconcile
        from primero_ona.pipeline.reference import scope_in_use

        with primero.client() as client, ona.connection() as connection:
            found = reconcile(client, connection, scope_in_use(scope, partitions), grace=GRACE)
        result = dg.AssetCheckResult(
            asset_key=DASHBOARDS.key,
            check_name=CHECK_NAME,
            passed=found.passed,
            severity=ERROR if found.wrong else WARN,
            description=found.sentence() if found.passed else with_anchor(found.sentence(), "what-verify-says"),
            metadata=_metadata(found),
        )
        yield from report([result])

    return complete


def _metadata(found: "Reconciliation") -> dict[str, Any]:
    inventory = found.inventory
    return {
        "differences": found.total.differences,
        "services in quarantine": found.services_quarantined,
        "quarters of another version": ", ".join(map(str, found.outdated)) or "none",
        "by quarter": _table([*found.quarters, found.total]),
        "cases in Primero": inventory.cases,
        "stamped ahead": len(inventory.ahead),
        **traffic_metadata(inventory.traffic.requests, inventory.traffic.bytes, inventory.traffic.seconds),
    }


def _table(quarters: "Sequence[QuarterDifferences]") -> dg.TableMetadataValue:
    schema = dg.TableSchema(columns=[dg.TableColumn(name, "string") for name in ("quarter", *quarters[0].SHOWN)])
    rows = [
        dg.TableRecord({"quarter": quarter.quarter, **{name: f"{getattr(quarter, name):,}" for name in quarter.SHOWN}})
        for quarter in quarters
    ]
    return dg.MetadataValue.table(rows, schema=schema)
