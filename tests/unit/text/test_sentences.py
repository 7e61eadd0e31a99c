"""Sentences in every script: a table of hard cases, and what holds for any text."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.languages import LANGUAGES
from app.text.sentences import LONG_SENTENCE, LONG_WITHOUT_SPACES, SentenceSplitter
from tests.support.sentence_cases import HARD, KNOWN_FAILURES, MARK, PLAIN


def sentences(language: str, text: str) -> list[str]:
    return [text[begin:end] for begin, end in SentenceSplitter(language).spans(text)]


def table() -> Iterator[object]:
    for cases in (HARD, PLAIN):
        for language, texts in cases.items():
            for text in texts:
                known = text in KNOWN_FAILURES
                marks = [pytest.mark.xfail(strict=True)] if known else []
                yield pytest.param(language, text, marks=marks, id=f"{language}: {text}")


@pytest.mark.parametrize(("language", "text"), table())
def test_a_sentence_ends_where_its_readers_say(language: str, text: str) -> None:
    assert MARK.join(sentences(language, text.replace(MARK, ""))) == text


def test_the_table_is_of_whispers_languages_and_knows_its_failures() -> None:
    assert set(HARD) | set(PLAIN) <= set(LANGUAGES)
    assert len(HARD) >= 60
    every = {text for cases in (HARD, PLAIN) for texts in cases.values() for text in texts}
    assert every >= KNOWN_FAILURES
    assert len(KNOWN_FAILURES) / len(every) < 0.02


ENDS = [
    ". ",
    "! ",
    "? ",
    "...",
    "…",
    "。",
    "？！",
    "」",
    "“",
    " «",
    "» ",
    "।",
    "؟ ",
    "۔",
    "; ",
    "\u037e ",
]
PIECES = st.lists(
    st.one_of(
        st.sampled_from([*ENDS, "5. ", " Dr.", " A.", "\n", "  ", "😀 ", "၊", "។", "Mai ", "ครับ "]),
        st.text(max_size=12),
    ),
    max_size=30,
).map("".join)


@settings(max_examples=300, deadline=None)
@given(language=st.sampled_from([*sorted(LANGUAGES), "xx", ""]), text=PIECES)
def test_spans_cover_any_text_without_gaps(language: str, text: str) -> None:
    spans = SentenceSplitter(language).spans(text)
    assert "".join(text[begin:end] for begin, end in spans) == text
    assert all(begin < end for begin, end in spans)
    assert [begin for begin, _ in spans[1:]] == [end for _, end in spans[:-1]]
    for begin, _ in spans[1:]:
        assert not text[begin - 1].isspace()


def test_text_without_any_mark_is_one_sentence() -> None:
    words = "and then we went on and on " * 400
    for language in ("en", "de", "ru", "hi", "ko", "xx"):
        assert sentences(language, words) == [words]
    assert sentences("zh", "我们走" * 300) == ["我们走" * 300]
    assert sentences("en", "") == []
    assert sentences("en", " ... ") == [" ... "]
    assert sentences("en", "   ") == ["   "]


def test_a_last_sentence_without_a_mark_stands_alone() -> None:
    assert sentences("en", " We left. and then") == [" We left. and then"]
    assert sentences("en", " We left. And then") == [" We left.", " And then"]
    assert sentences("ja", "帰った。そして") == ["帰った。", "そして"]


def test_marks_alone_are_no_sentence() -> None:
    assert sentences("en", "... Well. — ! ?") == ["... Well. — ! ?"]
    assert sentences("fr", "« Ah ! » « Oui ! »") == ["« Ah ! »", " « Oui ! »"]


def test_text_all_in_small_letters_is_split_too() -> None:
    text = "hello. how are you? i am fine, mr. smith. and you"
    assert sentences("en", text) == [
        "hello.",
        " how are you?",
        " i am fine, mr. smith.",
        " and you",
    ]


@pytest.mark.parametrize("language", ["zh", "ja", "yue"])
def test_a_long_sentence_without_spaces_is_divided_at_commas(language: str) -> None:
    text = "天気がとても良いので散歩に行きます、" * 20 + "終わり。"
    parts = sentences(language, text)
    assert "".join(parts) == text
    limit = LONG_WITHOUT_SPACES[language]
    assert all(limit // 3 < len(part) <= limit for part in parts[:-1])
    assert all(part.endswith("、") for part in parts[:-1])
    assert sentences(language, text[:72] + "。") == [text[:72] + "。"]


def test_a_long_sentence_is_divided_where_a_clause_ends() -> None:
    text = "When it rains in the old town of Graz, 3,500 people stay at home, " * 10 + "they say."
    parts = sentences("en", text)
    assert "".join(parts) == text
    assert all(part.endswith(",") for part in parts[:-1])
    assert all(len(part) <= LONG_SENTENCE for part in parts)
    assert len(parts[-1]) > 20
    thai = "วันนี้อากาศดีมาก " * 40
    assert all(len(part) <= LONG_SENTENCE for part in sentences("th", thai))


@pytest.mark.parametrize(
    "unit",
    [
        "a",
        ".",
        "a. ",
        "A.",
        '"x ',
        "(",
        "「吗",
        "5. ",
        "  ",
        "!",
        "a, ",
        "😀. A ",
        "Dr. ",
        "x1. 2 ",
    ],
)
@pytest.mark.parametrize("language", ["en", "de", "zh", "th"])
def test_hostile_text_takes_no_time(unit: str, language: str) -> None:
    text = "a" + (unit * 100_000)[:100_000]
    started_s = time.process_time()
    assert "".join(sentences(language, text)) == text
    assert time.process_time() - started_s < 5


def test_eight_hours_of_speech_take_seconds() -> None:
    draw = random.Random(8)
    known = [text.replace(MARK, "") for texts in HARD.values() for text in texts]
    text = " ".join(draw.choices(known, k=12_000))  # 9,000 words an hour
    assert len(text) > 450_000
    started_s = time.process_time()
    assert len(sentences("en", text)) > 12_000
    assert time.process_time() - started_s < 20
