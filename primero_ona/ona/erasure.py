"""Erase a case and its services from ONA on request, with every trace in the bookkeeping, so that it does not come back.

What remains is one line in `primero_sync.erasures`: when, how many rows, and the SHA-256 of Primero's id of the case. That
id is a random UUID, so its hash says nothing to those who do not have the id already; it is what keeps the case out while
it is still in Primero.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, LiteralString
from uuid import UUID, uuid4

import psycopg
from psycopg import sql

from primero_ona.errors import UsageError
from primero_ona.ona.connection import lock_loads, translate_errors
from primero_ona.ona.target import Target

if TYPE_CHECKING:
    import pandas as pd

Statements = tuple[tuple[str, LiteralString], ...]


@dataclass(frozen=True)
class Erased:
    """What an erasure removed from ONA: rows of its two tables, and entries of the bookkeeping."""

    cases: int = 0
    services: int = 0
    bookkeeping: int = 0


def read_ids(texts: Iterable[str]) -> list[str]:
    """Primero ids as Primero writes them; raises UsageError, without the text, where one is no UUID."""
    try:
        return list(dict.fromkeys(str(UUID(text.strip())) for text in texts))
    except ValueError:
        raise UsageError(
            "--primero-id takes Primero's own id of a case, 36 characters like 51f2adb5-0000-0000-0000-0000c063aeb0; "
            "the short Case ID that people see will not do"
        ) from None


def erase(conn: psycopg.Connection, ids: Sequence[str], now: datetime) -> tuple[Erased, set[str]]:
    """Remove cases from ONA and from the bookkeeping in one transaction, and write an audit line for each.

    Returns what was removed, and the plain Case IDs that the cases had in ONA. Repeating it is safe, and counts up what was
    still found; the line keeps the time of the first one. `conn` is in no transaction; `now` is aware.
    """
    with translate_errors("erasing cases from ONA"), conn.transaction():
        lock_loads(conn)
        query = sql.SQL("SELECT split_part(case_id, '~', 1) FROM {cases} WHERE primero_id::text = ANY (%s)")
        rows = conn.execute(query.format(**Target.find(conn).names), (list(ids),)).fetchall()
        erased = _erase(conn, _OF_CASE, {case: subject_of(case) for case in ids}, now)
    return erased, {row[0] for row in rows}


def legacy_rows(conn: psycopg.Connection, case_ids: Sequence[str]) -> list[str]:
    """Those of the Case IDs under which ONA has a row of the legacy pipeline, which has no Primero id."""
    query = sql.SQL("SELECT case_id FROM {cases} WHERE primero_id IS NULL AND case_id = ANY (%s) ORDER BY 1")
    with translate_errors("looking for rows of the legacy pipeline in ONA"):
        rows = conn.execute(query.format(**Target.find(conn).names), (list(case_ids),)).fetchall()
    return [row[0] for row in rows]


def erase_legacy(conn: psycopg.Connection, case_ids: Sequence[str], now: datetime) -> Erased:
    """Remove rows of the legacy pipeline, and their services without a Primero id, by Case ID in one transaction.

    The line that remains has a random subject: a hash of a Case ID would give the Case ID away to a few guesses.
    """
    with translate_errors("erasing rows of the legacy pipeline from ONA"), conn.transaction():
        lock_loads(conn)
        return _erase(conn, _OF_LEGACY_ROW, {case_id: subject_of(str(uuid4())) for case_id in case_ids}, now)


def _erase(conn: psycopg.Connection, statements: Statements, subjects: Mapping[str, str], now: datetime) -> Erased:
    """Run the statements for each case, and write the audit line of its subject."""
    names, total = Target.find(conn).names, Counter[str]()
    for case, subject in subjects.items():
        removed = Counter(cases=0, services=0, bookkeeping=0)
        for counted_as, statement in statements:
            removed[counted_as] += conn.execute(sql.SQL(statement).format(**names), {"case": case}).rowcount
        conn.execute(_WRITE_LINE, {"subject": subject, "now": now, **removed})
        total.update(removed)
    return Erased(**total)


def note_stored_rows(conn: psycopg.Connection, rows: Mapping[str, int]) -> None:
    """Add to the audit lines how many rows of stored partitions went, by Primero id."""
    with translate_errors("noting an erasure in ONA"), conn.transaction():
        for case, count in rows.items():
            query = "UPDATE primero_sync.erasures SET stored_rows = stored_rows + %s WHERE subject = %s"
            conn.execute(query, (count, subject_of(case)))


# What is removed of a case, by what its rows count as; services first, which are found by the case's row, too.
_OF_CASE: Statements = (
    (
        "services",
        """DELETE FROM {services} WHERE primero_case_id::text = %(case)s
              OR case_id IN (SELECT c.case_id FROM {cases} AS c WHERE c.primero_id::text = %(case)s)""",
    ),
    ("cases", "DELETE FROM {cases} WHERE primero_id::text = %(case)s"),
    ("bookkeeping", "DELETE FROM primero_sync.quarantine WHERE primero_id = %(case)s OR other_id = %(case)s"),
    ("bookkeeping", "DELETE FROM primero_sync.exits WHERE primero_id::text = %(case)s"),
)

_OF_LEGACY_ROW: Statements = (
    ("services", "DELETE FROM {services} WHERE primero_case_id IS NULL AND case_id = %(case)s"),
    ("cases", "DELETE FROM {cases} WHERE primero_id IS NULL AND case_id = %(case)s"),
)

_WRITE_LINE = """
INSERT INTO primero_sync.erasures AS e (subject, erased_at, cases, services, bookkeeping)
VALUES (%(subject)s, %(now)s, %(cases)s, %(services)s, %(bookkeeping)s)
ON CONFLICT (subject) DO UPDATE
   SET cases = e.cases + excluded.cases, services = e.services + excluded.services,
       bookkeeping = e.bookkeeping + excluded.bookkeeping
