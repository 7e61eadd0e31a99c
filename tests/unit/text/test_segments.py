"""Sentences hold all of a hypothesis: no word is lost where one ends within a word."""

from __future__ import annotations

import pytest

from app.domain.transcript import Segment, Word
from app.text.segments import cut_sentences
from app.text.sentences import SentenceSplitter

TEXTS = [
    ("en", " I use Yahoo!Mail. It works.", ["I use Yahoo!Mail.", "It works."]),
    ("en", " Yahoo!Mail works. Fine.", ["Yahoo!Mail works.", "Fine."]),
    ("en", " See example.com/?id=7", ["See example.com/?id=7"]),
    ("en", " Go to bit.ly/a?b=c&d=e. Then stop.", ["Go to bit.ly/a?b=c&d=e.", "Then stop."]),
    ("es", " ¿Qué?¿Cómo?", ["¿Qué?¿Cómo?"]),
    ("ur", " جی۔ہاں۔", ["جی۔ہاں۔"]),
    ("hi", " नमस्ते।जी।", ["नमस्ते।जी।"]),
    ("km", "សួស្តី។ខ្ញុំឈ្មោះសុខ។", ["សួស្តី។ខ្ញុំឈ្មោះសុខ។"]),
]


@pytest.mark.parametrize(("language", "text", "sentences"), TEXTS)
def test_a_sentence_ends_between_words(language: str, text: str, sentences: list[str]) -> None:
    placed, at = [], 0
    for number, word in enumerate(text.split()):
        at = text.index(word, at)
        placed.append((at, Word(word, float(number), number + 0.5)))
        at += len(word)
    segment = Segment(0.0, 10.0, text)
    found = cut_sentences(segment, SentenceSplitter(language).spans(text), placed)
    assert "".join(sentence.text for sentence in found) == text
    assert [sentence.text.strip() for sentence in found] == sentences
    for sentence in found:
        assert [word.text for word in sentence.words or ()] == sentence.text.split()
