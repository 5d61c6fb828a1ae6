"""Stored partitions: one encrypted Parquet file each, whole or not there.

Rows, names of columns and the summary are encrypted by Parquet itself, each file with a key of its own, which the newest of the
settings' Fernet keys wraps. The encrypted footer names the asset, the partition and the version of what made it, so that a file
in another place, or of another version, is refused. Where the files lie is `places.py`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from primero_ona.errors import ConfigError, DataError
from primero_ona.storage.frames import BATCH_ROWS, Frames, prefetch, to_frame
from primero_ona.storage.places import SUFFIX, Draft, Place, place_at

if TYPE_CHECKING:
    import pandas as pd

#: The name of an asset's file where the asset has no partitions.
WHOLE = "whole"

#: Under this name the footer has all that is known of a file beside its rows.
_FOOTER = b"primero_ona"
_ENCRYPTION = pe.EncryptionConfiguration(footer_key="partitions", uniform_encryption=True, data_key_length_bits=256)
_NO_FOOTER: Mapping[str, Any] = {"asset": None, "partition": None, "version": None, "summary": {}}
_AGAIN = "materialize that asset again"


@dataclass(frozen=True)
class Stored:
    """What the partitions of one asset must be: their columns and types, and the version of what made them."""

    asset: str
    schema: pa.Schema
    version: str


class _Wrapping(pe.KmsClient):  # type: ignore[misc]  # pyarrow has no types
    """Wraps the key of each file with the newest of our Fernet keys."""

    def __init__(self, fernet: MultiFernet) -> None:
        super().__init__()
        self._fernet = fernet

    def wrap_key(self, key: bytes, _name: str) -> str:
        """See KmsClient."""
        return self._fernet.encrypt(key).decode()

    def unwrap_key(self, wrapped: bytes | str, _name: str) -> bytes:
        """See KmsClient."""
        return self._fernet.decrypt(wrapped)


class PartitionStore:
    """Reads and writes the partitions of all assets at one address (see `place_at`). `keys`: Fernet keys, newest first."""

    def __init__(self, address: str | Path, keys: str) -> None:
        try:
            fernet = MultiFernet([Fernet(key.strip()) for key in keys.split(",") if key.strip()])
        except ValueError:
            raise ConfigError(
                "PRIMERO_ONA_STORAGE_KEYS is malformed: it takes Fernet keys, separated by commas; make one with `primero-ona keys new`"
            ) from None
        self.place = place_at(address)
        self._factory = pe.CryptoFactory(lambda _: _Wrapping(fernet))
        self._connection = pe.KmsConnectionConfig()

    def partitions(self, asset: str) -> list[str]:
        """The partitions of an asset that exist, in the order of their names."""
        return [name.partition("/")[2] for name in self.place.names(asset)]

    def writer(self, stored: Stored, partition: str = WHOLE) -> PartitionWriter:
        """Begin a partition; the old one stands until `commit`."""
        return self.writer_at(f"{stored.asset}/{partition}", stored, partition)

    def writer_at(self, name: str, stored: Stored, partition: str) -> PartitionWriter:
        """Begin a file that replaces the one of that name, whatever place it says it belongs to."""
        properties = self._factory.file_encryption_properties(self._connection, _ENCRYPTION)
        return PartitionWriter(self.place.draft(name), stored, partition, properties)

    def remove_unfinished(self, asset: str, partition: str = WHOLE) -> None:
        """Remove what killed runs left of a partition, and what an older format stored; to be called under its lock."""
        self.place.remove_unfinished(f"{asset}/{partition}")

    def open(self, stored: Stored, partition: str = WHOLE) -> Frames:
        """Open a partition as a stream that can be read many times, also after the file was replaced.

        Raises FileNotFoundError where it does not exist; DataError where it is damaged, or does not fit `stored` or its place;
        ConfigError where no key opens it.
        """
        file = self.open_fitting(stored, partition)

        def read(columns: Sequence[str] | None) -> Iterator[pd.DataFrame]:
            yield from prefetch(map(to_frame, file.tables(columns)))

        return Frames(read, {**file.footer["summary"], "stored_version": file.footer["version"]})

    def open_fitting(self, stored: Stored, partition: str = WHOLE) -> StoredFile:
        """Open the file of a partition that fits `stored` and its place; raises as `open`."""
        file = self.open_file(f"{stored.asset}/{partition}")
        file.require_fit(stored, partition)
        return file

    def facts(self, asset: str, partition: str) -> Mapping[str, Any]:
        """What the footer of a partition says, whatever version made it: `version` and `summary` among others."""
        return self.open_file(f"{asset}/{partition}").footer

    def open_file(self, name: str) -> StoredFile:
        """Open a file of the store, `asset/partition`; raises as `open`."""
        return StoredFile(self.place, name, lambda: self._factory.file_decryption_properties(self._connection))


class StoredFile:
    """An open file of the store, which can still be read when another has replaced it.

    `footer` is what it says of itself: `asset`, `partition`, `version` and `summary`.
    """

    def __init__(self, place: Place, name: str, decryption: Callable[[], Any]) -> None:
        self._name, self._decryption = f"{name}{SUFFIX}", decryption
        with self._faults():
            self._source = place.read(name)
            file = self._opened()
        self.schema: pa.Schema = file.schema_arrow.remove_metadata()
        self._groups = file.num_row_groups
        known = (file.metadata.metadata or {}).get(_FOOTER, b"{}")
        self.footer: dict[str, Any] = {**_NO_FOOTER, **orjson.loads(known)}

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Read the rows, at most BATCH_ROWS at once. Raises DataError where they are damaged."""
        wanted = list(columns) if columns is not None else None
        for group in range(self._groups):
            with self._faults():
                # Opened again for each group: an open file keeps what it needed to decrypt each column of each group.
                # Without threads: a group is small, and starting them takes longer.
                batches = self._opened().iter_batches(BATCH_ROWS, row_groups=[group], columns=wanted, use_threads=False)
                tables = [pa.Table.from_batches([batch]) for batch in batches]
            yield from tables

    def require_fit(self, stored: Stored, partition: str) -> None:
        """Raise DataError where the file was made for another place or reader, naming every mismatch."""
        needed = {
            "asset": stored.asset,
            "partition": partition,
            "version": stored.version,
            "columns": stored.schema.names,
        }
        found = {**self.footer, "columns": self.schema.names}
        mismatches = [
            f"{name} is {found[name]!r}, needed {value!r}" for name, value in needed.items() if found[name] != value
        ]
        if mismatches:
            raise DataError(
                f"the stored partition {self._name} does not fit: {'; '.join(mismatches)}; {_AGAIN}",
                see="stored-partition",
            )

    def _opened(self) -> pq.ParquetFile:
        return pq.ParquetFile(self._source, decryption_properties=self._decryption())

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """Name what is damaged, and a key that does not fit; a fault of this machine, which has an errno, passes."""
        try:
            yield
        except InvalidToken:
            raise ConfigError(
                f"no key in PRIMERO_ONA_STORAGE_KEYS opens the stored partition {self._name}; add the key it was made with, or {_AGAIN}",
                see="storage-keys",
            ) from None
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise DataError(
                f"the stored partition {self._name} is damaged or no file of ours; {_AGAIN}", see="stored-partition"
            ) from None


