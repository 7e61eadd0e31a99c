"""The words of transcripts, as a search in the history finds them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from app.domain.transcript import Transcript

MAX_WORD = 64  # characters that count
MAX_BYTES = 900_000  # of a transcript's words: PostgreSQL indexes a little more at once
# Thai, Lao, Burmese, Khmer, Japanese, Chinese: written without spaces.
UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff"
)
RUNS = re.compile(rf"([{UNSPACED}]+)|([^\W_{UNSPACED}]+)")


def words_of(transcript: Transcript) -> str:
    """See `distinct_words`."""
    return distinct_words(" ".join(segment.text for segment in transcript.segments))


def distinct_words(text: str) -> str:
    """Each word of a text once, in one case, with a space before it. Where words have no spaces
    between them, each pair of neighboring characters is one, and the last character. Of a text
    with more than a database indexes, the last ones in the order of characters are left out.
    """
    words: set[str] = set()
    for unspaced, word in _runs(text):
        words.update(_pairs(unspaced) if unspaced else (word,))
        words.update(unspaced[-1:])
    joined = "".join(f" {word}" for word in sorted(words)).encode()
    if len(joined) > MAX_BYTES:
        joined = joined[: joined.rindex(b" ", 0, MAX_BYTES)]
    return joined.decode()


def parts_of(search: str) -> list[str]:
    """What `distinct_words` has of every text in which all words of a search are begun."""
    found: dict[str, None] = {}
    for unspaced, word in _runs(search):
        pairs = _pairs(unspaced) or [unspaced]
        found.update(dict.fromkeys(f" {part}" for part in (pairs if unspaced else [word])))
    return list(found)


def _runs(text: str) -> Iterator[tuple[str, str]]:
    """Runs of characters without spaces, and words; one of both is empty."""
    for match in RUNS.finditer(unicodedata.normalize("NFKC", text).casefold()):
        unspaced, word = match.groups(default="")
        yield unspaced, word[:MAX_WORD]


def _pairs(run: str) -> list[str]:
    return [run[i : i + 2] for i in range(len(run) - 1)]
