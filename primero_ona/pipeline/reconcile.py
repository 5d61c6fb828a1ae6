"""Compare all of Primero with all of ONA without trusting the syncs; nothing is stored, only counts and Primero's ids leave."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta

import pandas as pd
import psycopg

from primero_ona.mapping.dates import with_ages
from primero_ona.mapping.locations import Places
from primero_ona.mapping.membership import sort_cases
from primero_ona.mapping.rows import map_cases, map_services
from primero_ona.ona.erasure import erased_subjects, not_erased, without_erased
from primero_ona.ona.reconcile import KNOWN_SCHEMA, REMOVABLE, SYNCED, Finding, QuarterDifferences, ReconciliationTables
from primero_ona.ona.reference import read_places
from primero_ona.pipeline.account import known_fields
from primero_ona.pipeline.stored import Scope, outdated_quarters
from primero_ona.primero.client import PrimeroClient
from primero_ona.primero.inventory import AGREED, InventoryReport, presences_of, take_inventory
from primero_ona.quarters import Quarter, local_today

#: Cases in ONA that the inventory does not show are asked for one by one, this many at most: at a second each, twenty
#: minutes. More of them have one cause, which the first ones show; the rest are counted as unconfirmed.
CONFIRM_MOST = 1_000


@dataclass(frozen=True)
class Reconciliation:
    """A comparison of all of Primero with all of ONA, by quarter.

    `services_quarantined`: services that cannot stand in ONA, for want of a key. `early`: Primero ids of cases in ONA
    whose last change in Primero lies before PRIMERO_ONA_START, so that no sync brings it. `outdated`: quarters whose last
    load was of another version of the pull or the mapping. `to_sync`: the quarters that a repair syncs. `removable`: rows that
    no sync removes; see `ona.reconcile.remove_gone`.
    """

    quarters: list[QuarterDifferences]
    inventory: InventoryReport
    services_quarantined: int = 0
    early: list[str] = field(default_factory=list)
    outdated: tuple[Quarter, ...] = ()
    to_sync: list[Quarter] = field(default_factory=list)
    removable: list[Finding] = field(default_factory=list, repr=False)

    @property
    def first_early(self) -> str | None:
        """The quarter that PRIMERO_ONA_START must name for the `early` ones to be synced; None where there are none."""
        return min((quarter.quarter for quarter in self.quarters if quarter.early), default=None)

    @property
    def total(self) -> QuarterDifferences:
        """The sums over all quarters."""
        counts = {
            each.name: sum(getattr(quarter, each.name) for quarter in self.quarters)
            for each in fields(QuarterDifferences)
            if each.name != "quarter"
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
        found = []
        if differing := ", ".join(f"{count:,} {kind}" for kind, count in kinds.items() if count):
            text = f"of {total.primero:,} cases that belong in ONA {differing} (`primero-ona verify --repair` syncs their quarters)"
            found.append(text)
        if total.early:
            found.append(
                f"{total.early:,} were last changed in Primero before PRIMERO_ONA_START, so no sync brings their state: set "
                f"PRIMERO_ONA_START={self.first_early}, then `primero-ona backfill --from {self.first_early}`"
            )
        if total.unconfirmed:
            why = f"too many, or the first {AGREED} all out of scope"
            found.append(f"{total.unconfirmed:,} of the extra ones were never asked about ({why})")
        if outdated := ", ".join(map(str, self.outdated)):
            repair = "`primero-ona verify --repair` or `backfill` syncs them"
            found.append(f"another version of primero-ona loaded {outdated} ({repair})")
        if self.quarantined:
            held = f"{total.quarantined:,} cases and {self.services_quarantined:,} services"
            found.append(f"{held} are in quarantine (see `primero-ona quarantine list`)")
        if total.pending:
            found.append(f"{total.pending:,} cases have just changed and come with the next sync")
        sentence = "; ".join(found)
        return sentence if total.differences else f"nothing differs, but {sentence}"


def reconcile(
    client: PrimeroClient, conn: psycopg.Connection, scope: Scope, *, grace: timedelta = timedelta()
) -> Reconciliation:
    """Compare Primero with ONA in one transaction of `conn`, which is in none; changes nothing.

    `grace`: a case that changed within it before the inventory counts as pending, not as a difference.
    """
    tables = ReconciliationTables(conn)
    erased = erased_subjects(conn)
    sink = _ExpectingSink(tables, scope, Places.of(read_places(conn)), erased)
    known = known_fields(conn)
    with tables.opened():
        inventory = take_inventory(client, sink, scope.policy.precision, known)
        tables.note(presences_of(client, tables.unknown()[:CONFIRM_MOST]))
        quarters, findings = tables.compare(
            since=scope.first.start, settled_until=inventory.settled - grace, latest=inventory.latest
        )
    inventory = replace(inventory, ahead=not_erased(inventory.ahead, erased))
    early = [each.primero_id for each in findings if each.kind == "early" and each.primero_id]
    outdated = outdated_quarters(conn, scope.policy.suffix)
    wanted = tuple(quarter for quarter in outdated if quarter >= scope.first)
    moments = [each.updated_at for each in findings if each.kind in SYNCED and each.updated_at]
    to_sync = {*map(Quarter.of, moments), *wanted}
    removable = [each for each in findings if each.kind in REMOVABLE]
    return Reconciliation(
        quarters,
        inventory,
        sink.services_quarantined,
        early,
        wanted,
        sorted(quarter for quarter in to_sync if quarter >= scope.first),
        removable,
    )


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
        """See Sink; an inventory asks for all modules, so no case leaves."""

    def write(self, frame: pd.DataFrame) -> None:
        """See Sink."""
        frame = with_ages(without_erased(frame, self._erased), local_today())
        policy = self._scope.policy
        belongs = ~sort_cases(frame, policy.consent, policy.modules)["exit"].to_numpy()
        chosen = frame[belongs].reset_index(drop=True)
        cases = map_cases(chosen, self._places, self._scope.labels)
        keyless = [entry["primero_id"] for entry in cases.quarantine]
        services = map_services(chosen, self._scope.labels)
        expected = set(chosen["id"][chosen["last_updated_at"] >= self._scope.first.start])
        self.services_quarantined += sum(entry["primero_id"] in expected for entry in services.quarantine)
        known = {
            "primero_id": frame["id"],
            "updated_at": frame["last_updated_at"],
            "belongs": belongs,
            "has_key": ~frame["id"].isin(keyless),
        }
        self._tables.write(pd.DataFrame(known)[KNOWN_SCHEMA.names], cases.frame, services.frame)
