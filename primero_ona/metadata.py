"""What the UI shows of a materialization: counts, codes and small tables of aggregates. Never a row of a case.

What belongs here: turning counts into Dagster metadata. What is counted is decided by the rooms that count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from primero_ona.quarters import Quarter

#: Codes shown in one table. A run with more unknown codes than this has one cause, which the first ones show.
TABLE_ROWS = 50

#: Counts below this are shown as "<5" in aggregates: a small cell about children can point at one of them.
SMALL_CELL = 5


def quarter_metadata(quarter: Quarter, rows: int) -> dict[str, Any]:
    """The facts that every materialization shows: rows, quarter and window in local time."""
    return {
        "dagster/row_count": rows,
        "quarter": quarter.label,
        "window": quarter.window_text(),
    }


def stored_metadata(quarter: Quarter, rows: int, summary: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata of a stored partition from its summary: per-reason counts and aggregates."""
    quarantine = Counter(str(entry["reason"]) for entry in summary.get("quarantine", ()))
    findings = summary.get("findings", ())
    metadata: dict[str, Any] = {
        **quarter_metadata(quarter, rows),
        "quarantined": sum(quarantine.values()),
        "unmapped": sum(int(entry["count"]) for entry in findings),
    }
    if "labels_version" in summary:
        metadata["labels version"] = summary["labels_version"]
    for name, counts in summary.get("aggregates", {}).items():
        metadata[f"by {name}"] = count_table(counts, name, small_cells=True)
    metadata["quarantine by reason"] = count_table(quarantine, "reason")
    metadata["unmapped codes"] = findings_table(findings)
    return metadata


def count_table(counts: Mapping[str, int], name: str, *, small_cells: bool = False) -> dg.TableMetadataValue:
    """A table of two columns, most first; `small_cells` hides the exact number of few children."""
    shown = {
        label: f"<{SMALL_CELL}" if small_cells and 0 < count < SMALL_CELL else f"{count:,}"
        for label, count in counts.items()
    }
    rows = sorted(counts, key=lambda label: (-counts[label], label))[:TABLE_ROWS]
    return _table([{name: label, "rows": shown[label]} for label in rows], [name, "rows"])


def findings_table(findings: Any) -> dg.TableMetadataValue:  # noqa: ANN401
    """Unmapped codes and unreadable values: field, code (where it may be shown) and how often."""
    ordered = sorted(findings, key=lambda entry: (-entry["count"], entry["field"], entry["code"] or ""))[:TABLE_ROWS]
    rows = [
        {"field": entry["field"], "code": entry["code"] or "(not shown)", "rows": f"{entry['count']:,}"}
        for entry in ordered
    ]
    return _table(rows, ["field", "code", "rows"])


def facts_table(rows: Sequence[Mapping[str, object]]) -> dg.TableMetadataValue:
    """Facts about configuration, never about cases: one row each, all with the same columns; at most TABLE_ROWS."""
    texts = [{name: "" if value is None else str(value) for name, value in row.items()} for row in rows[:TABLE_ROWS]]
    return _table(texts, list(texts[0]) if texts else ["none"])


def _table(rows: list[dict[str, str]], columns: list[str]) -> dg.TableMetadataValue:
    schema = dg.TableSchema(columns=[dg.TableColumn(column, "string") for column in columns])
    return dg.MetadataValue.table([dg.TableRecord(row) for row in rows], schema=schema)
