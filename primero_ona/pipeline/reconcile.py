"""Proving that ONA holds what Primero holds, without trusting the syncs; and mending just what differs.

What belongs here: bringing the inventory, the mapping and ONA's comparison together, and loading single cases. The rooms
do the work; Dagster's side of it is in `proof.py`. Nothing is stored on the way, and only counts and Primero's ids leave.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import NAMESPACE_OID, uuid5

import numpy as np
import psycopg
import pyarrow as pa

from primero_ona.errors import RefusedError, TransientError
from primero_ona.mapping.ages import with_ages
from primero_ona.mapping.cases import map_cases
from primero_ona.mapping.locations import Places
from primero_ona.mapping.services import map_services
from primero_ona.mapping.streams import map_cases_stream, map_services_stream
from primero_ona.ona.bookkeeping import PULL_NUMBER, next_pull, outdated_quarters
from primero_ona.ona.erased import erased_subjects, not_erased, without_erased
from primero_ona.ona.load import TableCounts, load_quarter
from primero_ona.ona.lookup import read_places
from primero_ona.ona.reconcile import KNOWN_SCHEMA, MENDABLE, QuarterDifferences, ReconciliationTables, stamp_in_ona
from primero_ona.pipeline.extract import known_fields
from primero_ona.pipeline.scope import Scope
from primero_ona.pipeline.stored import current_versions
from primero_ona.primero.client import PrimeroClient
from primero_ona.primero.inventory import (
    AGREED,
    InventoryReport,
    fetch_cases,
    presence_of,
    presences_of,
    take_inventory,
)
from primero_ona.primero.pull import check_fields
from primero_ona.primero.raw_schema import EXIT_SCHEMA, RAW_SCHEMA
from primero_ona.primero.visible import EMPTY_PAUSE
from primero_ona.quarters import Quarter, local_today
from primero_ona.storage.frames import Frames
from primero_ona.texts import UUID, is_uuid

if TYPE_CHECKING:
    import pandas as pd

#: Cases in ONA that the inventory does not show are asked for one by one, this many at most: at a second each, twenty
#: minutes. More of them have one cause, which the first ones show; the rest are counted as unconfirmed.
CONFIRM_MOST = 1_000

#: A repair takes no cases out of ONA that are merely out of the account's scope when they are more than this share of it
#: (and more than a handful): then the account has lost its scope, and the dashboards would lose the children.
SCOPE_LOSS_SHARE, HANDFUL = 0.05, 10

#: Cases of one repair that are fetched and loaded together.
REPAIR_BATCH = 2_000

_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Reconciliation:
    """A comparison of all of Primero with all of ONA, by quarter.

    `services_quarantined`: services that cannot stand in ONA, for want of a key. `early`: Primero ids of cases in ONA
    whose last change in Primero lies before PRIMERO_ONA_START, so that no sync brings it. `outdated`: quarters whose last
    load was of another version of the pull or the mapping.
    """

    quarters: list[QuarterDifferences]
    inventory: InventoryReport
    services_quarantined: int = 0
    early: list[str] = field(default_factory=list)
    outdated: tuple[Quarter, ...] = ()

    @property
    def first_early(self) -> str | None:
        """The quarter that PRIMERO_ONA_START must name for the `early` ones to be synced; None where there are none."""
        return min((quarter.quarter for quarter in self.quarters if quarter.early), default=None)

    @property
    def total(self) -> QuarterDifferences:
        """The sums over all quarters."""
        counts = {
            name: sum(getattr(quarter, name) for quarter in self.quarters)
            for name in QuarterDifferences.__dataclass_fields__
            if name != "quarter"
        }
        return QuarterDifferences("total", **counts)

    @property
    def quarantined(self) -> int:
        """Cases and services in quarantine."""
        return self.total.quarantined + self.services_quarantined

    @property
    def wrong(self) -> bool:
        """Whether ONA is not as it should be, and neither waiting nor work in Primero makes it so."""
        return bool(self.total.differences or self.outdated)

    @property
    def complete(self) -> bool:
        """Whether ONA holds all that Primero holds, mapped by the present rules, and nothing else."""
        return not (self.wrong or self.quarantined or self.total.pending)

    @property
    def passed(self) -> bool:
        """Whether nothing is left to do: what is pending comes with the next sync."""
        return not (self.wrong or self.quarantined)

    def sentence(self) -> str:
        """What was found, for people; it says "complete" only where that is so."""
        total = self.total
        if self.complete:
            now = datetime.now(UTC)
            return f"Complete on {now:%Y-%m-%d %H:%M} UTC: ONA holds all {total.primero:,} cases that belong there, and nothing else"
        kinds = {
            "missing": total.missing,
            "extra": total.extra - total.early,
            "stale": total.stale,
            "with other content": total.different,
            "with other services": total.services,
        }
        differing = ", ".join(f"{count:,} {kind}" for kind, count in kinds.items() if count)
        services = self.services_quarantined
        early = (
            f"{total.early:,} were last changed in Primero before PRIMERO_ONA_START, so no sync brings their state: set "
            f"PRIMERO_ONA_START={self.first_early}, then `primero-ona backfill --from {self.first_early}`"
        )
        outdated = ", ".join(map(str, self.outdated))
        facts = (
            (
                differing,
                f"of {total.primero:,} cases that belong in ONA {differing} (`primero-ona verify --repair` fetches and loads them)",
            ),
            (total.early, early),
            (
                total.unconfirmed,
                f"{total.unconfirmed:,} of the extra ones were never asked about (too many, or the first {AGREED} all out of scope)",
            ),
            (
                outdated,
                f"another version of primero-ona loaded {outdated} (`primero-ona verify --repair` or `backfill` syncs them)",
            ),
            (
                self.quarantined,
                f"{total.quarantined:,} cases and {services:,} services are in quarantine (see `primero-ona quarantine list`)",
            ),
            (total.pending, f"{total.pending:,} cases have just changed and come with the next sync"),
        )
        found = "; ".join(text for holds, text in facts if holds)
        return found if total.differences else f"nothing differs, but {found}"


@dataclass
class Mended:
    """What a repair did: rows by table and outcome, cases it could not mend."""

    asked: int = 0
    cases: dict[str, int] = field(default_factory=dict)
    services: dict[str, int] = field(default_factory=dict)

    def add(self, cases: TableCounts, services: TableCounts) -> None:
        """Count what one load did."""
        for sums, counts in ((self.cases, cases), (self.services, services)):
            for name in TableCounts.__dataclass_fields__:
                sums[name] = sums.get(name, 0) + getattr(counts, name)


def audit(
    client: PrimeroClient,
    conn: psycopg.Connection,
    scope: Scope,
    *,
    grace: timedelta = timedelta(),
    empty_pause: float = EMPTY_PAUSE,
) -> tuple[Reconciliation, ReconciliationTables]:
    """Compare Primero with ONA in one transaction of `conn`, which is in none; the tables tell the findings afterwards.

    `grace`: a case that changed within it before the inventory counts as pending, not as a difference.
    """
    tables = ReconciliationTables(conn)
    erased = erased_subjects(conn)
    sink = _ExpectingSink(tables, scope, Places.of(read_places(conn)), erased)
    known = known_fields(conn)
    with tables.opened():
        inventory = take_inventory(client, sink, scope.policy.precision, known, empty_pause=empty_pause)
        tables.note(presences_of(client, tables.unknown()[:CONFIRM_MOST]))
        quarters = tables.compare(
            since=scope.first.start, settled_until=inventory.settled - grace, latest=inventory.latest
        )
    inventory = replace(inventory, ahead=not_erased(inventory.ahead, erased))
    early = [case for case, *_ in tables.findings(("early",)) if case]
    outdated = outdated_quarters(conn, *current_versions(scope.policy.suffix))
    wanted = tuple(quarter for quarter in outdated if quarter >= scope.first)
    return Reconciliation(quarters, inventory, sink.services_quarantined, early, wanted), tables


class _ExpectingSink:
    """Maps each frame of the inventory and writes what ONA should hold into the audit's tables."""

    def __init__(self, tables: ReconciliationTables, scope: Scope, places: Places, erased: frozenset[str]) -> None:
        self._tables, self._scope, self._places, self._erased = tables, scope, places, erased
        self.services_quarantined = 0

    def restart(self) -> None:
        """See Sink."""
        self._tables.restart()
        self.services_quarantined = 0

    def leave(self, frame: pd.DataFrame) -> None:
        """See Sink; an inventory asks for all modules and lets nobody leave."""

    def write(self, frame: pd.DataFrame) -> None:
        """See Sink."""
        frame = with_ages(without_erased(frame, self._erased), local_today())
        belongs = ~self._scope.sets(frame)["exit"].to_numpy()
        chosen = frame[belongs].reset_index(drop=True)
        cases = map_cases(chosen, self._places, self._scope.labels)
        keyless = [entry["primero_id"] for entry in cases.quarantine]
        services = map_services(chosen, self._scope.labels)
        expected = set(chosen["id"][chosen["last_updated_at"] >= self._scope.first.start])
        self.services_quarantined += sum(entry["primero_id"] in expected for entry in services.quarantine)
        import pandas as pd  # noqa: PLC0415

        known = pd.DataFrame(
            {
                "primero_id": frame["id"].where(frame["id"].str.fullmatch(UUID)),
                "updated_at": frame["last_updated_at"],
                "belongs": belongs,
                "has_key": ~frame["id"].isin(keyless),
            }
        )[KNOWN_SCHEMA.names]
        self._tables.write(known, cases.frame, services.frame)


