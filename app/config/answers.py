"""Answers: the default dialect and the look of subtitles."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from app.config.fields import Lower, SettingsGroup


class AnswerSettings(SettingsGroup):
    """The default dialect and the look of subtitles."""

    title: ClassVar[str] = "Answers"

    default_dialect: Annotated[Literal["whisperx", "webservice"], Lower] = Field(
        "whisperx",
        validation_alias="DEFAULT_DIALECT",
        description="Dialect of requests whose parameters do not select one.",
    )
    subtitle_style: Annotated[Literal["plain", "readable"], Lower] = Field(
        "plain",
        validation_alias="SUBTITLE_STYLE",
        description=(
            "`plain`: a subtitle for each segment, or as the next two say. `readable`: at most two "
            "lines of 42 characters and 17 characters in a second, broken at phrases. A request "
            "may choose another style and other values of the next three."
        ),
    )
    subtitle_max_line_width: int | None = Field(
        None,
        ge=1,
        validation_alias="SUBTITLE_MAX_LINE_WIDTH",
        description=(
            "Most characters in a subtitle line. Chinese, Japanese and Korean characters count "
            "twice. Empty: no limit."
        ),
    )
    subtitle_max_line_count: int | None = Field(
        None,
        ge=1,
        validation_alias="SUBTITLE_MAX_LINE_COUNT",
        description="Most lines in a subtitle. Empty: no limit.",
    )
    subtitle_highlight_words: bool = Field(
        False,
        validation_alias="SUBTITLE_HIGHLIGHT_WORDS",
        description="Underline each word as it is spoken (SRT and VTT).",
    )
