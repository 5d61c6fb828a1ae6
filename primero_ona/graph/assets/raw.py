"""Group 1_extract: one pull of a quarter from Primero, three assets.

The rooms are imported where the step runs, here as in all modules of the graph: every process of Dagster loads the graph,
and few of them run a step.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg

from primero_ona.errors import NAMED_CASES
from primero_ona.graph.assets.common import EXTRACT, OWNERS, QUARTER_NOTE, raw_metadata
from primero_ona.graph.assets.reference import fetch_if_missing
from primero_ona.graph.freshness import SEEN
from primero_ona.graph.io_manager import PartitionIOManager
from primero_ona.graph.metadata import quarter_metadata, traffic_metadata
from primero_ona.graph.resources import OnaDatabaseResource, PrimeroResource
from primero_ona.graph.steps import safe_step
from primero_ona.pipeline.stored import PULL_VERSION
from primero_ona.primero.fields import BIRTH_FIELD, EXIT_COLUMNS, FIELDS_MISSING, RAW_COLUMNS, WITHOUT_BIRTH
from primero_ona.primero.policy import PullPolicy
from primero_ona.quarters import Quarter

if TYPE_CHECKING:
    from primero_ona.primero.pull import PullReport

PRIMERO = dg.AssetSpec(
    "primero",
    description="Primero (CPIMS+), where case workers record children's cases.\n\nRead only, over its API; nothing is ever written there.",
    group_name=EXTRACT,
    owners=OWNERS,
    kinds={"primero"},
    freshness_policy=SEEN,
)

_AHEAD = (
    "%d cases are stamped more than an hour ahead of Primero's own time; they came with the open quarter, stamped with its "
    "start. Let Primero's administrators look at the server's clock. The first: %s"
)

_DESCRIPTIONS = {
    "raw_reintegration_cases": "Children undergoing reintegration, as Primero sent them.\n\nThe set of indicator 4.8.",
    "raw_under18_cases": "Children who were under 18 when they were registered.\n\nThe set of indicator 4.11a. Who grows up stays.",
    "case_exits": "Cases of neither set, or disabled; their rows leave ONA.",
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
                owners=OWNERS,
                kinds={"primero", "parquet"},
                code_version=PULL_VERSION + policy.suffix,
                metadata=raw_metadata(EXIT_COLUMNS if asset == "case_exits" else RAW_COLUMNS),
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
        io_manager: dg.ResourceParam[PartitionIOManager],
    ) -> Iterator[dg.MaterializeResult[Any]]:
        """Walk the quarter and sort its cases while they arrive."""
        from primero_ona.ona.bookkeeping import next_pull
        from primero_ona.ona.erased import erased_subjects
        from primero_ona.ona.fields import note_fields
        from primero_ona.pipeline.extract import ERASED_REASON, QuarterSink, known_fields, window_of
        from primero_ona.primero.pull import pull_cases

        with safe_step(context.instance, context.run_id):
            quarter = Quarter.parse(context.partition_key)
            with ona.connection() as connection:
                number = next_pull(connection)
                erased, known = erased_subjects(connection), known_fields(connection)
            fetch_if_missing(context, primero, io_manager)
            sink = QuarterSink(io_manager, quarter.key, policy.consent, erased)
            try:
                with primero.client() as client:
                    report = pull_cases(client, window_of(quarter, policy), sink, known)
                    protection = client.protection
                rows = sink.commit(_facts(quarter, number, report, sink.reasons))
            except BaseException:
                sink.discard()
                raise
            with ona.connection() as connection:
                note_fields(connection, report.fields.shown, report.fields.returned, datetime.now(UTC))
        _warn(context.log, report, erased)
        facts = {
            "policy": policy.told,
            "connection to Primero": protection,
            **_metadata(report, rows["case_exits"], sink.reasons[ERASED_REASON]),
        }
        for asset in _DESCRIPTIONS:
            yield dg.MaterializeResult(asset_key=asset, metadata={**quarter_metadata(quarter, rows[asset]), **facts})

    return pull_quarter


def _warn(log: dg.DagsterLogManager, report: "PullReport", erased: frozenset[str]) -> None:
    """Say in the run's log what its readers should look into, with Primero's ids at most."""
    from primero_ona.ona.erased import not_erased

    if report.fields.missing:
        log.warning(FIELDS_MISSING)
    if BIRTH_FIELD in report.fields.missing:
        log.warning(WITHOUT_BIRTH)
    if report.ahead:
        log.warning(_AHEAD, len(report.ahead), ", ".join(not_erased(report.ahead, erased)[:NAMED_CASES]))


def _facts(quarter: Quarter, number: int, report: "PullReport", reasons: Mapping[str, int]) -> dict[str, Any]:
    """What a stored partition remembers of its pull; it lies in the partition's summary, which is encrypted."""
    from primero_ona.ona.bookkeeping import PULL_NUMBER

    return {
        "quarter": quarter.name,
        PULL_NUMBER: number,
        "window": [quarter.start.isoformat(), quarter.end.isoformat()],
        "pull": {**asdict(report), "ahead": len(report.ahead)},
        "reasons": dict(reasons),
    }


def _metadata(report: "PullReport", not_included: int, erased: int) -> dict[str, Any]:
    """What a pull saw; why a case is not included would tell its consent, its module or its age."""
    return {
        "cases in the window": report.kept + report.other_modules,
        "not included": not_included,
        "kept out as erased": erased,
        "Primero version": report.version or "not visible to this account",
        "walks": report.walks,
        "stamped ahead": len(report.ahead),
        **traffic_metadata(report.requests, report.bytes, report.seconds),
    }