def repair(
    client: PrimeroClient,
    conn: psycopg.Connection,
    scope: Scope,
    found: Reconciliation,
    tables: ReconciliationTables,
    run_id: str,
) -> Mended:
    """Fetch and load what an audit found to differ, and take out of ONA what was confirmed not to belong there.

    Raises RefusedError where so many cases are out of the account's scope that the account must have lost it.
    """
    total = found.total
    # Of those that were never asked about, as many are taken for out of scope as of those that were.
    asked = max(total.out_of_scope + total.gone, 1)
    lost = total.out_of_scope + total.unconfirmed * total.out_of_scope / asked
    if lost > max(HANDFUL, SCOPE_LOSS_SHARE * total.ona):
        raise RefusedError(
            f"{total.out_of_scope:,} of ONA's {total.ona:,} cases are out of this account's scope in Primero, and "
            f"{total.unconfirmed:,} more that it does not show were never asked about; nothing was changed: let its role read "
            "cases with the scope `all`, then verify again"
        )
    wanted = [case for case, *_ in tables.findings(MENDABLE) if case]
    exits = [
        _exit(case, case_id, updated)
        for case, case_id, updated, _ in tables.findings(("gone", "out_of_scope", "unclaimed"))
    ]
    mended = mend_cases(client, conn, scope, wanted, run_id)
    load = _Loader(conn, scope, run_id, next_pull(conn), mended)
    for quarter, rows in _by_quarter(exits).items():
        load(quarter, _raw([]), rows)
    mended.asked += len(exits)
    return mended


