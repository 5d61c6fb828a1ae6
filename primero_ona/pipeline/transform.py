"""Map a stored quarter: raw cases become rows of ONA's tables, frame by frame, and are stored again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
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
from primero_ona.pipeline.reference import mapping_reference
from primero_ona.pipeline.stored import MAPPED_CASES, REINTEGRATION, UNDER18, StoredAssets
from primero_ona.quarters import Quarter
from primero_ona.storage.frames import BATCH_ROWS, Frames


def map_quarter(connect: Connect, stored: StoredAssets, quarter: Quarter, asset: str) -> tuple[int, dict[str, Any]]:
    """Map and store the rows of a quarter that an asset holds, MAPPED_CASES or MAPPED_SERVICES; how many, and the summary beside them.

    Services of a case without a key are quarantined with it. Raises DataError where raw cases or reference data are missing, or
    ONA's places where cases need them.
    """
    known = mapping_reference(stored)
    if asset == MAPPED_CASES:
        with connect() as conn:
            places = Places.of(read_places(conn))
        if not places.districts and known.facts["locations"]["rows"]:
            raise DataError(
                "ONA's locations_lookup is empty, though Primero's places are stored; run `primero-ona reference refresh` first",
                see="reference-missing",
            )
        fields, map_frame = CASE_FIELDS, partial(map_cases, places=places, labels=known.labels)
    else:
        fields, map_frame = SERVICE_CASE_FIELDS, partial(map_services, labels=known.labels)
    raw = [stored.open(each, quarter) for each in (REINTEGRATION, UNDER18)]
    numbers = {each.summary.get(PULL_NUMBER) for each in raw}
    if len(numbers) > 1:
        raise TransientError(
            "the raw cases of this quarter come from two pulls: another run stores it, or one was killed; sync the quarter again",
            see="two-pulls",
        )
    tally = Tally()
    with connect() as lock, partition_lock(lock, quarter.key), stored.writer(asset, quarter) as writer:
        for frame in mapped_frames(raw, fields, map_frame, tally):
            writer.write(frame)
        summary = {**tally.summary(), PULL_NUMBER: numbers.pop()}
        summary |= known.versions(summary["findings"])
        require_held(lock)
        writer.commit(summary)
    return writer.rows, summary


def mapped_frames(
    raw: Sequence[Frames], fields: Sequence[str], map_frame: Callable[[pd.DataFrame], Mapped], tally: Tally
) -> Iterator[pd.DataFrame]:
    """Map the raw cases of a quarter, those undergoing reintegration and those under 18, each case once; `tally` sums up."""
    for frame in quarter_cases(*raw).read(fields):
        result = map_frame(frame)
        tally.add(len(frame), result)
        # Cases have several services each, so a frame of them may give several.
        for start in range(0, len(result.frame), BATCH_ROWS):
            yield result.frame.iloc[start : start + BATCH_ROWS].reset_index(drop=True)
