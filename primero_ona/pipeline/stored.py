"""What lies between the steps: each stored asset, its partitions, the version of what made them; and which cases belong in ONA.

Imported by definitions.py, so heavy imports are inside the functions.
"""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache, cached_property
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from primero_ona.contract.tables import CASES, SERVICES
from primero_ona.errors import ConfigError, DataError, TransientError
from primero_ona.mapping.labels import MAPPING_VERSION, Labels, version_of
from primero_ona.primero.fields import EXIT_COLUMNS, RAW_COLUMNS, PullPolicy
from primero_ona.quarters import Quarter

if TYPE_CHECKING:
    import psycopg

    from primero_ona.ona.connection import Connect
    from primero_ona.ona.erasure import Erased
    from primero_ona.storage.frames import Frames
    from primero_ona.storage.partitions import PartitionStore, PartitionWriter, Stored, StoredFile

#: Changes with the allow-list, so that a partition pulled with fewer fields is not taken for one with all of them.
PULL_VERSION = hashlib.sha256(str((RAW_COLUMNS, EXIT_COLUMNS)).encode()).hexdigest()[:12]

REFERENCE, REINTEGRATION, UNDER18, EXITS = (
    "primero_reference", "raw_reintegration_cases", "raw_under18_cases", "case_exits",
)  # fmt: skip
MAPPED_CASES, MAPPED_SERVICES = "mapped_cases", "mapped_services"


def current_versions(rules: str) -> tuple[str, str]:
    """The versions of the pull, under a policy (its `suffix`), and of the mapping, as a load records them."""
    return PULL_VERSION + rules, MAPPING_VERSION


@cache
def rules_version() -> str:
    """The version of `rule_sources`: rows of other rules are not carried over, or old and new ones would stand in one partition."""
    return version_of(b"", rule_sources().values(), "")


def rule_sources() -> dict[str, bytes]:
    """The modules that decide what a pull makes of a case, beyond the columns that `PULL_VERSION` covers."""
    names = (
        "mapping/dates.py", "mapping/membership.py", "primero/fields.py", "primero/raw.py", "primero/walk.py", "texts.py",
    )  # fmt: skip
    return {name: files("primero_ona").joinpath(name).read_bytes() for name in names}


@dataclass(frozen=True)
class Scope:
    """What ONA is to hold: cases that the policy lets come, last changed since the first quarter, under these labels."""

    first: Quarter
    policy: PullPolicy = field(default_factory=PullPolicy)
    labels: Labels = field(default_factory=Labels.load, repr=False)


def outdated_quarters(conn: psycopg.Connection, rules: str) -> list[Quarter]:
    """The quarters whose last load was of another version of the pull or the mapping, oldest first; `rules`: the policy's suffix.

    A quarter that was never loaded is not among them: what it lacks, a reconciliation finds missing.
    """
    from primero_ona.ona.bookkeeping import last_loads

    current, loads = current_versions(rules), last_loads(conn)
    return [quarter for quarter, load in loads.items() if (load.pull_version, load.mapping_version) != current]


