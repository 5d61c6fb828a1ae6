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
from primero_ona.storage.places import SUFFIX, Place, place_at

if TYPE_CHECKING:
    import pandas as pd

#: The name of an asset's file where the asset has no partitions.
WHOLE = "whole"

#: Under this name the footer has all that is known of a file beside its rows.
_FOOTER = b"primero_ona"
_ENCRYPTION = pe.EncryptionConfiguration(footer_key="partitions", uniform_encryption=True, data_key_length_bits=256)
_AGAIN = "materialize that asset again"


@dataclass(frozen=True)
class Stored:
    """What the partitions of one asset must be: their columns and types, and the version of what made them."""

    asset: str
    schema: pa.Schema
    version: str

    def at(self, partition: str) -> dict[str, Any]:
        """What the footer of a partition says beside the summary."""
        return {"asset": self.asset, "partition": partition, "version": self.version}


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

    def writer(self, stored: Stored, partition: str = WHOLE, name: str | None = None) -> PartitionWriter:
        """Begin a partition, under its lock; the old one stands until `commit`, and what killed runs left of it goes.

        `name`: the file that it replaces, where that is not at the partition's own place.
        """
        properties = self._factory.file_encryption_properties(self._connection, _ENCRYPTION)
        file = name or f"{stored.asset}/{partition}"
        self.place.remove_unfinished(file)
        return PartitionWriter(self.place, file, stored.schema, stored.at(partition), properties)

    def open(self, stored: Stored, partition: str = WHOLE) -> Frames:
        """Open a partition as a stream that can be read many times, also after the file was replaced.

        Raises FileNotFoundError where it does not exist; DataError where it is damaged, or does not fit `stored` or its place;
        ConfigError where no key opens it.
        """
        file = self.open_fitting(stored, partition)
        summary = {**file.footer["summary"], "stored_version": file.footer["version"]}
        return Frames(lambda columns: prefetch(map(to_frame, file.tables(columns))), summary)

    def open_fitting(self, stored: Stored, partition: str = WHOLE) -> StoredFile:
        """Open the file of a partition that fits `stored` and its place; raises as `open`, and names every mismatch."""
        file = self.open_file(f"{stored.asset}/{partition}")
        found = {**file.footer, "columns": file.schema.names}
        needed = {**stored.at(partition), "columns": stored.schema.names}
        if mismatches := [
            f"{name} is {found[name]!r}, needed {value!r}" for name, value in needed.items() if found[name] != value
        ]:
            raise DataError(f"{file.title} does not fit: {'; '.join(mismatches)}; {_AGAIN}", see="stored-partition")
        return file

    def open_file(self, name: str) -> StoredFile:
        """Open a file of the store, `asset/partition`, whatever made it; raises as `open`."""
        return StoredFile(self.place, name, lambda: self._factory.file_decryption_properties(self._connection))


class StoredFile:
    """An open file of the store, which can still be read when another has replaced it.

    `footer` is what it says of itself: `asset`, `partition`, `version` and `summary`.
    """

    def __init__(self, place: Place, name: str, decryption: Callable[[], Any]) -> None:
        self.name, self.title, self._decryption = name, f"the stored partition {name}{SUFFIX}", decryption
        with self._faults():
            self._source = place.read(name)
            file = self._opened()
        self.schema: pa.Schema = file.schema_arrow.remove_metadata()
        self._groups = file.num_row_groups
        known = orjson.loads((file.metadata.metadata or {}).get(_FOOTER, b"{}"))
        self.footer: dict[str, Any] = {**dict.fromkeys(("asset", "partition", "version")), "summary": {}, **known}

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

    def _opened(self) -> pq.ParquetFile:
        return pq.ParquetFile(self._source, decryption_properties=self._decryption())

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """Name what is damaged, and a key that does not fit; a fault of this machine, which has an errno, passes."""
        try:
            yield
        except InvalidToken:
            raise ConfigError(
                f"no key in PRIMERO_ONA_STORAGE_KEYS opens {self.title}; add the key it was made with, or {_AGAIN}",
                see="storage-keys",
            ) from None
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise DataError(f"{self.title} is damaged or no file of ours; {_AGAIN}", see="stored-partition") from None


