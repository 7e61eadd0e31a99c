"""The data of a transcription: audio, chunks, hypotheses, words, segments, turns, transcripts.

Everything here is frozen and has no behavior. Time is float seconds from the start of the file
(or of the chunk, if a docstring says so); only `formats/` rounds it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from app.domain.warnings import TranscriptWarning

SAMPLE_RATE = 16_000  # Hz, of every model here

Samples: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Audio:
    """Decoded sound. `samples`: float32 (num_samples,), mono, 16 kHz, mapped from a file.

    `silent_s`: of it without any sound, such as gaps between timestamps.
    """

    samples: Samples
    warnings: tuple[TranscriptWarning, ...] = ()
    silent_s: float = 0.0

    @property
    def duration_s(self) -> float:
        return len(self.samples) / SAMPLE_RATE

    @property
    def work_s(self) -> float:
        """Seconds of sound in it: gaps cost the models nothing."""
        return self.duration_s - self.silent_s


@dataclass(frozen=True, slots=True)
class SpeechRegion:
    """A stretch of speech."""

    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Chunk:
    """At most 30 s of audio, sent to the recognizer as one.

    `speech`: its speech regions, with a margin around them. Empty if no speech was found and the
    chunk is used only because there is nothing else.
    """

    start_s: float
    end_s: float
    speech: tuple[SpeechRegion, ...] = ()

    @property
    def speech_s(self) -> float:
        return sum(region.end_s - region.start_s for region in self.speech)


@dataclass(frozen=True, slots=True)
class DecodingStats:
    """The decoder's figures for one chunk, shared by all segments of it."""

    avg_logprob: float
    no_speech_prob: float
    compression_ratio: float
    temperature: float


@dataclass(frozen=True, slots=True)
class TokenProb:
    """A token as bytes, which may be only part of a letter."""

    token: bytes
    logprob: float


@dataclass(frozen=True, slots=True)
class SpokenWord:
    """A word of a hypothesis, timed by cross-attention.

    `text` keeps its leading space. Times are seconds from the start of the chunk. `probability` is
    the mean over its tokens.
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
    `likelihoods`: the probability of each token given those before it, 0 to 1; empty if the
    recognizer does not tell. `token_probs`: the same for those who want the tokens' bytes, empty
    if not requested. `words`: None if not requested.
    `is_cut_off`: there was no room for more tokens. `guesses`: the candidates if no language was
    given, most likely first.
    """

    language: str
    text: str
    tokens: tuple[int, ...]
    token_ends: tuple[int, ...]
    stats: DecodingStats
    likelihoods: tuple[float, ...] = ()
    token_probs: tuple[TokenProb, ...] = ()
    words: tuple[SpokenWord, ...] | None = None
    is_cut_off: bool = False
    guesses: tuple[LanguageGuess, ...] = ()


@dataclass(frozen=True, slots=True)
class Word:
    """A word as written, with punctuation. It has no times if it could not be aligned."""

    text: str
    start_s: float | None = None
    end_s: float | None = None
    score: float | None = None
    speaker: str | None = None


@dataclass(frozen=True, slots=True)
class Segment:
    """A timed line of the transcript: a sentence or less if alignment is possible.

    `words` is None if alignment was impossible or not wanted (translation). The fields from `chunk`
    on describe the hypothesis that the segment is part of.
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
    likelihoods: tuple[float, ...] = ()
    token_probs: tuple[TokenProb, ...] = ()
    language: str | None = None  # if each part of the recording has its own


@dataclass(frozen=True, slots=True)
class Turn:
    """One speaker's speech from `start_s` to `end_s`."""

    start_s: float
    end_s: float
    speaker: str


@dataclass(frozen=True, slots=True)
class Diarization:
    """Who spoke when.

    `turns` may overlap; `exclusive_turns` never do and are empty if the pipeline has none.
    `embeddings`: one vector per speaker, finite numbers only.
    """

    turns: tuple[Turn, ...] = ()
    exclusive_turns: tuple[Turn, ...] = ()
    embeddings: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Transcript:
    """`speakers_known` distinguishes "diarized, nobody found" from "not diarized"."""

    language: str
    duration_s: float
    model: str
    segments: tuple[Segment, ...] = ()
    speakers_known: bool = False
    speaker_embeddings: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    warnings: tuple[TranscriptWarning, ...] = ()
