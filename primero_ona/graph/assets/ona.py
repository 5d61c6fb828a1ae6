"""Group 3_load: a quarter's rows go into ONA, cases and services in one transaction; their checks; and who reads them."""

from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg

from primero_ona.contract.derived import INDICATOR_FIGURES
from primero_ona.contract.tables import CASES, SERVICES
from primero_ona.graph.checks import Results, answer, check_specs, report
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
from primero_ona.graph.resources import Ona, Partitions
from primero_ona.mapping.labels import MAPPING_VERSION
from primero_ona.pipeline.stored import EXITS, MAPPED_CASES, MAPPED_SERVICES
from primero_ona.quarters import Quarter

if TYPE_CHECKING:
    from primero_ona.ona.checks import Comparison
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

#: What the load itself checks of each table, in its transaction, where the mapped rows are at hand.
_LOAD_CHECKS = {
    "quarter_loaded": "Every mapped row of the quarter stands in ONA with equal content, or is counted as stale.",
    "plain_keys": "Rows that share their plain key with another row, which has it; they are in ONA under a key of their own.",
}


def ona_assets(quarters: dg.PartitionsDefinition[str]) -> dg.AssetsDefinition:
    """Both tables, loaded together, and compared with what was mapped."""

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
                metadata={**contract_metadata(table, loaded=True), "dagster/table_name": table.name},
            )
            for key, (table, _, text) in _TABLES.items()
        ],
        check_specs=[spec for key in _TABLES for spec in check_specs(quarters, key, _LOAD_CHECKS)],
        partitions_def=quarters,
        pool="ona_database",
    )
    def load_quarter_into_ona(
        context: dg.AssetExecutionContext, ona: Ona, partitions: Partitions
    ) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
        """Load the quarter in one transaction and report by table what was written, and whether it stands there."""
        from primero_ona.pipeline.load import load_stored_quarter, table_sizes

        quarter = Quarter.parse(context.partition_key)
        with ona.connection() as connection:
            result = load_stored_quarter(connection, partitions, quarter, context.run_id, datetime.now(UTC))
            sizes = table_sizes(connection)
        answers = []
        for key, counts in ((CASES_KEY, result.cases), (SERVICES_KEY, result.services)):
            table, mapped, _ = _TABLES[key]
            outcomes = asdict(counts)
            metadata = {
                **quarter_metadata(quarter, counts.inserted + counts.updated + counts.unchanged),
                **outcomes,
                "rows by outcome": count_table(outcomes, "outcome"),
                "dagster/row_count": sizes[table.name],
                "connection to ONA": ona.protection(),
            }
            yield dg.MaterializeResult(asset_key=key, metadata=metadata | lineage_from(mapped, table))
            answers += _load_answers(key, counts, result.compared[table.name])
        yield from report(answers)

    return load_quarter_into_ona


def _load_answers(key: dg.AssetKey, counts: "TableCounts", found: "Comparison") -> list[dg.AssetCheckResult]:
    """What the load's own checks of a table say."""
    faults = {"mapped row missing in ONA": found.missing, "mapped row with other content in ONA": found.different}
    good = f"of {found.rows:,} mapped rows {found.equal:,} stand in ONA, {found.stale:,} are stale"
    own = {"row under a key of its own: another row has the plain one": counts.own_keys}
    return [
        answer(key, "quarter_loaded", faults, good=good, rows=found.rows, stale=found.stale),
        answer(key, "plain_keys", own, good="every row has its plain key", warn=True),
    ]


def ona_checks(quarters: dg.PartitionsDefinition[str]) -> dg.AssetChecksDefinition:
    """What must hold of all of ONA's rows, by its own SQL: the last defence, whatever ran before."""
    unique = {"keys_unique": "Keys are unique and never null, across all quarters."}
    orphans = {"no_orphans": "No service stands in ONA without its case."}

    @dg.multi_asset_check(
        name="check_ona",
        specs=[*check_specs(quarters, CASES_KEY, unique), *check_specs(quarters, SERVICES_KEY, unique | orphans)],
        config_schema={},
        pool="ona_database",
    )
    def check(ona: Ona) -> Results:
        """Count keys that are missing or repeated, and services without their case."""
        from primero_ona.ona.checks import check_keys, count_orphan_services

        with ona.connection() as connection:
            keys, lost = check_keys(connection), {"service without its case": count_orphan_services(connection)}
        answers = [answer(SERVICES_KEY, "no_orphans", lost, good="every service has its case")]
        for key, (table, *_) in _TABLES.items():
            # Its own key, and of cases Primero's id too.
            own = {name: counts for name, counts in keys.items() if name.startswith(f"{table.name}.")}
            faults = {f"{name} missing": counts.missing for name, counts in own.items()}
            faults |= {f"{name} repeated": counts.repeated for name, counts in own.items()}
            rows = own[f"{table.name}.{table.key}"].rows
            good = f"all {rows:,} rows have a key of their own"
            answers.append(answer(key, "keys_unique", faults, good=good, rows=rows))
        yield from report(answers)

    return check
