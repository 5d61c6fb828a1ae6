"""Group 1_extract: one pull of a quarter from Primero, three assets."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pandas as pd

from primero_ona.assets.common import EXTRACT, OWNERS, QUARTER_NOTE, arrow_metadata
from primero_ona.assets.stored import PULL_VERSION
from primero_ona.io_manager import PartitionIOManager
from primero_ona.mapping.membership import membership
from primero_ona.metadata import count_table, quarter_metadata
from primero_ona.primero.fields import EXIT_SCHEMA, RAW_SCHEMA
from primero_ona.primero.pull import PullReport, pull_cases
from primero_ona.primero.walk import Window
from primero_ona.quarters import Quarter
from primero_ona.resources import PrimeroResource
from primero_ona.steps import safe_step

PRIMERO = dg.AssetSpec(
    "primero",
    description="Primero (CPIMS+), where case workers record children's cases.\n\nRead only, over its API; nothing is ever written there.",
    group_name=EXTRACT,
    owners=OWNERS,
    kinds={"primero"},
)

_SETS = {
    "raw_reintegration_cases": "reintegration",
    "raw_under18_cases": "under18",
    "case_exits": "exit",
}

_DESCRIPTIONS = {
    "raw_reintegration_cases": "Children undergoing reintegration, as Primero sent them.\n\nThe set of indicator 4.8.",
    "raw_under18_cases": "Children under 18, as Primero sent them.\n\nThe set of indicator 4.11a.",
    "case_exits": "Cases that left both sets, or were disabled; their rows leave ONA.",
}


class QuarterSink:
    """Sorts raw cases into the three assets while they arrive, and counts why each went where."""

    def __init__(self, storage: PartitionIOManager, partition: str) -> None:
        self._writers = {asset: storage.writer(asset, partition) for asset in _SETS}
        self.reasons: Counter[str] = Counter()

    def restart(self) -> None:
        """Begin the quarter anew."""
        self.reasons.clear()
        for writer in self._writers.values():
            writer.restart()

    def write(self, frame: pd.DataFrame) -> None:
        """Take a frame of raw cases."""
        sets = membership(frame)
        for asset, column in _SETS.items():
            chosen = frame[sets[column].to_numpy()]
            self._writers[asset].write(chosen[EXIT_SCHEMA.names] if asset == "case_exits" else chosen)
        self.reasons.update(_reasons(sets))

    def commit(self, facts: dict[str, Any]) -> dict[str, int]:
        """Make the three partitions count; return their rows."""
        for writer in self._writers.values():
            writer.commit(facts)
        return {asset: writer.rows for asset, writer in self._writers.items()}

    def discard(self) -> None:
        """Leave the partitions as they were."""
        for writer in self._writers.values():
            writer.discard()


def _reasons(sets: pd.DataFrame) -> dict[str, int]:
    both = sets["reintegration"] & sets["under18"]
    return {
        "undergoing reintegration": int(sets["reintegration"].sum()),
        "under 18": int(sets["under18"].sum()),
        "in both": int(both.sum()),
        "exit: disabled, or in neither set": int(sets["exit"].sum()),
        "age missing or unreadable": int(sets["age_missing"].sum()),
    }


def raw_assets(quarters: dg.PartitionsDefinition[str], modules: tuple[str, ...]) -> dg.AssetsDefinition:
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
                code_version=PULL_VERSION,
                metadata=arrow_metadata(EXIT_SCHEMA if asset == "case_exits" else RAW_SCHEMA),
            )
            for asset in _SETS
        ],
        partitions_def=quarters,
        pool="primero_api",
    )
    def pull_quarter(
        context: dg.AssetExecutionContext, primero: PrimeroResource, io_manager: dg.ResourceParam[PartitionIOManager]
    ) -> Iterator[dg.MaterializeResult[Any]]:
        with safe_step(context.instance, context.run_id):
            quarter = Quarter.parse(context.partition_key)
            sink = QuarterSink(io_manager, quarter.key)
            try:
                with primero.client() as client:
                    report = pull_cases(client, window_of(quarter, modules), sink)
                rows = sink.commit(_facts(quarter, report))
            except BaseException:
                sink.discard()
                raise
        if report.missing_optional:
            context.log.warning(
                "Primero shows no %s to this account; these columns stay empty", ", ".join(report.missing_optional)
            )
        for asset in _SETS:
            yield dg.MaterializeResult(asset_key=asset, metadata=_metadata(quarter, rows[asset], report, sink.reasons))

    return pull_quarter


def window_of(quarter: Quarter, modules: tuple[str, ...]) -> Window:
    """The window of a quarter, open while the quarter runs."""
    return Window(quarter.start, quarter.end, quarter.is_open(datetime.now(UTC)), modules)


def _facts(quarter: Quarter, report: PullReport) -> dict[str, Any]:
    """What a stored partition remembers of its pull."""
    return {
        "quarter": quarter.name,
        "window": [quarter.start.isoformat(), quarter.end.isoformat()],
        "pull": asdict(report),
    }


def _metadata(quarter: Quarter, rows: int, report: PullReport, reasons: Counter[str]) -> dict[str, Any]:
    return {
        **quarter_metadata(quarter, rows),
        "cases in the window": report.kept,
        "membership": count_table(reasons, "reason"),
        "age missing or unreadable": reasons["age missing or unreadable"],
        "exits": reasons["exit: disabled, or in neither set"],
        "Primero version": report.version or "not told to this account",
        "requests": report.requests,
        "waited for Primero (s)": round(report.seconds, 2),
        "received (bytes)": report.bytes,
        "walks": report.walks,
        "fields not readable": ", ".join(report.missing_optional) or "none",
    }
