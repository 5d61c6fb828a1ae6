"""Remember which fields of cases Primero has shown, and whose loss an operator has accepted. Names of fields only."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg.rows import class_row

from primero_ona.errors import UsageError
from primero_ona.ona.connection import translate_errors


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
