"""Erase cases, delete old stored partitions and renew their keys, while no run writes a partition."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from primero_ona.errors import ConfigError, DataError, TransientError
from primero_ona.ona.connection import Connect, lock_of_all
from primero_ona.ona.erasure import Erased, erase, legacy_rows, note_stored_rows
from primero_ona.pipeline.stored import StoredAssets
from primero_ona.quarters import Quarter
from primero_ona.storage import partitions


@dataclass(frozen=True)
class Forgotten:
    """What an erasure removed from ONA, how many stored rows, and the Case IDs of legacy rows that it left."""

    ona: Erased
    stored: int
    legacy: list[str]


def forget(stored: StoredAssets, connect: Connect, ids: Sequence[str], now: datetime) -> Forgotten:
    """Erase cases (Primero ids) from ONA, from the bookkeeping and from all that is stored; safe to repeat.

    ONA first: its line in `erasures` keeps a run that is at work from bringing a case back. Raises TransientError where a
    run is storing a quarter, DataError where something on disk could not be removed: then the cases are still there.
    """
    with connect() as conn:
        erased, case_ids = erase(conn, ids, now)
    with connect() as lock, lock_of_all(lock), _removals("erase the cases"):
        gone, stored_case_ids = partitions.forget(stored.store, ids)
    with connect() as conn:
        note_stored_rows(conn, gone)
        legacy = legacy_rows(conn, sorted(case_ids | stored_case_ids))
    return Forgotten(erased, gone.total(), legacy)


def purge(stored: StoredAssets, connect: Connect, before: Quarter) -> int:
    """Delete the stored partitions of all quarters before `before`; how many. Raises as `forget`."""
    with connect() as lock, lock_of_all(lock), _removals("delete old partitions"):
        return partitions.purge(stored.store, before.key)


def rotate(stored: StoredAssets, connect: Connect) -> int:
    """Encrypt every stored partition again with the newest key; how many there are. Raises as `forget`.

    Afterwards older keys open nothing any more.
    """
    with connect() as lock, lock_of_all(lock), _removals("renew the keys"):
        return partitions.rotate(stored.store)


@contextmanager
def _removals(doing: str) -> Iterator[None]:
    """Name a file that could not be removed or replaced as what it is: rows of children that are still there."""
    try:
        yield
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, "unknown error")
        raise DataError(
            f"a stored partition could not be removed or replaced ({name}), so what was to go is still on disk; repair the disk, "
            f"then {doing} again",
            see="machine",
        ) from None
    except (ConfigError, TransientError) as error:
        raise type(error)(f"{error}. What was to go may still be stored: {doing} again when that is repaired") from None
