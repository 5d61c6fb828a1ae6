"""Map a stored quarter: raw cases become rows of ONA's tables, frame by frame, and are stored again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from primero_ona.errors import DataError, TransientError
from primero_ona.mapping.locations import Places
from primero_ona.mapping.membership import quarter_cases
from primero_ona.mapping.result import Mapped, Tally
from primero_ona.mapping.rows import CASE_FIELDS, SERVICE_CASE_FIELDS, map_cases, map_services
from primero_ona.ona.bookkeeping import PULL_NUMBER
from primero_ona.ona.connection import Connect, partition_lock, require_held
from primero_ona.ona.reference import read_places
from primero_ona.pipeline.reference import MappingReference, mapping_reference
from primero_ona.pipeline.stored import MAPPED_CASES, MAPPED_SERVICES, REINTEGRATION, UNDER18, StoredAssets
from primero_ona.quarters import Quarter
from primero_ona.storage.frames import BATCH_ROWS, Frames


@dataclass(frozen=True)
class StoredRows:
    """How many rows a step stored, and the summary beside them."""

    rows: int
    summary: Mapping[str, Any]


def map_quarter_cases(connect: Connect, stored: StoredAssets, quarter: Quarter) -> StoredRows:
    """Map the cases of a quarter. Raises DataError where raw cases, reference data or ONA's places are missing."""
    known = mapping_reference(stored)
    with connect() as conn:
        places = Places.of(read_places(conn))
    if not places.districts and known.facts["locations"]["rows"]:
        raise DataError(
            "ONA's locations_lookup is empty, though Primero's places are stored; run `primero-ona reference refresh` first",
            see="reference-missing",
        )
    return _map(
        connect, stored, quarter, MAPPED_CASES, CASE_FIELDS, known, lambda raw: map_cases(raw, places, known.labels)
    )


def map_quarter_services(connect: Connect, stored: StoredAssets, quarter: Quarter) -> StoredRows:
    """Map the services of a quarter; those of a case without a key are quarantined with it. Raises as map_quarter_cases."""
    known = mapping_reference(stored)
    fields = SERVICE_CASE_FIELDS
    return _map(connect, stored, quarter, MAPPED_SERVICES, fields, known, lambda raw: map_services(raw, known.labels))


def _map(
    connect: Connect,
    stored: StoredAssets,
    quarter: Quarter,
    asset: str,
    fields: Sequence[str],
    known: MappingReference,
    map_frame: Callable[[pd.DataFrame], Mapped],
) -> StoredRows:
    raw = [stored.open(each, quarter) for each in (REINTEGRATION, UNDER18)]
    number = _pull_number(raw)
    tally = Tally()
    with connect() as lock, partition_lock(lock, quarter.key), stored.writer(asset, quarter) as writer:
        for frame in mapped_frames(raw, fields, map_frame, tally):
            writer.write(frame)
        summary = {**tally.summary(), PULL_NUMBER: number}
        summary |= _label_versions(summary, known)
        require_held(lock)
        writer.commit(summary)
    return StoredRows(writer.rows, summary)


def mapped_frames(
    raw: Sequence[Frames], fields: Sequence[str], map_frame: Callable[[pd.DataFrame], Mapped], tally: Tally
) -> Iterator[pd.DataFrame]:
    """Map the raw cases of a quarter, those undergoing reintegration and those under 18, each case once; `tally` sums up."""
    for frame in quarter_cases(*raw).read(fields):
        result = map_frame(frame)
        tally.add(len(frame), result)
        yield from _pieces(result.frame)


def _pull_number(raw: Sequence[Frames]) -> int | None:
    """The number of the pull that brought the raw cases; raises TransientError where they come from two."""
    numbers = {each.summary.get(PULL_NUMBER) for each in raw}
    if len(numbers) > 1:
        raise TransientError(
            "the raw cases of this quarter come from two pulls: another run stores it, or one was killed; sync the quarter again",
            see="two-pulls",
        )
    return numbers.pop()


def _pieces(frame: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """The frame in pieces of at most BATCH_ROWS rows: cases have several services each."""
    for start in range(0, len(frame), BATCH_ROWS):
        yield frame.iloc[start : start + BATCH_ROWS].reset_index(drop=True)


def _label_versions(summary: Mapping[str, Any], known: MappingReference) -> dict[str, Any]:
    """By which labels a partition was mapped.

    `labels_version` differs when any label differs, Primero's included, `mapping_version` when a rule or labels.yaml does:
    only the latter makes a partition useless to its readers, or each refresh would have every quarter mapped again.
    `primero_labels` are those of Primero's that were used, and `reference` says what was known of Primero's lists.
    """
    used: dict[str, dict[str, str]] = {}
    for entry in summary["findings"]:
        label = known.labels.primeros.get(entry["field"], {}).get(entry["code"])
        if label is not None:
            used.setdefault(entry["field"], {})[entry["code"]] = label
    facts = {name: {key: fact[key] for key in ("fetched_at", "fingerprint")} for name, fact in known.facts.items()}
    return {"labels_version": known.labels.version, "primero_labels": used, "reference": facts}
