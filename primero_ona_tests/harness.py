"""The real graph on a small sandbox and a database of its own: what the tests of the Dagster layer run."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import psycopg
import pyarrow as pa
from alembic.config import Config
from alembic.script import ScriptDirectory
from cryptography.fernet import Fernet
from psycopg import sql

from primero_ona.definitions import build_defs
from primero_ona.graph.resources import OnaDatabaseResource, PartitionStorage, PrimeroResource
from primero_ona.graph.runs import Outcome, RunOutcome, execute
from primero_ona.ona.connection import Connect, connect, partition_lock, translate_errors
from primero_ona.pipeline.reference import fill_dictionary, fill_lookup
from primero_ona.pipeline.stored import REFERENCE, StoredAssets
from primero_ona.primero.client import PrimeroClient
from primero_ona.primero.reference import ListName, Reference, ReferenceList, content_of
from primero_ona.quarters import Quarter
from primero_ona.sandbox import reference
from primero_ona.sandbox.cases import Wish
from primero_ona.sandbox.changes import ReferenceData
from primero_ona.sandbox.primero import SandboxPrimero
from primero_ona.settings import GraphSettings
from primero_ona.storage.partitions import WHOLE, PartitionStore
from primero_ona.storage.places import Folder
from primero_ona_tests import SCRATCH, TEMPLATE

#: The sandbox's clock: the middle of 2024-Q2. Both quarters are closed for the graph, which has the real clock.
NOW = datetime(2024, 5, 15, 3, 0, tzinfo=UTC)
Q1, Q2 = Quarter(2024, 1), Quarter(2024, 2)
START = "2023-Q4"
#: The key of each graph's store, one for all: what they store alike is stored once, and copied.
KEY = Fernet.generate_key().decode()


def _keep_migrations() -> None:
    """Let the scripts of Dagster's migrations be read once: Dagster reads all whenever it opens, or makes, a database of a run."""
    read, kept = ScriptDirectory.from_config, {}

    def from_config(config: Config) -> ScriptDirectory:
        location = config.get_main_option("script_location")
        if location not in kept:
            kept[location] = read(config)
        return kept[location]

    ScriptDirectory.from_config = from_config  # type: ignore[method-assign]


_keep_migrations()


def sync_quarter(
    job: dg.JobDefinition, instance: dg.DagsterInstance, quarter: Quarter, *, whole: bool = False
) -> Outcome:
    """Execute a job for a quarter in this process and wait for its end; `whole`: all of it is walked, not its changes only."""
    outcome = Outcome(quarter=quarter, whole=whole)
    execute(job, instance, outcome)
    return outcome


def run_unpartitioned(job: dg.JobDefinition, instance: dg.DagsterInstance) -> RunOutcome:
    """Execute a job that has no quarters in this process and wait for its end."""
    outcome = RunOutcome()
    execute(job, instance, outcome)
    return outcome


@dataclass
class Clock:
    """A clock that stands until it is moved; the sandbox stamps its edits with it."""

    now: datetime = NOW

    def __call__(self) -> datetime:
        return self.now

    def move(self, **by: float) -> datetime:
        self.now += timedelta(**by)
        return self.now


class GivenPrimero(PrimeroResource):
    """A Primero that is not that of the settings."""

    def __init__(self, url: str, username: str, password: str) -> None:
        super().__init__()
        self._given = url, username, password

    def client(self, total: float | None = None) -> PrimeroClient:
        return PrimeroClient(*self._given, pause=0, total=total)


