"""Read who was erased, and leave such cases out of raw frames and staged rows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

import psycopg

from primero_ona.ona.connection import translate_errors

if TYPE_CHECKING:
    import pandas as pd


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
    if not erased:
        return raw
    return raw[[subject_of(case) not in erased for case in raw["id"]]].reset_index(drop=True)


def remove_erased(conn: psycopg.Connection) -> dict[str, int]:
    """Take erased cases out of the staged rows, whatever brought them there; return how many rows, by table.

    Defence in depth: a pull that began before the erasure may still have stored the case.
    """
    if conn.execute("SELECT FROM primero_sync.erasures LIMIT 1").fetchone() is None:
        return {}
    return {
        "services": conn.execute(_UNSTAGE_SERVICES).rowcount,
        "cases": conn.execute(_UNSTAGE_CASES).rowcount,
    }


_UNSTAGE_SERVICES = """
DELETE FROM staged_services AS s
 USING primero_sync.erasures AS e
 WHERE e.subject = encode(sha256(convert_to(s.primero_case_id::text, 'UTF8')), 'hex')
"""

_UNSTAGE_CASES = """
DELETE FROM staged_cases AS s
 USING primero_sync.erasures AS e
 WHERE e.subject = encode(sha256(convert_to(s.primero_id::text, 'UTF8')), 'hex')
"""
