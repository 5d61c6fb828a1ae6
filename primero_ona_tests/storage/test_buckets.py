"""Stored partitions in an S3 bucket: whole by one request, erased for good, and refused where the bucket would keep them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pandas as pd
import pyarrow as pa
import pytest
from cryptography.fernet import Fernet

from primero_ona.errors import ConfigError, DataError, TransientError
from primero_ona.ona.connection import connect
from primero_ona.pipeline import stored as upkeep
from primero_ona.quarters import Quarter
from primero_ona.storage.partitions import PartitionStore, Stored, forget, purge, rotate
from primero_ona.storage.places import Bucket
from primero_ona_tests.storage.buckets import BucketServer, bucket_server
from primero_ona_tests.storage.test_rewrite import ASSET, NEW, OLD, Q1, Q2, ids_of, stored, write

pytestmark = pytest.mark.ci

SCHEMA = pa.schema([("id", pa.string())])
STORED = Stored("asset", SCHEMA, "one")
MARK = "a-name-that-must-not-be-read"
KEY = "primero/asset/2024-01-01.parquet"


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[BucketServer]:
    with bucket_server() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


def frame(*names: str) -> pd.DataFrame:
    return pa.table({"id": list(names)}, SCHEMA).to_pandas(types_mapper=pd.ArrowDtype)


def fill(store: PartitionStore, *names: str) -> None:
    with store.writer(STORED, "2024-01-01") as writer:
        writer.write(frame(*names))
        writer.commit({})


def names_in(store: PartitionStore) -> list[str]:
    return [name for piece in store.open(STORED, "2024-01-01") for name in piece["id"]]


def test_a_partition_comes_into_the_bucket_whole_and_encrypted_or_not_at_all(bucket: BucketServer) -> None:
    """A pull that breaks off must not cost the quarter that was there, and the bucket's owner must not read it."""
    store = PartitionStore(bucket.url, OLD)
    with pytest.raises(FileNotFoundError):
        store.open(STORED, "2024-01-01")
    writer = store.writer(STORED, "2024-01-01")
    writer.write(frame(f"{MARK}-1"))
    assert (bucket.names(), bucket.unfinished(), store.partitions("asset")) == ([], [], [])
    writer.commit({"pull": 1})
    assert (bucket.names(), store.partitions("asset")) == ([KEY], ["2024-01-01"])
    assert "-" not in bucket.s3.head_object(Bucket=bucket.bucket, Key=KEY)["ETag"], "one request, not parts"
    assert MARK.encode() not in bucket.contents()[KEY]
    opened = store.open(STORED, "2024-01-01")
    with store.writer(STORED, "2024-01-01") as unfinished:
        unfinished.write(frame("lost"))
    assert names_in(store) == [f"{MARK}-1"]
    fill(store, "new")
    assert (pd.concat(opened)["id"].to_list(), opened.summary["pull"]) == ([f"{MARK}-1"], 1)
    assert names_in(store) == ["new"]
    bucket.s3.put_object(Bucket=bucket.bucket, Key=KEY, Body=bucket.contents()[KEY][:-9])
    with pytest.raises(DataError, match=r"asset/2024-01-01\.parquet is damaged"):
        names_in(store)


@pytest.mark.parametrize("status", ["Enabled", "Suspended"])
@pytest.mark.proves("bucket")
def test_a_bucket_that_keeps_old_versions_is_refused(bucket: BucketServer, status: str) -> None:
    """`forget` would report a child as erased whose rows stay in every older version."""
    store = PartitionStore(bucket.url, OLD)
    bucket.versioning("Enabled")
    with pytest.raises(ConfigError, match="keeps old versions"):
        fill(store, "since the process began")
    bucket.versioning(status)
    with pytest.raises(ConfigError, match=f"versioning is {status.lower()}"):
        PartitionStore(bucket.url, OLD)


