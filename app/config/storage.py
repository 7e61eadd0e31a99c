"""Storage: where uploads and decoded audio are kept while a request runs."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from app.config.fields import AbsolutePath, SettingsGroup


class StorageSettings(SettingsGroup):
    """Where uploads and decoded audio are kept while a request runs."""

    title: ClassVar[str] = "Storage"

    temp_dir: AbsolutePath = Field(
        Path(tempfile.gettempdir()) / "whisperx-asr",
        validation_alias="TEMP_DIR",
        description="Private directory for uploads and decoded audio. It is emptied at start.",
    )
    temp_min_free_mb: int | None = Field(
        None,
        ge=0,
        validation_alias="TEMP_MIN_FREE_MB",
        description=(
            "Disk space that uploads and decoded audio leave free. Empty: 1% of the disk, at most "
            "1000 MB."
        ),
    )
