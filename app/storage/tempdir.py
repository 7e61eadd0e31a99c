"""A private directory for uploads and decoded audio. Removes what a crash left behind."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import shutil
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from app.domain.errors import ConfigurationError, DiskFull, Overloaded

PREFIX = "whisperx-asr-"
OURS = re.compile(PREFIX + "[0-9a-f]{16}")  # the root may be a /tmp with folders of others
DISK_FULL = "There is no disk space left for this file; try again later."
SWEPT = "The service's temporary files were removed meanwhile; try again."
# EFBIG: the file exceeds a limit of the file system or of the process.
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
DEFAULT_MIN_FREE_SHARE = 0.01
DEFAULT_MIN_FREE_BYTES = 1000 << 20  # at most


class PrivateDirectory:
    """One folder per process under a common root. Its owner locks it for as long as it lives: the
    folder itself, as a cleanup by age would remove a file that nobody touches.

    `min_free_bytes`: the space that uploads and decoded audio leave free on the disk.
    """

    def __init__(self, root: Path, min_free_bytes: int | None = None) -> None:
        """`min_free_bytes` None: a share of the disk.

        Raises:
            ConfigurationError: the root is not writable or belongs to another user, or its disk is
                too small.
        """
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            _check_owner(root)
            # Keeps a process that starts at the same time from removing a folder without its lock.
            with _locked(root):
                for left in root.iterdir():
                    _remove_if_abandoned(left)
                self._recreating = threading.Lock()
                self.path = root / f"{PREFIX}{secrets.token_hex(8)}"
                self._create()
                disk_bytes = shutil.disk_usage(self.path).total
        except OSError as error:
            raise ConfigurationError(
                f"TEMP_DIR: {root} cannot be written: {error.strerror}."
            ) from None
        if min_free_bytes is None:
            min_free_bytes = min(int(disk_bytes * DEFAULT_MIN_FREE_SHARE), DEFAULT_MIN_FREE_BYTES)
        elif min_free_bytes >= disk_bytes:
            self.close()
            raise ConfigurationError(
                f"TEMP_MIN_FREE_MB={min_free_bytes >> 20}, but the disk of {root} has "
                f"{disk_bytes >> 20} MB in all: no upload would ever be accepted."
            )
        self.min_free_bytes = min_free_bytes

    def _create(self) -> None:
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = ExitStack()
        self._lock.enter_context(_locked(self.path))

    def new_path(self) -> Path:
        """A path with a random name: no part of an upload's name reaches the disk."""
        with self._recreating:
            if not self.path.exists():  # a weekly cleanup of /tmp removed it
                self._lock.close()
                self._create()
        return self.path / secrets.token_hex(16)

    @property
    def is_short(self) -> bool:
        """Whether the disk has no space left for uploads."""
        try:
            return shutil.disk_usage(self.path).free <= self.min_free_bytes
        except FileNotFoundError:  # swept; the next upload makes it anew
            return False

    def close(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


def check_room(folder: Path, wanted_bytes: int, min_free_bytes: int) -> None:
    """Raises DiskFull if writing this much would leave too little space, Overloaded if the folder
    is gone.
    """
    with told_when_full():
        free_bytes = shutil.disk_usage(folder).free
    if free_bytes - wanted_bytes < min_free_bytes:
        raise DiskFull(DISK_FULL)


@contextmanager
def told_when_full() -> Iterator[None]:
    """Raises DiskFull if the system reports that no space is left, and Overloaded if a temporary
    file is gone: a cleanup of /tmp has removed it.
    """
    try:
        yield
    except FileNotFoundError:
        raise Overloaded(SWEPT, 1) from None
    except OSError as error:
        if error.errno in NO_ROOM:
            raise DiskFull(DISK_FULL) from None
        raise


@contextmanager
def _locked(folder: Path, waits: bool = True) -> Iterator[None]:
    """Raises OSError if it cannot be opened, or somebody else has the lock and nobody waits."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
        yield
    finally:
        os.close(descriptor)


def _remove_if_abandoned(folder: Path) -> None:
    if not OURS.fullmatch(folder.name) or folder.is_symlink():
        return
    with suppress(OSError), _locked(folder, waits=False):  # in use, or not ours
        shutil.rmtree(folder, ignore_errors=True)


def _check_owner(root: Path) -> None:
    """Refuse a root of another user, who could replace its contents. A system's /tmp is safe."""
    owner = root.stat().st_uid
    if owner not in (0, os.getuid()):
        raise ConfigurationError(
            f"TEMP_DIR: {root} belongs to user {owner}, who could replace its contents; "
            f"choose a folder of user {os.getuid()}."
        )


def check_writable(folder: Path, setting: str) -> None:
    """Raises ConfigurationError, with the command that fixes it, if files cannot be created."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".write-test-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ConfigurationError(
            f"{setting}: {folder} cannot be written by user {os.getuid()} ({error.strerror}). "
            f"If an image that ran as root made it: chown -R {os.getuid()}:{os.getgid()} {folder}"
        ) from None
