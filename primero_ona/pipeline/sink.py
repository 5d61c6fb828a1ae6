"""Sort raw cases into the three raw assets while they arrive, and count why each went where it went."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import date
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa

from primero_ona.mapping.dates import next_registration, with_ages
from primero_ona.mapping.membership import sort_cases
from primero_ona.ona.erasure import subject_of, without_erased
from primero_ona.pipeline.stored import EXITS, REINTEGRATION, UNDER18, StoredAssets
from primero_ona.primero.fields import EXIT_COLUMNS, GBV_MODULE, GBV_REASON, PullPolicy
from primero_ona.quarters import Quarter, local_today
from primero_ona.storage.frames import BATCH_ROWS

#: The column of the membership that sorts cases into each raw asset.
SETS = {REINTEGRATION: "reintegration", UNDER18: "under18", EXITS: "exit"}

#: Why a case went where it went: for `primero-ona findings`, never for Dagster, as `graph/metadata.py` says.
EXIT_REASON = "removed: disabled, in neither indicator, or excluded by consent"
CONSENT_REASON = "excluded by the consent policy"
MODULE_REASON = "removed: of a module that is not included"
PRESENT_AGE_REASON = "under 18 by the present age, no date of birth being usable"
NO_AGE_REASON = "neither date of birth nor age usable"
ERASED_REASON = "excluded: erased by `primero-ona forget`, but still in Primero"

#: Of cases that are not included no reason is stored, so where they are carried over, the last whole walk's count is kept.
OF_WHOLE_WALK = " (at the last whole walk)"


class CarriedCounts(NamedTuple):
    """How many cases were carried over, by what they are."""

    reintegration: int
    under18: int
    both: int
    exits: int
    by_present_age: int
    gbv: int


class QuarterSink:
    """Sorts raw cases into the three assets while they arrive, and counts why each went where."""

    def __init__(
        self,
        stored: StoredAssets,
        quarter: Quarter,
        policy: PullPolicy,
        erased: frozenset[str] = frozenset(),
    ) -> None:
        self._policy, self._erased = policy, erased
        self._writers = {asset: stored.writer(asset, quarter) for asset in SETS}
        self._waiting: dict[str, list[pa.Table]] = {asset: [] for asset in SETS}
        self.reasons: Counter[str] = Counter()
        self.erased_seen: set[str] = set()
        self.next_registration: date | None = None

    def restart(self) -> None:
        """Begin the quarter again."""
        self.reasons.clear()
        self.erased_seen.clear()
        self.next_registration = None
        for asset, writer in self._writers.items():
            self._waiting[asset] = []
            writer.discard()

    def write(self, frame: pd.DataFrame) -> None:
        """Take a frame of cases as pulled; their dates of birth become ages here and are not kept."""
        frame, today = self._without_erased(frame), local_today()
        coming = next_registration(frame, today)
        self.next_registration = min((day for day in (self.next_registration, coming) if day), default=None)
        frame = with_ages(frame, today)
        sets = sort_cases(frame, self._policy.consent, self._policy.modules)
        self.reasons[CONSENT_REASON] += int(sets["excluded"].sum())
        for asset, column in SETS.items():
            chosen = frame[sets[column].to_numpy()]
            self._take(asset, chosen[[*EXIT_COLUMNS]] if asset == EXITS else chosen)
        self.reasons.update(_reasons(sets))
        self.reasons[PRESENT_AGE_REASON] += int((sets["under18"] & frame["age_at_registration"].isna()).sum())
        gbv = (frame["module_id"] == GBV_MODULE).fillna(value=False)
        self.reasons[GBV_REASON] += int((gbv.to_numpy(bool) & ~sets["exit"].to_numpy()).sum())

    def leave(self, frame: pd.DataFrame) -> None:
        """Take cases of modules that are not included: their rows leave ONA."""
        frame = self._without_erased(frame)
        self._take(EXITS, frame[[*EXIT_COLUMNS]])
        self.reasons[MODULE_REASON] += len(frame)

    def _take(self, asset: str, frame: pd.DataFrame) -> None:
        self.take(asset, self._writers[asset].table_of(frame))

    def take(self, asset: str, table: pa.Table) -> None:
        """Write rows of an asset, or let them wait: a part costs its readers as much for a hundred rows as for a thousand."""
        waiting = self._waiting[asset]
        waiting.append(table)
        while sum(map(len, waiting)) >= BATCH_ROWS:
            whole = pa.concat_tables(waiting)
            self._writers[asset].write_table(whole.slice(0, BATCH_ROWS))
            waiting[:] = [whole.slice(BATCH_ROWS)]

    def add_carried(self, counts: CarriedCounts, before: Mapping[str, int], erased: frozenset[str]) -> None:
        """Count cases that were carried over among the reasons; `before`: those of the pull that stored them.

        `erased`: the subjects of erased cases that this pull had seen.
        """
        unknown = [CONSENT_REASON, NO_AGE_REASON, *([MODULE_REASON, EXIT_REASON] if self._policy.modules else ())]
        self.reasons.update(_reasons_of(counts))
        for reason in unknown:
            self.reasons.pop(reason, None)
            known = f"{reason}{OF_WHOLE_WALK}"
            self.reasons[known] = before.get(known, before.get(reason, 0))
        self.erased_seen |= erased
        self.reasons[ERASED_REASON] = len(self.erased_seen)

    def _without_erased(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Nothing is stored of a case that was erased, not even that it left."""
        kept = without_erased(frame, self._erased)
        if len(kept) < len(frame):
            self.erased_seen |= {subject_of(case) for case in frame["id"]} & self._erased
        self.reasons[ERASED_REASON] += len(frame) - len(kept)
        return kept

    def commit(self, facts: dict[str, Any]) -> dict[str, int]:
        """Make the three partitions count, with `facts` in their summaries; return their rows."""
        for asset, waiting in self._waiting.items():
            if waiting:
                self._writers[asset].write_table(pa.concat_tables(waiting))
        for writer in self._writers.values():
            writer.commit(facts)
        return {asset: writer.rows for asset, writer in self._writers.items()}

    def discard(self) -> None:
        """Leave the partitions as they were."""
        for writer in self._writers.values():
            writer.discard()


def _reasons_of(counts: CarriedCounts) -> dict[str, int]:
    """The reasons that stored rows show."""
    return {
        "undergoing reintegration": counts.reintegration,
        "under 18": counts.under18,
        "in both": counts.both,
        EXIT_REASON: counts.exits,
        PRESENT_AGE_REASON: counts.by_present_age,
        GBV_REASON: counts.gbv,
    }


def _reasons(sets: pd.DataFrame) -> dict[str, int]:
    both = sets["reintegration"] & sets["under18"]
    return {
        "undergoing reintegration": int(sets["reintegration"].sum()),
        "under 18": int(sets["under18"].sum()),
        "in both": int(both.sum()),
        EXIT_REASON: int(sets["exit"].sum()),
        NO_AGE_REASON: int(sets["age_missing"].sum()),
    }
