"""Uploads as files: they outlive the power, and those that nobody uses go."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Collection
from pathlib import Path

import pytest

from app.storage.objects import FORGOTTEN_S, LocalObjects

NAME, OTHER = "0" * 32, "1" * 32


def test_an_upload_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects, seen = LocalObjects(tmp_path / "objects"), []
    upload = tmp_path / "upload"
    upload.write_bytes(b"sound")

    def sync(descriptor: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        names = [path.name for path in (tmp_path / "objects").iterdir()]
        seen.append(("folder" if is_folder else "file", names))

    monkeypatch.setattr(os, "fsync", sync)
    objects.put(upload, NAME, lambda: None)
    assert seen == [("file", [f"{NAME}.part"]), ("folder", [NAME])]
    assert objects.read(NAME, 0, 5) == b"sound"


def test_an_upload_that_goes_while_others_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = LocalObjects(tmp_path)
    old = time.time() - FORGOTTEN_S - 60
    for name in (NAME, OTHER):
        (tmp_path / name).write_bytes(b"sound")
        os.utime(tmp_path / name, (old, old))
    listed = list(tmp_path.iterdir())
    (tmp_path / NAME).unlink()

    def nobody(names: Collection[str]) -> Collection[str]:
        return ()

    monkeypatch.setattr(Path, "iterdir", lambda _: iter(listed))
    assert objects.sweep(nobody) == 1
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []
