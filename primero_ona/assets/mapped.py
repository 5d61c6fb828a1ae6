"""Group 2_map: raw cases become rows of ONA's tables, frame by frame."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
import pandas as pd

from primero_ona.assets.common import MAP, OWNERS, QUARTER_NOTE, contract_metadata
from primero_ona.frames import Frames
from primero_ona.mapping.labels import Labels
from primero_ona.mapping.locations import Places
from primero_ona.mapping.streams import map_cases_stream, map_services_stream, quarantined_cases
from primero_ona.mapping.version import MAPPING_VERSION
from primero_ona.metadata import SMALL_CELL
from primero_ona.ona.places import fill_places, holders, read_places, service_holders
from primero_ona.ona.schema import CASES, SERVICES, Column, Table
from primero_ona.primero.reference import districts
from primero_ona.resources import OnaDatabaseResource, PrimeroResource
from primero_ona.steps import safe_step

#: What the UI shows of the rows: one dimension at a time, so that no cell describes a child.
_CASE_AGGREGATES = ("type_of_case", "age_group", "sex")
_SERVICE_AGGREGATES = ("service_type",)

_EMPTY, _RARE = "(empty)", "(rare values)"


def mapped_assets(quarters: dg.PartitionsDefinition[str]) -> list[dg.AssetsDefinition]:
    """The mapped cases and the mapped services."""

    @dg.asset(
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
        primero: PrimeroResource,
        ona: OnaDatabaseResource,
    ) -> Frames:
        with safe_step(context.instance, context.run_id), ona.connection() as connection:
            places = read_places(connection)
            if places.empty:
                with primero.client() as client:
                    filled = fill_places(connection, districts(client))
                context.log.info("ONA's locations_lookup was empty; filled it with %d districts from Primero", filled)
                places = read_places(connection)

        def holding(case_ids: frozenset[str]) -> Mapping[str, str]:
            with ona.connection() as connection:
                return holders(connection, case_ids)

        with safe_step(context.instance, context.run_id):
            known, labels = Places.of(places), Labels.load()
            mapped = map_cases_stream(raw_reintegration_cases, raw_under18_cases, known, labels, holding)
            return counting(mapped, CASES, _CASE_AGGREGATES)

    @dg.asset(
        description="Services of the mapped cases, one row each; dates are those of Phnom Penh." + QUARTER_NOTE,
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
        ona: OnaDatabaseResource,
    ) -> Frames:
        def holding(unique_ids: frozenset[str]) -> Mapping[str, str]:
            with ona.connection() as connection:
                return service_holders(connection, unique_ids)

        with safe_step(context.instance, context.run_id):
            excluded = quarantined_cases(mapped_cases.summary)
            mapped = map_services_stream(raw_reintegration_cases, raw_under18_cases, Labels.load(), holding, excluded)
            return counting(mapped, SERVICES, _SERVICE_AGGREGATES)

    return [mapped_cases, mapped_services]


def counting(frames: Frames, table: Table, columns: Sequence[str]) -> Frames:
    """The same stream, whose summary also tells how often each value of a few columns occurs."""
    counts: dict[str, Counter[str]] = {column: Counter() for column in columns}

    def read(_columns: Sequence[str] | None) -> Iterator[pd.DataFrame]:
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