def mend_cases(
    client: PrimeroClient, conn: psycopg.Connection, scope: Scope, ids: Sequence[str], run_id: str
) -> Mended:
    """Fetch these cases in their present state and load them, each in its quarter; one that is gone leaves ONA.

    Cases in quarantine because their id is no UUID cannot be asked for, and are left out. Raises RefusedError as a pull
    does where a field that earlier pulls were shown does not come any more.
    """
    ids = [case for case in ids if is_uuid(case)]
    if ids:
        check_fields(client, (), known_fields(conn))
    mended = Mended(asked=len(ids))
    load = _Loader(conn, scope, run_id, next_pull(conn), mended)
    for start in range(0, len(ids), REPAIR_BATCH):
        wanted = list(ids[start : start + REPAIR_BATCH])
        raw = _raw(with_ages(case, local_today()) for case in fetch_cases(client, wanted, scope.policy.precision))
        exits = _by_quarter(_exits_of_absent(client, conn, sorted(set(wanted) - set(raw["id"]))))
        quarters = [Quarter.of(moment) for moment in raw["last_updated_at"]]
        for quarter in sorted({*quarters, *exits}):
            chosen = raw[np.array([own == quarter for own in quarters], bool)].reset_index(drop=True)
            load(quarter, chosen, exits.get(quarter, []))
    return mended


