"""Pull a quarter: raw cases are sorted into the three raw assets while they arrive, and nothing else is kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import psycopg

from primero_ona.errors import TransientError
from primero_ona.mapping.dates import with_ages
from primero_ona.ona.bookkeeping import PULL_NUMBER, next_pull
from primero_ona.ona.connection import Connect
from primero_ona.ona.erasure import erased_subjects, not_erased, without_erased
from primero_ona.ona.locks import partition_lock, require_held
from primero_ona.ona.primero_state import note_fields, note_visible, shown_fields, visible_cases
from primero_ona.pipeline.scope import sort_cases
from primero_ona.pipeline.stored import EXITS, REINTEGRATION, UNDER18, StoredAssets
from primero_ona.primero.client import PrimeroClient
from primero_ona.primero.fields import EXIT_COLUMNS, KnownFields, json_text
from primero_ona.primero.policy import GBV_MODULE, PullPolicy
from primero_ona.primero.pull import PullReport, pull_cases
from primero_ona.primero.visible import EMPTY_PAUSE, KnownScope
from primero_ona.primero.walk import Window
from primero_ona.quarters import Quarter, local_today
from primero_ona.settings import GraphSettings, read_one
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
GBV_REASON = "included: of the module for gender-based violence"


@dataclass(frozen=True)
class Pulled:
    """What a pull stored: rows by asset, why cases went where they went, how many were erased earlier, and its report.

    `ahead`: Primero ids of the cases that are stamped ahead of Primero's own time, without those that were erased.
    """

    report: PullReport
    rows: Mapping[str, int]
    reasons: Mapping[str, int]
    ahead: list[str]

    @property
    def erased(self) -> int:
        """Cases that are still in Primero, and are excluded because they were erased."""
        return self.reasons.get(ERASED_REASON, 0)


def pull_quarter(
    client: PrimeroClient,
    connect: Connect,
    stored: StoredAssets,
    quarter: Quarter,
    policy: PullPolicy,
    *,
    now: datetime | None = None,
    empty_pause: float = EMPTY_PAUSE,
) -> Pulled:
    """Pull a quarter from Primero into the three raw assets; all three, or none.

    `connect` opens a connection to ONA; `now` (aware; default: this machine's clock) decides whether the quarter is open.
    Raises TransientError where another run stores the quarter or a case was erased meanwhile, else as `pull_cases`.
    """
    with connect() as conn:
        number = next_pull(conn)
        erased, known, scope = erased_subjects(conn), known_fields(conn), known_scope(conn)
    with connect() as lock, partition_lock(lock, quarter.key):
        for asset in SETS:
            stored.store.remove_unfinished(asset, quarter.key)
        sink = QuarterSink(stored, quarter, policy, erased)
        try:
            report = pull_cases(client, window_of(quarter, policy, now), sink, known, scope, empty_pause=empty_pause)
            _require_erased(connect, erased, quarter)
            require_held(lock)
            rows = sink.commit(_facts(quarter, number, report, sink.reasons))
        except BaseException:
            sink.discard()
            raise
    with connect() as conn:
        note_fields(conn, report.fields.shown, report.fields.returned, datetime.now(UTC))
        note_visible(conn, report.visible, restored=report.visible >= scope.in_ona)
    return Pulled(report, rows, dict(sink.reasons), not_erased(report.ahead, erased))


def _require_erased(connect: Connect, erased: frozenset[str], quarter: Quarter) -> None:
    """Read the erasures again: what was written may hold a case that was erased meanwhile."""
    with connect() as conn:
        if erased_subjects(conn) != erased:
            raise TransientError(f"a case was erased while {quarter} was pulled; nothing was stored, sync it again")


def _facts(quarter: Quarter, number: int, report: PullReport, reasons: Mapping[str, int]) -> dict[str, Any]:
    """What the summary of each stored partition says of its pull."""
    return {
        "quarter": quarter.name,
        PULL_NUMBER: number,
        "window": [quarter.start.isoformat(), quarter.end.isoformat()],
        "pull": {**asdict(report), "ahead": len(report.ahead)},
        "reasons": dict(reasons),
    }


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
        self._waiting: dict[str, list[pd.DataFrame]] = {asset: [] for asset in SETS}
        self.reasons: Counter[str] = Counter()

    def restart(self) -> None:
        """Begin the quarter again."""
        self.reasons.clear()
        for asset, writer in self._writers.items():
            self._waiting[asset] = []
            writer.restart()

    def write(self, frame: pd.DataFrame) -> None:
        """Take a frame of cases as pulled; their dates of birth become ages here and are not kept."""
        frame = with_ages(self._without_erased(frame), local_today())
        sets = sort_cases(frame, self._policy)
        self.reasons[CONSENT_REASON] += int(sets["excluded"].sum())
        for asset, column in SETS.items():
            chosen = frame[sets[column].to_numpy()]
            self._take(asset, chosen[[*EXIT_COLUMNS]] if asset == EXITS else chosen)
        self.reasons.update(_reasons(sets))
        self.reasons[PRESENT_AGE_REASON] += int((sets["under18"] & frame["age_at_registration"].isna()).sum())
        gbv = (frame["module_id"] == json_text(GBV_MODULE)).fillna(value=False)
        self.reasons[GBV_REASON] += int((gbv.to_numpy(bool) & ~sets["exit"].to_numpy()).sum())

    def leave(self, frame: pd.DataFrame) -> None:
        """Take cases of modules that are not included: their rows leave ONA."""
        frame = self._without_erased(frame)
        self._take(EXITS, frame[[*EXIT_COLUMNS]])
        self.reasons[MODULE_REASON] += len(frame)

    def _take(self, asset: str, frame: pd.DataFrame) -> None:
        """Write a frame, or let it wait: a part costs its readers as much for a hundred rows as for a thousand."""
        waiting = self._waiting[asset]
        if sum(map(len, waiting)) + len(frame) > BATCH_ROWS:
            self._write_waiting(asset)
        waiting.append(frame)

    def _write_waiting(self, asset: str) -> None:
        """Write the frames that wait as one, which has at most BATCH_ROWS rows."""
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


def window_of(quarter: Quarter, policy: PullPolicy, now: datetime | None = None) -> Window:
    """The window of a quarter, open while the quarter runs."""
    is_open = quarter.is_open(now or datetime.now(UTC))
    return Window(quarter.start, quarter.end, is_open, policy.modules, policy.precision)
