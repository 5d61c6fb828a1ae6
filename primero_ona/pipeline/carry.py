"""Carry over what is stored of an open quarter, so that a pull asks Primero for its changes alone.

Stored rows are copied as they are, without the cases that came again. What a pull stores is what a walk of the whole quarter
would have stored; wherever that is in doubt, the whole quarter is walked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from primero_ona.contract.tables import BIRTH_FIELD
from primero_ona.errors import ConfigError, DataError
from primero_ona.ona.bookkeeping import PULL_NUMBER, RECEIVED
from primero_ona.ona.erasure import not_erased
from primero_ona.pipeline.sink import (
    BOTH_REASON,
    EXIT_REASON,
    PRESENT_AGE_REASON,
    REINTEGRATION_REASON,
    SETS,
    UNDER18_REASON,
    QuarterSink,
)
from primero_ona.pipeline.stored import EXITS, REINTEGRATION, UNDER18, StoredAssets, rules_version
from primero_ona.primero.changes import OVERLAP
from primero_ona.primero.fields import GBV_MODULE, GBV_REASON
from primero_ona.primero.pull import PullReport
from primero_ona.quarters import local_today
from primero_ona.settings import GraphSettings, read_one
from primero_ona.storage.partitions import StoredFile

if TYPE_CHECKING:
    import pandas as pd


#: Under this name the summary of a raw partition has what the next pull has to know to build on it.
CARRY = "carry"

#: The age on the day of registration, in which a stored case shows that it had a date of birth, too.
_REGISTERED_AT = "age_at_registration"

_STAMP = pa.timestamp("ms", tz="UTC")
_moment = datetime.fromisoformat


class CarriedQuarter:
    """What an earlier pull stored of a quarter, and in `summary` says of itself; see `Carried`. Times are in UTC."""

    def __init__(self, files: Mapping[str, StoredFile], summary: Mapping[str, Any], sink: QuarterSink) -> None:
        self._files, self.summary, self._sink = files, summary, sink
        self._came: set[str] = set()
        #: The subjects of the erased cases that lie in the quarter, and the first registration that lay in the future.
        self._erased = frozenset(summary[CARRY]["erased"])
        due = summary[CARRY]["next_registration"]
        self._registration = date.fromisoformat(due) if due else None

    @classmethod
    def find(cls, stored: StoredAssets, sink: QuarterSink) -> CarriedQuarter | str:
        """The quarter of the sink as it is stored, or why nothing can be carried over."""
        try:
            files = {asset: stored.open_file(asset, sink.quarter) for asset in SETS}
        except FileNotFoundError:
            return "it was not pulled before"
        except (DataError, ConfigError):
            return "what is stored cannot be read, or was pulled by other rules"
        summaries = [file.footer["summary"] for file in files.values()]
        if len({summary.get(PULL_NUMBER) for summary in summaries}) > 1:
            return "what is stored comes from several pulls"
        if summaries[0].get(CARRY, {}).get("rules") != rules_version():
            return "another version of primero-ona has pulled it"
        found = cls(files, summaries[0], sink)
        try:
            return found if len(found._ids) else "nothing is stored of it"
        except DataError:
            return "what is stored is damaged"

    @cached_property
    def _stamps(self) -> pa.Table:
        tables = [table for file in self._files.values() for table in file.tables(["id", "last_updated_at"])]
        return pa.concat_tables(tables) if tables else pa.table({"id": pa.array([], pa.string())})

    @cached_property
    def _ids(self) -> pa.Array:
        """The stored cases, each once."""
        return pc.unique(self._stamps.column("id"))

    @cached_property
    def since(self) -> datetime:
        """See Carried.

        So that an answer without cases, which is what a time-out in Primero's database looks like, is never taken for none. By
        our clock, too: where answers have no time, `settled` is a stamp, which may lie ahead.
        """
        pull, newest = self.summary["pull"], pc.max(self._stamps.column("last_updated_at")).as_py()
        earliest: datetime = min(_moment(pull["settled"]), _moment(pull["pulled_at"]), newest) - OVERLAP
        return earliest.replace(microsecond=0)

    @cached_property
    def _expected(self) -> pa.Array:
        """The stored cases that must come again: those of the span that is asked for, and those stamped ahead."""
        late = pc.greater_equal(self._stamps.column("last_updated_at"), pa.scalar(self.since, _STAMP))
        ahead = pa.array(self.summary[RECEIVED]["ahead"], pa.string())
        return pc.unique(pa.chunked_array([*self._stamps.column("id").filter(late).chunks, ahead], pa.string()))

    @property
    def fields(self) -> Collection[str]:
        """See Carried."""
        return list(self.summary["pull"]["fields"]["shown"])

    def refusal(self, report: PullReport) -> str:
        """See Carried."""
        before, carry, settled = self.summary["pull"], self.summary[CARRY], _moment(report.settled)
        # By our clock, too: where answers have no time, Primero's stands still until something is changed.
        age = max(settled - _moment(before["whole_at"]), _moment(report.pulled_at) - _moment(carry["whole_pulled_at"]))
        due = self._registration
        reasons = {
            "the last whole walk was too long ago": age >= timedelta(days=read_one(GraphSettings).whole_walk_days),
            "cases were erased since the last pull": carry["erasures"] != _fingerprint(self._sink.erased),
            "a registration that lay in the future has come": due is not None and due <= local_today(),
            "Primero runs another version than before": before["version"] != report.version,
            "Primero keeps its stamps in another zone than before": before["zone_hours"] != report.zone_hours,
            "Primero's clock was put back": settled < _moment(before["settled"]),
            "all of it has just changed": self.since <= self._sink.quarter.start,
        }
        reason = next((reason for reason, holds in reasons.items() if holds), "")
        if not reason:
            report.whole_at = before["whole_at"]
        return reason

    def restart(self) -> None:
        """See Sink."""
        self._came.clear()
        self._sink.restart()

    def write(self, frame: pd.DataFrame) -> None:
        """See Sink."""
        self._came.update(frame["id"])
        self._sink.write(frame)

    def leave(self, frame: pd.DataFrame) -> None:
        """See Sink."""
        self._came.update(frame["id"])
        self._sink.leave(frame)

    def fault(self, counted: int) -> str:
        """See Carried."""
        came = self._came_ids()
        lost = len(self._expected) - pc.sum(pc.is_in(self._expected, came)).as_py()
        if lost:
            return f"{lost} cases that were stored do not come again"
        new = not_erased(came.filter(pc.invert(pc.is_in(came, self._ids))).to_pylist(), self._sink.erased)
        held = len(self._ids) + len(new) + len(self._sink.erased_seen | self._erased)
        return "" if held == counted else f"Primero counts {counted:,} cases, where {held:,} are held"

    def examples(self, names: Sequence[str]) -> dict[str, str]:
        """See Carried; none of what is damaged."""
        columns = {name: _REGISTERED_AT if name == BIRTH_FIELD else name for name in names}
        found: dict[str, str] = {}
        with suppress(DataError):
            for asset in (UNDER18, REINTEGRATION):
                for table in self._files[asset].tables(["id", *columns.values()]) if columns else ():
                    for name in columns.keys() - found.keys():
                        with_value = table.column("id").filter(pc.is_valid(table.column(columns[name])))
                        found |= {name: with_value[0].as_py()} if len(with_value) else {}
                    if len(found) == len(columns):
                        return found
        return found

    def carry(self) -> int:
        """See Carried."""
        came, of_gbv, by_present_age = self._came_ids(), list[pa.Array](), 0
        ids: dict[str, list[pa.Array]] = {asset: [] for asset in self._files}
        for asset, file in self._files.items():
            for table in file.tables():
                kept = table.filter(pc.invert(pc.is_in(table.column("id"), came)))
                self._sink.take(asset, kept)
                ids[asset] += kept.column("id").chunks
                if asset == UNDER18:
                    by_present_age += kept.column(_REGISTERED_AT).null_count
                if asset != EXITS:
                    of_gbv += kept.filter(pc.equal(kept.column("module_id"), GBV_MODULE)).column("id").chunks
        young, reintegration, exits = (ids[asset] for asset in (UNDER18, REINTEGRATION, EXITS))
        counted = {
            REINTEGRATION_REASON: sum(map(len, reintegration)),
            UNDER18_REASON: sum(map(len, young)),
            BOTH_REASON: sum(map(len, reintegration + young)) - _distinct(reintegration + young),
            EXIT_REASON: sum(map(len, exits)),
            PRESENT_AGE_REASON: by_present_age,
            GBV_REASON: _distinct(of_gbv),
        }
        self._sink.add_carried(counted, self.summary["reasons"], self._erased, self._registration)
        return _distinct(young + reintegration + exits)

    def _came_ids(self) -> pa.Array:
        return pa.array(sorted(self._came), pa.string())


def summary_of(
    report: PullReport, number: int, sink: QuarterSink, carried: CarriedQuarter | None, loaded: int | None
) -> dict[str, Any]:
    """What the summaries of a pull say: of itself, for the load, and for the next pull. `loaded`: the last pull that was loaded."""
    spans: list[list[Any]] = [[number, report.since]]
    whole_pulled_at, due = report.pulled_at, sink.next_registration
    if carried and report.since:
        spans += [span for span in carried.summary[RECEIVED]["spans"] if span[0] > (loaded or 0)]
        whole_pulled_at = carried.summary[CARRY]["whole_pulled_at"]
    return {
        "quarter": sink.quarter.name,
        PULL_NUMBER: number,
        "window": [sink.quarter.start.isoformat(), sink.quarter.end.isoformat()],
        "pull": {**asdict(report), "ahead": len(report.ahead)},
        "reasons": dict(sink.reasons),
        RECEIVED: {"spans": spans, "ahead": not_erased(report.ahead, sink.erased)},
        CARRY: {
            "rules": rules_version(),
            "whole_pulled_at": whole_pulled_at,
            "erasures": _fingerprint(sink.erased),
            "erased": sorted(sink.erased_seen),
            "next_registration": due.isoformat() if due else None,
        },
    }


def _fingerprint(erased: Iterable[str]) -> str:
    """Which cases were erased, in short."""
    return hashlib.sha256("".join(sorted(erased)).encode()).hexdigest()


def _distinct(ids: list[pa.Array]) -> int:
    return len(pa.chunked_array(ids, pa.string()).unique())
