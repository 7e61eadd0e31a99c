"""Folders with diarization pipelines, made from the demo's."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml

from tests.support.paths import DEMO


def make_vbx_pipeline(folder: Path) -> Path:
    """The demo's pipeline, clustered as pyannote's community-1 does it."""
    shutil.copytree(DEMO / "diarization", folder)
    config: dict[str, Any] = yaml.safe_load((folder / "config.yaml").read_text())
    config["pipeline"]["params"]["clustering"] = "VBxClustering"
    config["params"]["clustering"] = dict(VBX)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


VBX = {"threshold": 0.6, "Fa": 0.07, "Fb": 0.8}  # as the published community-1 pipeline
