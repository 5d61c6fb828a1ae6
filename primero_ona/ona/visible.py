"""Remember how many of Primero's cases the account sees, and that an operator has accepted that they are fewer. Counts only."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
from psycopg import sql

from primero_ona.ona.connection import translate_errors
from primero_ona.ona.target import Target


@dataclass(frozen=True)
class VisibleCases:
    """`last`: cases that the last pull could see, or that were accepted since; None where there was no pull.

    `in_ona`: cases that stand in ONA. `accepted`: that fewer are visible than stand there was accepted.
    """

    last: int | None
    in_ona: int
    accepted: bool


def visible_cases(conn: psycopg.Connection) -> VisibleCases:
    """Read how many cases the account should see."""
    with translate_errors("reading how many of Primero's cases were visible"):
        row = conn.execute("SELECT cases, accepted_at IS NOT NULL FROM primero_sync.visible_cases").fetchone()
        standing = conn.execute(sql.SQL(_STANDING).format(**Target.find(conn).names)).fetchone()
    last, accepted = row or (None, False)
    return VisibleCases(last, int(standing[0]) if standing else 0, accepted)


def note_visible(conn: psycopg.Connection, cases: int, *, restored: bool) -> None:
    """Remember how many cases a pull could see; an acceptance ends where they are `restored`, as many as stand in ONA."""
    with translate_errors("remembering how many of Primero's cases are visible"):
        conn.execute(_NOTE, {"cases": cases, "restored": restored})


def accept_visible(conn: psycopg.Connection, cases: int) -> None:
    """Accept that so many cases are visible, however many stood in ONA or were visible before. Safe to repeat."""
    with translate_errors("accepting how many of Primero's cases are visible"):
        conn.execute(_ACCEPT, {"cases": cases})


#: Rows of the old pipeline are not counted: it is not known whether Primero still has their cases.
_STANDING = "SELECT count(*) FROM {cases} WHERE primero_id IS NOT NULL"

_NOTE = """
INSERT INTO primero_sync.visible_cases AS v (cases, seen_at) VALUES (%(cases)s, now())
ON CONFLICT (one) DO UPDATE
   SET cases = excluded.cases, seen_at = excluded.seen_at,
       accepted_at = CASE WHEN %(restored)s THEN NULL ELSE v.accepted_at END
"""

_ACCEPT = """
INSERT INTO primero_sync.visible_cases (cases, seen_at, accepted_at) VALUES (%(cases)s, now(), now())
ON CONFLICT (one) DO UPDATE
   SET cases = excluded.cases, seen_at = excluded.seen_at, accepted_at = excluded.accepted_at
"""
