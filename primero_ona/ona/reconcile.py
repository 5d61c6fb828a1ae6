"""Compare ONA with an inventory of Primero in SQL, what is missing, extra, stale or different, and remove what no sync removes.

Nothing of the sync's bookkeeping is believed: keys are settled from the inventory and ONA's rows, as a load would do it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, ClassVar, NamedTuple
from uuid import NAMESPACE_OID, uuid5

import psycopg
import pyarrow as pa
from psycopg.rows import class_row

from primero_ona.contract.tables import CASES, SERVICES
from primero_ona.errors import RefusedError
from primero_ona.ona.bookkeeping import next_pull
from primero_ona.ona.connection import lock_loads, translate_errors
from primero_ona.ona.keys import settle_keys
from primero_ona.ona.merge import Span, remove_exits
from primero_ona.ona.staging import EXITS, analyze_staged, copy_csv, make_staged, stage_exits, to_csv
from primero_ona.ona.target import Target, different
from primero_ona.storage.frames import Frames, to_frame
from primero_ona.texts import UUID

if TYPE_CHECKING:
    import pandas as pd

#: Of each case of the inventory: its id (null where that is no UUID), whether it belongs in ONA, and whether it has a key to
#: stand there.
KNOWN_SCHEMA = pa.schema(
    {"primero_id": pa.string(), "updated_at": pa.timestamp("ms", "UTC"), "belongs": pa.bool_(), "has_key": pa.bool_()}
)

#: What a case that belongs in ONA may be found to be.
_EXPECTED = ("equal", "missing", "stale", "different", "services", "quarantined", "pending")

#: Findings that a sync of the case's quarter repairs; the last is a case that left both sets.
SYNCED = ("missing", "stale", "different", "services", "left")

#: Findings that no sync repairs, since Primero sends nothing of these cases.
REMOVABLE = ("gone", "out_of_scope", "unclaimed")

#: Findings of cases in ONA that do not belong there: left both sets; not in Primero; not visible to this account; not asked
#: about, being too many; rows of the legacy pipeline, without a Primero id, that no case of Primero claims; and cases last
#: changed before the first quarter of the syncs, in another state than ONA has.
EXTRA = ("left", "gone", "out_of_scope", "unconfirmed", "unclaimed", "early")

#: A repair takes no cases out of ONA that are merely out of the account's scope when they are more than this share of it
#: (and more than a handful): then the account has lost its scope, and the dashboards would lose the children.
SCOPE_LOSS_SHARE, HANDFUL = 0.05, 10


class Finding(NamedTuple):
    """A case that is not as it should be: Primero's id (None for a row of the legacy pipeline), its last change, and why."""

    primero_id: str | None
    case_id: str | None
    updated_at: datetime | None
    kind: str


@dataclass(frozen=True)
class QuarterDifferences:
    """One quarter, by the time of a case's last change in Primero (by ONA's where Primero does not show the case).

    `primero`: cases that belong in ONA; they are equal + missing + stale + different + services + quarantined + pending.
    `missing`: not in ONA. `stale`: ONA has an older state. `different`: the same state, another content (or a time of
    change that Primero does not have). `services`: the case is right, its services are not. `quarantined`: rightly not in
    ONA, since it has no key in Primero. `pending`: changed so recently that no sync can be blamed (with those about to
    leave, which are not among `primero`). `extra`: see EXTRA; `gone` and `out_of_scope` were confirmed one by one,
    `unconfirmed` not; `early` are those that no sync brings.
    """

    #: What people are shown of it, in this order.
    SHOWN: ClassVar = (
        "primero", "ona", "missing", "extra", "stale", "different", "services", "quarantined", "pending",
    )  # fmt: skip

    quarter: str
    primero: int = 0
    ona: int = 0
    equal: int = 0
    missing: int = 0
    stale: int = 0
    different: int = 0
    services: int = 0
    extra: int = 0
    gone: int = 0
    out_of_scope: int = 0
    unconfirmed: int = 0
    early: int = 0
    quarantined: int = 0
    pending: int = 0

    @property
    def differences(self) -> int:
        """How many cases are not as they should be."""
        return self.missing + self.stale + self.different + self.services + self.extra


def remove_gone(
    conn: psycopg.Connection, total: QuarterDifferences, removable: Sequence[Finding], *, out_of_scope: bool = False
) -> dict[str, int]:
    """Take out of ONA what was confirmed, one by one, not to belong there; return the rows removed by table.

    `total`: the sums of all quarters. Raises RefusedError where so many cases are out of the account's scope that the account
    must have lost it, unless `out_of_scope` says that they are to go.
    """
    # Of those that were never asked about, as many are taken for out of scope as of those that were.
    asked = max(total.out_of_scope + total.gone, 1)
    lost = total.out_of_scope + total.unconfirmed * total.out_of_scope / asked
    if lost > max(HANDFUL, SCOPE_LOSS_SHARE * total.ona) and not out_of_scope:
        raise RefusedError(
            f"{total.out_of_scope:,} of ONA's {total.ona:,} cases are out of this account's scope in Primero, and "
            f"{total.unconfirmed:,} more that it does not show were never asked about; none was removed: let its role read "
            "cases with the scope `all`, then verify again; where they are to leave ONA, `primero-ona verify --repair "
            "--remove-out-of-scope`",
            see="lost-scope",
        )
    exits = pa.Table.from_pylist([_exit(case) for case in removable], schema=EXITS)
    with translate_errors("removing cases from ONA"), conn.transaction():
        lock_loads(conn)
        target = Target.find(conn)
        make_staged(conn, target)
        stage_exits(conn, Frames.of(to_frame(exits)))
        return remove_exits(conn, target, [Span(next_pull(conn))])


