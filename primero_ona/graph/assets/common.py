"""What all assets share: groups, the note that explains partition keys, and the column schema shown in the UI."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

import dagster as dg

from primero_ona.contract.column import Column, Table

#: Groups are numbered in the direction of the data, and no two need each other: so the UI's sidebar, and the lineage with its
#: groups folded, read like the lineage itself.
SOURCE, REFERENCE, EXTRACT, MAP = "0_primero", "0_reference", "1_extract", "2_map"
LOAD, INDICATORS, READERS = "3_load", "4_indicators", "5_dashboards"

#: Closes each description: what people ask first when they open a partition.
QUARTER_NOTE = (
    "\n\nOne partition is one quarter, named by its first day in Phnom Penh: 2024-04-01 is 2024-Q2, April to June."
)


def contract_metadata(table: Table, *, loaded: bool = False) -> dict[str, Any]:
    """The column schema of a table of the contract, as mapped, or as loaded with what the load itself sets."""
    columns = [
        dg.TableColumn(
            column.name,
            column.type,
            _described(table, column),
            constraints=dg.TableColumnConstraints(
                nullable=column.nullable,
                unique=column.name == table.key and not table.key_rest and (loaded or not table.identity),
            ),
        )
        for column in (table.columns if loaded else table.frame_columns)
    ]
    return {"dagster/column_schema": dg.TableSchema(columns=columns)}


def _described(table: Table, column: Column) -> str:
    origins = " and ".join(f"`{name}`" for name in table.origins(column))
    made_of = f". Primero: {origins}" if origins else ""
    return f"{column.description}{made_of} (personal data: {column.personal_data})"


def lineage_from(asset: dg.AssetKey, table: Table) -> dict[str, Any]:
    """The column lineage of a loaded table: each column from the mapped one of the same name.

    Dagster keeps it with each materialization; its open-source UI draws no picture of it.
    """
    deps = {name: [dg.TableColumnDep(asset, name)] for name in table.mapped_names}
    return {"dagster/column_lineage": dg.TableColumnLineage(deps)}


def lineage_from_raw(assets: Iterable[str], table: Table) -> dict[str, Any]:
    """The column lineage of a mapped table: each column from the fields that it is made of, as the raw assets have them."""
    deps = {
        column.name: [dg.TableColumnDep(dg.AssetKey(asset), name) for asset in assets for name in _raw(table, column)]
        for column in table.frame_columns
        if table.origins(column)
    }
    return {"dagster/column_lineage": dg.TableColumnLineage(deps)}


def _raw(table: Table, column: Column) -> list[str]:
    """The columns of a raw case that a column is made of. An age is one itself, made at the pull."""
    if column.day:
        return [table.section or column.name]
    return list(dict.fromkeys(origin.partition(".")[0] for origin in table.origins(column)))


def raw_metadata(columns: Mapping[str, str]) -> dict[str, Any]:
    """The column schema of raw cases, from names and what they are in words."""
    return {"dagster/column_schema": dg.TableSchema([dg.TableColumn(name, kind) for name, kind in columns.items()])}


#: Primero is looked at every 15 minutes; one look may fail, and a backup of Primero may take an hour.
SEEN_WARN, SEEN_FAIL = timedelta(hours=1), timedelta(hours=3)
SEEN = dg.FreshnessPolicy.time_window(fail_window=SEEN_FAIL, warn_window=SEEN_WARN)

#: Any quarter counts. Days without an edit happen (Khmer New Year, Pchum Ben), and then none is loaded.
LOADED = dg.FreshnessPolicy.time_window(fail_window=timedelta(days=14), warn_window=timedelta(days=5))
