"""A quarter's mapping with all that it needs from elsewhere: ONA's places, and the labels of Primero.

What belongs here: joining the pure streams of `mapping/` with ONA and the stored reference data, and what their summaries
tell beside the rows. The assets are thin over it.
"""

from __future__ import annotations

from typing import Any

from primero_ona.errors import DataError
from primero_ona.mapping.locations import Places
from primero_ona.mapping.streams import map_cases_stream, map_services_stream
from primero_ona.ona.bookkeeping import PULL_NUMBER
from primero_ona.pipeline.reference import MappingReference
from primero_ona.storage.frames import Frames


def map_quarter_cases(
    raw_reintegration: Frames, raw_under18: Frames, places: Places, known: MappingReference
) -> Frames:
    """The mapped cases of a quarter."""
    mapped = map_cases_stream(raw_reintegration, raw_under18, places, known.labels)
    return with_label_versions(_with_pull_number(mapped, raw_reintegration, raw_under18), known)


def map_quarter_services(raw_reintegration: Frames, raw_under18: Frames, known: MappingReference) -> Frames:
    """The mapped services of a quarter; those of a case without a key are quarantined with it."""
    mapped = map_services_stream(raw_reintegration, raw_under18, known.labels)
    return with_label_versions(_with_pull_number(mapped, raw_reintegration, raw_under18), known)


def _with_pull_number(frames: Frames, *raw: Frames) -> Frames:
    """The same stream, whose summary also has the number of the pull that brought the raw cases.

    Raises DataError where they come from two pulls.
    """
    numbers = {each.summary.get(PULL_NUMBER) for each in raw}
    if len(numbers) > 1:
        raise DataError("the raw cases of this quarter come from two pulls; sync the quarter again")
    number = numbers.pop()
    return Frames(frames.read, lambda: {**frames.summary, PULL_NUMBER: number})


def with_label_versions(frames: Frames, known: MappingReference) -> Frames:
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
