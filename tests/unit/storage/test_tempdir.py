"""The private directory of temporary files."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.domain.errors import ConfigurationError, Overloaded
from app.storage.tempdir import PrivateDirectory, check_room
from tests.support.forms import eventually
from tests.support.server import ended_start


def test_processes_share_a_root_and_leave_each_other_alone(tmp_path: Path) -> None:
    first = PrivateDirectory(tmp_path)
    mine = first.new_path()
    mine.write_bytes(b"x")
    second = PrivateDirectory(tmp_path)
    assert mine.exists()
    assert first.path != second.path
    second.close()
    assert mine.exists()
    first.close()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path\n"
        "from app.storage.tempdir import PrivateDirectory\n"
        "d = PrivateDirectory(Path(sys.argv[1])); d.new_path().write_bytes(b'x');"
        "print(d.path, flush=True); os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    left = Path(killed.stdout.strip())
    assert len(list(left.iterdir())) == 1
    directory = PrivateDirectory(tmp_path)
    assert not left.exists()
    directory.close()


def test_other_peoples_files_in_the_root_are_left_alone(tmp_path: Path) -> None:
    """TEMP_DIR=/tmp is what many will set."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("x")
    (tmp_path / "locked").mkdir()
    (tmp_path / "locked" / "lock").touch()
    elsewhere = tmp_path / "home" / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / f"whisperx-asr-{'0' * 16}").symlink_to(elsewhere)
    before = sorted(tmp_path.rglob("*"))
    PrivateDirectory(tmp_path).close()
    assert sorted(tmp_path.rglob("*")) == before


def test_what_is_as_old_as_a_process_may_be_swept(tmp_path: Path) -> None:
    """A cleanup by age leaves new uploads and removes whatever nobody has touched for days."""
    first = PrivateDirectory(tmp_path)
    old = set(first.path.iterdir())
    mine = first.new_path()
    mine.write_bytes(b"x")
    for path in old:
        path.unlink()
    PrivateDirectory(tmp_path).close()
    assert mine.exists()
    first.close()


def test_a_root_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "root").symlink_to(tmp_path / "disk")
    directory = PrivateDirectory(tmp_path / "root")
    directory.new_path().write_bytes(b"x")
    directory.close()
    directory.close()
    assert list((tmp_path / "disk").iterdir()) == []


def test_a_file_in_debris_may_be_any_file(tmp_path: Path) -> None:
    """What looks like debris may be of somebody else's making."""
    ours = tmp_path / "thesis.txt"
    ours.write_text("x")
    root = tmp_path / "root"
    for number, plant in enumerate((Path.symlink_to, Path.hardlink_to)):
        folder = root / f"whisperx-asr-{number:016x}"
        folder.mkdir(parents=True)
        plant(folder / "lock", ours)
    PrivateDirectory(root).close()
    assert ours.read_text() == "x"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give folders away")
def test_a_root_of_somebody_elses(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, -1)
    with pytest.raises(ConfigurationError, match=f"TEMP_DIR: {tmp_path} belongs to user 12345"):
        PrivateDirectory(tmp_path)
    assert list(tmp_path.iterdir()) == []
    os.chown(tmp_path, 0, -1)
    PrivateDirectory(tmp_path).close()


def test_nobody_else_may_look_into_the_directory(tmp_path: Path) -> None:
    directory = PrivateDirectory(tmp_path / "made")
    for folder in (directory.path, directory.path.parent):
        assert folder.stat().st_mode & 0o777 == 0o700
    directory.close()


def test_what_is_left_free_depends_on_the_disk(tmp_path: Path) -> None:
    total = shutil.disk_usage(tmp_path).total
    directory = PrivateDirectory(tmp_path)
    assert directory.min_free_bytes == min(total // 100, 1000 << 20)
    directory.close()
    with pytest.raises(ConfigurationError, match="TEMP_MIN_FREE_MB"):
        PrivateDirectory(tmp_path, total)
    assert list(tmp_path.iterdir()) == []


def test_many_processes_start_at_once(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path\n"
        "from app.storage.tempdir import PrivateDirectory\n"
        "d = PrivateDirectory(Path(sys.argv[1])); d.new_path().touch(); sys.stdin.read();"
        "print(len(list(d.path.iterdir())))"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    pipe = subprocess.PIPE
    starting = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(8)]
    eventually(lambda: len(list(tmp_path.glob("*/*"))) == 8)
    assert [process.communicate("")[0].strip() for process in starting] == ["1"] * 8


def test_a_root_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    root = tmp_path / "file" / "tmp"
    with pytest.raises(ConfigurationError, match=f"TEMP_DIR: {root} cannot be written"):
        PrivateDirectory(root)
    started = ended_start(tmp_path, TEMP_DIR=root)
    assert started.returncode == 2
    assert started.stderr.splitlines() == [
        f"whisperx-asr: TEMP_DIR: {root} cannot be written: Not a directory."
    ]


def test_what_a_cleanup_removes_is_an_error_that_says_so(tmp_path: Path) -> None:
    directory = PrivateDirectory(tmp_path)
    shutil.rmtree(directory.path)
    assert not directory.is_short
    with pytest.raises(Overloaded, match="try again"):
        check_room(directory.path, 1, 0)
    with ThreadPoolExecutor(8) as pool:
        paths = set(pool.map(lambda _: directory.new_path(), range(8)))
    assert len(paths) == 8
    check_room(directory.path, 1, 0)
    directory.close()