class PartitionWriter:
    """Writes one partition, frame by frame. Without `commit` the old one stays as it was.

    As a context manager it discards at its end what was not committed. Two writers of one partition are kept apart by the
    lock of the partition (`ona/connection.py`), not here.
    """

    def __init__(self, draft: Draft, stored: Stored, partition: str, properties: Any) -> None:  # noqa: ANN401
        self._draft, self._stored, self._partition, self._properties = draft, stored, partition, properties
        self.rows = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    @cached_property
    def _file(self) -> pq.ParquetWriter:
        return pq.ParquetWriter(
            self._draft.open(), self._stored.schema, compression="zstd", encryption_properties=self._properties
        )

    def write(self, frame: pd.DataFrame) -> None:
        """Add a frame with the columns of the schema; an empty one adds nothing."""
        self.write_table(self.table_of(frame))

    def table_of(self, frame: pd.DataFrame) -> pa.Table:
        """A frame with the columns of the schema as a table."""
        # Without pandas' own notes in the schema: pandas cannot read back what it notes of nested types.
        table = pa.Table.from_pandas(frame, schema=self._stored.schema, preserve_index=False, nthreads=1)
        return table.replace_schema_metadata()

    def write_table(self, table: pa.Table) -> None:
        """Add a table with the schema; an empty one adds nothing."""
        if not len(table):
            return
        self._file.write_table(table)
        self.rows += len(table)

    def restart(self) -> None:
        """Forget what was written and begin again."""
        self.discard()
        self.rows = 0

    def discard(self) -> None:
        """Remove what was written and not committed."""
        if "_file" in self.__dict__:
            with suppress(OSError, pa.ArrowException):  # the failure that led here is the one to show
                self._file.close()
            del self.__dict__["_file"]
            self._draft.discard()

    def commit(self, summary: Mapping[str, Any]) -> None:
        """Make this the partition, with what is known beside its rows (JSON types)."""
        footer = {
            "asset": self._stored.asset,
            "partition": self._partition,
            "version": self._stored.version,
            "summary": dict(summary),
        }
        self._file.add_key_value_metadata({_FOOTER.decode(): orjson.dumps(footer).decode()})
        self._file.close()
        self._draft.publish()
        del self.__dict__["_file"]