class PartitionWriter:
    """Writes one partition, frame by frame. Without `commit` the old one stays as it was.

    As a context manager it discards at its end what was not committed. Two writers of one partition are kept apart by the
    lock of the partition (`ona/connection.py`), not here.
    """

    def __init__(
        self, place: Place, name: str, schema: pa.Schema, footer: Mapping[str, Any], encryption: object
    ) -> None:
        self._place, self._name, self._schema, self._footer, self._encryption = place, name, schema, footer, encryption
        self.rows = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    @cached_property
    def _sink(self) -> Any:  # noqa: ANN401
        return self._place.begin(self._name)

    @cached_property
    def _file(self) -> pq.ParquetWriter:
        return pq.ParquetWriter(self._sink, self._schema, compression="zstd", encryption_properties=self._encryption)

    def write(self, frame: pd.DataFrame) -> None:
        """Add a frame with the columns of the schema; an empty one adds nothing."""
        self.write_table(self.table_of(frame))

    def table_of(self, frame: pd.DataFrame) -> pa.Table:
        """A frame with the columns of the schema as a table."""
        # Without pandas' own notes in the schema: pandas cannot read back what it notes of nested types.
        table = pa.Table.from_pandas(frame, schema=self._schema, preserve_index=False, nthreads=1)
        return table.replace_schema_metadata()

    def write_table(self, table: pa.Table) -> None:
        """Add a table with the schema; an empty one adds nothing."""
        if len(table):
            self._file.write_table(table)
            self.rows += len(table)

    def discard(self) -> None:
        """Remove what was written and not committed; the partition may be begun again."""
        if file := self.__dict__.pop("_file", None):
            with suppress(OSError, pa.ArrowException):  # the failure that led here is the one to show
                file.close()
            self._place.discard(self.__dict__.pop("_sink"))
            self.rows = 0

    def commit(self, summary: Mapping[str, Any]) -> None:
        """Make this the partition, with what is known beside its rows (JSON types)."""
        footer = {**self._footer, "summary": dict(summary)}
        self._file.add_key_value_metadata({_FOOTER.decode(): orjson.dumps(footer).decode()})
        self._file.close()
        self._place.publish(self._name, self._sink)
        del self._file, self._sink


#: Columns that name a case by Primero's own id, in raw cases, exits, mapped cases and mapped services.
_ID_COLUMNS = ("id", "primero_id", "primero_case_id")


def _sent(case_id: str) -> str:
    """A Case ID as ONA has it, of the JSON that Primero sent."""
    try:
        return str(orjson.loads(case_id)).strip()
    except orjson.JSONDecodeError:
        return case_id.strip()


#: Columns that have a case's Case ID, and how it is read.
_CASE_ID_COLUMNS: dict[str, Callable[[str], str]] = {
    "case_id_display": _sent,
    "case_id": lambda key: key.partition("~")[0],
}


def rotate(store: PartitionStore) -> int:
    """Encrypt every stored partition again with the newest key; how many there are."""
    store.place.remove_leftovers()
    names = store.place.names()
    for name in names:
        _rewrite(store, store.open_file(name), ())
    return len(names)


def purge(store: PartitionStore, before: str) -> int:
    """Delete the partitions of all quarters before the first day `before` (2022-01-01), and what killed runs left; how many."""
    store.place.remove_leftovers()
    keys = {name: name.partition("/")[2] for name in store.place.names()}
    old = [name for name, key in keys.items() if re.fullmatch(r"\d{4}-\d{2}-\d{2}", key) and key < before]
    for name in old:
        store.place.remove(name)
    return len(old)


def forget(store: PartitionStore, ids: Collection[str]) -> tuple[Counter[str], set[str]]:
    """Take cases out of every stored partition and its summary; the rows removed by case, and the Case IDs found in them."""
    store.place.remove_leftovers()
    gone: Counter[str] = Counter()
    case_ids: set[str] = set()
    for name in store.place.names():
        file = store.open_file(name)
        known = [column for column in (*_ID_COLUMNS, *_CASE_ID_COLUMNS) if column in file.schema.names]
        found: Counter[str] = Counter()
        for table in file.tables(known) if known else ():
            mine = table.filter(_mine(table, ids)).to_pydict()
            for column, values in mine.items():
                if read := _CASE_ID_COLUMNS.get(column):
                    case_ids |= {read(value) for value in values if value}
                else:
                    found.update(values)
        if found or _without(file.footer["summary"], ids) != file.footer["summary"]:
            _rewrite(store, file, ids)
        gone += found
    return gone, case_ids


def _rewrite(store: PartitionStore, file: StoredFile, ids: Collection[str]) -> None:
    """Store a partition again, without the rows and the entries of these cases."""
    footer = file.footer
    stored = Stored(footer["asset"], file.schema, footer["version"])
    with store.writer(stored, footer["partition"], file.name) as writer:
        for table in file.tables():
            writer.write_table(table.filter(pc.invert(_mine(table, ids))) if ids else table)
        writer.commit(_without(footer["summary"], ids))


def _mine(table: pa.Table, ids: Collection[str]) -> pa.ChunkedArray | pa.Array:
    """For each row whether it is of one of the cases."""
    column = next((name for name in _ID_COLUMNS if name in table.column_names), None)
    if column is None:
        return pa.repeat(pa.scalar(value=False), len(table))
    return pc.is_in(table.column(column), value_set=pa.array(sorted(ids), pa.string()))


def _without(summary: Mapping[str, Any], ids: Collection[str]) -> Mapping[str, Any]:
    """A summary without what names one of the cases: entries of the quarantine, and those stamped ahead."""
    kept = dict(summary)
    if "quarantine" in summary:
        kept["quarantine"] = [entry for entry in summary["quarantine"] if entry.get("primero_id") not in ids]
    if "received" in summary:
        ahead = [case for case in summary["received"]["ahead"] if case not in ids]
        kept["received"] = {**summary["received"], "ahead": ahead}
    return kept