class GivenOna(OnaDatabaseResource):
    """A database that is not that of the settings."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url

    def _target(self) -> tuple[str, bool]:
        return self._url, False


class GivenStorage(PartitionStorage):
    """Partitions that are not where the settings say."""

    def __init__(self, url: str, fernet_keys: str, rules: str = "") -> None:
        super().__init__(rules)
        self._given = url, fernet_keys, rules

    def assets(self, instance: dg.DagsterInstance | None = None) -> StoredAssets:
        url, keys, rules = self._given
        return StoredAssets(lambda: PartitionStore(url, keys), rules)


@dataclass
class Graph:
    """A wired graph; `url` is its ONA database, `store` its partitions."""

    primero: SandboxPrimero
    clock: Clock
    url: str
    folder: Path
    key: str
    instance: dg.DagsterInstance
    rules: str = ""
    defs: dg.Definitions = field(init=False)

    def __post_init__(self) -> None:
        self.defs = self.wire()

    def wire(self, **replaced: Any) -> dg.Definitions:
        """The definitions, on this sandbox, database and folder; resources may be replaced by name."""
        return build_defs(settings=GraphSettings(PRIMERO_ONA_START=START), resources={**self.resources, **replaced})

    @property
    def resources(self) -> dict[str, Any]:
        return {
            "primero": GivenPrimero(self.primero.url, self.primero.username, self.primero.password),
            "ona": GivenOna(self.url),
            "partitions": GivenStorage(str(self.folder), self.key, self.rules),
        }

    @property
    def store(self) -> PartitionStore:
        return PartitionStore(self.folder, self.key)

    @property
    def stored(self) -> StoredAssets:
        """The stored assets under the policy of this graph."""
        return StoredAssets(lambda: self.store, self.rules)

    def connect(self) -> Any:
        return connect(self.url)

    def sync(self, quarter: Quarter = Q1, *, whole: bool = False) -> Outcome:
        """Run the main job for a quarter, after a refresh of the reference data where none is stored."""
        if not self.store.partitions(REFERENCE):
            seed_reference(self.stored, self.connect, self.primero.reference, self.key)
        return sync_quarter(self.defs.resolve_job_def("sync_quarter"), self.instance, quarter, whole=whole)

    def execute(self, selection: dg.AssetSelection, quarter: Quarter = Q1, **tags: str) -> dg.ExecuteInProcessResult:
        """Run only some assets or checks for a quarter."""
        job = dg.define_asset_job("a_part", selection=selection)
        part = dg.Definitions(
            assets=self.defs.assets, asset_checks=self.defs.asset_checks, jobs=[job], resources=self.defs.resources,
            loggers=self.defs.loggers,
        )  # fmt: skip
        return part.resolve_job_def("a_part").execute_in_process(
            instance=self.instance, raise_on_error=False, tags={"dagster/partition": quarter.key, **tags}
        )

    def write(self, asset: str, *frames: pd.DataFrame, summary: dict[str, Any] | None = None) -> None:
        """Replace the stored partition of 2024-Q1."""
        with self.stored.writer(asset, Q1) as writer:
            for frame in frames:
                writer.write(frame)
            writer.commit(summary or {"findings": [], "quarantine": []})

    def read(self, asset: str, quarter: Quarter = Q1) -> pd.DataFrame:
        """A stored partition whole."""
        stored = self.stored.assets[asset]
        frames = [pa.Table.from_pandas(f, stored.schema, preserve_index=False) for f in self.opened(asset, quarter)]
        table = pa.concat_tables(frames) if frames else stored.schema.empty_table()
        return table.replace_schema_metadata().to_pandas(types_mapper=pd.ArrowDtype)

    def opened(self, asset: str, quarter: Quarter = Q1) -> Any:
        return self.stored.open(asset, quarter)

    def sql(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Ask or change ONA over a second connection, so that only what was committed is seen."""
        with psycopg.connect(self.url, autocommit=True) as conn:
            cursor = conn.execute(query.encode(), values)
            return cursor.fetchall() if cursor.description else []

    def events(self, run_id: str) -> str:
        """Everything that the event log holds of a run, as text."""
        return "\n".join(str(entry) for entry in self.instance.all_logs(run_id))


def reference_lists(data: ReferenceData) -> Reference:
    """The sandbox's reference data as if they had just been read."""
    return _plain_lists() if vars(data) == vars(ReferenceData()) else _lists(data)


@cache
def _plain_lists() -> Reference:
    """The reference data that the sandbox has at first, which take a while to write out."""
    return _lists(ReferenceData())


def _lists(data: ReferenceData) -> Reference:
    lists = {"lookups": data.lookups(), "forms": reference.forms(), "locations": data.locations(hierarchy=True)}
    return _read_once(tuple((name, tuple(map(content_of, rows))) for name, rows in lists.items()))  # type: ignore[misc]


def seed_reference(
    stored: StoredAssets, connect: Connect, data: ReferenceData | None = None, key: str | None = None
) -> None:
    """Store the sandbox's reference data and bring it into ONA, without asking its server, whose faults are a test's.

    With the key of the store, what was made before of the same data is copied: it is in a twentieth of the time.
    """
    made = reference_lists(data or ReferenceData())
    seed = _seeds.get((id(made), key))
    place = stored.store.place
    # A test may cut this connection, too.
    action = "seeding the reference data"
    with connect() as lock, partition_lock(lock, REFERENCE), connect() as conn, translate_errors(action):
        empty = all(
            conn.execute(f"SELECT NOT EXISTS (SELECT FROM {table})".encode()).fetchone() == (True,) for table in _FILLED
        )
        if seed and empty and isinstance(place, Folder):
            for table, rows in seed.tables.items():
                with conn.cursor().copy(f"COPY {table} FROM STDIN".encode()) as copy:
                    copy.write(rows)
            # Last, since where it is, nothing is seeded again.
            written = place.begin(_REFERENCE_FILE)
            written.write_bytes(seed.file)
            place.publish(_REFERENCE_FILE, written)
            return
        frames = made.frames()
        with stored.writer(REFERENCE) as writer:
            for frame in frames:
                writer.write(frame)
            writer.commit(frames.summary)
        fill_lookup(conn, made, datetime.now(UTC))
        fill_dictionary(conn, made)
        if key and empty and isinstance(place, Folder):
            tables = {table: _copy_of(conn, table) for table in _FILLED}
            _seeds[id(made), key] = _Seed(made, place.path(_REFERENCE_FILE).read_bytes(), tables)