#: Columns that name a case by Primero's own id, in raw cases, exits, mapped cases and mapped services.
_ID_COLUMNS = ("id", "primero_id", "primero_case_id")
#: Columns that have its Case ID: as Primero sent it (JSON), and mapped.
_RAW_CASE_ID, _CASE_ID = "case_id_display", "case_id"

_QUARTER_KEY = re.compile(r"\d{4}-\d{2}-\d{2}")


def rotate(store: PartitionStore) -> int:
    """Encrypt every stored partition again with the newest key; how many there are."""
    store.place.remove_leftovers()
    names = store.place.names()
    for name in names:
        _rewrite(store, name, frozenset())
    return len(names)


def purge(store: PartitionStore, before: str) -> int:
    """Delete the partitions of all quarters before the first day `before` (2022-01-01), and what killed runs left; how many."""
    store.place.remove_leftovers()
    names = {name: name.partition("/")[2] for name in store.place.names()}
    old = [name for name, key in names.items() if _QUARTER_KEY.fullmatch(key) and key < before]
    for name in old:
        store.place.remove(name)
    return len(old)


def forget(store: PartitionStore, ids: Collection[str]) -> tuple[Counter[str], set[str]]:
    """Take cases out of every stored partition and its summary; the rows removed by case, and the Case IDs found in them."""
    store.place.remove_leftovers()
    gone: Counter[str] = Counter()
    case_ids: set[str] = set()
    for name in store.place.names():
        found, named, in_summary = _holds(store, name, frozenset(ids))
        gone.update(found)
        case_ids |= named
        if found or in_summary:
            _rewrite(store, name, frozenset(ids))
    return gone, case_ids


def _holds(store: PartitionStore, name: str, ids: frozenset[str]) -> tuple[Counter[str], set[str], bool]:
    """How many rows of a partition each case has, their Case IDs, and whether the summary names one of the cases."""
    file = store.open_file(name)
    found: Counter[str] = Counter()
    case_ids: set[str] = set()
    column = _id_column(file.schema.names)
    if column is not None:
        named = next((name for name in (_RAW_CASE_ID, _CASE_ID) if name in file.schema.names), None)
        for table in file.tables([column, *([named] if named else [])]):
            mine = table.filter(_mine(table, column, ids))
            found.update(mine.column(column).to_pylist())
            if named:
                case_ids |= {_text(value, named) for value in mine.column(named).to_pylist() if value}
    summary = file.footer["summary"]
    return found, case_ids, _without(summary, ids) != summary


def _text(value: str, column: str) -> str:
    """A Case ID as ONA has it; in raw cases it is JSON."""
    if column == _CASE_ID:
        return value.partition("~")[0]
    try:
        return str(orjson.loads(value)).strip()
    except orjson.JSONDecodeError:
        return value.strip()


def _rewrite(store: PartitionStore, name: str, ids: frozenset[str]) -> None:
    """Store a partition again, without the rows and the entries of these cases."""
    file = store.open_file(name)
    footer = file.footer
    column = _id_column(file.schema.names)
    stored = Stored(footer["asset"], file.schema, footer["version"])
    with store.writer_at(name, stored, footer["partition"]) as writer:
        for table in file.tables():
            kept = table if column is None or not ids else table.filter(pc.invert(_mine(table, column, ids)))
            if len(kept):
                writer.write_table(kept)
        writer.commit(_without(footer["summary"], ids))


def _mine(table: pa.Table, column: str, ids: frozenset[str]) -> pa.ChunkedArray:
    """For each row whether it is of one of the cases."""
    return pc.is_in(table.column(column), value_set=pa.array(sorted(ids), pa.string()))


def _id_column(names: Collection[str]) -> str | None:
    return next((name for name in _ID_COLUMNS if name in names), None)


def _without(summary: Mapping[str, Any], ids: frozenset[str]) -> Mapping[str, Any]:
    """A summary without what names one of the cases: entries of the quarantine, and those stamped ahead."""
    kept = dict(summary)
    if "quarantine" in summary:
        kept["quarantine"] = [entry for entry in summary["quarantine"] if entry.get("primero_id") not in ids]
    if "received" in summary:
        ahead = [case for case in summary["received"]["ahead"] if case not in ids]
        kept["received"] = {**summary["received"], "ahead": ahead}
    return kept
