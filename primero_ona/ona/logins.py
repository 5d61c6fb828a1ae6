"""Remember the logins that Primero has refused, each by a keyed hash, where all processes see it."""

from __future__ import annotations

from datetime import datetime

import psycopg

from primero_ona.ona.connection import translate_errors


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
