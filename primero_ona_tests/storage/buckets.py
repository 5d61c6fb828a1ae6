"""An S3-compatible server of this machine, with an empty bucket and the variables with which boto3 finds it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

#: Where a client looks for other credentials than these; no test may find those of the person that runs it.
_ELSEWHERE = {
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@dataclass
class BucketServer:
    """A running server; `s3` is a client of it, `url` the place for PRIMERO_ONA_STORAGE_URL."""

    environment: dict[str, str]
    s3: Any
    bucket: str = "partitions"
    url: str = field(init=False)

    def __post_init__(self) -> None:
        self.url = f"s3://{self.bucket}/primero"

    def names(self) -> list[str]:
        return [entry["Key"] for entry in self.s3.list_objects_v2(Bucket=self.bucket).get("Contents", ())]

    def contents(self) -> dict[str, bytes]:
        """All that lies in the bucket."""
        return {key: self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read() for key in self.names()}

    def unfinished(self) -> list[str]:
        """The keys of uploads in parts that have not ended."""
        return [each["Key"] for each in self.s3.list_multipart_uploads(Bucket=self.bucket).get("Uploads", ())]

    def versioning(self, status: str) -> None:
        self.s3.put_bucket_versioning(Bucket=self.bucket, VersioningConfiguration={"Status": status})


@contextmanager
def bucket_server() -> Iterator[BucketServer]:
    """Serve on a free port."""
    import boto3
    import requests
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        address = "http://{}:{}".format(*server.get_host_and_port())
        requests.post(f"{address}/moto-api/reset", timeout=10).raise_for_status()  # its memory is this process's
        credentials = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
        s3 = boto3.client(
            "s3", endpoint_url=address, region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test"
        )
        s3.create_bucket(Bucket="partitions")
        yield BucketServer({**credentials, **_ELSEWHERE, "AWS_ENDPOINT_URL": address}, s3)
    finally:
        server.stop()
