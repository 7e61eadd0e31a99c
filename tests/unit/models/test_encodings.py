"""Chunks that are heard again are not encoded again, and are forgotten with their recordings."""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from ctranslate2 import DataType, StorageView

from app.domain.transcript import Samples
from app.models.recognizers.encodings import MOST_KEPT, Encodings


class Encoder:
    """Encodes a chunk as its first sample, in two places."""

    def __init__(self) -> None:
        self.calls: list[list[float]] = []

    def __call__(self, chunks: Sequence[Samples]) -> StorageView:
        self.calls.append([float(chunk[0]) for chunk in chunks])
        rows = [np.full((1, 2), chunk[0], np.float32) for chunk in chunks]
        return StorageView.from_array(np.stack(rows))


def recording(*firsts: float) -> Samples:
    """A second for each number, which is its first sample."""
    samples = np.zeros((len(firsts), 16_000), np.float32)
    samples[:, 0] = firsts
    return samples.reshape(-1)


def second(samples: Samples, number: int) -> Samples:
    return samples[number * 16_000 : (number + 1) * 16_000]


def firsts(encoded: StorageView) -> list[float]:
    return [float(row[0, 0]) for row in np.array(encoded)]


def test_only_what_is_new_is_encoded() -> None:
    encoder = Encoder()
    encodings = Encodings(encoder)
    speech = recording(1, 2, 3)
    assert firsts(encodings.of([second(speech, 0)])) == [1]
    assert firsts(encodings.of([second(speech, i) for i in (1, 0, 2)])) == [2, 1, 3]
    assert firsts(encodings.of([second(speech, 2), second(speech, 1)])) == [3, 2]
    assert encoder.calls == [[1], [2, 3]]


def test_samples_count_and_not_their_place() -> None:
    encoder = Encoder()
    encodings = Encodings(encoder)
    speech = recording(1)
    encodings.of([speech])
    speech[0] = 2
    assert firsts(encodings.of([speech])) == [2]


def test_encodings_go_with_their_recording() -> None:
    encoder = Encoder()
    encodings = Encodings(encoder)
    speech, other = recording(1), recording(2)
    encodings.of([second(speech, 0), second(other, 0)])
    del speech
    gc.collect()
    assert firsts(encodings.of([recording(1), second(other, 0)])) == [1, 2]
    assert encoder.calls == [[1, 2], [1]]


def test_few_are_kept() -> None:
    encoder = Encoder()
    encodings = Encodings(encoder)
    speech = recording(*range(MOST_KEPT + 2))
    for number in range(MOST_KEPT + 2):
        encodings.of([second(speech, number)])
    encodings.of([second(speech, number) for number in range(MOST_KEPT + 2)])
    assert encoder.calls[-1] == [0, 1]


def test_what_is_never_kept_is_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half precision stands for a GPU: chunks are encoded without a look at their samples."""
    encoder, digests = Encoder(), []

    def encode(chunks: Sequence[Samples]) -> StorageView:
        return encoder(chunks).to(DataType.float16)

    def digest(data: bytes) -> Any:
        digests.append(data)
        return sha256(data)

    sha256 = hashlib.sha256
    monkeypatch.setattr(hashlib, "sha256", digest)
    encodings = Encodings(encode)
    speech = recording(1, 2)
    for _ in range(3):
        encodings.of([second(speech, 0), second(speech, 1)])
    assert encoder.calls == [[1, 2]] * 3
    assert len(digests) == 2
