"""Carry over what is stored of an open quarter, so that a pull asks Primero for its changes alone.

Stored rows are copied as they are, without the cases that came again. What a pull stores is what a walk of the whole quarter
would have stored; wherever that is in doubt, the whole quarter is walked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache, cached_property
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from primero_ona.contract.tables import BIRTH_FIELD
from primero_ona.errors import ConfigError, DataError
from primero_ona.mapping.labels import version_of
from primero_ona.ona.bookkeeping import PULL_NUMBER, RECEIVED
from primero_ona.ona.erasure import not_erased
from primero_ona.pipeline.sink import CarriedCounts, QuarterSink
from primero_ona.pipeline.stored import EXITS, REINTEGRATION, UNDER18, StoredAssets
from primero_ona.primero.changes import OVERLAP
from primero_ona.primero.fields import GBV_MODULE
from primero_ona.primero.pull import PullReport
from primero_ona.quarters import Quarter
from primero_ona.storage.partitions import StoredFile

if TYPE_CHECKING:
    import pandas as pd


#: Under this name the summary of a raw partition has what the next pull has to know to build on it.
CARRY = "carry"

#: The age on the day of registration, in which a stored case shows that it had a date of birth, too.
_REGISTERED_AT = "age_at_registration"

#: The modules that decide what a pull makes of a case, beyond the columns that `PULL_VERSION` covers.
RULES = (
    "mapping/dates.py", "mapping/membership.py", "primero/fields.py", "primero/raw.py", "primero/walk.py", "texts.py",
)  # fmt: skip

_STAMP = pa.timestamp("ms", tz="UTC")


@cache
def rules_version() -> str:
    """The version of `RULES`: rows of other rules are not carried over, or old and new ones would stand in one partition."""
    return version_of(b"", rule_sources().values(), "")


def rule_sources() -> dict[str, bytes]:
    """The text of each of `RULES`."""
    return {name: files("primero_ona").joinpath(name).read_bytes() for name in RULES}


@dataclass(frozen=True)
class Present:
    """What decides, before Primero is asked, whether changes will do.

    `demanded`: that the whole quarter is to be walked. `erased`: the subjects of all erasures; `today`: the day in Phnom
    Penh; `limit`: how old the last whole walk may be.
    """

    is_open: bool
    demanded: bool
    erased: frozenset[str]
    today: date
    limit: timedelta


@dataclass(frozen=True)
class Basis:
    """What an earlier pull stored of a quarter, in its three partitions, and what it says of itself. Times are in UTC."""

    files: Mapping[str, StoredFile]
    summary: Mapping[str, Any]

    @classmethod
    def find(cls, stored: StoredAssets, quarter: Quarter) -> Basis | str:
        """The basis, or why there is none."""
        try:
            files = {asset: stored.open_file(asset, quarter) for asset in (UNDER18, REINTEGRATION, EXITS)}
        except FileNotFoundError:
            return "it was not pulled before"
        except (DataError, ConfigError):
            return "what is stored cannot be read, or was pulled by other rules"
        summaries = [file.footer["summary"] for file in files.values()]
        if len({summary.get(PULL_NUMBER) for summary in summaries}) > 1:
            return "what is stored comes from several pulls"
        if summaries[0].get(CARRY, {}).get("rules") != rules_version():
            return "another version of primero-ona has pulled it"
        basis = cls(files, summaries[0])
        try:
            return basis if len(basis.ids) else "nothing is stored of it"
        except DataError:
            return "what is stored is damaged"

    @property
    def pull(self) -> Mapping[str, Any]:
        """The report of its pull."""
        return self.summary["pull"]  # type: ignore[no-any-return]

    @property
    def erased(self) -> frozenset[str]:
        """The subjects of the erased cases that lie in the quarter."""
        return frozenset(self.summary[CARRY]["erased"])

    @cached_property
    def _stamps(self) -> pa.Table:
        tables = [table for file in self.files.values() for table in file.tables(["id", "last_updated_at"])]
        return pa.concat_tables(tables) if tables else pa.table({"id": pa.array([], pa.string())})

    @cached_property
    def ids(self) -> pa.Array:
        """The stored cases, each once."""
        return pc.unique(self._stamps.column("id"))

    @cached_property
    def since(self) -> datetime:
        """From when on changes are asked for: at least one stored case has this stamp or a later one, and must come again.

        So that an answer without cases, which is what a time-out in Primero's database looks like, is never taken for none. By
        our clock, too: where answers have no time, `settled` is a stamp, which may lie ahead.
        """
        newest = pc.max(self._stamps.column("last_updated_at")).as_py()
        earliest: datetime = min(_moment(self.pull["settled"]), _moment(self.pull["pulled_at"]), newest) - OVERLAP
        return earliest.replace(microsecond=0)

    @cached_property
    def expected(self) -> pa.Array:
        """The stored cases that must come again: those of the span that is asked for, and those stamped ahead."""
        late = pc.greater_equal(self._stamps.column("last_updated_at"), pa.scalar(self.since, _STAMP))
        ahead = pa.array(self.summary[RECEIVED]["ahead"], pa.string())
        return pc.unique(pa.chunked_array([*self._stamps.column("id").filter(late).chunks, ahead], pa.string()))


def why_whole(basis: Basis | str, quarter: Quarter, present: Present, report: PullReport) -> str:
    """Why the whole quarter has to be walked; "" where the changes since the basis was pulled will do."""
    if present.demanded:
        return "it was asked for"
    if not present.is_open:
        return "it is closed"
    if isinstance(basis, str):
        return basis
    before, carry, settled = basis.pull, basis.summary[CARRY], _moment(report.settled)
    due = carry["next_registration"]
    # By our clock, too: where answers have no time, Primero's stands still until something is changed.
    age = max(settled - _moment(before["whole_at"]), _moment(report.pulled_at) - _moment(carry["whole_pulled_at"]))
    reasons = {
        "the last whole walk was too long ago": age >= present.limit,
        "cases were erased since the last pull": carry["erasures"] != fingerprint(present.erased),
        "a registration that lay in the future has come": due is not None and date.fromisoformat(due) <= present.today,
        "Primero runs another version than before": before["version"] != report.version,
        "Primero keeps its stamps in another zone than before": before["zone_hours"] != report.zone_hours,
        "Primero's clock was put back": settled < _moment(before["settled"]),
        "all of it has just changed": basis.since <= quarter.start,
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def carry_facts(
    report: PullReport,
    number: int,
    basis: Basis | str,
    loaded: int | None,
    erased: frozenset[str],
    seen: Collection[str],
    due: date | None,
) -> dict[str, Any]:
    """What the summaries of a pull say for the load and for the next pull.

    `loaded`: the last pull that was loaded into the quarter; `seen`: the subjects of erased cases that came; `due`: the first
    registration that lies in the future.
    """
    spans: list[list[Any]] = [[number, report.since]]
    whole_pulled_at = report.pulled_at
    if isinstance(basis, Basis) and report.since:
        spans += [span for span in basis.summary[RECEIVED]["spans"] if span[0] > (loaded or 0)]
        seen = {*seen, *basis.erased}
        whole_pulled_at = basis.summary[CARRY]["whole_pulled_at"]
        earlier = basis.summary[CARRY]["next_registration"]
        due = min((day for day in (due, earlier and date.fromisoformat(earlier)) if day), default=None)
    return {
        RECEIVED: {"spans": spans, "ahead": not_erased(report.ahead, erased)},
        CARRY: {
            "rules": rules_version(),
            "whole_pulled_at": whole_pulled_at,
            "erasures": fingerprint(erased),
            "erased": sorted(seen),
            "next_registration": due.isoformat() if due else None,
        },
    }


def fingerprint(erased: Iterable[str]) -> str:
    """Which cases were erased, in short."""
    return hashlib.sha256("".join(sorted(erased)).encode()).hexdigest()


class CarriedQuarter:
    """Takes the changes of a quarter into a sink, and carries over what is stored of the other cases; see `Carried`."""

    def __init__(self, sink: QuarterSink, quarter: Quarter, basis: Basis | str, present: Present) -> None:
        self._sink, self._quarter, self._basis, self._present = sink, quarter, basis, present
        self._came: set[str] = set()

    @property
    def _stored(self) -> Basis:
        if isinstance(self._basis, str):
            raise TypeError(self._basis)
        return self._basis

    @property
    def since(self) -> datetime:
        """See Carried."""
        return self._stored.since

    @property
    def fields(self) -> Collection[str]:
        """See Carried."""
        shown: Collection[str] = self._stored.pull["fields"]["shown"]
        return shown

    def refusal(self, report: PullReport) -> str:
        """See Carried."""
        reason = why_whole(self._basis, self._quarter, self._present, report)
        if not reason:
            report.whole_at = self._stored.pull["whole_at"]
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
        basis, came = self._stored, self._ids()
        lost = len(basis.expected) - pc.sum(pc.is_in(basis.expected, came)).as_py()
        if lost:
            return f"{lost} cases that were stored do not come again"
        new = not_erased(came.filter(pc.invert(pc.is_in(came, basis.ids))).to_pylist(), self._present.erased)
        held = len(basis.ids) + len(new) + len(self._sink.erased_seen | basis.erased)
        return "" if held == counted else f"Primero counts {counted:,} cases, where {held:,} are held"

    def examples(self, names: Sequence[str]) -> dict[str, str]:
        """See Carried; none of what is damaged."""
        columns = {name: _REGISTERED_AT if name == BIRTH_FIELD else name for name in names}
        found: dict[str, str] = {}
        with suppress(DataError):
            for asset in (UNDER18, REINTEGRATION):
                for table in self._stored.files[asset].tables(["id", *columns.values()]) if columns else ():
                    for name in columns.keys() - found.keys():
                        with_value = table.column("id").filter(pc.is_valid(table.column(columns[name])))
                        found |= {name: with_value[0].as_py()} if len(with_value) else {}
                    if len(found) == len(columns):
                        return found
        return found

    def carry(self) -> int:
        """See Carried."""
        came, of_gbv, by_present_age = self._ids(), list[pa.Array](), 0
        ids: dict[str, list[pa.Array]] = {asset: [] for asset in self._stored.files}
        for asset, file in self._stored.files.items():
            for table in file.tables():
                kept = table.filter(pc.invert(pc.is_in(table.column("id"), came)))
                self._sink.take(asset, kept)
                ids[asset] += kept.column("id").chunks
                if asset == UNDER18:
                    by_present_age += kept.column(_REGISTERED_AT).null_count
                if asset != EXITS:
                    gbv = pc.equal(kept.column("module_id"), GBV_MODULE)
                    of_gbv += kept.filter(gbv).column("id").chunks
        young, reintegration, exits = (ids[asset] for asset in (UNDER18, REINTEGRATION, EXITS))
        counts = CarriedCounts(
            sum(map(len, reintegration)),
            sum(map(len, young)),
            sum(map(len, (*reintegration, *young))) - _distinct(reintegration + young),
            sum(map(len, exits)),
            by_present_age,
            _distinct(of_gbv),
        )
        self._sink.add_carried(counts, self._stored.summary["reasons"], self._stored.erased)
        return _distinct(young + reintegration + exits)

    def _ids(self) -> pa.Array:
        return pa.array(sorted(self._came), pa.string())


def _distinct(ids: list[pa.Array]) -> int:
    return len(pa.chunked_array(ids, pa.string()).unique())


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
