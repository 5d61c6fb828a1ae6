"""Remember what Primero has shown: fields of cases, how many cases are visible, refused logins, and what operators accepted.

Names of fields, counts and keyed hashes only.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from primero_ona.errors import UsageError
from primero_ona.ona.connection import translate_errors
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
    with (
        translate_errors("reading the fields that Primero has shown"),
        conn.cursor(row_factory=class_row(Field)) as cursor,
    ):
        return cursor.execute("SELECT * FROM primero_sync.fields ORDER BY name").fetchall()


def note_fields(conn: psycopg.Connection, shown: Collection[str], returned: Collection[str], now: datetime) -> None:
    """Remember the fields that a pull was shown; the acceptance of those that have `returned` ends."""
    with translate_errors("remembering the fields that Primero has shown"), conn.transaction():
        conn.execute(_NOTE, {"shown": list(shown), "returned": list(returned), "now": now})


def accept_fields(conn: psycopg.Connection, names: Collection[str], now: datetime) -> list[Field]:
    """Accept that these fields do not come any more; return them. Safe to repeat: the first acceptance stands.

    Raises UsageError where a name is not one of a field that pulls were shown, since nothing was lost then.
    """
    with translate_errors("accepting the loss of fields"), conn.transaction():
        known = {field.name for field in shown_fields(conn)}
        if unknown := set(names) - known:
            raise UsageError(
                f"{len(unknown)} of these names {'is' if len(unknown) == 1 else 'are'} of no field that a pull was ever shown, so "
                "nothing was accepted; `primero-ona fields list` has the names"
            )
        conn.execute(_ACCEPT, {"names": list(names), "now": now})
        return [field for field in shown_fields(conn) if field.name in names]


_NOTE = """
INSERT INTO primero_sync.fields AS f (name, first_seen, last_seen)
SELECT name, %(now)s, %(now)s FROM unnest(%(shown)s::text[]) AS name ORDER BY name
ON CONFLICT (name) DO UPDATE
   SET last_seen = GREATEST(f.last_seen, excluded.last_seen),
       accepted_at = CASE WHEN f.name = ANY (%(returned)s::text[]) THEN NULL ELSE f.accepted_at END
"""

_ACCEPT = """
UPDATE primero_sync.fields SET accepted_at = %(now)s WHERE name = ANY (%(names)s::text[]) AND accepted_at IS NULL
"""


def visible_cases(conn: psycopg.Connection) -> tuple[int | None, int, bool]:
    """Read how many cases the account should see, as the first fields of `KnownScope`.

    Those that the last pull saw, or that were accepted since (None: there was no pull), those that stand in ONA, and whether
    it was accepted that fewer are visible than stand there.
    """
    with translate_errors("reading how many of Primero's cases were visible"):
        row = conn.execute("SELECT cases, accepted_at IS NOT NULL FROM primero_sync.visible_cases").fetchone()
        standing = conn.execute(sql.SQL(_STANDING).format(**Target.find(conn).names)).fetchone()
    last, accepted = row or (None, False)
    return last, int(standing[0]) if standing else 0, accepted


def note_visible(conn: psycopg.Connection, cases: int, *, restored: bool) -> None:
    """Remember how many cases a pull could see; an acceptance ends where they are `restored`, as many as stand in ONA."""
    with translate_errors("remembering how many of Primero's cases are visible"):
        conn.execute(_NOTE_VISIBLE, {"cases": cases, "restored": restored})


def accept_visible(conn: psycopg.Connection, cases: int) -> None:
    """Accept that so many cases are visible, however many stood in ONA or were visible before. Safe to repeat."""
    with translate_errors("accepting how many of Primero's cases are visible"):
        conn.execute(_ACCEPT_VISIBLE, {"cases": cases})


#: Rows of the old pipeline are not counted: it is not known whether Primero still has their cases.
_STANDING = "SELECT count(*) FROM {cases} WHERE primero_id IS NOT NULL"

_NOTE_VISIBLE = """
INSERT INTO primero_sync.visible_cases AS v (cases, seen_at) VALUES (%(cases)s, now())
ON CONFLICT (one) DO UPDATE
   SET cases = excluded.cases, seen_at = excluded.seen_at,
       accepted_at = CASE WHEN %(restored)s THEN NULL ELSE v.accepted_at END
"""

_ACCEPT_VISIBLE = """
INSERT INTO primero_sync.visible_cases (cases, seen_at, accepted_at) VALUES (%(cases)s, now(), now())
ON CONFLICT (one) DO UPDATE
   SET cases = excluded.cases, seen_at = excluded.seen_at, accepted_at = excluded.accepted_at
"""


def login_refused_at(conn: psycopg.Connection, subject: str) -> datetime | None:
    """Read when this login was refused (aware, UTC); None where it was not."""
    with translate_errors("reading whether Primero has refused the login"):
        row = conn.execute(
            "SELECT refused_at FROM primero_sync.refused_logins WHERE subject = %s", (subject,)
        ).fetchone()
    return row[0] if row else None


def note_refused_login(conn: psycopg.Connection, subject: str) -> None:
    """Remember that this login was refused just now; the first time stands."""
    with translate_errors("remembering that Primero has refused the login"):
        conn.execute("INSERT INTO primero_sync.refused_logins (subject) VALUES (%s) ON CONFLICT DO NOTHING", (subject,))


def forget_refused_logins(conn: psycopg.Connection) -> int:
    """Forget all refused logins, so that each is asked again; return how many there were."""
    with translate_errors("forgetting that Primero has refused a login"):
        return conn.execute("DELETE FROM primero_sync.refused_logins").rowcount
