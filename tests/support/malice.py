"""Checkpoints that would run code where they are unpickled, and folders to put them into."""

from __future__ import annotations

import io
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self.marker),)


def as_pickle(marker: Path) -> bytes:
    """The bare pickle, as torch.save wrote it before version 1.6."""
    return pickle.dumps(Trap(marker), protocol=2)


def as_archive(marker: Path) -> bytes:
    """The zip of torch.save, with the trap among the plain values of a pyannote checkpoint."""
    file = io.BytesIO()
    content = {"pyannote.audio": Trap(marker), "state_dict": {}, "epoch": 0}
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(content, protocol=2))
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/version", "3\n")
    return file.getvalue()


def as_arrays(marker: Path) -> bytes:
    """A .npz whose arrays are objects."""
    file = io.BytesIO()
    trapped = np.array([Trap(marker)], dtype=object)
    np.savez(file, **dict.fromkeys(("mean1", "mean2", "lda", "mu", "tr", "psi"), trapped))
    return file.getvalue()


def mirror(source: Path, target: Path) -> Path:
    """The same files by links, folders of their own: one file can be swapped for another."""
    shutil.copytree(source, target, copy_function=lambda a, b: Path(b).symlink_to(Path(a)))
    return target


def swap(path: Path, content: bytes | None) -> None:
    """Another file in its place, or none; never written through a link."""
    path.unlink(missing_ok=True)
    if content is not None:
        path.write_bytes(content)
