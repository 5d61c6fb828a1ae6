"""Frames in batches: how cases and services are handed on without holding a whole quarter in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

Item = TypeVar("Item")

#: Rows in one frame. 20,000 would be a few per cent quicker, for fewer parts with their fixed cost, and take 50 MB more at
#: the peak: each step holds one or two frames, a case with all its services. Design limit: 50,000.
BATCH_ROWS = 10_000


@dataclass(frozen=True, repr=False, eq=False)
class Frames:
    """A stream of pandas frames with Arrow dtypes, at most BATCH_ROWS rows each, which can be read more than once.

    `source(columns)` opens the stream from its start; one that can project reads just those columns, others ignore the wish.
    `summary` has what is known beside the rows: counts, codes, quarantined ids; JSON types only.
    """

    source: Callable[[Sequence[str] | None], Iterator[pd.DataFrame]]
    summary: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, *frames: pd.DataFrame, summary: Mapping[str, Any] | None = None) -> Frames:
        """A stream of frames that are in memory already."""
        return cls(lambda _columns: iter(frames), summary or {})

    def read(self, columns: Sequence[str] | None = None) -> Iterator[pd.DataFrame]:
        """Open the stream from its start."""
        return self.source(columns)

    def __iter__(self) -> Iterator[pd.DataFrame]:
        return self.read()


def prefetch(items: Iterable[Item]) -> Iterator[Item]:
    """The same items; while one is worked on, the next is being made in a thread of its own.

    Half of what is done with a frame is done outside Python (Parquet, encryption, PostgreSQL), so the other half need not
    wait for it. Costs the memory of one item more. What fails in the making fails here, in its turn.
    """
    source, end = iter(items), object()
    maker = ThreadPoolExecutor(1, "one-ahead")
    try:
        coming = maker.submit(next, source, end)
        while (item := coming.result()) is not end:
            coming = maker.submit(next, source, end)
            yield item  # type: ignore[misc]  # it is not the end, so it is an item
            del item
    finally:
        # Without waiting: a person who terminates a run should not wait for ten more pages of a slow Primero.
        maker.shutdown(wait=False, cancel_futures=True)


def to_frame(table: pa.Table) -> pd.DataFrame:
    """A table as a pandas frame with Arrow dtypes."""
    import pandas as pd  # noqa: PLC0415

    frame: pd.DataFrame = table.to_pandas(types_mapper=pd.ArrowDtype)
    return frame
