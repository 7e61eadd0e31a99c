"""How a request wants its subtitles, in both contracts."""

from __future__ import annotations

from dataclasses import dataclass, replace

from app.api.parameters import Reader
from app.formats.subtitles import STYLES, SubtitleStyle
from app.formats.table import OutputFormat

MAX_WIDTH, MAX_COUNT = 1000, 100
SUBTITLE_PARAMETERS = ("subtitle_style", "max_line_width", "max_line_count", "highlight_words")


@dataclass(frozen=True, slots=True)
class SubtitleWishes:
    """What a request says; None: as the operator has set it."""

    style: SubtitleStyle | None = None
    max_line_width: int | None = None
    max_line_count: int | None = None
    highlight_words: bool | None = None

    def applied_to(self, style: SubtitleStyle) -> SubtitleStyle:
        """`style`: the operator's."""
        if self.style is not None:  # with limits of its own
            style = replace(self.style, highlight_words=style.highlight_words)
        highlight = self.highlight_words
        return replace(
            style,
            max_line_width=self.max_line_width or style.max_line_width,
            max_line_count=self.max_line_count or style.max_line_count,
            highlight_words=style.highlight_words if highlight is None else highlight,
        )


NO_WISHES = SubtitleWishes()


def read_subtitle_wishes(read: Reader, output: OutputFormat) -> SubtitleWishes:
    """Raises UnsupportedOption."""
    highlight = read.flag("highlight_words", False) if read.text("highlight_words") else None
    wishes = SubtitleWishes(
        style=read.choice("subtitle_style", STYLES, None),
        max_line_width=read.count("max_line_width", MAX_WIDTH),
        max_line_count=read.count("max_line_count", MAX_COUNT),
        highlight_words=highlight,
    )
    if not output.is_subtitle:
        read.ignore(*SUBTITLE_PARAMETERS)
    return wishes
