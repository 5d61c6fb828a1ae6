"""Who may read what in the sandbox: HTTP Basic with its lock-out, and the role of the one user."""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from primero_ona.sandbox.reference import form_fields

#: The sandbox's only user. Constants, the same for everybody: they open nothing but synthetic data on 127.0.0.1.
USERNAME: Final = "sandbox"
PASSWORD: Final = "sandbox-opens-nothing-real-7f3a"  # noqa: S105  not a secret, see above

#: Devise locks an account at the sixth failure, for half an hour; Basic failures count.
_FAILURES = 6
_LOCKED = timedelta(minutes=30)

NOT_SIGNED_IN = "You need to sign in or sign up before continuing."
WRONG = "Invalid User name or password."
NOT_ACTIVE = "Your account is not activated yet."

#: Fields that every role with cases may read, whatever forms it was given.
_ALWAYS = (
    "id", "status", "record_state", "created_at", "owned_by", "module_id", "sex", "age", "registration_date",
    "date_closure", "location_current", "case_id_display", "short_id", "last_updated_at",
)  # fmt: skip
#: In every row, asked for or not; so is any signature field of the instance.
ROW_KEYS = ("id", "enabled", "last_updated_at", "consent_signature")
#: What `fields=short` stands for, as far as the sandbox has it.
_SHORT = (
    "created_at", "owned_by", "status", "short_id", "case_id_display", "name", "age", "sex", "registration_date",
    "module_id", "location_current",
)  # fmt: skip
_ID_SEARCH = ("age", "date_of_birth", "estimated", "name", "sex")


@dataclass
class Role:
    """What the user may do.

    `forms`: granted forms; a field of another form is missing from the rows and its filter is dropped. `withheld`: single
    fields taken away. `refused`: lists answered with 403 (`cases`, `lookups`, `locations`, `forms`). `owner`: only the
    cases `owned_by` this worker are in scope; None is everybody's, which the pipeline needs.
    """

    forms: set[str] = field(default_factory=lambda: set(form_fields()))
    withheld: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    owner: str | None = None

    def permitted(self) -> tuple[str, ...]:
        """The names it may read and filter by."""
        granted = (name for form, names in form_fields().items() if form in self.forms for name in names)
        return tuple(name for name in dict.fromkeys((*_ALWAYS, *granted)) if name not in self.withheld)

    def shown(self, query: Mapping[str, Any]) -> tuple[str, ...]:
        """The fields of a row for this query: those asked for, as far as permitted; blanks are not trimmed."""
        permitted = self.permitted()
        permitted += _ID_SEARCH if query.get("id_search") else ()
        asked = query.get("fields")
        if asked is None:
            chosen = permitted
        else:
            names = _SHORT if asked == "short" else str(asked).split(",")
            chosen = tuple(name for name in names if name in permitted)
        return tuple(dict.fromkeys((*ROW_KEYS, *chosen)))


class Login:
    """HTTP Basic for one user. `clock` gives aware times, for the end of a lock-out."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self.active = True
        self.clock = clock
        self._failures = 0
        self._locked_until: datetime | None = None

    def refusal(self, header: str | None) -> str | None:
        """Why an `Authorization` header is refused, in Primero's words; None where it is good.

        A locked account is refused in the words for a wrong password, with the right password, too.
        """
        credentials = _basic(header)
        if credentials is None:
            return NOT_SIGNED_IN
        name, password = credentials
        if name.strip().lower() != USERNAME or self._is_locked():
            return WRONG
        if not secrets.compare_digest(password.encode(), PASSWORD.encode()):
            self._count()
            return WRONG
        self._failures = 0
        return None if self.active else NOT_ACTIVE

    def _is_locked(self) -> bool:
        if self._locked_until is not None and self.clock() >= self._locked_until:
            self._locked_until, self._failures = None, 0
        return self._locked_until is not None

    def _count(self) -> None:
        self._failures += 1
        if self._failures >= _FAILURES:
            self._locked_until = self.clock() + _LOCKED


def _basic(header: str | None) -> tuple[str, str] | None:
    scheme, _, encoded = (header or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, colon, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return (name, password) if colon else None
