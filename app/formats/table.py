"""The table of output formats: names, file extension, media type and writer.

To add a format, define a constant here and list it in the tuple of each contract that offers it.
Formats without a writer are JSON, for which each contract has its own bodies.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from app.domain.transcript import Transcript
from app.formats.markdown import to_markdown
from app.formats.subtitles import SubtitleStyle, to_srt, to_vtt
from app.formats.text import to_text, to_tsv

PLAIN_TEXT = "text/plain; charset=utf-8"
TEXT_MARKDOWN = "text/markdown; charset=utf-8"
APPLICATION_JSON = "application/json"

Writer = Callable[[Transcript, SubtitleStyle], str]


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """`aliases`: other names for it on /asr."""

    name: str
    extension: str
    media_type: str
    writer: Writer | None = None
    aliases: tuple[str, ...] = ()

    @property
    def is_subtitle(self) -> bool:
        return self.extension in ("srt", "vtt")


TEXT = OutputFormat("text", "txt", PLAIN_TEXT, lambda t, _: to_text(t), aliases=("txt",))
VTT = OutputFormat("vtt", "vtt", PLAIN_TEXT, to_vtt)
OPENAI_VTT = OutputFormat("vtt", "vtt", PLAIN_TEXT, partial(to_vtt, always_hours=True))
SRT = OutputFormat("srt", "srt", PLAIN_TEXT, to_srt)
TSV = OutputFormat("tsv", "tsv", PLAIN_TEXT, lambda t, _: to_tsv(t))
MARKDOWN = OutputFormat(
    "md", "md", TEXT_MARKDOWN, lambda t, _: to_markdown(t), aliases=("markdown",)
)
JSON = OutputFormat("json", "json", APPLICATION_JSON)
VERBOSE_JSON = OutputFormat("verbose_json", "json", APPLICATION_JSON)
DIARIZED_JSON = OutputFormat("diarized_json", "json", APPLICATION_JSON)

ASR_FORMATS = (TEXT, VTT, SRT, TSV, MARKDOWN, JSON)
OPENAI_TRANSLATION_FORMATS = (JSON, TEXT, SRT, VERBOSE_JSON, OPENAI_VTT, MARKDOWN)
OPENAI_FORMATS = (*OPENAI_TRANSLATION_FORMATS, DIARIZED_JSON)
