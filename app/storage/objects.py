"""ObjectStore: uploads under names of ours, on this machine or in a bucket."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from app.domain.errors import ConfigurationError, ObjectMissing, StageFailed
from app.storage.tempdir import told_when_full

FORGOTTEN_S = 86_400.0
OURS = re.compile(r"[0-9a-f]{32}(\.part)?")  # others may keep theirs in the same place

Check = Callable[[], None]  # raises to end a transfer
Used = Callable[[Collection[str]], Collection[str]]  # those of some names that are used


class ObjectStore(Protocol):
    def put(self, path: Path, name: str, check: Check) -> None:
        """Move a file into the store."""

    def get(self, name: str, path: Path, check: Check) -> Path:
        """A file with the object's content: `path`, or one of the store's own, not to be changed.

        Raises:
            StageFailed: there is no such object.
        """

    def read(self, name: str, begin: int, end: int) -> bytes:
        """The bytes from `begin` up to `end` of an object.

        Raises:
            ObjectMissing
            ServiceError: the store cannot be reached.
        """

    def delete(self, name: str) -> None:
        """Remove an object, if it exists."""

    def sweep(self, used: Used) -> int:
        """Remove old objects that nobody uses: a process ended between an object and what needs it.
        Returns how many.
        """


class LocalObjects:
    """Objects as files of a folder."""

    def __init__(self, folder: Path) -> None:
        """Raises ConfigurationError if the folder is not writable."""
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"DATA_DIR: {folder} cannot be written: {error.strerror}."
            ) from None
        self._folder = folder

    def put(self, path: Path, name: str, check: Check) -> None:
        part = self._folder / f"{name}.part"
        try:
            with told_when_full():
                shutil.move(path, part)  # copies it from another file system
                part.chmod(0o600)
                _sync(part)
                part.replace(self._folder / name)
                _sync(self._folder)
        finally:
            part.unlink(missing_ok=True)

    def get(self, name: str, path: Path, check: Check) -> Path:
        kept = self._folder / name
        if not kept.is_file():
            raise StageFailed("The upload of this job is not on this machine.")
        return kept

    def read(self, name: str, begin: int, end: int) -> bytes:
        try:
            with (self._folder / name).open("rb") as file:
                file.seek(begin)
                return file.read(end - begin)
        except FileNotFoundError:
            raise ObjectMissing("The recording is not on this machine.") from None

    def delete(self, name: str) -> None:
        (self._folder / name).unlink(missing_ok=True)

    def sweep(self, used: Used) -> int:
        before = time.time() - FORGOTTEN_S
        found = set()
        for path in self._folder.iterdir():
            with suppress(FileNotFoundError):  # its job has ended meanwhile
                if path.stat().st_mtime < before:
                    found.add(path.name)
        return discard_forgotten(self, found, used)


def _sync(path: Path) -> None:
    """A job that was accepted outlives the power, and so does its upload."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def discard_forgotten(store: ObjectStore, old: Iterable[str], used: Used) -> int:
    """Remove those of some old objects that are ours and that nobody uses. Returns how many."""
    ours = set(filter(OURS.fullmatch, old))
    forgotten = ours - set(used(ours)) if ours else set()
    for name in forgotten:
        store.delete(name)
    return len(forgotten)
