"""Erasure among everything that else happens: whatever the order, no file that any key opens holds the child afterwards."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest
from cryptography.fernet import Fernet

from primero_ona.errors import SyncError, TransientError
from primero_ona.pipeline import extract
from primero_ona.pipeline import stored as upkeep
from primero_ona.primero.fields import PullPolicy
from primero_ona.storage.partitions import PartitionStore
from primero_ona_tests import quick
from primero_ona_tests.harness import Q1, Q2, Graph
from primero_ona_tests.reliability.syncing import finish, kill, place_of, start, sync_rooms
from primero_ona_tests.storage.buckets import BucketServer, bucket_server


class Installation:
    """A place whose storage keys change, and all keys that it ever had."""

    def __init__(self, graph: Graph, bucket: BucketServer | None = None) -> None:
        self.graph, self.keys, self.bucket, self.place = graph, [graph.key], bucket, place_of(graph)
        if bucket:
            self.place = replace(self.place, storage=bucket.url, bucket=bucket.environment)
        self.erased: set[str] = set()

    def rotate(self) -> None:
        self.keys.insert(0, Fernet.generate_key().decode())
        self.place = replace(self.place, key=",".join(self.keys[:2]))
        upkeep.rotate(self.place.stored, self.place.connect)
        self.place = replace(self.place, key=self.keys[0])

    def forget(self, case: str) -> None:
        upkeep.forget(self.place.stored, self.place.connect, [case], datetime.now(UTC))
        self.erased.add(case)

    def files_that_hold_the_erased(self) -> list[str]:
        """Files of the storage that some key opens to an erased case, or that nobody can account for."""
        return [Path(name).name for name, content in self.contents().items() if self._holds(content)]

    def contents(self) -> dict[str, bytes]:
        """All that lies in the storage, whatever it is."""
        if self.bucket:
            return self.bucket.contents()
        return {str(path): path.read_bytes() for path in self.graph.folder.rglob("*") if path.is_file()}

    def _holds(self, content: bytes) -> bool:
        copy = self.graph.folder.with_name("looked_at") / "one" / "file.parquet"
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(content)
        for key in self.keys:
            try:
                file = PartitionStore(copy.parents[1], key).open_file("one/file")
                rows = " ".join(table.to_pandas().to_csv() for table in file.tables())
                content += rows.encode() + str(file.footer).encode()
            except SyncError:
                continue
        return any(case.encode() in content for case in self.erased)


@pytest.mark.parametrize("seed", quick(range(4), 0))
@pytest.mark.proves("erasure")
def test_after_any_sequence_no_file_opens_to_an_erased_child(graph: Graph, seed: int):
    """Temporary files of a killed run, an old key, an old quarter: one copy that is left breaks the promise."""
    after_any_sequence(Installation(graph), seed)


@pytest.mark.ci
@pytest.mark.proves("bucket")
def test_after_any_sequence_no_object_of_a_bucket_opens_to_an_erased_child(graph: Graph, monkeypatch):
    """A bucket is copied, replicated and audited by others: there, too, nothing of the child may be left."""
    with bucket_server() as bucket:
        for name, value in bucket.environment.items():
            monkeypatch.setenv(name, value)
        installed = Installation(graph, bucket)
        after_any_sequence(installed, 1)
        assert bucket.unfinished() == []
        assert installed.contents()


def after_any_sequence(installed: Installation, seed: int) -> None:
    pick, graph = Random(seed), installed.graph
    cases = [case["id"] for case in graph.primero.cases.records()]
    steps = ("sync", "sync", "kill", "kill", "forget", "rotate", "purge", "both")
    for step in ("sync", "kill", *(pick.choice(steps) for _ in range(7)), "forget"):
        quarter, place = pick.choice((Q1, Q2)), installed.place
        if step == "sync":
            assert sync_rooms(place, quarter) == 0
        elif step == "kill":
            kill(start(place, quarter), pick.uniform(0, 0.5))
        elif step == "forget":
            installed.forget(pick.choice(cases))
        elif step == "rotate":
            installed.rotate()
        elif step == "purge":
            upkeep.purge(place.stored, place.connect, Q2)
        else:
            child = start(place, quarter)
            installed.forget(pick.choice(cases))
            assert finish([child])[0] in (0, 3)
    assert installed.files_that_hold_the_erased() == []
    assert [sync_rooms(installed.place, quarter) for quarter in (Q1, Q2)] == [0, 0]
    assert installed.files_that_hold_the_erased() == []
    rows = graph.sql("SELECT primero_id::text FROM cases UNION SELECT primero_case_id::text FROM services")
    assert installed.erased.isdisjoint(itertools.chain.from_iterable(rows))


def test_the_search_finds_what_is_there(graph: Graph):
    """A search that finds nothing proves nothing."""
    installed = Installation(graph)
    assert sync_rooms(installed.place, Q1) == 0
    installed.erased = {graph.sql("SELECT primero_id::text FROM cases LIMIT 1")[0][0]}
    assert set(installed.files_that_hold_the_erased()) == {"2024-01-01.parquet"}
    installed.keys = [Fernet.generate_key().decode()]
    assert installed.files_that_hold_the_erased() == []


def test_a_case_that_is_erased_while_it_is_pulled_is_not_stored(graph: Graph):
    """The pull read the erasures at its beginning; what it has written since may hold the child."""
    place = Installation(graph).place
    place.seed()
    case = graph.primero.cases.records()
    lost = next(iter(case))["id"]
    line = "INSERT INTO primero_sync.erasures (subject, erased_at, cases, services, bookkeeping) VALUES (%s, now(), 0, 0, 0)"
    from primero_ona.ona.erasure import subject_of

    graph.primero.after(4, lambda _: graph.sql(line, subject_of(lost)))
    with place.client() as client, pytest.raises(TransientError, match="erased while 2024-Q1"):
        extract.pull_quarter(client, place.connect, place.stored, Q1, PullPolicy())
    assert place.stored.store.partitions("raw_under18_cases") == []
    assert not [path for path in Path(place.storage).rglob(".*") if path.is_file()]


@pytest.mark.proves("erasure")
def test_rows_of_the_legacy_pipeline_are_named_and_erased_only_by_their_case_id(graph: Graph):
    """Such a row has no Primero id, and may be two children merged: it must not go with one of them unasked."""
    installed = Installation(graph)
    assert sync_rooms(installed.place, Q1) == 0
    case, key = graph.sql(
        "SELECT primero_id::text, case_id FROM cases WHERE case_id ~ '^[0-9a-f]{7}$' ORDER BY 1 LIMIT 1"
    )[0]
    graph.sql("UPDATE cases SET case_id = case_id || '~' || repeat('0', 32) WHERE primero_id::text = %s", case)
    graph.sql("UPDATE services SET case_id = case_id || '~' || repeat('0', 32) WHERE primero_case_id::text = %s", case)
    graph.sql("INSERT INTO cases (case_id, sex) VALUES (%s, 'Male')", key)
    place = installed.place
    found = upkeep.forget(place.stored, place.connect, [case], datetime.now(UTC))
    assert (found.ona.cases, found.legacy) == (1, [key])
    assert graph.sql("SELECT count(*) FROM cases WHERE case_id = %s", key) == [(1,)]
    from primero_ona.ona.erasure import erase_legacy, legacy_rows

    with place.connect() as conn:
        assert erase_legacy(conn, legacy_rows(conn, [key, "nobody's"]), datetime.now(UTC)).cases == 1
    assert graph.sql("SELECT count(*) FROM cases WHERE case_id = %s", key) == [(0,)]
    assert key not in str(graph.sql("SELECT * FROM primero_sync.erasures"))


@pytest.mark.proves("two-pulls")
def test_files_of_two_pulls_are_not_mapped_or_loaded_together(graph: Graph):
    """A pull that is killed between its three renames leaves the children of one and the removals of another."""
    from primero_ona_tests.reliability.syncing import load, pull

    place = Installation(graph).place
    assert sync_rooms(place, Q1) == 0
    store = place.stored.store
    for asset, message in (("raw_under18_cases", "two pulls"), ("case_exits", "different pulls")):
        kept = store.place.path(f"{asset}/{Q1.key}").read_bytes()
        pull(place, Q1)
        newer = store.place.path(f"{asset}/{Q1.key}").read_bytes()
        store.place.path(f"{asset}/{Q1.key}").write_bytes(kept)
        with pytest.raises(TransientError, match=message):
            load(place, Q1, "run")
        store.place.path(f"{asset}/{Q1.key}").write_bytes(newer)
        load(place, Q1, "run")
