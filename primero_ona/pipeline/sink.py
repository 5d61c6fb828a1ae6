"""Sort raw cases into the three raw assets while they arrive, and count why each went where it went."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import date
from typing import Any

import pandas as pd
import pyarrow as pa

from primero_ona.errors import TransientError
from primero_ona.mapping.dates import next_registration, with_ages
from primero_ona.mapping.membership import sort_cases
from primero_ona.ona.erasure import subject_of, without_erased
from primero_ona.pipeline.stored import EXITS, REINTEGRATION, UNDER18, StoredAssets
from primero_ona.primero.fields import GBV_MODULE, GBV_REASON, PullPolicy
from primero_ona.quarters import Quarter, local_today
from primero_ona.storage.frames import BATCH_ROWS

#: The column of the membership that sorts cases into each raw asset.
SETS = {REINTEGRATION: "reintegration", UNDER18: "under18", EXITS: "exit"}

#: Why a case went where it went: for `primero-ona findings`, never for Dagster, as `graph/metadata.py` says.
REINTEGRATION_REASON, UNDER18_REASON, BOTH_REASON = "undergoing reintegration", "under 18", "in both"
EXIT_REASON = "removed: disabled, in neither indicator, or excluded by consent"
CONSENT_REASON = "excluded by the consent policy"
MODULE_REASON = "removed: of a module that is not included"
PRESENT_AGE_REASON = "under 18 by the present age, no date of birth being usable"
NO_AGE_REASON = "neither date of birth nor age usable"
ERASED_REASON = "excluded: erased by `primero-ona forget`, but still in Primero"


class QuarterSink:
    """Sorts the cases of a quarter, whose lock is held, and counts them. What is not committed when it is closed is discarded.

    `erased`: the subjects of all erasures; `erased_seen`: of those of them that came.
    """

    def __init__(self, stored: StoredAssets, quarter: Quarter, policy: PullPolicy, erased: frozenset[str]) -> None:
        self.quarter, self._policy, self.erased = quarter, policy, erased
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
        self._expect(next_registration(frame, today))
        frame = with_ages(frame, today)
        sets = sort_cases(frame, self._policy.consent, self._policy.modules)
        for asset, column in SETS.items():
            self._take(asset, frame[sets[column].to_numpy()])
        of_gbv = (frame["module_id"] == GBV_MODULE).fillna(value=False).to_numpy(bool)
        holds = {
            REINTEGRATION_REASON: sets["reintegration"],
            UNDER18_REASON: sets["under18"],
            BOTH_REASON: sets["reintegration"] & sets["under18"],
            EXIT_REASON: sets["exit"],
            CONSENT_REASON: sets["excluded"],
            NO_AGE_REASON: sets["age_missing"],
            PRESENT_AGE_REASON: sets["under18"] & frame["age_at_registration"].isna(),
            GBV_REASON: ~sets["exit"] & of_gbv,
        }
        self.reasons.update({reason: int(cases.sum()) for reason, cases in holds.items()})

    def leave(self, frame: pd.DataFrame) -> None:
        """Take cases of modules that are not included: their rows leave ONA."""
        frame = self._without_erased(frame)
        self._take(EXITS, frame)
        self.reasons[MODULE_REASON] += len(frame)

    def _take(self, asset: str, frame: pd.DataFrame) -> None:
        """Take those columns of the cases that the asset has."""
        self.take(asset, self._writers[asset].table_of(frame))

    def take(self, asset: str, table: pa.Table) -> None:
        """Write rows of an asset, or let them wait: a part costs its readers as much for a hundred rows as for a thousand."""
        waiting = self._waiting[asset]
        waiting.append(table)
        while sum(map(len, waiting)) >= BATCH_ROWS:
            whole = pa.concat_tables(waiting)
            self._writers[asset].write_table(whole.slice(0, BATCH_ROWS))
            waiting[:] = [whole.slice(BATCH_ROWS)]

    def add_carried(
        self, counted: Mapping[str, int], before: Mapping[str, int], erased: frozenset[str], registration: date | None
    ) -> None:
        """Add what was carried over: `counted`, the reasons that its rows show; others are those `before`, of the pull that stored it.

        `erased`: the subjects of the erased cases that it saw; `registration`: the first one that lay in the future.
        """
        self.reasons.update(counted)
        # Of cases that are not included no reason is stored, so the last whole walk's count is kept.
        for reason in (CONSENT_REASON, NO_AGE_REASON, *([MODULE_REASON, EXIT_REASON] if self._policy.modules else ())):
            self.reasons.pop(reason, None)
            known = f"{reason} (at the last whole walk)"
            self.reasons[known] = before.get(known, before.get(reason, 0))
        self.erased_seen |= erased
        self.reasons[ERASED_REASON] = len(self.erased_seen)
        self._expect(registration)

    def _expect(self, registration: date | None) -> None:
        self.next_registration = min((day for day in (self.next_registration, registration) if day), default=None)

    def _without_erased(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Nothing is stored of a case that was erased, not even that it left."""
        kept = without_erased(frame, self.erased)
        if len(kept) < len(frame):
            self.erased_seen |= {subject_of(case) for case in frame["id"]} & self.erased
        self.reasons[ERASED_REASON] = len(self.erased_seen)
        return kept

    def require_same_erasures(self, erased: frozenset[str]) -> None:
        """Raise TransientError where other cases are erased by now: what was written may hold one of them."""
        if erased != self.erased:
            raise TransientError(
                f"a case was erased while {self.quarter} was pulled; nothing was stored, sync it again", see="two-pulls"
            )

    def commit(self, facts: dict[str, Any]) -> dict[str, int]:
        """Make the three partitions count, with `facts` in their summaries; return their rows."""
        for asset, waiting in self._waiting.items():
            if waiting:
                self._writers[asset].write_table(pa.concat_tables(waiting))
        for writer in self._writers.values():
            writer.commit(facts)
        return {asset: writer.rows for asset, writer in self._writers.items()}

    def close(self) -> None:
        """Leave partitions that are not committed as they were."""
        for writer in self._writers.values():
            writer.discard()
