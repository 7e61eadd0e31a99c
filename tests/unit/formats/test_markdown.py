"""Markdown, read back by an independent parser: nothing that is said changes its structure."""

from __future__ import annotations

import json
import re

from hypothesis import given
from hypothesis import strategies as st

from app.domain.transcript import Segment, Transcript, Word
from app.domain.warnings import TranscriptWarning
from app.formats.markdown import to_markdown
from app.formats.modal import write_modal_json
from tests.support.json_bodies import refuse_constant
from tests.support.markdown import read_markdown

A, B = "SPEAKER_00", "SPEAKER_01"

# as ../systems documents it for the service that writes it
DOCUMENTED = """\
# Full Transcript

**SPEAKER_00:** Hello, welcome to today's interview.

**SPEAKER_01:** Thank you for having me.

# Timestamped Transcript

## Segment 1: [00:00:00 - 00:00:05] (SPEAKER_00)

Hello, welcome to today's interview.

### Word-level timestamps

**SPEAKER_00:**
- Hello, @ 00:00:00
- welcome @ 00:00:01
- to @ 00:00:02
- today's @ 00:00:03
- interview.

## Segment 2: [01:00:05 - 27:46:40] (SPEAKER_01)

Thank you for having me.
"""


def written(*segments: Segment, **values: object) -> Transcript:
    return Transcript("en", 60.0, "demo", segments, **values)  # type: ignore[arg-type]


def said(text: str, speaker: str | None = None, *, at_s: float = 0.0) -> Segment:
    """Every word lasts a second."""
    words = tuple(Word(w, at_s + i, at_s + i + 0.5, 0.9) for i, w in enumerate(text.split()))
    return Segment(at_s, at_s + len(words), " " + text, words, speaker)


def test_the_documented_layout() -> None:
    words = tuple(
        Word(text, start_s, None if start_s is None else start_s + 0.4, speaker=A)
        for text, start_s in zip(
            ["Hello,", "welcome", "to", "today's", "interview."],
            (0.999, 1.0, 2.5, 3.2, None),
            strict=True,
        )
    )
    first = Segment(0.0, 5.9, " Hello, welcome to today's interview.", words, A)
    second = Segment(3605.0, 100_000.2, " Thank you for having me.", None, B)
    assert to_markdown(written(first, second)) == DOCUMENTED


def test_without_speakers_words_and_segments() -> None:
    assert to_markdown(written()) == "# Full Transcript\n\n# Timestamped Transcript\n"
    untimed = Segment(2.0, 3.0, " You too.", (Word("You"), Word("too.")))
    document = read_markdown(to_markdown(written(said("Good morning."), untimed)))
    assert document.whole == [(None, "Good morning. You too.")]
    first, second = document.segments
    assert (first.speaker, first.text) == (None, "Good morning.")
    assert first.words == [(None, "Good @ 00:00:00"), (None, "morning. @ 00:00:01")]
    assert (second.start, second.end, second.text, second.words) == (
        "00:00:02", "00:00:03", "You too.", [],
    )  # fmt: skip


def test_whoever_goes_on_speaking_has_one_paragraph() -> None:
    parts = (said("One.", A), said("Two.", A), said("Three.", B), said("Four."), said("Five.", A))
    document = read_markdown(to_markdown(written(*parts)))
    assert document.whole == [(A, "One. Two."), (B, "Three."), (None, "Four."), (A, "Five.")]


def test_words_of_two_speakers_in_a_segment() -> None:
    words = (Word("Yes?", 0.0, 0.5, speaker=A), Word("No!", 1.0, 1.5, speaker=B), Word("So.", 2.0))
    [segment] = read_markdown(
        to_markdown(written(Segment(0.0, 3.0, " Yes? No! So.", words, A)))
    ).segments
    assert segment.words == [(A, "Yes? @ 00:00:00"), (B, "No! @ 00:00:01"), (A, "So. @ 00:00:02")]


def test_ordinary_sentences_are_not_escaped() -> None:
    for text in (
        "It's 3.5% (about $4) - no: 10:30! AT&T, R&D, snake_case + a=b, e.g. x > y.",
        "Grüße, naïve café; 你好，世界。 「はい」 مرحبا بالعالم. שלום עולם. สวัสดี 👩‍👩‍👧",
    ):
        assert f"\n\n{text}\n" in to_markdown(written(said(text)))


