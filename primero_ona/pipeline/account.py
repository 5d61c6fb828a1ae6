"""What ONA's bookkeeping knows of what Primero's account sees: fields of cases, and how many cases."""

from __future__ import annotations

from datetime import UTC, datetime

import psycopg

from primero_ona.ona.primero_state import note_fields, note_visible, shown_fields, visible_cases
from primero_ona.primero.fields import KnownFields
from primero_ona.primero.pull import PullReport
from primero_ona.primero.visible import KnownScope
from primero_ona.settings import GraphSettings, read_one


def known_fields(conn: psycopg.Connection) -> KnownFields:
    """Read which fields earlier pulls were shown."""
    accepted_at = {field.name: field.accepted_at for field in shown_fields(conn)}
    return KnownFields(frozenset(accepted_at), frozenset(name for name, at in accepted_at.items() if at))


def known_scope(conn: psycopg.Connection) -> KnownScope:
    """Read how many cases the account should see, and from the settings what counts as a fall."""
    settings = read_one(GraphSettings)
    return KnownScope(*visible_cases(conn), share=settings.scope_loss_percent / 100, least=settings.scope_loss_cases)


def note_seen(conn: psycopg.Connection, report: PullReport, scope: KnownScope) -> None:
    """Remember what a pull has seen, of which `scope` was expected."""
    note_fields(conn, report.fields.shown, report.fields.returned, datetime.now(UTC))
    note_visible(conn, report.visible, restored=report.visible >= scope.in_ona)
