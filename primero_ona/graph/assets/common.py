"""What all assets share: owners, groups, the note that explains partition keys, and the column schema shown in the UI."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import dagster as dg

from primero_ona.contract.column import Table

OWNERS = ["team:child-protection-data"]

#: Groups are numbered in the direction of the data, so that the UI's sidebar reads like the lineage.
REFERENCE, EXTRACT, MAP, LOAD = "0_reference", "1_extract", "2_map", "3_load"
INDICATORS = "4_indicators"

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
            f"{column.description} (personal data: {column.personal_data})",
            constraints=dg.TableColumnConstraints(
                nullable=column.nullable,
                unique=column.name == table.key and not table.key_rest and (loaded or not table.identity),
            ),
        )
        for column in (table.columns if loaded else table.frame_columns)
    ]
    return {"dagster/column_schema": dg.TableSchema(columns=columns)}


def raw_metadata(columns: Mapping[str, str]) -> dict[str, Any]:
    """The column schema of raw cases, from names and what they are in words."""
    return {"dagster/column_schema": dg.TableSchema([dg.TableColumn(name, kind) for name, kind in columns.items()])}


#: Primero is looked at every 15 minutes; one look may fail, and a backup of Primero may take an hour.
SEEN_WARN, SEEN_FAIL = timedelta(hours=1), timedelta(hours=3)
SEEN = dg.FreshnessPolicy.time_window(fail_window=SEEN_FAIL, warn_window=SEEN_WARN)

#: Any quarter counts. Days without an edit happen (Khmer New Year, Pchum Ben), and then none is loaded.
LOADED = dg.FreshnessPolicy.time_window(fail_window=timedelta(days=14), warn_window=timedelta(days=5))
