"""The asset check that proves ONA complete.

The check is unpartitioned, since it compares all of Primero with all of ONA. It belongs to the
asset `ona_dashboards`, which is not materialized here: Dagster runs an asset's checks with each of its materializations, and
a reconciliation reads all of Primero.
"""

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg

from primero_ona.errors import with_anchor
from primero_ona.graph.assets.ona import DASHBOARDS
from primero_ona.graph.checks import ERROR, WARN, report
from primero_ona.graph.metadata import traffic_metadata
from primero_ona.graph.resources import Ona, Partitions, Primero
from primero_ona.pipeline.stored import Scope
from primero_ona.quarters import Quarter
from primero_ona.settings import GraphSettings

if TYPE_CHECKING:
    from primero_ona.pipeline.reconcile import Reconciliation

CHECK_NAME = "complete"
COMPLETE = dg.AssetCheckKey(DASHBOARDS.key, CHECK_NAME)

#: A change that the sensor may not have brought yet is no difference for the monthly check: it looks every 15 minutes,
#: and a sync of a large quarter takes a while.
GRACE = timedelta(hours=2)


def complete_check(settings: GraphSettings) -> dg.AssetChecksDefinition:
    """The check that compares all of Primero with all of ONA."""
    scope = Scope(Quarter.parse(settings.start), settings.policy)

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
    def complete(primero: Primero, ona: Ona, partitions: Partitions) -> Any:  # noqa: ANN401  a generator; Dagster looks at nothing but what it yields
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
    every = [*found.quarters, found.total]
    rows = [{"quarter": each.quarter, **{name: f"{getattr(each, name):,}" for name in each.SHOWN}} for each in every]
    return {
        "differences": found.total.differences,
        "services in quarantine": found.services_quarantined,
        "quarters of another version": ", ".join(map(str, found.outdated)) or "none",
        "by quarter": dg.MetadataValue.table(list(map(dg.TableRecord, rows))),
        "cases in Primero": inventory.cases,
        "stamped ahead": len(inventory.ahead),
        **traffic_metadata(inventory.requests, inventory.bytes, inventory.seconds),
    }
