"""The one rule for what Dagster shows or stores beside the data: metadata, texts and tables of checks, log lines, run tags.

Dagster shows it to viewers who may not read ONA, and a comparison of two runs shows what one case has changed. So nothing
here depends on what a case says, but only on what became of it:

- Exact: cases received, rows by outcome (inserted, updated, removed, quarantined, …), the sizes of the two sets, and how
  many services there are. A case that is not included counts as just that, and one in quarantine too, without the reason.
- National totals of the two indicators by quarter, exact: they are what the sync is for. They tell of a case what the sizes of
  the two sets tell of it; no other figure of an indicator is shown, nor how good its coverage is.
- Never: counts by value; codes, reasons and fields of cases; places. They stand in ONA behind its roles, and commands print
  them: `findings`, `labels diff`, `quarantine list`, `fields list`.
- Unmapped codes: by field the number of distinct codes, where a whole ONA is looked at (the check `labels`). The checks of
  one quarter say only whether there is something to decide: a new code in a field points at the one case that came.
- Traffic and other counts that follow a case's values are rounded; see `roughly` and `traffic_metadata`.

Facts of configuration (Primero's lists, labels, fields of tables) are none about a case. What is counted is decided by the
modules that count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from primero_ona.contract.column import Table
from primero_ona.contract.derived import UNCONFIRMED
from primero_ona.quarters import Quarter, quarters_between

if TYPE_CHECKING:
    from primero_ona.primero.client import Traffic

#: Rows shown in one table. Where there are more, they have one cause, which the first ones show.
TABLE_ROWS = 50


def quarter_metadata(quarter: Quarter, rows: int) -> dict[str, Any]:
    """The facts that every materialization shows: rows, quarter and window in local time."""
    return {"dagster/partition_row_count": rows, "quarter": quarter.label, "window": quarter.window_text()}


def stored_metadata(quarter: Quarter, rows: int, summary: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata of a stored partition: its rows, how many entries went into quarantine, and the version of its labels."""
    return {
        **quarter_metadata(quarter, rows),
        "quarantined": len(summary["quarantine"]),
        "labels version": summary["labels_version"],
    }


