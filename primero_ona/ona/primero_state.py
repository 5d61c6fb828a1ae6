"""Remember what Primero has shown: fields of cases, how many cases are visible, refused logins, and what operators accepted.

Names of fields, counts and keyed hashes only.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg import sql

from primero_ona.errors import UsageError
from primero_ona.ona.connection import read_as, scalar, translate_errors
from primero_ona.ona.target import Target


@dataclass(frozen=True)
class Field:
    """A field that pulls were shown; `accepted_at`: when its loss was accepted, None where it was not. Times in UTC."""

    name: str
    first_seen: datetime
    last_seen: datetime
    accepted_at: datetime | None


def shown_fields(conn: psycopg.Connection) -> list[Field]:
    """Read the fields that pulls were shown, by name."""
    query = "SELECT name, first_seen, last_seen, accepted_at FROM primero_sync.fields ORDER BY name"
    return read_as(conn, Field, "reading the fields that Primero has shown", query)


def note_fields(conn: psycopg.Connection, shown: Collection[str], returned: Collection[str], now: datetime) -> None:
    """Remember the fields that a pull was shown; the acceptance of those that have `returned` ends."""
    with translate_errors("remembering the fields that Primero has shown"), conn.transaction():
        conn.execute(_NOTE, {"shown": list(shown), "returned": list(returned), "now": now})


def accept_fields(conn: psycopg.Connection, names: Collection[str], now: datetime) -> list[Field]:
    """Accept that these fields do not come any more; return them. Safe to repeat: the first acceptance stands.

    Raises UsageError where a name is not one of a field that pulls were shown, since nothing was lost then.
    """
    action = "accepting the loss of fields"
    with translate_errors(action), conn.transaction():
        accepted = read_as(conn, Field, action, _ACCEPT, {"names": list(names), "now": now})
        if unknown := set(names) - {field.name for field in accepted}:
            raise UsageError(
                f"{len(unknown)} of these names {'is' if len(unknown) == 1 else 'are'} of no field that a pull was ever shown, so "
                "nothing was accepted; `primero-ona fields list` has the names"
            )
    return accepted


_NOTE = """
INSERT INTO primero_sync.fields AS f (name, first_seen, last_seen)
SELECT name, %(now)s, %(now)s FROM unnest(%(shown)s::text[]) AS name ORDER BY name
ON CONFLICT (name) DO UPDATE
   SET last_seen = GREATEST(f.last_seen, excluded.last_seen),
       accepted_at = CASE WHEN f.name = ANY (%(returned)s::text[]) THEN NULL ELSE f.accepted_at END
"""

_ACCEPT = """
WITH accepted AS (
    UPDATE primero_sync.fields SET accepted_at = COALESCE(accepted_at, %(now)s) WHERE name = ANY (%(names)s::text[])
    RETURNING name, first_seen, last_seen, accepted_at)
SELECT * FROM accepted ORDER BY name
"""


def visible_cases(conn: psycopg.Connection) -> tuple[int | None, int, bool]:
    """Read how many cases the account should see, as the first fields of `KnownScope`.

    Those that the last pull saw, or that were accepted since (None: there was no pull), those that stand in ONA, and whether
    it was accepted that fewer are visible than stand there.
    """
    with translate_errors("reading how many of Primero's cases were visible"):
        query = sql.SQL(_VISIBLE).format(**Target.find(conn).names)
        last, standing, accepted = conn.execute(query).fetchall()[0]
    return last, standing, accepted


def note_visible(conn: psycopg.Connection, cases: int, *, restored: bool) -> None:
    """Remember how many cases a pull could see; an acceptance ends where they are `restored`, as many as stand in ONA."""
    with translate_errors("remembering how many of Primero's cases are visible"):
        conn.execute(_NOTE_VISIBLE, {"cases": cases, "accepted": False, "restored": restored})


def accept_visible(conn: psycopg.Connection, cases: int) -> None:
    """Accept that so many cases are visible, however many stood in ONA or were visible before. Safe to repeat."""
    with translate_errors("accepting how many of Primero's cases are visible"):
        conn.execute(_NOTE_VISIBLE, {"cases": cases, "accepted": True, "restored": False})


# Rows of the old pipeline are not counted: it is not known whether Primero still has their cases.
_VISIBLE = """
SELECT max(cases), (SELECT count(*) FROM {cases} WHERE primero_id IS NOT NULL), COALESCE(bool_or(accepted_at IS NOT NULL), false)
  FROM primero_sync.visible_cases
"""

_NOTE_VISIBLE = """
INSERT INTO primero_sync.visible_cases AS v (cases, seen_at, accepted_at)
VALUES (%(cases)s, now(), CASE WHEN %(accepted)s THEN now() END)
ON CONFLICT (one) DO UPDATE
   SET cases = excluded.cases, seen_at = excluded.seen_at,
       accepted_at = CASE WHEN %(restored)s THEN NULL ELSE COALESCE(excluded.accepted_at, v.accepted_at) END
"""


def login_refused_at(conn: psycopg.Connection, subject: str) -> datetime | None:
    """Read when this login was refused (aware, UTC); None where it was not."""
    query = "SELECT refused_at FROM primero_sync.refused_logins WHERE subject = %s"
    with translate_errors("reading whether Primero has refused the login"):
        refused: datetime | None = scalar(conn, query, (subject,))
    return refused


def note_refused_login(conn: psycopg.Connection, subject: str) -> None:
    """Remember that this login was refused just now; the first time stands."""
    with translate_errors("remembering that Primero has refused the login"):
        conn.execute("INSERT INTO primero_sync.refused_logins (subject) VALUES (%s) ON CONFLICT DO NOTHING", (subject,))


def forget_refused_logins(conn: psycopg.Connection) -> int:
    """Forget all refused logins, so that each is asked again; return how many there were."""
    with translate_errors("forgetting that Primero has refused a login"):
        return conn.execute("DELETE FROM primero_sync.refused_logins").rowcount
