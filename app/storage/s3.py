"""S3: objects in buckets of AWS, or of a server with the same interface.

The only module that imports boto3 for S3, and only once a client is built: it is an extra.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.domain.errors import (
    ConfigurationError,
    UploadTooLarge,
)
from app.storage.objects import FORGOTTEN_S, Check, Used, discard_forgotten
from app.storage.s3_errors import error_of
from app.storage.tempdir import check_room, told_when_full

PART_BYTES = 16 << 20  # larger objects travel in parts of this size
NUM_PARTS_AT_ONCE = 4
NUM_TRANSFERS = 16  # whose connections are kept
CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 10, 30
NUM_TRIES = 3
ROOM_STEP_BYTES = 64 << 20  # between two looks at the free space of the disk


@dataclass(frozen=True, slots=True)
class S3Access:
    """`address`: of a server; None: AWS. Empty texts: what AWS's libraries find."""

    address: str | None = None
    region: str = ""
    access_key: str = ""
    secret_key: str = ""
    session_token: str = ""


@dataclass(frozen=True, slots=True)
class Room:
    """What a file may take. `min_free_bytes`: what it leaves free on the disk."""

    max_bytes: int
    min_free_bytes: int = 0


class S3:
    """Objects in buckets. Its methods block, and any thread may call them.

    All raise:
        ObjectMissing, StorageRefused: another try would not help.
        StorageUnavailable: the store or the network failed, after a few tries.
    """

    def __init__(self, access: S3Access) -> None:
        """Connects to nothing yet. Raises ConfigurationError: boto3 is missing, or half a key."""
        if bool(access.access_key) != bool(access.secret_key):
            raise ConfigurationError(
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY: set both, or neither."
            )
        self._client, self._transfer = _build(access)

    def download(self, bucket: str, key: str, path: Path, room: Room, check: Check) -> None:
        """An object as a new file, private to this user; no file if it fails.

        `check` is called as data arrives and may raise.

        Raises:
            UploadTooLarge, DiskFull, Overloaded, and what `check` raises.
        """
        watch = _Watch(room, path.parent, check)
        with _explained(check):
            watch.expect(self._client.head_object(Bucket=bucket, Key=key)["ContentLength"])
        try:
            with told_when_full(), _explained(check), _private_file(path) as file:
                self._client.download_fileobj(
                    bucket, key, file, Callback=watch, Config=self._transfer
                )
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    def upload(self, path: Path, bucket: str, key: str, check: Check) -> None:
        """A file as an object, which is there as a whole or not at all."""
        watch = _Watch(Room(max_bytes=path.stat().st_size), None, check)
        with _explained(check):
            self._client.upload_file(str(path), bucket, key, Callback=watch, Config=self._transfer)

    def write(self, body: bytes, bucket: str, key: str, content_type: str) -> None:
        """Create or replace an object."""
        with _explained():
            self._client.put_object(Bucket=bucket, Key=key, Body=body, ContentType=content_type)

    def read(self, bucket: str, key: str, begin: int, end: int) -> bytes:
        """The bytes from `begin` up to `end` of an object."""
        with _explained():
            found = self._client.get_object(
                Bucket=bucket, Key=key, Range=f"bytes={begin}-{end - 1}"
            )
            body: bytes = found["Body"].read()
        return body

    def delete(self, bucket: str, key: str) -> None:
        """Remove an object, if it exists."""
        with _explained():
            self._client.delete_object(Bucket=bucket, Key=key)

    def old_keys(self, bucket: str, prefix: str, before: float) -> list[str]:
        """The objects below a prefix that were not changed since a time."""
        pages = self._client.get_paginator("list_objects_v2")
        with _explained():
            return [
                found["Key"]
                for page in pages.paginate(Bucket=bucket, Prefix=prefix)
                for found in page.get("Contents", ())
                if found["LastModified"].timestamp() < before
            ]


