"""Group 1_extract: one pull of a quarter from Primero, three assets."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg

from primero_ona.assets.common import EXTRACT, OWNERS, QUARTER_NOTE, arrow_metadata
from primero_ona.assets.reference import fetch_if_missing
from primero_ona.assets.stored import PULL_VERSION
from primero_ona.io_manager import PartitionIOManager
from primero_ona.mapping.membership import membership, without_consent
from primero_ona.metadata import count_table, quarter_metadata
from primero_ona.ona.erased import erased_subjects, without_erased
from primero_ona.primero.fields import EXIT_SCHEMA, RAW_SCHEMA
from primero_ona.primero.policy import ConsentPolicy, PullPolicy
from primero_ona.primero.pull import PullReport, pull_cases
from primero_ona.primero.walk import Window
from primero_ona.quarters import Quarter
from primero_ona.resources import OnaDatabaseResource, PrimeroResource
from primero_ona.steps import safe_step

if TYPE_CHECKING:
    import pandas as pd

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


#: Why a case went where it went, as the table of the membership tells it.
EXIT_REASON = "exit: disabled, in neither set, or kept out by consent"
CONSENT_REASON = "kept out by the consent policy"
MODULE_REASON = "exit: of a module that is not included"
ERASED_REASON = "kept out: erased by `primero-ona forget`, but still in Primero"


class QuarterSink:
    """Sorts raw cases into the three assets while they arrive, and counts why each went where."""

    def __init__(
        self,
        storage: PartitionIOManager,
        partition: str,
        consent: ConsentPolicy = "include",
        erased: frozenset[str] = frozenset(),
    ) -> None:
        self._consent, self._erased = consent, erased
        self._writers = {asset: storage.writer(asset, partition) for asset in _SETS}
        self.reasons: Counter[str] = Counter()

    def restart(self) -> None:
        """Begin the quarter anew."""
        self.reasons.clear()
        for writer in self._writers.values():
            writer.restart()

    def write(self, frame: "pd.DataFrame") -> None:
        """Take a frame of raw cases."""
        frame = self._without_erased(frame)
        sets = membership(frame)
        kept_out = without_consent(frame, self._consent)
        self.reasons[CONSENT_REASON] += int((kept_out & ~sets["exit"].to_numpy()).sum())
        sets.loc[kept_out, ["reintegration", "under18"]] = False
        sets.loc[kept_out, "exit"] = True
        for asset, column in _SETS.items():
            chosen = frame[sets[column].to_numpy()]
            self._writers[asset].write(chosen[EXIT_SCHEMA.names] if asset == "case_exits" else chosen)
        self.reasons.update(_reasons(sets))

    def leave(self, frame: "pd.DataFrame") -> None:
        """Take cases of modules that are not included: their rows leave ONA."""
        frame = self._without_erased(frame)
        self._writers["case_exits"].write(frame[EXIT_SCHEMA.names])
        self.reasons[MODULE_REASON] += len(frame)

    def _without_erased(self, frame: "pd.DataFrame") -> "pd.DataFrame":
        """Nothing is stored of a case that was erased, not even that it left."""
        kept = without_erased(frame, self._erased)
        self.reasons[ERASED_REASON] += len(frame) - len(kept)
        return kept

    def commit(self, facts: dict[str, Any]) -> dict[str, int]:
        """Make the three partitions count; return their rows."""
        for writer in self._writers.values():
            writer.commit(facts)
        return {asset: writer.rows for asset, writer in self._writers.items()}

    def discard(self) -> None:
        """Leave the partitions as they were."""
        for writer in self._writers.values():
            writer.discard()


def _reasons(sets: "pd.DataFrame") -> dict[str, int]:
    both = sets["reintegration"] & sets["under18"]
    return {
        "undergoing reintegration": int(sets["reintegration"].sum()),
        "under 18": int(sets["under18"].sum()),
        "in both": int(both.sum()),
        EXIT_REASON: int(sets["exit"].sum()),
        "age missing or unreadable": int(sets["age_missing"].sum()),
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
                metadata=arrow_metadata(EXIT_SCHEMA if asset == "case_exits" else RAW_SCHEMA),
            )
            for asset in _SETS
        ],
        partitions_def=quarters,
        pool="primero_api",
    )
    def pull_quarter(
        context: dg.AssetExecutionContext,
        primero: PrimeroResource,
        ona: OnaDatabaseResource,
        io_manager: dg.ResourceParam[PartitionIOManager],
    ) -> Iterator[dg.MaterializeResult[Any]]:
        with safe_step(context.instance, context.run_id):
            fetch_if_missing(context, primero, io_manager)
            quarter = Quarter.parse(context.partition_key)
            with ona.connection() as connection:
                erased = erased_subjects(connection)
            sink = QuarterSink(io_manager, quarter.key, policy.consent, erased)
            try:
                with primero.client() as client:
                    report = pull_cases(client, window_of(quarter, policy), sink)
                    protection = client.protection
                rows = sink.commit(_facts(quarter, report))
            except BaseException:
                sink.discard()
                raise
        if report.missing_optional:
            context.log.warning(
                "Primero shows no %s to this account; these columns stay empty", ", ".join(report.missing_optional)
            )
        facts = {"policy": policy.told, "connection to Primero": protection}
        for asset in _SETS:
            yield dg.MaterializeResult(
                asset_key=asset, metadata={**facts, **_metadata(quarter, rows[asset], report, sink.reasons)}
            )

    return pull_quarter


def window_of(quarter: Quarter, policy: PullPolicy) -> Window:
    """The window of a quarter, open while the quarter runs."""
    return Window(quarter.start, quarter.end, quarter.is_open(datetime.now(UTC)), policy.modules, policy.precision)


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
        "exits": reasons[EXIT_REASON] + reasons[MODULE_REASON],
        "kept out by consent": reasons[CONSENT_REASON],
        "kept out by module": report.other_modules,
        "kept out as erased": reasons[ERASED_REASON],
        "Primero version": report.version or "not told to this account",
        "requests": report.requests,
        "waited for Primero (s)": round(report.seconds, 2),
        "received (bytes)": report.bytes,
        "walks": report.walks,
        "fields not readable": ", ".join(report.missing_optional) or "none",
    }