def test_forget_rotate_and_purge_reach_the_bucket_and_abort_uploads(bucket: BucketServer) -> None:
    """One copy that is left is enough to have broken the promise."""
    ids = write(bucket.url, Q1, 3, 2)
    write(bucket.url, Q2, 1)
    bucket.s3.put_object(Bucket=bucket.bucket, Key="other/asset/2019-01-01.parquet", Body=b"not ours")
    bucket.s3.create_multipart_upload(Bucket=bucket.bucket, Key=f"primero/{ASSET}/2023-10-01.parquet")
    gone, _ = forget(stored(bucket.url).store, [ids[0]])
    assert (gone, bucket.unfinished()) == ({ids[0]: 2}, [])
    assert (ids_of(stored(bucket.url), Q1), ids_of(stored(bucket.url), Q2)) == (ids[1:], [])
    assert rotate(stored(bucket.url, f"{NEW},{OLD}").store) == 2
    with pytest.raises(ConfigError):
        ids_of(stored(bucket.url, OLD), Q1)
    assert purge(stored(bucket.url, NEW).store, Q2.key) == 1
    assert bucket.names() == ["other/asset/2019-01-01.parquet", f"primero/{ASSET}/{Q2.key}.parquet"]


def test_only_uploads_of_partitions_are_aborted_and_one_that_has_just_ended_is_no_fault(bucket: BucketServer) -> None:
    """A prefix may be shared: an upload of another tool that is under way would be lost."""
    ours = f"primero/{ASSET}/2023-10-01.parquet"
    others = [
        "primero/backup.tar",
        "primero/backup/2024.tar",
        "primero/a/b/c.parquet",
        "primero/.hidden/2024-01-01.parquet",
    ]
    uploads = [bucket.s3.create_multipart_upload(Bucket=bucket.bucket, Key=key) for key in (ours, *others, ours)]
    ending = [{"Bucket": bucket.bucket, "Key": ours, "UploadId": uploads[0]["UploadId"]}]

    def end(**_: object) -> None:
        if ending:
            bucket.s3.abort_multipart_upload(**ending.pop())

    place = Bucket(bucket.url)
    place._s3.meta.events.register("before-call.s3.AbortMultipartUpload", end)
    place.remove_leftovers()
    assert not ending
    assert sorted(bucket.unfinished()) == sorted(others)


@contextmanager
def answering(status: int, code: str) -> Iterator[str]:
    """A server that says that a bucket has no versioning, and refuses everything else like this."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            fine = self.path.endswith("?versioning")
            body = b"<VersioningConfiguration/>" if fine else f"<Error><Code>{code}</Code></Error>".encode()
            self.send_response(200 if fine else status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PUT = do_DELETE = _answer  # noqa: N815

        def log_message(self, *_: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "code", "error", "todo"),
    [
        (403, "AccessDenied", ConfigError, "allow it to the login"),
        (404, "NoSuchBucket", ConfigError, "a bucket that exists"),
        (400, "ExpiredToken", ConfigError, "allow it to the login"),
        (501, "NotImplemented", ConfigError, "a server that offers it"),
        (503, "SlowDown", TransientError, "try later"),
        (500, "InternalError", TransientError, "try later"),
    ],
)
@pytest.mark.proves("bucket-refuses")
def test_what_a_bucket_refuses_is_named_and_an_erasure_says_that_it_is_not_done(
    bucket: BucketServer,
    ona: object,
    ona_url: str,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    code: str,
    error: type,
    todo: str,
) -> None:
    """A refusal that passes as done leaves the child; one that passes as passing is tried for ever."""
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0)
    with answering(status, code) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        store = PartitionStore(bucket.url, OLD)
        for doing in (lambda: fill(store, "x"), lambda: names_in(store), lambda: purge(store, Q1.key)):
            with pytest.raises(error, match=rf"refuses \w+ \({code}\).*{todo}"):
                doing()
        with pytest.raises(error, match="may still be stored: delete old partitions again"):
            upkeep.purge(stored(bucket.url), lambda: connect(ona_url), Quarter(2022, 1))


@pytest.mark.parametrize(
    ("variable", "value", "error", "text"),
    [
        ("AWS_ENDPOINT_URL", "http://s3.example.org", ConfigError, "without https"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:9", TransientError, "could not be reached"),
        ("AWS_ENDPOINT_URL", "nonsense", ConfigError, "cannot be asked"),
        ("AWS_ACCESS_KEY_ID", "", ConfigError, "cannot be asked"),
    ],
)
@pytest.mark.proves("bucket")
def test_a_bucket_that_cannot_be_asked_is_said_without_a_secret(
    bucket: BucketServer, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, error: type, text: str
) -> None:
    """Cases may not pass the network in clear, and messages are read by people who must not see the keys."""
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    monkeypatch.setenv(variable, value)
    with pytest.raises(error, match=text) as caught:
        PartitionStore(bucket.url, Fernet.generate_key().decode())
    assert "hunter2" not in str(caught.value)