@dataclass(frozen=True)
class _Seed:
    """Reference data as they were stored once, and as they stood in ONA's tables then."""

    made: Reference
    file: bytes
    tables: dict[str, bytes]


_FILLED, _REFERENCE_FILE = ("locations_lookup", "data_dictionary"), f"{REFERENCE}/{WHOLE}"
_seeds: dict[tuple[int, str | None], _Seed] = {}


def _copy_of(conn: psycopg.Connection, table: str) -> bytes:
    with conn.cursor().copy(f"COPY {table} TO STDOUT".encode()) as copy:
        return b"".join(map(bytes, copy))


@lru_cache(maxsize=2)
def _read_once(lists: tuple[tuple[ListName, tuple[str, ...]], ...]) -> Reference:
    """Reference data with these elements, which is decoded once for all graphs."""
    stamp = datetime.now(UTC).isoformat(timespec="seconds")
    return Reference({name: ReferenceList(contents, stamp) for name, contents in lists})


@contextmanager
def wired(postgres: Any, name: str, wish: Wish, instance: dg.DagsterInstance | None = None) -> Iterator[Graph]:
    """A graph on a fresh sandbox and a fresh database with all tables."""
    clock = Clock()
    with (
        database(postgres, name, TEMPLATE) as url,
        tempfile.TemporaryDirectory(prefix="primero-ona-graph-", dir=SCRATCH) as folder,
        SandboxPrimero(wish, clock=clock).serve() as primero,
        dg.DagsterInstance.ephemeral() if instance is None else instance as dagster,
    ):
        yield Graph(primero, clock, url, Path(folder) / "partitions", KEY, dagster)


def home_with_settings(folder: Path) -> str:
    """A DAGSTER_HOME with the project's own dagster.yaml, in which Dagster's databases are as after its first opening."""
    for name, content in _opened_home().items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file.touch(mode=0o600)
        file.write_bytes(content)
    return str(folder)


@cache
def _opened_home() -> dict[str, bytes]:
    """The files of such a home, opened once: Dagster makes its databases by their migrations, which takes five times as long."""
    settings = (Path(__file__).parents[1] / "dagster.yaml").read_bytes()
    with tempfile.TemporaryDirectory(prefix="primero-ona-home-", dir=SCRATCH) as home:
        Path(home, "dagster.yaml").write_bytes(settings)
        with dg.DagsterInstance.from_config(home) as instance:
            instance.get_runs_count()
        return {str(file.relative_to(home)): file.read_bytes() for file in Path(home).rglob("*") if file.is_file()}


@contextmanager
def database(postgres: Any, name: str, template: str = "template1") -> Iterator[str]:
    """The URL of a database of that name, empty or a copy of a template."""
    made = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy").format(*map(sql.Identifier, (name, template)))
    with psycopg.connect(postgres.get_uri(), autocommit=True) as conn:
        conn.execute(made)
        yield postgres.get_uri(database=name)
        conn.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def small(cases: int = 120, **wish: Any) -> Wish:
    """Few cases in 2024-Q1 and 2024-Q2."""
    return Wish(cases, seed=5, now=NOW, quarters=2, **wish)


def in_quarter(primero: SandboxPrimero, quarter: Quarter) -> list[dict[str, Any]]:
    """The sandbox's own records whose last change lies in the quarter."""
    return [
        case
        for case in primero.cases.records()
        if quarter.start <= datetime.fromisoformat(case["last_updated_at"]) < quarter.end
    ]


def table(rows: Sequence[dict[str, Any]], schema: pa.Schema) -> pd.DataFrame:
    """Rows as a frame with Arrow dtypes, null where a row does not say."""
    plain = pa.schema([pa.field(entry.name, entry.type) for entry in schema])
    filled = [dict.fromkeys(plain.names) | dict(row) for row in rows]
    return pa.Table.from_pylist(filled, schema=plain).to_pandas(types_mapper=pd.ArrowDtype)
