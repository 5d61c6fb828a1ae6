"""A quarter's streams: raw cases in, mapped cases or mapped services out, batch by batch.

What belongs here: joining the two raw streams, keeping those back who may have lost their key, and summing up.
Still pure: rows come and go through Frames, and what ONA holds is asked through a function that the caller gives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from primero_ona.frames import BATCH_ROWS, Frames
from primero_ona.mapping.cases import CASE_FIELDS, map_cases
from primero_ona.mapping.keys import (
    CASE_KEY,
    CREATED,
    Holders,
    Key,
    case_hashes,
    find_clashes,
    service_key,
    suspects_of,
)
from primero_ona.mapping.labels import Labels
from primero_ona.mapping.locations import Places
from primero_ona.mapping.mapped import Mapped, Tally
from primero_ona.mapping.membership import quarter_cases
from primero_ona.mapping.services import SERVICE_CASE_FIELDS, Losers, map_services

if TYPE_CHECKING:
    import pandas as pd


def map_cases_stream(
    raw_reintegration: Frames, raw_under18: Frames, places: Places, labels: Labels, holders: Holders
) -> Frames:
    """The mapped cases of a quarter; `holders` tells for contested `case_id`s which case ONA holds them for.

    The raw streams are read once, and their keys once more where their summaries do not tell the suspects. The summary is
    complete once the stream was read to its end.
    """

    def map_frame(raw: pd.DataFrame, losers: Losers) -> Mapped:
        return map_cases(raw, places, labels, {case: winner for (case, _), winner in losers.items()})

    return _stream(raw_reintegration, raw_under18, CASE_FIELDS, CASE_KEY, holders, map_frame)


def map_services_stream(
    raw_reintegration: Frames,
    raw_under18: Frames,
    labels: Labels,
    holders: Holders,
    excluded: frozenset[str] = frozenset(),
) -> Frames:
    """The mapped services of a quarter; `holders` tells for contested `unique_id`s which case ONA holds them for.

    `excluded`: Primero ids of the cases in quarantine. Read and summed up as map_cases_stream.
    """

    def map_frame(raw: pd.DataFrame, losers: Losers) -> Mapped:
        return map_services(raw, labels, excluded, losers)

    return _stream(raw_reintegration, raw_under18, SERVICE_CASE_FIELDS, service_key(excluded), holders, map_frame)


def _stream(
    raw_reintegration: Frames,
    raw_under18: Frames,
    fields: Sequence[str],
    key: Key,
    holders: Holders,
    map_frame: Callable[[pd.DataFrame, Losers], Mapped],
) -> Frames:
    """Map every raw frame; the cases that may lose their key come last, when it is known who keeps it."""
    summary = Tally().summary()

    def read(_columns: Sequence[str] | None) -> Iterator[pd.DataFrame]:
        """Map from the start; a mapped frame has all its columns, whatever was wished."""
        import pandas as pd  # noqa: PLC0415

        tally = Tally()
        suspects = suspects_of(raw_reintegration, raw_under18, key)
        rivals: list[pd.DataFrame] = []

        def mapped(raw: pd.DataFrame, losers: Losers) -> Iterator[pd.DataFrame]:
            result = map_frame(raw, losers)
            tally.add(len(raw), result)
            yield from _slices(result.frame)

        for raw in quarter_cases(raw_reintegration, raw_under18).read((*fields, CREATED)):
            suspected = np.isin(case_hashes(raw["id"]), suspects)
            if suspected.any():
                rivals.append(raw[suspected])
            yield from mapped(raw[~suspected], {})
        if rivals:
            together = pd.concat(rivals, ignore_index=True)
            yield from mapped(together, find_clashes(together, key, holders))
        summary.update(tally.summary())

    return Frames(read, lambda: summary)


def _slices(frame: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """The frame in pieces of at most BATCH_ROWS rows: cases have several services each."""
    for start in range(0, max(len(frame), 1), BATCH_ROWS):
        yield frame.iloc[start : start + BATCH_ROWS].reset_index(drop=True)


def quarantined_cases(summary: Mapping[str, Any]) -> frozenset[str]:
    """The Primero ids of the cases that the summary of mapped cases names as quarantined."""
    return frozenset(entry["primero_id"] for entry in summary["quarantine"] if entry["table"] == "cases")