def _exit(case: Finding) -> dict[str, object]:
    """An exit as the pull stores it. A row of the legacy pipeline has no Primero id, so one is made from its key."""
    text = None if case.case_id is None else f'"{case.case_id}"'
    own = case.primero_id or str(uuid5(NAMESPACE_OID, case.case_id or ""))
    return {"id": own, "case_id_display": text, "last_updated_at": case.updated_at or datetime(1970, 1, 1, tzinfo=UTC)}


class ReconciliationTables:
    """What ONA should hold, in temporary tables of one transaction; `conn` is in none before.

    Within `opened`, fill them with `write`, frame by frame; `restart` empties them. Nothing in ONA is changed.
    """

    def __init__(self, conn: psycopg.Connection) -> None:
        self._conn = conn

    @contextmanager
    def opened(self) -> Iterator[None]:
        """The transaction; it reads ONA as it is at each statement, and holds no table of ONA while Primero is asked."""
        with translate_errors("comparing ONA with Primero"), self._conn.transaction(force_rollback=True):
            self._target = Target.find(self._conn)
            yield

    def restart(self) -> None:
        """Begin with empty tables, whose columns have the types of ONA's."""
        self._conn.execute(_MAKE_TABLES)
        make_staged(self._conn, self._target)

    def write(self, known: pd.DataFrame, cases: pd.DataFrame, services: pd.DataFrame) -> None:
        """Take a frame of the inventory (KNOWN_SCHEMA, with all ids), and the rows that its cases should have in ONA."""
        known = known.assign(primero_id=known["primero_id"].where(known["primero_id"].str.fullmatch(UUID)))
        copy_csv(self._conn, "known", KNOWN_SCHEMA.names, to_csv(known, KNOWN_SCHEMA, "the inventory"))
        for table, frame in ((CASES, cases), (SERVICES, services)):
            schema = table.arrow_schema()
            copy_csv(self._conn, f"staged_{table.name}", schema.names, to_csv(frame, schema, table.name))

    def unknown(self) -> list[str]:
        """The Primero ids of ONA's cases, or of its services, that the inventory does not show."""
        self._conn.execute("ANALYZE known")
        analyze_staged(self._conn)
        return [row[0] for row in self._target.run(self._conn, _UNKNOWN).fetchall()]

    def note(self, verdicts: Mapping[str, str]) -> None:
        """Take what asking one by one has shown of the unknown ones: `gone`, `out of scope` or `present`."""
        with self._conn.cursor() as cursor:
            cursor.executemany("INSERT INTO verdicts VALUES (%s, %s)", list(verdicts.items()))

    def compare(
        self, *, since: datetime, settled_until: datetime, latest: datetime
    ) -> tuple[list[QuarterDifferences], list[Finding]]:
        """Count by quarter, oldest first, and name the cases that differ, or that no sync repairs.

        See `pending` for `settled_until`; no case can have changed after `latest`. Cases last changed before `since` are judged
        only where ONA has them.
        """
        conn, target = self._conn, self._target
        settle_keys(conn, target)
        target.run(
            conn,
            _FINDINGS,
            differs=different(CASES, "e", "c"),
            services_differ=different(SERVICES, "e", "v"),
            since=since,
            settled=settled_until,
            latest=latest,
        )
        counts = target.run(conn, _COUNTS).fetchall()
        with conn.cursor(row_factory=class_row(Finding)) as cursor:
            return _by_quarter(counts), cursor.execute(_DIFFERENT, ([*SYNCED, *EXTRA],)).fetchall()


def _by_quarter(found: Iterable[tuple[str, str, int]]) -> list[QuarterDifferences]:
    counts: dict[str, Counter[str]] = {}
    for quarter, kind, count in found:
        counts.setdefault(quarter, Counter())[kind] = count
    for row in counts.values():
        row["extra"] = sum(row[kind] for kind in EXTRA)
        row["primero"] = sum(row[kind] for kind in _EXPECTED)
        row["pending"] += row["leaving"]
    names = [column.name for column in fields(QuarterDifferences)[1:]]
    return [QuarterDifferences(quarter, *(row[name] for name in names)) for quarter, row in sorted(counts.items())]


_DIFFERENT = "SELECT primero_id::text, case_id, updated_at, kind FROM findings WHERE kind = ANY (%s) ORDER BY 1, 2"

