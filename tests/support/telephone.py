"""The real telephone conversation inside the pyannote.audio package."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path


def sample_folder() -> Path:
    package = find_spec("pyannote.audio")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent / "sample"