class S3Objects:
    """An object store in a bucket."""

    def __init__(self, s3: S3, bucket: str, prefix: str, min_free_bytes: int) -> None:
        self._s3 = s3
        self._bucket = bucket
        self._prefix = prefix
        # what has been accepted is not too large any more
        self._room = Room(1 << 62, min_free_bytes)

    def put(self, path: Path, name: str, check: Check) -> None:
        self._s3.upload(path, self._bucket, self._prefix + name, check)
        path.unlink(missing_ok=True)

    def get(self, name: str, path: Path, check: Check) -> Path:
        self._s3.download(self._bucket, self._prefix + name, path, self._room, check)
        return path

    def read(self, name: str, begin: int, end: int) -> bytes:
        return self._s3.read(self._bucket, self._prefix + name, begin, end)

    def delete(self, name: str) -> None:
        self._s3.delete(self._bucket, self._prefix + name)

    def sweep(self, used: Used) -> int:
        keys = self._s3.old_keys(self._bucket, self._prefix, time.time() - FORGOTTEN_S)
        return discard_forgotten(self, (key.removeprefix(self._prefix) for key in keys), used)


class _Watch:
    """Is told of each piece of a transfer; ends it by an exception. Several threads call it."""

    def __init__(self, room: Room, folder: Path | None, check: Check) -> None:
        self._room = room
        self._folder = folder
        self._check = check
        self._lock = threading.Lock()
        self._num_bytes = 0
        self._looked_at = 0

    def expect(self, num_bytes: int) -> None:
        """Raises UploadTooLarge, DiskFull."""
        self._check()
        if num_bytes > self._room.max_bytes:
            raise UploadTooLarge(
                f"The object is larger than {self._room.max_bytes >> 20} MB, the limit here."
            )
        if self._folder is not None:
            check_room(self._folder, num_bytes, self._room.min_free_bytes)

    def __call__(self, num_bytes: int) -> None:
        """`num_bytes` is negative if a part begins again."""
        with self._lock:
            self._num_bytes += num_bytes
            total = self._num_bytes
            look = total - self._looked_at >= ROOM_STEP_BYTES
            if look:
                self._looked_at = total
        self._check()
        if total > self._room.max_bytes:
            self.expect(total)
        if look and self._folder is not None:
            check_room(self._folder, 0, self._room.min_free_bytes)


@contextmanager
def _private_file(path: Path) -> Iterator[Any]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w+b") as file:
        yield file


@contextmanager
def _explained(check: Check = lambda: None) -> Iterator[None]:
    """Errors of the libraries as errors of the service."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError
    from s3transfer import exceptions as transfers

    try:
        yield
    except (
        Boto3Error,
        BotoCoreError,
        ClientError,
        ConnectionError,
        transfers.CancelledError,  # of a part, because another one failed
        transfers.RetriesExceededError,
        transfers.S3DownloadFailedError,
        transfers.S3ValidationError,
    ) as error:
        check()  # the libraries wrap what a callback raises
        raise error_of(error) from None


def _build(access: S3Access) -> tuple[Any, Any]:
    """A client, and how it transfers files."""
    try:
        from boto3.s3.transfer import TransferConfig
        from boto3.session import Session
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError
    except ImportError:
        raise ConfigurationError(
            "S3 needs an extra: pip install 'whisperx-asr-service[s3]'."
        ) from None
    # AWS's newer checksums are unknown to many servers with its interface
    checksums = "when_supported" if access.address is None else "when_required"
    config = Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        retries={"mode": "standard", "total_max_attempts": NUM_TRIES},
        max_pool_connections=NUM_TRANSFERS * NUM_PARTS_AT_ONCE,
        tcp_keepalive=True,
        request_checksum_calculation=checksums,
        response_checksum_validation=checksums,
        s3={"addressing_style": "auto" if access.address is None else "path"},
    )
    try:
        client = Session().client(
            "s3",
            endpoint_url=access.address,
            region_name=access.region or None,
            aws_access_key_id=access.access_key or None,
            aws_secret_access_key=access.secret_key or None,
            aws_session_token=access.session_token or None,
            config=config,
        )
    except (BotoCoreError, ValueError) as error:
        raise ConfigurationError(f"S3: {error}") from None
    transfer = TransferConfig(
        multipart_threshold=PART_BYTES,
        multipart_chunksize=PART_BYTES,
        max_concurrency=NUM_PARTS_AT_ONCE,
        num_download_attempts=NUM_TRIES,
        preferred_transfer_client="classic",  # the other one has no exceptions in callbacks
    )
    return client, transfer
