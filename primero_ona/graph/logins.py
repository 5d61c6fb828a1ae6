"""A login that Primero refused is asked once, and by no process again until it changes or a person says so.

Primero locks an account after six failed logins, which the sensor alone would reach in an hour and a half.
"""

import hashlib
import hmac
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from primero_ona.errors import SyncError
from primero_ona.settings import PrimeroSettings, StorageSettings, read_one

if TYPE_CHECKING:
    from primero_ona.graph.resources import OnaDatabaseResource

logger = logging.getLogger(__name__)

#: Seconds that ONA may take to answer: a tick of the sensor has a minute for all it does.
_ONA_SECONDS = 5

#: What this process has seen itself, by login, for when ONA cannot be asked.
_seen_here: dict[tuple[str, str, str], datetime] = {}


class OnaLoginMemory:
    """A `LoginMemory` in ONA's bookkeeping, where all processes see it.

    The login is kept as a hash keyed with the storage key, so that no reader of the bookkeeping can try passwords on it.
    """

    def __init__(self, ona: "OnaDatabaseResource", settings: PrimeroSettings) -> None:
        self._ona = ona
        self._login = (settings.url, settings.username, settings.password.get_secret_value())

    def refused_at(self) -> datetime | None:
        """When Primero refused this login (aware, UTC); None where nothing is known of that."""
        from primero_ona.ona.logins import login_refused_at

        try:
            with self._ona.connection(statement_timeout=_ONA_SECONDS) as connection:
                found = login_refused_at(connection, self._subject())
        except SyncError as failure:
            logger.warning("ONA could not be asked whether Primero has refused the login: %s", failure)
            return _seen_here.get(self._login)
        _seen_here.pop(self._login, None)  # a person may have said that it is good again
        return found

    def note_refused(self) -> None:
        """Remember that Primero has refused this login."""
        from primero_ona.ona.logins import note_refused_login

        _seen_here[self._login] = datetime.now(UTC)
        try:
            with self._ona.connection(statement_timeout=_ONA_SECONDS) as connection:
                note_refused_login(connection, self._subject())
        except SyncError as failure:
            logger.warning("that Primero has refused the login is known to this process only: %s", failure)

    def _subject(self) -> str:
        key = read_one(StorageSettings).storage_keys.get_secret_value().split(",")[0].strip()
        return hmac.new(key.encode(), "\0".join(self._login).encode(), hashlib.sha256).hexdigest()