_MAKE_TABLES = """
DROP TABLE IF EXISTS pg_temp.known, pg_temp.staged_cases, pg_temp.staged_services, pg_temp.verdicts;
CREATE TEMPORARY TABLE known (primero_id uuid, updated_at timestamptz, belongs boolean, has_key boolean);
CREATE TEMPORARY TABLE verdicts (primero_id uuid, verdict text)
"""

_UNKNOWN = """
SELECT primero_id::text
  FROM (SELECT primero_id::uuid FROM {cases} UNION SELECT primero_case_id::uuid FROM {services}) AS ona
 WHERE primero_id IS NOT NULL AND NOT EXISTS (SELECT FROM known WHERE known.primero_id = ona.primero_id)
 ORDER BY 1
"""

_FINDINGS = """
CREATE TEMPORARY TABLE findings AS
WITH wrong_services AS (
    SELECT COALESCE(e.primero_case_id::uuid, v.primero_case_id::uuid) AS primero_id
      FROM staged_services AS e
      FULL JOIN (SELECT * FROM {services} WHERE primero_case_id IS NOT NULL) AS v
        ON v.unique_id = e.unique_id AND v.primero_case_id::uuid = e.primero_case_id::uuid
     WHERE e.unique_id IS NULL OR v.unique_id IS NULL OR {services_differ}
     UNION
    SELECT c.primero_id::uuid
      FROM {services} AS v
      JOIN {cases} AS c ON c.case_id = v.case_id
     WHERE v.primero_case_id IS NULL AND c.primero_id IS NOT NULL
),
judged AS (
    SELECT k.primero_id, e.case_id, k.updated_at,
           CASE WHEN NOT k.has_key THEN 'quarantined'
                WHEN c.primero_id IS NULL AND o.case_id IS NULL THEN 'missing'
                WHEN c.primero_id IS NULL OR c.primero_updated_at::timestamptz < k.updated_at THEN 'stale'
                WHEN c.primero_updated_at::timestamptz > k.updated_at
                     AND c.primero_updated_at::timestamptz BETWEEN {settled} AND {latest} THEN 'pending'
                WHEN {differs} THEN 'different'
                WHEN EXISTS (SELECT FROM wrong_services AS w WHERE w.primero_id = k.primero_id) THEN 'services'
                ELSE 'equal'
           END AS kind
      FROM known AS k
      LEFT JOIN staged_cases AS e ON e.primero_id::uuid = k.primero_id
      LEFT JOIN {cases} AS c ON c.primero_id::uuid = k.primero_id
      LEFT JOIN {cases} AS o ON o.case_id = e.case_id AND o.primero_id IS NULL
     WHERE k.belongs AND (k.updated_at >= {since} OR c.primero_id IS NOT NULL)
),
surplus AS (
    SELECT COALESCE(c.primero_id, v.primero_id) AS primero_id, c.case_id,
           COALESCE(k.updated_at, c.updated_at) AS updated_at,
           CASE WHEN k.primero_id IS NOT NULL THEN 'left' WHEN d.verdict = 'present' THEN 'leaving'
                ELSE COALESCE(replace(d.verdict, ' ', '_'), 'unconfirmed') END AS kind
      FROM (SELECT primero_id::uuid, case_id, primero_updated_at::timestamptz AS updated_at
              FROM {cases} WHERE primero_id IS NOT NULL) AS c
      FULL JOIN (SELECT DISTINCT primero_case_id::uuid AS primero_id
                   FROM {services} WHERE primero_case_id IS NOT NULL) AS v ON v.primero_id = c.primero_id
      LEFT JOIN known AS k ON k.primero_id = COALESCE(c.primero_id, v.primero_id)
      LEFT JOIN verdicts AS d ON d.primero_id = COALESCE(c.primero_id, v.primero_id)
     WHERE k.belongs IS NOT TRUE
     UNION ALL
    SELECT NULL, c.case_id, NULL, 'unclaimed'
      FROM {cases} AS c
     WHERE c.primero_id IS NULL AND NOT EXISTS (SELECT FROM staged_cases AS e WHERE e.case_id = c.case_id)
)
SELECT primero_id, case_id, updated_at,
       COALESCE(to_char(updated_at AT TIME ZONE 'Asia/Phnom_Penh', 'YYYY-"Q"Q'), 'unknown') AS quarter,
       CASE WHEN kind = 'left' AND updated_at >= {settled} THEN 'leaving'
            WHEN kind IN ('stale', 'different', 'services') AND updated_at < {since} THEN 'early'
            WHEN kind IN ('missing', 'stale', 'different', 'services') AND updated_at >= {settled} THEN 'pending'
            ELSE kind
       END AS kind
  FROM (SELECT * FROM judged UNION ALL SELECT * FROM surplus) AS every
"""

_COUNTS = """
SELECT quarter, kind, count(*) FROM findings GROUP BY quarter, kind
 UNION ALL
SELECT COALESCE(to_char(primero_updated_at::timestamptz AT TIME ZONE 'Asia/Phnom_Penh', 'YYYY-"Q"Q'), 'unknown'), 'ona', count(*)
  FROM {cases}
 GROUP BY 1
"""
