"""Known truth: what is said in the test recordings, and how near a transcript comes to it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import jiwer
import numpy as np

from tests.support.paths import ROOT

DATA = ROOT / "tests" / "data"


def audio_of(name: str) -> Path:
    return DATA / f"{name}.flac"


def truth_of(name: str) -> dict[str, Any]:
    """language, duration, speakers, sentences, turns and words of a conversation."""
    truth: dict[str, Any] = json.loads((DATA / f"{name}.json").read_text())
    return truth


def normalize(text: str) -> list[str]:
    """The words of a text, without case and punctuation."""
    return re.findall(r"[\w'’]+", text.lower())


def said_in(name: str) -> list[str]:
    """The words of a recording, normalized."""
    return [word for s in truth_of(name)["sentences"] for word in normalize(s["text"])]


def words_of(body: dict[str, Any]) -> list[dict[str, Any]]:
    return [word for segment in body["segments"] for word in segment.get("words", [])]


def word_error_rate(reference: Iterable[str] | str, hypothesis: Iterable[str] | str) -> float:
    def text(words: Iterable[str] | str) -> str:
        return " ".join(normalize(words if isinstance(words, str) else " ".join(words)))

    return float(jiwer.wer(text(reference), text(hypothesis)))


def matched_words(
    reference: Sequence[dict[str, Any]], hypothesis: Sequence[dict[str, Any]]
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Pairs of the same word in truth and transcript."""
    expected = " ".join(normalize(w["word"])[0] for w in reference)
    spoken = [w for w in hypothesis if normalize(w["word"])]
    found = " ".join("".join(normalize(w["word"])) for w in spoken)
    pairs = []
    for step in jiwer.process_words(expected, found).alignments[0]:
        if step.type == "equal":
            pairs += zip(
                reference[step.ref_start_idx : step.ref_end_idx],
                spoken[step.hyp_start_idx : step.hyp_end_idx],
                strict=True,
            )
    return pairs


def median_start_error_s(
    reference: Sequence[dict[str, Any]], hypothesis: Sequence[dict[str, Any]]
) -> float:
    errors = [abs(t["start"] - h["start"]) for t, h in matched_words(reference, hypothesis)]
    return float(np.median(errors))


def speaker_accuracy(
    reference: Sequence[dict[str, Any]], hypothesis: Sequence[dict[str, Any]]
) -> float:
    """The share of words with the right speaker, labels matched as well as possible."""
    pairs = [(t["speaker"], h.get("speaker")) for t, h in matched_words(reference, hypothesis)]
    names = sorted({t for t, _ in pairs})
    labels = sorted({h for _, h in pairs if h is not None})
    labels += [f"nobody {i}" for i in range(len(names) - len(labels))]
    best = max(
        sum(dict(zip(chosen, names, strict=True)).get(h) == t for t, h in pairs)
        for chosen in permutations(labels, len(names))
    )
    return best / len(pairs)
