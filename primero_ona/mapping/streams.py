"""A quarter's streams: raw cases in, mapped cases or mapped services out, batch by batch.

What belongs here: joining the two raw streams, searching for clashes before the first row is mapped, and summing up.
Still pure: rows come and go through Frames, and what ONA holds is asked through a function that the caller gives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from primero_ona.frames import BATCH_ROWS, Frames
from primero_ona.mapping.cases import CASE_FIELDS, map_cases
from primero_ona.mapping.keys import Holders, case_clashes, service_clashes
from primero_ona.mapping.labels import Labels
from primero_ona.mapping.locations import Places
from primero_ona.mapping.mapped import Mapped, Tally
from primero_ona.mapping.membership import quarter_cases
from primero_ona.mapping.services import SERVICE_CASE_FIELDS, map_services

if TYPE_CHECKING:
    import pandas as pd


def map_cases_stream(
    raw_reintegration: Frames, raw_under18: Frames, places: Places, labels: Labels, holders: Holders
) -> Frames:
    """The mapped cases of a quarter; `holders` tells for contested `case_id`s which case ONA holds them for.

    The raw streams are read up to three times. The summary is complete once the stream was read to its end.
    """
    cases = quarter_cases(raw_reintegration, raw_under18)

    def prepare() -> Callable[[pd.DataFrame], Mapped]:
        losers = case_clashes(cases, holders)
        return lambda raw: map_cases(raw, places, labels, losers)

    return _stream(cases, CASE_FIELDS, prepare)


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
    cases = quarter_cases(raw_reintegration, raw_under18)

    def prepare() -> Callable[[pd.DataFrame], Mapped]:
        losers = service_clashes(cases, holders, excluded)
        return lambda raw: map_services(raw, labels, excluded, losers)

    return _stream(cases, SERVICE_CASE_FIELDS, prepare)


def _stream(cases: Frames, fields: Sequence[str], prepare: Callable[[], Callable[[pd.DataFrame], Mapped]]) -> Frames:
    """Map every frame of `cases`; `prepare` is called at each start, and gives the function for one frame."""
    summary = Tally().summary()

    def read(_columns: Sequence[str] | None) -> Iterator[pd.DataFrame]:
        """Map from the start; a mapped frame has all its columns, whatever was wished."""
        map_frame, tally = prepare(), Tally()
        for raw in cases.read(fields):
            mapped = map_frame(raw)
            tally.add(len(raw), mapped)
            yield from _slices(mapped.frame)
        summary.update(tally.summary())

    return Frames(read, lambda: summary)


def _slices(frame: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """The frame in pieces of at most BATCH_ROWS rows: cases have several services each."""
    for start in range(0, max(len(frame), 1), BATCH_ROWS):
        yield frame.iloc[start : start + BATCH_ROWS].reset_index(drop=True)


def quarantined_cases(summary: Mapping[str, Any]) -> frozenset[str]:
    """The Primero ids of the cases that the summary of mapped cases names as quarantined."""
    return frozenset(entry["primero_id"] for entry in summary["quarantine"] if entry["table"] == "cases")