HOSTILE = [
    "# A heading", "- a list", "+ a list", "1. a list", "2) a list", "> a quote", "---", "===",
    "***", "___", "* * *", "```", "~~~", "`code`", "**bold** _thin_ __x__ ~~gone~~", "| a | b |",
    "<script>alert(1)</script>", "<!-- hidden", "<b>", "</p>", "<https://example.com>", "&lt;b&gt;",
    "&#x3c;b&#62;", "[a](javascript:alert(1))", "![a](b)", "[a]: http://example.com", "[x] done",
    "\\*not\\*", "end\\", "a\n\n# b", "a\r\n## Segment 9: [00:00:00 - 00:00:01] (X)", "a\u2028# b",
    "a\n### Word-level timestamps\n- b @ 00:00:00", "    code", "\tcode", "a  \nb",
    "**SPEAKER_07:**", "a\x0b# b", "\u202eabc", "\x85# a", "*", "_", "<", "&", "123456789. a",
]  # fmt: skip


def shown(text: str) -> str:
    return re.sub(r"[\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029]+", " ", text.replace("\0", "")).strip()


def check(text: str, speaker: str | None, following: str) -> None:
    """`text` as a sentence, as a word and as the name of a speaker."""
    words = (Word(text, 0.0, 1.0), Word(following, 1.0, 2.0), Word(text))
    segments = (Segment(0.0, 2.0, text, words, speaker), Segment(2.0, 3.0, following, None, text))
    document = read_markdown(to_markdown(written(*segments)))
    texts = [shown(text), shown(following)]
    assert [segment.text for segment in document.segments] == texts
    assert [segment.number for segment in document.segments] == [1, 2]
    assert document.segments[0].words == [
        (speaker, f"{word}{time}")
        for word, time in zip([*texts, texts[0]], (" @ 00:00:00", " @ 00:00:01", ""), strict=True)
        if word
    ]
    assert document.whole[0][1].startswith(texts[0])


def test_what_is_said_breaks_nothing() -> None:
    for text in HOSTILE:
        for speaker in (None, A):
            check(text, speaker, "Next.")
            check("Before.", speaker, text)
        source = to_markdown(written(said(text, text)))
        assert not re.search(r"<[a-z/!]", source)


signs = st.text(
    st.sampled_from("\\`*_{}[]()<>#+-.!|~&;=:1a \n\t\u2028é你"), min_size=1, max_size=12
)


@given(signs.filter(shown), st.sampled_from([None, A]), signs.filter(shown))
def test_no_mix_of_signs_breaks_anything(text: str, speaker: str | None, following: str) -> None:
    check(text, speaker, following)


def test_a_long_line_is_one_paragraph() -> None:
    text = "*word* " * 1500
    document = read_markdown(to_markdown(written(said(text.strip(), A))))
    assert document.whole == [(A, text.strip())]
    assert len(document.segments[0].words) == 1500


def test_the_json_beside_it() -> None:
    transcript = written(
        said("Hello there.", A),
        said("Grüße.", B, at_s=3.0),
        speakers_known=True,
        warnings=(TranscriptWarning.NO_ALIGNER,),
    )
    body = json.loads(write_modal_json(transcript, "some-id"), parse_constant=refuse_constant)
    assert body["text"] == "Hello there. Grüße."
    assert [segment["speaker"] for segment in body["segments"]] == [A, B]
    assert body["segments"][0]["words"][1] == {
        "word": "there.", "start": 1.0, "end": 1.5, "score": 0.9,
    }  # fmt: skip
    assert body["metadata"] == {
        "job_id": "some-id",
        "language": "en",
        "duration": 60.0,
        "model": "demo",
        "num_segments": 2,
        "num_words": 3,
        "num_speakers": 2,
        "warnings": [TranscriptWarning.NO_ALIGNER.sentence],
    }
    assert json.loads(write_modal_json(written(), ""))["metadata"]["num_speakers"] is None