def _exits_of_absent(client: PrimeroClient, conn: psycopg.Connection, ids: Iterable[str]) -> list[Mapping[str, object]]:
    """Exits of cases that Primero did not give, each confirmed; they leave with the state that ONA has of them."""
    exits = []
    for case in ids:
        if presence_of(client, case) == "there":
            raise TransientError("Primero shows a case by itself that it leaves out of a list; try again later")
        exits.append(_exit(case, None, stamp_in_ona(conn, case)))
    return exits


def _exit(case: str | None, case_id: str | None, updated: datetime | None) -> Mapping[str, object]:
    """An exit as the pull keeps it. A row of the old pipeline has no Primero id, so one is made from its key."""
    text = None if case_id is None else f'"{case_id}"'
    own = case or str(uuid5(NAMESPACE_OID, case_id or ""))
    return {"id": own, "case_id_display": text, "last_updated_at": updated or _NEVER}


def _by_quarter(exits: Iterable[Mapping[str, object]]) -> dict[Quarter, list[Mapping[str, object]]]:
    found: dict[Quarter, list[Mapping[str, object]]] = {}
    for row in exits:
        moment = row["last_updated_at"]
        if isinstance(moment, datetime):
            found.setdefault(Quarter.of(moment), []).append(row)
    return found


@dataclass(frozen=True)
class _Loader:
    """Maps and loads cases of one quarter through the same streams and the same load as a sync."""

    conn: psycopg.Connection
    scope: Scope
    run_id: str
    pull: int
    mended: Mended

    def __call__(self, quarter: Quarter, raw: pd.DataFrame, gone: Sequence[Mapping[str, object]]) -> None:
        """Load raw cases, and the exits of those that are gone."""
        sets = self.scope.sets(raw)
        members = Frames.of(raw[sets["reintegration"].to_numpy()]), Frames.of(raw[sets["under18"].to_numpy()])
        exits = _exits(raw[sets["exit"].to_numpy()], gone)
        places, labels = Places.of(read_places(self.conn)), self.scope.labels
        cases = map_cases_stream(*members, places, labels)
        services = map_services_stream(*members, labels)
        result = load_quarter(
            self.conn,
            quarter=quarter,
            run_id=self.run_id,
            cases=_kept(cases, self.pull),
            services=_kept(services, self.pull),
            exits=Frames.of(exits, summary={PULL_NUMBER: self.pull}),
            now=datetime.now(UTC),
            only=[*raw["id"], *exits["id"]],
        )
        self.mended.add(result.cases, result.services)


def _exits(raw: pd.DataFrame, gone: Sequence[Mapping[str, object]]) -> pd.DataFrame:
    left = pa.Table.from_pandas(raw[EXIT_SCHEMA.names], EXIT_SCHEMA, preserve_index=False).replace_schema_metadata()
    rows = pa.Table.from_pylist([dict(row) for row in gone], schema=EXIT_SCHEMA)
    import pandas as pd  # noqa: PLC0415

    frame: pd.DataFrame = pa.concat_tables([left, rows]).to_pandas(types_mapper=pd.ArrowDtype)
    return frame


def _kept(stream: Frames, pull: int) -> Frames:
    """A stream read once and kept, with the number of the pull in its summary."""
    frames = list(stream)
    return Frames.of(*frames, summary={**stream.summary, PULL_NUMBER: pull})


def _raw(frames: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Raw frames as one; an empty one where there are none."""
    tables = [
        pa.Table.from_pandas(frame, RAW_SCHEMA, preserve_index=False).replace_schema_metadata() for frame in frames
    ]
    import pandas as pd  # noqa: PLC0415

    whole: pd.DataFrame = pa.concat_tables([RAW_SCHEMA.empty_table(), *tables]).to_pandas(types_mapper=pd.ArrowDtype)
    return whole
