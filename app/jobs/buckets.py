"""Buckets: those that jobs may read and write, and nothing else in the object store."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from pathlib import Path

from app.config.settings import Settings
from app.domain.errors import Forbidden, UnsupportedOption
from app.engine.work import Work
from app.jobs.job import S3Object, Source
from app.storage.objects import LocalObjects, ObjectStore
from app.storage.s3 import S3, Room, S3Access, S3Objects

MAX_KEY_BYTES = 1024  # as at AWS
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
KEYS = f"must have 1 to {MAX_KEY_BYTES} bytes and no control characters"


class Buckets:
    """`allowed`: names of buckets. `room`: what a recording may take on this machine."""

    def __init__(self, s3: S3, allowed: tuple[str, ...], room: Room) -> None:
        self._s3 = s3
        self._allowed = frozenset(allowed)
        self._room = room

    def fetch(self, source: Source, path: Path, work: Work) -> None:
        """Download an object. Raises ServiceError, see `S3.download`."""
        assert isinstance(source, S3Object)
        check_bucket(source.bucket, self._allowed)
        bucket, key, room = source.bucket, source.key, self._room
        _beside(work, lambda: self._s3.download(bucket, key, path, room, work.check))

    def write(self, body: str, bucket: str, key: str, content_type: str, work: Work) -> None:
        """Create or replace an object. Raises ServiceError."""
        check_bucket(bucket, self._allowed)
        data = body.encode()
        _beside(work, lambda: self._s3.write(data, bucket, key, content_type))


def _beside(work: Work, transfer: Callable[[], None]) -> None:
    """Run a transfer in a thread of its own: whoever cancels the work does not wait for a store
    that stands still. The transfer then ends by itself, and leaves nothing.
    """
    ended: Future[None] = Future()

    def run() -> None:
        with suppress(InvalidStateError):  # nobody waits any more
            try:
                transfer()
            except BaseException as error:  # noqa: BLE001 - passed on to the thread that waits
                ended.set_exception(error)
            else:
                ended.set_result(None)

    threading.Thread(target=run, name="bucket", daemon=True).start()
    work.wait_tracked(ended)


def object_at(url: str, allowed: tuple[str, ...]) -> S3Object:
    """The object that `s3://BUCKET/KEY` names.

    Raises:
        Forbidden: jobs may not use its bucket.
        UnsupportedOption: not such a URL.
    """
    scheme, _, rest = url.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme.lower() != "s3" or not bucket or not key:
        raise UnsupportedOption("The URL of an object must be s3://BUCKET/KEY.")
    check_bucket(bucket, allowed)
    if not is_key(key):
        raise UnsupportedOption(f"The key of the object {KEYS}.")
    return S3Object(bucket=bucket, key=key)


def is_key(key: str) -> bool:
    return bool(key) and not UNPRINTABLE.search(key) and len(key.encode()) <= MAX_KEY_BYTES


def check_bucket(bucket: str, allowed: frozenset[str] | tuple[str, ...]) -> None:
    """Raises Forbidden."""
    if bucket not in allowed:
        raise Forbidden(
            f"{bucket[:64]!r} is not a bucket that jobs of this service may use "
            "(S3_ALLOWED_BUCKETS)."
        )


# -- building ------------------------------------------------------------------------------------


def build_s3(settings: Settings) -> S3 | None:
    """None if no setting names a bucket. Raises ConfigurationError."""
    if not settings.uses_s3:
        return None
    return S3(
        S3Access(
            settings.s3_address,
            settings.aws_region,
            settings.aws_access_key_id.get_secret_value(),
            settings.aws_secret_access_key.get_secret_value(),
            settings.aws_session_token.get_secret_value(),
        )
    )


def build_buckets(settings: Settings, s3: S3 | None, min_free_bytes: int) -> Buckets | None:
    if s3 is None:
        return None
    room = Room(settings.max_file_size_mb << 20, min_free_bytes)
    return Buckets(s3, settings.s3_allowed_buckets, room)


def build_uploads(settings: Settings, s3: S3 | None, min_free_bytes: int) -> ObjectStore:
    """Where the uploads of jobs are kept. Raises ConfigurationError."""
    if s3 is None or not settings.s3_upload_target:
        return LocalObjects(settings.data_dir / "uploads")
    return S3Objects(s3, settings.s3_upload_target, settings.s3_upload_prefix, min_free_bytes)
