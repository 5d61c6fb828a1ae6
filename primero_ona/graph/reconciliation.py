"""The asset check that proves ONA complete: it compares all of Primero with all of ONA, so it has no partitions.

It belongs to the asset `ona_dashboards`, which is not materialized here: Dagster runs an asset's checks with each of its
materializations, and a reconciliation reads all of Primero.
"""

from datetime import timedelta
from typing import Any

import dagster as dg

from primero_ona.errors import with_anchor
from primero_ona.graph.assets.ona import DASHBOARDS
from primero_ona.graph.checks import ERROR, WARN, report
from primero_ona.graph.metadata import traffic_metadata
from primero_ona.graph.resources import Ona, Partitions, Primero
from primero_ona.pipeline.stored import Scope
from primero_ona.quarters import Quarter
from primero_ona.settings import GraphSettings

COMPLETE = dg.AssetCheckKey(DASHBOARDS.key, "complete")


def complete_check(settings: GraphSettings) -> dg.AssetChecksDefinition:
    """The check that compares all of Primero with all of ONA."""
    scope = Scope(Quarter.parse(settings.start), settings.policy)

    @dg.asset_check(
        asset=COMPLETE.asset_key,
        name=COMPLETE.name,
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

        # What the sensor may not have brought yet is no difference: it looks every 15 minutes, and a sync takes a while.
        grace = timedelta(hours=2)
        with primero.client() as client, ona.connection() as connection:
            found = reconcile(client, connection, scope_in_use(scope, partitions), grace=grace)
        rows = [
            dg.TableRecord({"quarter": each.quarter, **{name: f"{getattr(each, name):,}" for name in each.SHOWN}})
            for each in (*found.quarters, found.total)
        ]
        result = dg.AssetCheckResult(
            asset_key=COMPLETE.asset_key,
            check_name=COMPLETE.name,
            passed=found.passed,
            severity=ERROR if found.wrong else WARN,
            description=found.sentence() if found.passed else with_anchor(found.sentence(), "what-verify-says"),
            metadata={
                "differences": found.total.differences,
                "services in quarantine": found.services_quarantined,
                "quarters of another version": ", ".join(map(str, found.outdated)) or "none",
                "by quarter": dg.MetadataValue.table(rows),
                "cases in Primero": found.inventory.cases,
                "stamped ahead": len(found.inventory.ahead),
                **traffic_metadata(found.inventory.traffic),
            },
        )
        yield from report([result])

    return complete
