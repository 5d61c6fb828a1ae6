"""Primero's ids of cases: UUIDs; and what stands in the place of one that is none, so that its case can be quarantined.

What belongs here: the shape of both. Such a case cannot be in ONA, whose column takes UUIDs, and its id may be any text, so it
is shown nowhere.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

#: A UUID as Primero writes it; Python, Arrow and PostgreSQL read the pattern alike.
UUID = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"

_UUID = re.compile(UUID)
_STAND_IN = re.compile("no-uuid(:[0-9a-f]{16})?")


def is_uuid(text: object) -> bool:
    """Whether a value is an id as Primero writes them."""
    return isinstance(text, str) and _UUID.fullmatch(text) is not None


def case_id_of(*parts: Any) -> str:  # noqa: ANN401
    """The id of a case: the first of `parts`, or where that is no UUID a stand-in made of all parts, always the same one."""
    identity = parts[0].lower() if isinstance(parts[0], str) else None
    if identity is not None and is_uuid(identity):
        return identity
    return f"no-uuid:{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]}"


def showable(identity: str) -> str:
    """A case's id as it may be shown: a UUID or a stand-in as it is, anything else without what it says."""
    return identity if is_uuid(identity) or _STAND_IN.fullmatch(identity) else "no-uuid"
