"""Map a quarter's raw cases to streams of mapped cases or services, batch by batch, with their summary."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from primero_ona.mapping.cases import CASE_FIELDS, map_cases
from primero_ona.mapping.labels import Labels
from primero_ona.mapping.locations import Places
from primero_ona.mapping.membership import quarter_cases
from primero_ona.mapping.result import Mapped, Tally
from primero_ona.mapping.services import SERVICE_CASE_FIELDS, map_services
from primero_ona.storage.frames import BATCH_ROWS, Frames

if TYPE_CHECKING:
    import pandas as pd


def map_cases_stream(raw_reintegration: Frames, raw_under18: Frames, places: Places, labels: Labels) -> Frames:
    """The mapped cases of a quarter. The summary is complete once the stream was read to its end."""
    return _stream(raw_reintegration, raw_under18, CASE_FIELDS, lambda raw: map_cases(raw, places, labels))


def map_services_stream(raw_reintegration: Frames, raw_under18: Frames, labels: Labels) -> Frames:
    """The mapped services of a quarter; summed up as map_cases_stream."""
    return _stream(raw_reintegration, raw_under18, SERVICE_CASE_FIELDS, lambda raw: map_services(raw, labels))


def _stream(
    raw_reintegration: Frames, raw_under18: Frames, fields: Sequence[str], map_frame: Callable[[pd.DataFrame], Mapped]
) -> Frames:
    summary = Tally().summary()

    def read(_columns: Sequence[str] | None) -> Iterator[pd.DataFrame]:
        """Map from the start; a mapped frame has all its columns, whatever was wished."""
        tally = Tally()
        for raw in quarter_cases(raw_reintegration, raw_under18).read(fields):
            result = map_frame(raw)
            tally.add(len(raw), result)
            yield from _slices(result.frame)
        summary.update(tally.summary())

    return Frames(read, lambda: summary)


def _slices(frame: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """The frame in pieces of at most BATCH_ROWS rows: cases have several services each."""
    for start in range(0, max(len(frame), 1), BATCH_ROWS):
        yield frame.iloc[start : start + BATCH_ROWS].reset_index(drop=True)
