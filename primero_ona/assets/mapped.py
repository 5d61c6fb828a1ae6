"""Group 2_map: raw cases become rows of ONA's tables, frame by frame."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from primero_ona.assets.common import MAP, OWNERS, QUARTER_NOTE, contract_metadata
from primero_ona.assets.reference import LOOKUP_KEY, REFERENCE_KEY, fill_if_empty
from primero_ona.frames import Frames
from primero_ona.io_manager import PartitionIOManager
from primero_ona.mapping.labels import Labels
from primero_ona.mapping.locations import Places
from primero_ona.mapping.streams import map_cases_stream, map_services_stream, quarantined_cases
from primero_ona.mapping.version import MAPPING_VERSION
from primero_ona.metadata import SMALL_CELL
from primero_ona.ona.places import holders, read_places, service_holders
from primero_ona.ona.schema import CASES, SERVICES, Column, Table
from primero_ona.primero.reference import Reference
from primero_ona.reference import labels_in_use, stored_reference
from primero_ona.resources import OnaDatabaseResource
from primero_ona.steps import safe_step

if TYPE_CHECKING:
    import pandas as pd

#: What the UI shows of the rows: one dimension at a time, so that no cell describes a child.
_CASE_AGGREGATES = ("type_of_case", "age_group", "sex")
_SERVICE_AGGREGATES = ("service_type",)

_EMPTY, _RARE = "(empty)", "(rare values)"


def mapped_assets(quarters: dg.PartitionsDefinition[str]) -> list[dg.AssetsDefinition]:
    """The mapped cases and the mapped services."""

    @dg.asset(
        deps=[REFERENCE_KEY, LOOKUP_KEY],
        description="Cases as rows of ONA's table: codes became labels, places have names." + QUARTER_NOTE,
        group_name=MAP,
        owners=OWNERS,
        kinds={"pandas", "parquet"},
        code_version=MAPPING_VERSION,
        metadata=contract_metadata(CASES),
        partitions_def=quarters,
    )
    def mapped_cases(
        context: dg.AssetExecutionContext,
        raw_reintegration_cases: Frames,
        raw_under18_cases: Frames,
        io_manager: dg.ResourceParam[PartitionIOManager],
        ona: OnaDatabaseResource,
    ) -> Frames:
        with safe_step(context.instance, context.run_id), ona.connection() as connection:
            reference = stored_reference(io_manager.store)
            places = read_places(connection)
            if places.empty and reference is not None:
                fill_if_empty(context, connection, reference)
                places = read_places(connection)

        def holding(case_ids: frozenset[str]) -> Mapping[str, str]:
            with ona.connection() as connection:
                return holders(connection, case_ids)

        with safe_step(context.instance, context.run_id):
            known, labels = Places.of(places), labels_in_use(reference)
            mapped = map_cases_stream(raw_reintegration_cases, raw_under18_cases, known, labels, holding)
            return counting(telling(mapped, labels, reference), CASES, _CASE_AGGREGATES)

    @dg.asset(
        deps=[REFERENCE_KEY],
        description="Services of the mapped cases, one row each." + QUARTER_NOTE,
        group_name=MAP,
        owners=OWNERS,
        kinds={"pandas", "parquet"},
        code_version=MAPPING_VERSION,
        metadata=contract_metadata(SERVICES),
        partitions_def=quarters,
    )
    def mapped_services(
        context: dg.AssetExecutionContext,
        raw_reintegration_cases: Frames,
        raw_under18_cases: Frames,
        mapped_cases: Frames,
        io_manager: dg.ResourceParam[PartitionIOManager],
        ona: OnaDatabaseResource,
    ) -> Frames:
        def holding(unique_ids: frozenset[str]) -> Mapping[str, str]:
            with ona.connection() as connection:
                return service_holders(connection, unique_ids)

        with safe_step(context.instance, context.run_id):
            excluded = quarantined_cases(mapped_cases.summary)
            reference = stored_reference(io_manager.store)
            labels = labels_in_use(reference)
            mapped = map_services_stream(raw_reintegration_cases, raw_under18_cases, labels, holding, excluded)
            return counting(telling(mapped, labels, reference), SERVICES, _SERVICE_AGGREGATES)

    return [mapped_cases, mapped_services]


def telling(frames: Frames, labels: Labels, reference: Reference | None) -> Frames:
    """The same stream, whose summary also tells by which labels it was mapped.

    `labels_version` differs when any label differs, Primero's included, `mapping_version` when a rule or labels.yaml does:
    only the latter makes a partition useless to its readers, or each refresh would have every quarter mapped anew.
    `primero_labels` are those of Primero's that were used, and `reference` says what was known of Primero's lists.
    """

    def summary() -> dict[str, Any]:
        used: dict[str, dict[str, str]] = {}
        for entry in frames.summary["findings"]:
            label = labels.primeros.get(entry["field"], {}).get(entry["code"])
            if label is not None:
                used.setdefault(entry["field"], {})[entry["code"]] = label
        facts = reference.facts if reference else {}
        told = {name: {key: fact[key] for key in ("fetched_at", "fingerprint")} for name, fact in facts.items()}
        return {
            **frames.summary,
            "labels_version": labels.version,
            "primero_labels": used,
            "reference": told,
        }

    return Frames(frames.read, summary)


def counting(frames: Frames, table: Table, columns: Sequence[str]) -> Frames:
    """The same stream, whose summary also tells how often each value of a few columns occurs."""
    counts: dict[str, Counter[str]] = {column: Counter() for column in columns}

    def read(_columns: Sequence[str] | None) -> "Iterator[pd.DataFrame]":
        for counter in counts.values():
            counter.clear()
        for frame in frames:
            for column, counter in counts.items():
                counter.update({str(value): int(n) for value, n in frame[column].fillna(_EMPTY).value_counts().items()})
            yield frame

    def summary() -> dict[str, Any]:
        return {**frames.summary, "aggregates": {name: _showable(table.column(name), counts[name]) for name in columns}}

    return Frames(read, summary)


def _showable(column: Column, counts: Mapping[str, int]) -> dict[str, int]:
    """Counts by value, rare values that are in no list as one: a text that somebody wrote can stand where a code is due."""
    listed = set(column.allowed or (Labels.load().tables[column.labels].values() if column.labels else ()))
    shown: Counter[str] = Counter()
    for value, count in counts.items():
        shown[value if value in listed or value == _EMPTY or count >= SMALL_CELL else _RARE] += count
    return dict(shown)
