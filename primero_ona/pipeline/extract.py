"""Pull a quarter: raw cases are sorted into the three raw assets while they arrive, and nothing else is kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pandas as pd
import psycopg
import pyarrow as pa

from primero_ona.errors import NAMED_CASES, TransientError
from primero_ona.mapping.dates import next_registration, with_ages
from primero_ona.mapping.membership import sort_cases
from primero_ona.ona.bookkeeping import PULL_NUMBER, last_pull, next_pull
from primero_ona.ona.connection import Connect, partition_lock, require_held
from primero_ona.ona.erasure import erased_subjects, not_erased, subject_of, without_erased
from primero_ona.ona.primero_state import note_fields, note_visible, shown_fields, visible_cases
from primero_ona.pipeline.carry import Basis, CarriedCounts, CarriedQuarter, Present, carry_facts
from primero_ona.pipeline.stored import EXITS, REINTEGRATION, UNDER18, StoredAssets
from primero_ona.primero.client import PrimeroClient
from primero_ona.primero.fields import EXIT_COLUMNS, GBV_MODULE, GBV_REASON, KnownFields, PullPolicy, warn_of_fields
from primero_ona.primero.pull import PullReport, pull_cases
from primero_ona.primero.visible import KnownScope
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

#: Of cases that are not included no reason is stored, so where they are carried over, the last whole walk's count is kept.
OF_WHOLE_WALK = " (at the last whole walk)"


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
    def warnings(self) -> list[str]:
        """What people should look into, with Primero's ids at most."""
        found = warn_of_fields(self.report.fields.missing)
        if ahead := len(self.report.ahead):
            found.append(
                f"{ahead} cases are stamped more than an hour ahead of Primero's own time; they came with the open quarter, stamped "
                "with its start. Let Primero's administrators look at the server's clock. The first: "
                + ", ".join(self.ahead[:NAMED_CASES])
            )
        return found

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
    whole: bool = False,
    now: datetime | None = None,
) -> Pulled:
    """Pull a quarter from Primero into the three raw assets; all three, or none.

    An open quarter is pulled by its changes where what is stored allows it, and `whole` is not demanded. `connect` opens a
    connection to ONA; `now` (aware; default: this machine's clock) decides whether the quarter is open.
    Raises TransientError where another run stores the quarter or a case was erased meanwhile, else as `pull_cases`.
    """
    window = window_of(quarter, policy, now)
    limit = timedelta(days=read_one(GraphSettings).whole_walk_days)
    with connect() as lock, partition_lock(lock, quarter.key):
        # Under the lock, for which a pull may wait, and before Primero is asked.
        with connect() as conn:
            number = next_pull(conn)
            erased, known, scope = erased_subjects(conn), known_fields(conn), known_scope(conn)
            loaded = last_pull(conn, quarter)
        present = Present(window.is_open, whole, erased, local_today(), limit)
        for asset in SETS:
            stored.store.remove_unfinished(asset, quarter.key)
        basis = Basis.find(stored, quarter) if window.is_open and not whole else "it is walked whole"
        sink = QuarterSink(stored, quarter, policy, erased)
        carried = CarriedQuarter(sink, quarter, basis, present)
        try:
            report = pull_cases(client, window, sink, known, scope, carried=carried)
            _require_erased(connect, erased, quarter)
            require_held(lock)
            spans = carry_facts(report, number, basis, loaded, erased, sink.erased_seen, sink.next_registration)
            rows = sink.commit({**_facts(quarter, number, report, sink.reasons), **spans})
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
            raise TransientError(
                f"a case was erased while {quarter} was pulled; nothing was stored, sync it again",
                see="two-pulls",
            )


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
            writer.restart()

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
    return KnownScope(*visible_cases(conn), share=share, least=settings.scope_loss_cases)


def window_of(quarter: Quarter, policy: PullPolicy, now: datetime | None = None) -> Window:
    """The window of a quarter, open while the quarter runs."""
    is_open = quarter.is_open(now or datetime.now(UTC))
    return Window(quarter.start, quarter.end, is_open, policy.modules, policy.precision)
