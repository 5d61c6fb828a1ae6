"""Where a pull puts a quarter: raw cases are sorted into the three raw assets while they arrive, and nothing else is kept.

What belongs here: the membership, the consent policy and the erased cases brought together, and the count of why each case
went where. The pull itself knows none of them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from primero_ona.graph.io_manager import PartitionIOManager
from primero_ona.mapping.ages import with_ages
from primero_ona.mapping.membership import keep_out, membership, without_consent
from primero_ona.ona.erased import without_erased
from primero_ona.ona.fields import shown_fields
from primero_ona.ona.visible import visible_cases
from primero_ona.primero.fields import EXIT_COLUMNS, KnownFields, json_text
from primero_ona.primero.policy import GBV_MODULE, ConsentPolicy, PullPolicy
from primero_ona.primero.visible import KnownScope
from primero_ona.primero.walk import Window
from primero_ona.quarters import Quarter, local_today
from primero_ona.settings import GraphSettings, read_one
from primero_ona.storage.frames import BATCH_ROWS

if TYPE_CHECKING:
    import pandas as pd
    import psycopg

#: The column of the membership that sorts cases into each raw asset.
SETS = {
    "raw_reintegration_cases": "reintegration",
    "raw_under18_cases": "under18",
    "case_exits": "exit",
}

#: Why a case went where it went: for `primero-ona findings`, never for Dagster, as `metadata.py` says.
EXIT_REASON = "exit: disabled, in neither set, or kept out by consent"
CONSENT_REASON = "kept out by the consent policy"
MODULE_REASON = "exit: of a module that is not included"
PRESENT_AGE_REASON = "under 18 by the present age, no date of birth being usable"
NO_AGE_REASON = "neither date of birth nor age usable"
ERASED_REASON = "kept out: erased by `primero-ona forget`, but still in Primero"
GBV_REASON = "included: of the module for gender-based violence"


class QuarterSink:
    """Sorts raw cases into the three assets while they arrive, and counts why each went where."""

    def __init__(
        self,
        storage: PartitionIOManager,
        partition: str,
        consent: ConsentPolicy = "include",
        erased: frozenset[str] = frozenset(),
    ) -> None:
        self._consent, self._erased = consent, erased
        self._writers = {asset: storage.writer(asset, partition) for asset in SETS}
        self._waiting: dict[str, list[pd.DataFrame]] = {asset: [] for asset in SETS}
        self.reasons: Counter[str] = Counter()

    def restart(self) -> None:
        """Begin the quarter anew."""
        self.reasons.clear()
        for asset, writer in self._writers.items():
            self._waiting[asset] = []
            writer.restart()

    def write(self, frame: pd.DataFrame) -> None:
        """Take a frame of cases as pulled; their dates of birth become ages here and are not kept."""
        frame = with_ages(self._without_erased(frame), local_today())
        sets = membership(frame)
        kept_out = without_consent(frame, self._consent)
        self.reasons[CONSENT_REASON] += int((kept_out & ~sets["exit"].to_numpy()).sum())
        keep_out(sets, kept_out)
        for asset, column in SETS.items():
            chosen = frame[sets[column].to_numpy()]
            self._take(asset, chosen[[*EXIT_COLUMNS]] if asset == "case_exits" else chosen)
        self.reasons.update(_reasons(sets))
        self.reasons[PRESENT_AGE_REASON] += int((sets["under18"] & frame["age_at_registration"].isna()).sum())
        gbv = (frame["module_id"] == json_text(GBV_MODULE)).fillna(value=False)
        self.reasons[GBV_REASON] += int((gbv.to_numpy(bool) & ~sets["exit"].to_numpy()).sum())

    def leave(self, frame: pd.DataFrame) -> None:
        """Take cases of modules that are not included: their rows leave ONA."""
        frame = self._without_erased(frame)
        self._take("case_exits", frame[[*EXIT_COLUMNS]])
        self.reasons[MODULE_REASON] += len(frame)

    def _take(self, asset: str, frame: pd.DataFrame) -> None:
        """Write a frame, or let it wait: a part costs its readers as much for a hundred rows as for a thousand."""
        waiting = self._waiting[asset]
        if sum(map(len, waiting)) + len(frame) > BATCH_ROWS:
            self._write_waiting(asset)
        waiting.append(frame)

    def _write_waiting(self, asset: str) -> None:
        """Write the frames that wait as one, which has at most BATCH_ROWS rows."""
        import pandas as pd  # noqa: PLC0415

        if self._waiting[asset]:
            self._writers[asset].write(pd.concat(self._waiting[asset], ignore_index=True))
            self._waiting[asset].clear()

    def _without_erased(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Nothing is stored of a case that was erased, not even that it left."""
        kept = without_erased(frame, self._erased)
        self.reasons[ERASED_REASON] += len(frame) - len(kept)
        return kept

    def commit(self, facts: dict[str, Any]) -> dict[str, int]:
        """Make the three partitions count, with `facts` in their summaries; return their rows."""
        for asset in self._writers:
            self._write_waiting(asset)
        for writer in self._writers.values():
            writer.commit(facts)
        return {asset: writer.rows for asset, writer in self._writers.items()}

    def discard(self) -> None:
        """Leave the partitions as they were."""
        for writer in self._writers.values():
            writer.discard()


def _reasons(sets: pd.DataFrame) -> dict[str, int]:
    both = sets["reintegration"] & sets["under18"]
    return {
        "undergoing reintegration": int(sets["reintegration"].sum()),
        "under 18": int(sets["under18"].sum()),
        "in both": int(both.sum()),
        EXIT_REASON: int(sets["exit"].sum()),
        NO_AGE_REASON: int(sets["age_missing"].sum()),
    }


def known_fields(conn: psycopg.Connection) -> KnownFields:
    """Read what ONA's bookkeeping knows of the fields that earlier pulls were shown."""
    fields = shown_fields(conn)
    return KnownFields(
        frozenset(field.name for field in fields), frozenset(field.name for field in fields if field.accepted_at)
    )


def known_scope(conn: psycopg.Connection) -> KnownScope:
    """Read how many cases the account should see, and from the settings what counts as a fall."""
    settings = read_one(GraphSettings)
    share = settings.scope_loss_percent / 100
    return KnownScope(**asdict(visible_cases(conn)), share=share, least=settings.scope_loss_cases)


def window_of(quarter: Quarter, policy: PullPolicy) -> Window:
    """The window of a quarter, open while the quarter runs."""
    return Window(quarter.start, quarter.end, quarter.is_open(datetime.now(UTC)), policy.modules, policy.precision)
