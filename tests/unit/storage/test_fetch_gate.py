"""Gate: a fetch leaves room on the disk, whatever its source says of the size."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.storage.fetch_failure import Failure, Reason
from app.storage.fetch_gate import Gate

MB = 1 << 20


class Disk:
    def __init__(self, free_mb: int) -> None:
        self.free_bytes = free_mb * MB

    def disk_usage(self, folder: Path) -> object:
        return type("Usage", (), {"free": self.free_bytes})

    def fetch(self, gate: Gate, num_mb: int) -> int:
        """MB that were written."""
        for number in range(num_mb):
            try:
                gate.check((number + 1) * MB)
            except Failure:
                return number
            self.free_bytes -= MB
        return num_mb


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk(free_mb=200)
    monkeypatch.setattr("app.storage.tempdir.shutil", disk)
    return disk


def test_a_size_that_is_announced_must_fit(tmp_path: Path, disk: Disk) -> None:
    gate = Gate(tmp_path, 1000 * MB, 100 * MB)
    gate.expect(100 * MB)
    with pytest.raises(Failure) as raised:
        gate.expect(101 * MB)
    assert raised.value.reason is Reason.DISK_FULL
    with pytest.raises(Failure) as raised:
        gate.expect(1001 * MB)
    assert raised.value.reason is Reason.TOO_LARGE


@pytest.mark.parametrize("announced", [0, 90 * MB])
def test_others_may_fill_the_disk_meanwhile(tmp_path: Path, disk: Disk, announced: int) -> None:
    gate = Gate(tmp_path, 1000 * MB, 100 * MB)
    gate.expect(announced)
    disk.free_bytes -= 50 * MB
    assert 30 <= disk.fetch(gate, 90) <= 50
    assert disk.free_bytes >= 100 * MB


def test_what_is_there_already_is_not_asked_for_again(tmp_path: Path, disk: Disk) -> None:
    gate = Gate(tmp_path, 1000 * MB, 100 * MB)
    assert disk.fetch(gate, 80) == 80
    gate.expect(95 * MB)  # yt-dlp tells the size with each piece
    gate.expect(95 * MB)
