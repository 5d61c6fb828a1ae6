"""Where the files of stored partitions lie: in a folder of this machine, or in an S3 bucket; a file is there whole, or not at all.

A file is known by its name, `asset/partition`. In a folder a new file replaces the old one by a rename, in a bucket by one PUT,
before which nothing of it has left this process. Other files of this machine are written whole by `write_file`.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa

from primero_ona.errors import ConfigError, SyncError, TransientError
from primero_ona.tls import bucket_protection

#: How the file of a partition ends.
SUFFIX = ".parquet"


class Folder:
    """A folder of this machine; raises OSError where it fails, and ConfigError where every account may write to it."""

    def __init__(self, base: Path) -> None:
        refuse_open_storage(base)
        self.base = base

    def path(self, name: str) -> Path:
        """Where a file lies, or would."""
        return self.base / f"{name}{SUFFIX}"

    def names(self, asset: str | None = None) -> list[str]:
        """The names of all files, or of one asset's, in order."""
        return sorted(f"{path.parent.name}/{path.stem}" for path in self.base.glob(f"{asset or '*'}/[!.]*{SUFFIX}"))

    def read(self, name: str) -> pa.NativeFile:
        """Open a file, which stays as it was opened when another replaces it; raises FileNotFoundError."""
        return pa.OSFile(str(self.path(name)))

    def begin(self, name: str) -> Path:
        """Begin a file: what pyarrow writes to. Without `publish` the old one stays."""
        path = self.path(name)
        make_private(path.parent)
        written = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        written.touch(0o600)
        return written

    def publish(self, name: str, written: Path) -> None:
        """Make what was begun the file, once pyarrow has closed it."""
        written.replace(self.path(name))

    def discard(self, written: Path) -> None:
        """Remove what was begun."""
        written.unlink(missing_ok=True)

    def remove(self, name: str) -> None:
        """Delete a file."""
        self.path(name).unlink()

    def remove_unfinished(self, name: str) -> None:
        """Remove what killed runs left of one file, and what older formats stored; the caller holds the lock of its partition."""
        path = self.path(name)
        pattern = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{8}}")
        for entry in list(path.parent.iterdir()) if path.parent.is_dir() else ():
            if pattern.fullmatch(entry.name):
                entry.unlink(missing_ok=True)
            elif entry.name == path.stem and entry.is_dir():
                shutil.rmtree(entry)

    def remove_leftovers(self) -> None:
        """Remove what killed runs left of any file, and what older formats stored; the caller holds the lock of all."""
        for folder in self.base.iterdir() if self.base.is_dir() else ():
            for entry in list(folder.iterdir()) if folder.is_dir() else ():
                if entry.is_dir():
                    shutil.rmtree(entry)
                elif entry.name.startswith(".") or entry.suffix != SUFFIX:
                    entry.unlink(missing_ok=True)


class Bucket:
    """A bucket, or a prefix in it, of S3 or of what speaks its language (`primero-ona[s3]`).

    Address and credentials come from AWS's usual variables and files, as boto3 reads them. Raises SyncError where it fails, and
    ConfigError where it keeps old versions, or is not encrypted on the way.
    """

    def __init__(self, url: str) -> None:
        try:
            import boto3  # noqa: PLC0415 - an extra
            from botocore.config import Config  # noqa: PLC0415
        except ImportError:
            raise ConfigError("PRIMERO_ONA_STORAGE_URL names a bucket; install primero-ona[s3]") from None
        self._bucket, _, prefix = url.removeprefix("s3://").partition("/")
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        retries = {"mode": "standard", "total_max_attempts": 5}
        with _translated():
            self._s3 = boto3.Session().client("s3", config=Config(retries=retries, connect_timeout=10, read_timeout=60))
            bucket_protection(self._s3.meta.endpoint_url)
            status = self._s3.get_bucket_versioning(Bucket=self._bucket).get("Status")
        if status:
            raise _versioned(status.lower())

    def names(self, asset: str | None = None) -> list[str]:
        """See Folder."""
        with _translated():
            prefix = f"{self._prefix}{asset}/" if asset else self._prefix
            pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
            names = [self._name(entry["Key"]) for page in pages for entry in page.get("Contents", ())]
        return sorted(name for name in names if name is not None)

    def read(self, name: str) -> pa.NativeFile:
        """See Folder. The whole file comes into memory: it is compressed, and one quarter's."""
        with _translated():
            return pa.BufferReader(self._s3.get_object(Bucket=self._bucket, Key=self._key(name))["Body"].read())

    def begin(self, _name: str) -> pa.NativeFile:
        """See Folder: it lies in memory, encrypted and compressed as it will be stored."""
        return pa.BufferOutputStream()

    def publish(self, name: str, written: pa.NativeFile) -> None:
        """See Folder; one request."""
        with _translated():
            content = written.getvalue().to_pybytes()
            answer = self._s3.put_object(Bucket=self._bucket, Key=self._key(name), Body=content)
        if "VersionId" in answer:  # switched on since this process began
            raise _versioned("enabled")

    def discard(self, written: pa.NativeFile) -> None:
        """See Folder; nothing of it has left this process."""

    def remove(self, name: str) -> None:
        """See Folder."""
        with _translated():
            self._s3.delete_object(Bucket=self._bucket, Key=self._key(name))

    def remove_unfinished(self, name: str) -> None:
        """See Folder; what is not put whole never comes here."""

    def remove_leftovers(self) -> None:
        """See Folder. We begin no upload in parts; another tool that copied partitions here may have left one."""
        with _translated():
            pages = self._s3.get_paginator("list_multipart_uploads").paginate(Bucket=self._bucket, Prefix=self._prefix)
            for upload in [upload for page in pages for upload in page.get("Uploads", ())]:
                if self._name(upload["Key"]) is None:
                    continue
                with suppress(self._s3.exceptions.NoSuchUpload):  # it has ended since
                    self._s3.abort_multipart_upload(Bucket=self._bucket, Key=upload["Key"], UploadId=upload["UploadId"])

    def _name(self, key: str) -> str | None:
        """The name of the file with this key; None for what is no file of ours."""
        found = re.fullmatch(rf"([^/.]+/[^/.][^/]*){re.escape(SUFFIX)}", key.removeprefix(self._prefix))
        return found[1] if found else None

    def _key(self, name: str) -> str:
        return f"{self._prefix}{name}{SUFFIX}"


