"""A private directory for uploads and decoded audio, free of what a crash left behind."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.errors import ConfigurationError

LOCK = "lock"
PREFIX = "whisperx-asr-"
OURS = re.compile(PREFIX + "[0-9a-f]{16}")  # the root may be a /tmp full of other people's folders


class PrivateDirectory:
    """One folder per process under a common root. A lock tells a living owner from debris."""

    def __init__(self, root: Path) -> None:
        """Raises ConfigurationError where the root cannot be written."""
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Who starts at the same time must not take a folder without its lock for debris.
            with _locked(root):
                for left in root.iterdir():
                    _remove_if_abandoned(left)
                self.path = root / f"{PREFIX}{secrets.token_hex(8)}"
                self.path.mkdir(mode=0o700)
                self._lock = (self.path / LOCK).open("w")
                fcntl.flock(self._lock, fcntl.LOCK_EX)
        except OSError as error:
            raise ConfigurationError(
                f"TEMP_DIR: {root} cannot be written: {error.strerror}."
            ) from None

    def new_path(self) -> Path:
        """A random name: nothing of an upload's own name reaches the disk."""
        return self.path / secrets.token_hex(16)

    def close(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _remove_if_abandoned(folder: Path) -> None:
    if not OURS.fullmatch(folder.name) or folder.is_symlink():
        return
    try:
        with (folder / LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    except OSError:
        return  # somebody works in it, or it is not ours


def check_writable(folder: Path, setting: str) -> None:
    """Raises ConfigurationError, with the command that mends it, where files cannot be made."""
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
