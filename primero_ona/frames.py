"""Frames in batches: how the assets hand cases and services to each other without holding a whole quarter in memory.

Dagster takes a bare generator for an op's stream of events, so a stream of frames needs a class of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


#: Rows in one frame. Half of it doubles the parts and their fixed cost; more of it raises the peak memory of every step
#: that holds a frame, about 30 MB at 20,000 raw cases with three services each. Design limit: 50,000.
BATCH_ROWS = 20_000


class Frames:
    """A stream of pandas frames with Arrow dtypes, at most BATCH_ROWS rows each, which can be read more than once.

    `read(columns)` opens the stream from its start; a source that can project reads just those columns, others ignore
    the wish. `summary` tells what is known beside the rows (counts, codes, quarantined ids; JSON types only); of a stream
    that is being made it is complete once the stream was read to its end.
    """

    def __init__(
        self,
        read: Callable[[Sequence[str] | None], Iterator[pd.DataFrame]],
        summary: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        self._read = read
        self._summary = summary

    @classmethod
    def of(cls, *frames: pd.DataFrame, summary: Mapping[str, Any] | None = None) -> Frames:
        """A stream of frames that are in memory already."""
        return cls(lambda _columns: iter(frames), lambda: summary or {})

    def read(self, columns: Sequence[str] | None = None) -> Iterator[pd.DataFrame]:
        """Open the stream from its start."""
        return self._read(columns)

    def __iter__(self) -> Iterator[pd.DataFrame]:
        return self.read()

    @property
    def summary(self) -> Mapping[str, Any]:
        """What is known beside the rows."""
        return self._summary()