Place = Folder | Bucket


def place_at(address: str | Path) -> Place:
    """The place at a path, a file:///path or an s3://bucket/prefix; raises as they do."""
    if isinstance(address, str) and address.startswith("s3://"):
        return Bucket(address)
    return Folder(Path(str(address).removeprefix("file://")))


def _versioned(status: str) -> ConfigError:
    return ConfigError(
        f"the bucket of the stored partitions keeps old versions of its files (versioning is {status}), so a child that is erased "
        "would stay in it; let PRIMERO_ONA_STORAGE_URL name a bucket that never had versioning",
        see="storage-bucket",
    )


#: What a bucket answers where the same request may succeed later, beside what has a status of 500 and above.
_BUSY = frozenset({"SlowDown", "Throttling", "RequestTimeout", "OperationAborted", "ConditionalRequestConflict"})


@contextmanager
def _translated() -> Iterator[None]:
    """Turn what boto3 raises into errors of ours: its texts name addresses and keys."""
    from botocore import exceptions as s3  # noqa: PLC0415 - an extra

    try:
        yield
    except s3.ClientError as error:
        raise _refusal(error) from None
    except s3.SSLError:
        raise ConfigError(
            "no verified connection to the bucket of the stored partitions; check AWS_ENDPOINT_URL and AWS_CA_BUNDLE",
            see="storage-bucket",
        ) from None
    except (s3.ConnectionError, s3.HTTPClientError, s3.IncompleteReadError, s3.ResponseStreamingError) as error:
        raise TransientError(
            f"the bucket of the stored partitions could not be reached, or broke off ({type(error).__name__}); each file in it is all "
            "of the new one or what it was before; try later",
            see="storage-bucket",
        ) from None
    except (s3.BotoCoreError, ValueError) as error:
        raise ConfigError(
            f"the bucket of the stored partitions cannot be asked ({type(error).__name__}); check AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY or AWS_SHARED_CREDENTIALS_FILE, AWS_DEFAULT_REGION and AWS_ENDPOINT_URL",
            see="storage-bucket",
        ) from None


def _refusal(error: Any) -> Exception:  # noqa: ANN401
    """What an answer of the bucket that is an error means."""
    code = str(error.response.get("Error", {}).get("Code", "unknown"))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code == "NoSuchKey":
        return FileNotFoundError(errno.ENOENT, code)
    said = f"the bucket of the stored partitions refuses {error.operation_name} ({code})"
    kind: type[SyncError] = ConfigError
    todo = "allow it to the login of primero-ona, see docs/deployment.md"
    if code == "NotImplemented":
        todo = "it needs a server that offers it"
    elif code in _BUSY or status >= 500:
        kind, todo = TransientError, "try later"
    elif code == "NoSuchBucket":
        todo = "let PRIMERO_ONA_STORAGE_URL name a bucket that exists"
    return kind(f"{said}; each file in it is what it was before; {todo}", see="storage-bucket")


def make_private(folder: Path) -> None:
    """Make a folder and those above it for the owner only; `mkdir` gives its mode to the last one alone."""
    if not folder.exists():
        make_private(folder.parent)
        folder.mkdir(exist_ok=True, mode=0o700)


def refuse_open_storage(folder: Path) -> None:
    """Raise ConfigError where every account may put or replace something in the folder, or the folder itself.

    A folder above it that is open to all, as /tmp is, does no harm where it has the sticky bit. Folders that do not exist
    yet are made for their owner alone.
    """
    for place in (folder, *folder.absolute().parents):
        try:
            mode = place.stat().st_mode
        except OSError:
            continue
        if stat.S_ISDIR(mode) and mode & stat.S_IWOTH and (place == folder or not mode & stat.S_ISVTX):
            raise ConfigError(
                "the folder of the stored partitions, or one above it, may be written to by every account of this machine; "
                "take their rights away (chmod o-w FOLDER), or let PRIMERO_ONA_STORAGE_URL name another one",
                see="open-secret",
            )


def write_file(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Write `path` by way of a file beside it; what is no plain file, as /dev/stdout, is written to as it is.

    `mode` is that of the new file, cut by the umask. Raises OSError; the old file stands then, and nothing lies beside it.
    """
    if path.exists() and not path.is_file():
        path.write_bytes(content)
        return
    target = path.resolve()
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
