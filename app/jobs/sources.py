"""Sources: where recordings come from, as files on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from app.domain.errors import UnsupportedOption
from app.engine.work import Work
from app.jobs.job import S3Object, Source, Upload, Url
from app.storage.objects import ObjectStore
from app.storage.tempdir import PrivateDirectory


class Fetch(Protocol):
    """Brings something to a path. Raises ServiceError."""

    def __call__(self, source: Source, path: Path, work: Work) -> None: ...


class Sources:
    """`fetch_url`, `fetch_s3`: None if the service is not set up for it."""

    def __init__(
        self,
        uploads: ObjectStore,
        temp: PrivateDirectory,
        fetch_url: Fetch | None = None,
        fetch_s3: Fetch | None = None,
    ) -> None:
        self.uploads = uploads
        self._temp = temp
        self._fetch_url = fetch_url
        self._fetch_s3 = fetch_s3

    @contextmanager
    def open(self, source: Source, work: Work) -> Iterator[Path]:
        """The recording as a file, until the block ends.

        Raises:
            ServiceError: it cannot be had.
        """
        path = self._temp.new_path()
        try:
            match source:
                case Upload(name=name):
                    yield self.uploads.get(name, path, work.check)
                case Url():
                    yield self._fetched(self._fetch_url, source, path, work)
                case S3Object():
                    yield self._fetched(self._fetch_s3, source, path, work)
        finally:
            path.unlink(missing_ok=True)

    def _fetched(self, fetch: Fetch | None, source: Source, path: Path, work: Work) -> Path:
        if fetch is None:
            raise UnsupportedOption("This service does not fetch recordings from there.")
        fetch(source, path, work)
        return path

    def discard(self, source: Source) -> None:
        """Delete an upload that is no longer needed. Nothing else is ours to delete."""
        if isinstance(source, Upload):
            self.uploads.delete(source.name)