def traffic_metadata(traffic: Traffic) -> dict[str, Any]:
    """What was asked of Primero: requests in tens, bytes in whole MB, each rounded up, and seconds of waiting.

    The exact bytes would tell how long a case is, and the exact requests which fields the quarter's cases have.
    """
    return {
        "requests (about)": -(-traffic.requests // 10) * 10,
        "received (MB, about)": -(-traffic.bytes // 2**20),
        "waited for Primero (s)": round(traffic.seconds, 2),
    }


def totals_metadata(
    children: Mapping[tuple[str, Quarter], int], now: Quarter, variants: Mapping[str, str]
) -> dict[str, Any]:
    """National totals of the indicators: of the last quarter that has ended as numbers, which the UI plots, and of eight.

    `children` by indicator and quarter; `now` is the open quarter; `variants`: the definition of each indicator.
    """
    quarters = quarters_between(Quarter(now.year - 2, now.number).next(), now)[::-1]
    texts = {known: f"{number:,}" for known, number in children.items()}
    rows = [
        {"quarter": quarter.label, **{name: texts.get((name, quarter)) for name in variants}}
        for quarter in quarters
        if any((name, quarter) in children for name in variants)
    ]
    ended = now.previous()
    last = {name: children[name, ended] for name in variants if (name, ended) in children}
    return {**_national(ended, last, variants), "last quarters": facts_table(rows)}


def report_metadata(
    quarter: Quarter, children: Mapping[str, int], variants: Mapping[str, str], paths: Sequence[Path]
) -> dict[str, Any]:
    """Where the files of a quarter's report are, the page first, and its national totals as numbers, which the UI plots."""
    return {
        **_national(quarter, children, variants),
        "report": dg.MetadataValue.path(str(paths[0].resolve())),
        "files": ", ".join(path.name for path in paths),
        "edition": "internal: exact, not to be passed on",
    }


def _national(quarter: Quarter, children: Mapping[str, int], variants: Mapping[str, str]) -> dict[str, Any]:
    definitions = ", ".join(f"{name} by `{variant}`" for name, variant in variants.items())
    return {
        **{f"children in {name}": number for name, number in children.items()},
        "quarter": quarter.label,
        "definition": f"{definitions}; {UNCONFIRMED}",
    }


def roughly(count: int) -> str:
    """A number of cases in words that one case more does not change, but where it completes a ten."""
    return f"about {count // 10 * 10:,}" if count >= 10 else "fewer than 10"


def count_table(counts: Mapping[str, int], name: str) -> dg.TableMetadataValue:
    """A table of two columns, most first: outcomes or faults, and how many rows have each."""
    ordered = sorted(counts, key=lambda label: (-counts[label], label))
    return facts_table([{name: label, "rows": f"{counts[label]:,}"} for label in ordered])


def codes_table(codes: Iterable[tuple[str, str]]) -> dg.TableMetadataValue:
    """A table of fields with the number of distinct codes, from (field, code); the codes themselves are in no table."""
    counts = Counter(field for field, _ in set(codes))
    return facts_table([{"field": field, "codes": f"{counts[field]:,}"} for field in sorted(counts)])


def facts_table(rows: Sequence[Mapping[str, object]]) -> dg.TableMetadataValue:
    """Facts about configuration, never about cases: one row each, all with the same columns; at most TABLE_ROWS."""
    texts = [{name: "" if value is None else str(value) for name, value in row.items()} for row in rows[:TABLE_ROWS]]
    schema = dg.TableSchema([dg.TableColumn(name) for name in (texts[0] if texts else ["none"])])
    return dg.MetadataValue.table([dg.TableRecord(row) for row in texts], schema=schema)


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
    columns = []
    for column in table.columns if loaded else table.frame_columns:
        origins = " and ".join(f"`{name}`" for name in table.origins(column))
        made_of = f". Primero: {origins}" if origins else ""
        text = f"{column.description}{made_of} (personal data: {column.personal_data})"
        unique = column.name == table.key and not table.key_rest and (loaded or not table.identity)
        constraints = dg.TableColumnConstraints(nullable=column.nullable, unique=unique)
        columns.append(dg.TableColumn(column.name, column.type, text, constraints))
    return {"dagster/column_schema": dg.TableSchema(columns)}


def lineage_from(asset: str, table: Table) -> dict[str, Any]:
    """The column lineage of a loaded table: each column from the mapped one of the same name. The free UI draws no picture of it."""
    return _lineage([asset], {name: [name] for name in table.mapped_names})


def lineage_from_raw(assets: Sequence[str], table: Table) -> dict[str, Any]:
    """The column lineage of a mapped table: each column from the fields that it is made of, as the raw assets have them."""
    made_of: dict[str, Iterable[str]] = {}
    for column in table.frame_columns:
        if column.day:  # an age is a column of a raw case, or of its services, made at the pull
            made_of[column.name] = [table.section or column.name]
        elif origins := table.origins(column):
            made_of[column.name] = dict.fromkeys(origin.partition(".")[0] for origin in origins)
    return _lineage(assets, made_of)


def _lineage(assets: Sequence[str], made_of: Mapping[str, Iterable[str]]) -> dict[str, Any]:
    deps = {
        column: [dg.TableColumnDep(asset, name) for asset in assets for name in names]
        for column, names in made_of.items()
    }
    return {"dagster/column_lineage": dg.TableColumnLineage(deps)}


def raw_metadata(columns: Mapping[str, str]) -> dict[str, Any]:
    """The column schema of raw cases, from names and what they are in words."""
    return {"dagster/column_schema": dg.TableSchema([dg.TableColumn(name, kind) for name, kind in columns.items()])}


#: Primero is looked at every 15 minutes; one look may fail, and a backup of Primero may take an hour.
SEEN_FAIL = timedelta(hours=3)
SEEN = dg.FreshnessPolicy.time_window(fail_window=SEEN_FAIL, warn_window=timedelta(hours=1))

#: Any quarter counts. Days without an edit happen (Khmer New Year, Pchum Ben), and then none is loaded.
LOADED = dg.FreshnessPolicy.time_window(fail_window=timedelta(days=14), warn_window=timedelta(days=5))