"""


def subject_of(primero_id: str) -> str:
    """What an audit line calls a case: the SHA-256 of its Primero id in small letters, in hexadecimal."""
    return hashlib.sha256(primero_id.lower().encode()).hexdigest()


def erased_subjects(conn: psycopg.Connection) -> frozenset[str]:
    """The subjects of all erasures."""
    with translate_errors("reading the erasures in ONA"):
        return frozenset(row[0] for row in conn.execute("SELECT subject FROM primero_sync.erasures").fetchall())


def not_erased(cases: Iterable[str], erased: frozenset[str]) -> list[str]:
    """Those of the cases (Primero ids) that were not erased: nothing is said of the others."""
    return [case for case in cases if subject_of(case) not in erased]


def without_erased(raw: pd.DataFrame, erased: frozenset[str]) -> pd.DataFrame:
    """The cases of a raw frame that were not erased."""
    if not erased or raw.empty:  # an empty list of rows would be taken for one of columns
        return raw
    return raw[[subject_of(case) not in erased for case in raw["id"]]].reset_index(drop=True)


def remove_erased(conn: psycopg.Connection) -> dict[str, int]:
    """Take erased cases out of the staged rows, whatever brought them there; return how many rows, by table.

    Defence in depth: a pull that began before the erasure may still have stored the case.
    """
    if conn.execute("SELECT FROM primero_sync.erasures LIMIT 1").fetchone() is None:
        return {}
    removed = {}
    for table, column in (("services", "primero_case_id"), ("cases", "primero_id")):
        names = {"staged": sql.Identifier(f"staged_{table}"), "id": sql.Identifier("s", column)}
        removed[table] = conn.execute(sql.SQL(_UNSTAGE).format(**names)).rowcount
    return removed


_UNSTAGE = """
DELETE FROM {staged} AS s
 USING primero_sync.erasures AS e
 WHERE e.subject = encode(sha256(convert_to({id}::text, 'UTF8')), 'hex')
"""
