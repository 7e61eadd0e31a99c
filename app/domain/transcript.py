"""The words of the trade: audio, chunks, hypotheses, words, segments, turns, transcripts.

Everything here is frozen and has no behaviour. Time is float seconds from the start of the file
(or of the chunk, where a docstring says so); only `formats.py` rounds it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

SAMPLE_RATE = 16_000  # Hz, of every model here

Samples: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Audio:
    """Decoded sound. `samples`: float32 (num_samples,), mono, 16 kHz, mapped from a file."""

    samples: Samples
    warnings: tuple[str, ...] = ()

    @property
    def duration_s(self) -> float:
        return len(self.samples) / SAMPLE_RATE


@dataclass(frozen=True, slots=True)
class SpeechRegion:
    """A stretch in which somebody speaks."""

    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Chunk:
    """At most 30 s of audio, sent to the recognizer as one.

    `speech`: the regions in it, with a margin around them. Empty where no speech was found and
    the chunk is only listened to because there is nothing else.
    """

    start_s: float
    end_s: float
    speech: tuple[SpeechRegion, ...] = ()

    @property
    def speech_s(self) -> float:
        return sum(region.end_s - region.start_s for region in self.speech)


@dataclass(frozen=True, slots=True)
class DecodingStats:
    """What the decoder knows of its hypothesis: the chunk's figures, shared by all parts of it."""

    avg_logprob: float
    no_speech_prob: float
    compression_ratio: float
    temperature: float


@dataclass(frozen=True, slots=True)
class TokenProb:
    """A token as the bytes that it stands for, a part of a letter perhaps."""

    token: bytes
    logprob: float


@dataclass(frozen=True, slots=True)
class SpokenWord:
    """A word of a hypothesis, by cross-attention: `text` with its leading space, times in seconds
    from the start of the chunk, `probability` the mean of its tokens'.
    """

    text: str
    start_s: float
    end_s: float
    probability: float


@dataclass(frozen=True, slots=True)
class LanguageGuess:
    language: str
    probability: float


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """The recognizer's answer for one chunk.

    `token_ends[i]` is the length in characters of the text up to and including `tokens[i]`.
    `token_probs`: one for each token where asked for, else empty. `words` are None where nobody
    looked for them. `is_cut_off`: there was no room for more tokens. `guesses`: where the language
    was not given, what it may be, most likely first.
    """

    language: str
    text: str
    tokens: tuple[int, ...]
    token_ends: tuple[int, ...]
    stats: DecodingStats
    token_probs: tuple[TokenProb, ...] = ()
    words: tuple[SpokenWord, ...] | None = None
    is_cut_off: bool = False
    guesses: tuple[LanguageGuess, ...] = ()


@dataclass(frozen=True, slots=True)
class Word:
    """A word as written, punctuation included. Without times where it could not be aligned."""

    text: str
    start_s: float | None = None
    end_s: float | None = None
    score: float | None = None
    speaker: str | None = None


@dataclass(frozen=True, slots=True)
class Segment:
    """A timed line of the transcript: a sentence or less where alignment is possible.

    `words` is None where alignment was not possible or not wanted (translation). From `chunk` on,
    what is known of the hypothesis that it is a part of.
    """

    start_s: float
    end_s: float
    text: str
    words: tuple[Word, ...] | None = None
    speaker: str | None = None
    chunk: Chunk | None = None
    stats: DecodingStats | None = None
    tokens: tuple[int, ...] = ()
    token_ends: tuple[int, ...] = ()
    token_probs: tuple[TokenProb, ...] = ()
    language: str | None = None  # where each part of the recording has its own


@dataclass(frozen=True, slots=True)
class Turn:
    """Somebody speaks from `start_s` to `end_s`."""

    start_s: float
    end_s: float
    speaker: str


@dataclass(frozen=True, slots=True)
class Diarization:
    """Who spoke when.

    `turns` may overlap; `exclusive_turns` never do and are empty where the pipeline has none.
    `embeddings`: one vector per speaker, finite numbers only.
    """

    turns: tuple[Turn, ...] = ()
    exclusive_turns: tuple[Turn, ...] = ()
    embeddings: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Transcript:
    """`speakers_known` tells "diarized, nobody found" from "not diarized"."""

    language: str
    duration_s: float
    model: str
    segments: tuple[Segment, ...] = ()
    speakers_known: bool = False
    speaker_embeddings: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
