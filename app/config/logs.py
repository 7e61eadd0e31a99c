"""Logs: what is logged and how it looks."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from app.config.fields import Lower, SettingsGroup


class LogSettings(SettingsGroup):
    """What is logged and how it looks."""

    title: ClassVar[str] = "Logs"

    log_level: Annotated[Literal["debug", "info", "warning", "error"], Lower] = Field(
        "info", validation_alias="LOG_LEVEL", description="Lowest level that is logged."
    )
    log_format: Annotated[Literal["console", "json"], Lower] = Field(
        "console",
        validation_alias="LOG_FORMAT",
        description="console: text for people. json: one object per line, for log collectors.",
    )
    log_transcripts: bool = Field(
        False,
        validation_alias="LOG_TRANSCRIPTS",
        description="Log the text of each transcript.",
    )