class StoredAssets:
    """The stored assets of an installation. `find_store` is called when a step first needs the store; `rules`: the policy's suffix."""

    def __init__(self, find_store: Callable[[], PartitionStore], rules: str) -> None:
        self._find_store, self._rules = find_store, rules

    @cached_property
    def store(self) -> PartitionStore:
        """The store of all partitions."""
        return self._find_store()

    @cached_property
    def assets(self) -> Mapping[str, Stored]:
        """What the partitions of each asset must be, by its name."""
        from primero_ona.primero.raw import EXIT_SCHEMA, RAW_SCHEMA
        from primero_ona.primero.reference import REFERENCE_SCHEMA
        from primero_ona.storage.partitions import Stored

        pulled, mapping = current_versions(self._rules)
        # With the pull's version, so that rows mapped from an older pull are not loaded beside the exits of a newer one.
        mapped = f"{mapping}/{pulled}"
        made = (
            Stored(REFERENCE, REFERENCE_SCHEMA, "1"),  # raised when what is stored of Primero's lists changes its shape
            Stored(REINTEGRATION, RAW_SCHEMA, pulled),
            Stored(UNDER18, RAW_SCHEMA, pulled),
            Stored(EXITS, EXIT_SCHEMA, pulled),
            Stored(MAPPED_CASES, CASES.arrow_schema(), mapped),
            Stored(MAPPED_SERVICES, SERVICES.arrow_schema(), mapped),
        )
        return {stored.asset: stored for stored in made}

    def writer(self, asset: str, quarter: Quarter | None = None) -> PartitionWriter:
        """Begin a partition of an asset."""
        return self.store.writer(self.assets[asset], *_key(quarter))

    def open(self, asset: str, quarter: Quarter | None = None) -> Frames:
        """Open a partition; raises DataError where it is not stored, else as `PartitionStore.open`."""
        try:
            return self.store.open(self.assets[asset], *_key(quarter))
        except FileNotFoundError:
            if asset != REFERENCE:
                raise DataError(
                    f"{asset} of {quarter} is not stored; materialize it first", see="stored-partition"
                ) from None
            raise DataError(
                "no reference data of Primero is stored yet; run `primero-ona reference refresh` (job refresh_reference) first",
                see="reference-missing",
            ) from None

    def open_file(self, asset: str, quarter: Quarter) -> StoredFile:
        """Open the file of a partition as it is; raises as `PartitionStore.open`."""
        return self.store.open_fitting(self.assets[asset], quarter.key)

    def quarters(self, asset: str) -> list[Quarter]:
        """The quarters of which an asset has a stored partition, oldest first."""
        return [Quarter.parse(name) for name in self.store.partitions(asset)]

    def summary(self, asset: str, quarter: Quarter) -> Mapping[str, Any]:
        """The summary of a stored partition, whatever version made it, with that version as `stored_version`."""
        facts = self.store.open_file(f"{asset}/{quarter.key}").footer
        return {**facts["summary"], "stored_version": facts["version"]}


def _key(quarter: Quarter | None) -> tuple[str, ...]:
    return (quarter.key,) if quarter else ()


def mapped_otherwise(stored: StoredAssets, labels: Labels) -> list[Quarter]:
    """The stored quarters that were mapped by other rules or other labels than those in use now, oldest first."""
    wanted = (stored.assets[MAPPED_CASES].version, labels.version)
    summaries = {quarter: stored.summary(MAPPED_CASES, quarter) for quarter in stored.quarters(MAPPED_CASES)}
    found = {quarter: (each["stored_version"], each.get("labels_version")) for quarter, each in summaries.items()}
    return [quarter for quarter, versions in found.items() if versions != wanted]


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
    from primero_ona.ona.erasure import erase, legacy_rows, note_stored_rows
    from primero_ona.storage.partitions import forget as forget_stored

    with connect() as conn:
        erased, case_ids = erase(conn, ids, now)
    with _alone(connect, "erase the cases"):
        gone, stored_case_ids = forget_stored(stored.store, ids)
    with connect() as conn:
        note_stored_rows(conn, gone)
        legacy = legacy_rows(conn, sorted(case_ids | stored_case_ids))
    return Forgotten(erased, gone.total(), legacy)


def purge(stored: StoredAssets, connect: Connect, before: Quarter) -> int:
    """Delete the stored partitions of all quarters before `before`; how many. Raises as `forget`."""
    from primero_ona.storage.partitions import purge as purge_stored

    with _alone(connect, "delete old partitions"):
        return purge_stored(stored.store, before.key)


def rotate(stored: StoredAssets, connect: Connect) -> int:
    """Encrypt every stored partition again with the newest key, so that older ones open none; how many. Raises as `forget`."""
    from primero_ona.storage.partitions import rotate as rotate_stored

    with _alone(connect, "renew the keys"):
        return rotate_stored(stored.store)


@contextmanager
def _alone(connect: Connect, doing: str) -> Iterator[None]:
    """Let no run write a partition, and say of a file that could not be removed or replaced that it still has rows of children."""
    from primero_ona.ona.connection import lock_of_all

    with connect() as lock, lock_of_all(lock):
        try:
            yield
        except OSError as error:
            name = errno.errorcode.get(error.errno or 0, "unknown error")
            text = f"a stored partition could not be removed or replaced ({name}), so what was to go is still on disk; repair the disk"
            raise DataError(f"{text}, then {doing} again", see="machine") from None
        except (ConfigError, TransientError) as error:
            text = f"{error}. What was to go may still be stored: {doing} again when that is repaired"
            raise type(error)(text) from None
