"""Markdown read back by a parser of CommonMark and of GitHub's tables."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from markdown_it import MarkdownIt
from markdown_it.token import Token

HEADING = re.compile(r"Segment (\d+): \[(\d{2,}:\d\d:\d\d) - (\d{2,}:\d\d:\d\d)\](?: \((.+)\))?")
INLINE = {"text", "strong_open", "strong_close", "softbreak"}
BLOCKS = {"heading", "paragraph", "bullet_list", "list_item"}


@dataclass
class TimedSegment:
    number: int
    start: str
    end: str
    speaker: str | None
    text: str = ""
    words: list[tuple[str | None, str]] = field(default_factory=list)  # speaker, item


@dataclass
class Document:
    """`whole`: speaker and what they say, in order."""

    whole: list[tuple[str | None, str]]
    segments: list[TimedSegment]


def seconds_of(clock: str) -> int:
    hours, minutes, seconds = map(int, clock.split(":"))
    return 3600 * hours + 60 * minutes + seconds


def read_markdown(source: str) -> Document:
    """The three parts; fails if there is anything else in it."""
    blocks = _blocks(MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(source))
    second = blocks.index(("h1", None, "Timestamped Transcript"))
    assert blocks[0] == ("h1", None, "Full Transcript")
    whole = [(label, text) for kind, label, text in blocks[1:second] if kind == "p"]
    assert len(whole) == second - 1
    return Document(whole, _segments(blocks[second + 1 :]))


Block = tuple[str, str | None, str]  # kind, label in bold, text


def _segments(blocks: list[Block]) -> list[TimedSegment]:
    segments: list[TimedSegment] = []
    speaker, in_words = None, False
    for kind, label, text in blocks:
        if kind == "h2":
            heading = HEADING.fullmatch(text)
            assert heading, text
            number, start, end, speaker = heading.groups()
            segments.append(TimedSegment(int(number), start, end, speaker))
            speaker, in_words = None, False
        elif kind == "h3":
            assert text == "Word-level timestamps"
            in_words = True
        elif kind == "item":
            assert in_words
            segments[-1].words.append((speaker, text))
        elif in_words:
            assert label is not None
            assert text == ""
            speaker = label
        else:
            assert segments[-1].text == ""
            segments[-1].text = text
    return segments


def _blocks(tokens: list[Token]) -> list[Block]:
    found: list[Block] = []
    opened: list[Token] = []
    for token in tokens:
        if token.type == "inline":
            label, text = _inline(token)
            tags = [block.tag for block in opened]
            assert tags in (["h1"], ["h2"], ["h3"], ["p"], ["ul", "li", "p"]), tags
            kind = "item" if "li" in tags else tags[-1]
            # only a paragraph has a label, and only those of the first part and of words
            found.append((kind, label, text) if kind == "p" else (kind, None, text))
            continue
        assert token.type.removesuffix("_open").removesuffix("_close") in BLOCKS, token.type
        if token.nesting > 0:
            opened.append(token)
        elif token.nesting < 0:
            opened.pop()
    return found


def _inline(token: Token) -> tuple[str | None, str]:
    children = token.children or []
    assert {child.type for child in children} <= INLINE, children
    bold = [i for i, child in enumerate(children) if child.type.startswith("strong")]
    if not bold:
        return None, "".join(child.content for child in children)
    begin, end = bold
    before, label, text = (
        "".join(child.content for child in part)
        for part in (children[:begin], children[begin + 1 : end], children[end + 1 :])
    )
    assert before == ""
    assert label.endswith(":")
    return label.removesuffix(":"), text.strip()
