"""A quarter's mapping with all that it needs from elsewhere: ONA's places, and the labels of Primero.

What belongs here: joining the pure streams of `mapping/` with ONA and the stored reference data, and what their summaries
tell beside the rows. The assets are thin over it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from primero_ona.dictionary import dictionary_rows
from primero_ona.failures import DataFailure
from primero_ona.frames import Frames
from primero_ona.mapping.findings import is_code
from primero_ona.mapping.locations import Places
from primero_ona.mapping.streams import map_cases_stream, map_services_stream
from primero_ona.metadata import SMALL_CELL
from primero_ona.ona.bookkeeping import PULL_NUMBER
from primero_ona.ona.schema import CASES, SERVICES, Table
from primero_ona.reference import MappingReference

if TYPE_CHECKING:
    import pandas as pd

#: What the UI shows of the rows: one dimension at a time, so that no cell describes a child.
_CASE_AGGREGATES = ("type_of_case", "age_group", "sex")
_SERVICE_AGGREGATES = ("service_type",)

_EMPTY, _OTHER = "(empty)", "(other values)"


def map_quarter_cases(
    raw_reintegration: Frames, raw_under18: Frames, places: Places, known: MappingReference
) -> Frames:
    """The mapped cases of a quarter."""
    mapped = map_cases_stream(raw_reintegration, raw_under18, places, known.labels)
    numbered = _with_pull_number(mapped, raw_reintegration, raw_under18)
    return counting(telling(numbered, known), _listed(CASES, _CASE_AGGREGATES, known))


def map_quarter_services(raw_reintegration: Frames, raw_under18: Frames, known: MappingReference) -> Frames:
    """The mapped services of a quarter; those of a case without a key are quarantined with it."""
    mapped = map_services_stream(raw_reintegration, raw_under18, known.labels)
    numbered = _with_pull_number(mapped, raw_reintegration, raw_under18)
    return counting(telling(numbered, known), _listed(SERVICES, _SERVICE_AGGREGATES, known))


def _with_pull_number(frames: Frames, *raw: Frames) -> Frames:
    """The same stream, whose summary also has the number of the pull that brought the raw cases.

    Raises DataFailure where they come from two pulls.
    """
    numbers = {each.summary.get(PULL_NUMBER) for each in raw}
    if len(numbers) > 1:
        raise DataFailure("the raw cases of this quarter come from two pulls; sync the quarter again")
    number = numbers.pop()
    return Frames(frames.read, lambda: {**frames.summary, PULL_NUMBER: number})


def telling(frames: Frames, known: MappingReference) -> Frames:
    """The same stream, whose summary also tells by which labels it was mapped.

    `labels_version` differs when any label differs, Primero's included, `mapping_version` when a rule or labels.yaml does:
    only the latter makes a partition useless to its readers, or each refresh would have every quarter mapped anew.
    `primero_labels` are those of Primero's that were used, and `reference` says what was known of Primero's lists.
    """

    def summary() -> dict[str, Any]:
        """The stream's own summary with these three; complete when that one is."""
        used: dict[str, dict[str, str]] = {}
        for entry in frames.summary["findings"]:
            label = known.labels.primeros.get(entry["field"], {}).get(entry["code"])
            if label is not None:
                used.setdefault(entry["field"], {})[entry["code"]] = label
        told = {name: {key: fact[key] for key in ("fetched_at", "fingerprint")} for name, fact in known.facts.items()}
        return {
            **frames.summary,
            "labels_version": known.labels.version,
            "primero_labels": used,
            "reference": told,
        }

    return Frames(frames.read, summary)


def _listed(table: Table, columns: Sequence[str], known: MappingReference) -> dict[str, frozenset[str]]:
    """By column the texts of all its options, as the data dictionary has them."""
    rows = [row for row in dictionary_rows(known.catalogue, known.labels) if row["table_name"] == table.name]
    return {
        name: frozenset(row["option_value"] for row in rows if row["column_name"] == name and row["option_value"])
        for name in columns
    }


def counting(frames: Frames, listed: Mapping[str, Collection[str]]) -> Frames:
    """The same stream, whose summary also tells how often each value of a few columns occurs.

    `listed`: these columns, and the texts of each that stand in a list of options.
    """
    counts: dict[str, Counter[str]] = {column: Counter() for column in listed}

    def read(_columns: Sequence[str] | None) -> Iterator[pd.DataFrame]:
        """Count anew from the start, while the frames pass through unchanged."""
        for counter in counts.values():
            counter.clear()
        for frame in frames:
            for column, counter in counts.items():
                counter.update({str(value): int(n) for value, n in frame[column].fillna(_EMPTY).value_counts().items()})
            yield frame

    def summary() -> dict[str, Any]:
        return {**frames.summary, "aggregates": {name: _showable(listed[name], counts[name]) for name in listed}}

    return Frames(read, summary)


def _showable(listed: Collection[str], counts: Mapping[str, int]) -> dict[str, int]:
    """Counts by value; of values in no list, those that are rare or no code as one: a text may stand where a code is due."""
    shown: Counter[str] = Counter()
    for value, count in counts.items():
        known = value == _EMPTY or value in listed or all(part in listed for part in value.split(", "))
        shown[value if known or (count >= SMALL_CELL and is_code(value)) else _OTHER] += count
    return dict(shown)
