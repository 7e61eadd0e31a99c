"""Counts words lost, changed and added, after normalizing both texts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import jiwer
from transformers.models.whisper.english_normalizer import (
    BasicTextNormalizer,
    EnglishTextNormalizer,
)


class Normalizer(Protocol):
    def __call__(self, text: str, /) -> str: ...


@dataclass(frozen=True, slots=True)
class Errors:
    """Word errors. `num_words`: words in the true text."""

    num_words: int = 0
    lost: int = 0
    changed: int = 0
    added: int = 0

    @property
    def rate(self) -> float:
        return (self.lost + self.changed + self.added) / max(self.num_words, 1)


@cache
def normalizer(language: str) -> Normalizer:
    """Whisper's own normalizer, so that "twenty" is "20" and "don't" is "do not" on both sides.

    Source: Radford et al. 2022, appendix C; the implementation of transformers.
    """
    return EnglishTextNormalizer({}) if language == "en" else BasicTextNormalizer()


def count_errors(truth: str, heard: str, language: str = "en") -> Errors:
    normalize = normalizer(language)
    truth, heard = normalize(truth).strip(), normalize(heard).strip()
    if not truth:
        return Errors(0, added=len(heard.split()))
    steps = jiwer.process_words(truth, heard)
    return Errors(len(truth.split()), steps.deletions, steps.substitutions, steps.insertions)


def least_errors(truths: Iterable[str], heard: str, language: str = "en") -> Errors:
    """The errors against the closest spelling of the true text."""
    return min((count_errors(t, heard, language) for t in truths), key=lambda errors: errors.rate)


def add_up(errors: Iterable[Errors]) -> Errors:
    found = list(errors)
    return Errors(
        sum(e.num_words for e in found),
        sum(e.lost for e in found),
        sum(e.changed for e in found),
        sum(e.added for e in found),
    )
