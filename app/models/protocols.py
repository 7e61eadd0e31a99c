"""What models must do, so that everything else can be written and tested without them.

A model object is created and called in threads of its own only, one unless it has more workers; see
`batching.py`. It holds weights and nothing of a request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from app.domain.options import DecodingOptions, SpeakerBounds
from app.domain.transcript import Diarization, Hypothesis, LanguageGuess, Samples, Segment
from app.engine.model import BatchModel


@dataclass(frozen=True, slots=True)
class WindowBlock:
    """Consecutive windows of a recording, `window_samples` long and `step_samples` apart.

    The first starts at sample `first_window * step_samples`; windows that reach past the end of
    the recording are padded with silence.
    """

    samples: Samples  # of the whole recording
    first_window: int
    num_windows: int


WindowScores = npt.NDArray[np.float32]


class SpeechTrack(Protocol):
    """Joins the scores of a recording's blocks."""

    def add(self, block: WindowScores, last: bool) -> SpeechScores:
        """Add the next block; returns all scores that are final now. `last`: no more blocks."""


class VoiceActivityDetector(BatchModel[WindowBlock, WindowScores], Protocol):
    """Finds speech, window by window."""

    def split(self, samples: Samples) -> list[WindowBlock]:
        """The recording as blocks for `run`. Any thread."""

    def track(self, samples: Samples) -> SpeechTrack:
        """A track that joins the outcomes of `run`. Any thread."""


@dataclass(frozen=True, slots=True)
class RecognitionItem:
    """One chunk: `samples` float32 (num_samples,), at most 30 s. Its outcome is a `Hypothesis`."""

    samples: Samples
    options: DecodingOptions


@dataclass(frozen=True, slots=True)
class DetectionItem:
    """One chunk whose language is wanted, not its text. Its outcome is `LanguageGuesses`."""

    samples: Samples


LanguageGuesses: TypeAlias = tuple[LanguageGuess, ...]  # most likely first
Aligned: TypeAlias = tuple[Segment, ...] | None


@dataclass(frozen=True, slots=True)
class Abilities:
    """Options that a recognizer supports. A request for any other is refused."""

    translation: bool = False
    prompt: bool = False
    hotwords: bool = False
    temperatures: bool = False  # above 0
    beams: bool = False
    token_probs: bool = False
    word_times: bool = False  # of its own, without an aligner


@dataclass(frozen=True, slots=True)
class HypothesisThresholds:
    """When to decode a hypothesis of this recognizer again, and when not to believe it.

    `temperatures`: tried in this order; the first is that of a request that names none.
    Repetitive: above `max_compression_ratio`. Unlikely: below `min_avg_logprob`. Silence: unlikely,
    and above `max_no_speech_prob`.
    `doubted_no_speech_prob`: a hypothesis from a higher temperature must not exceed it.
    `sure_...`: where the detector found no speech, a hypothesis must be better than both.
    Unsure: below `unsure_avg_logprob`, and heard again where there is more to hear it by.
    """

    temperatures: tuple[float, ...]
    max_compression_ratio: float
    min_avg_logprob: float
    max_no_speech_prob: float
    doubted_no_speech_prob: float
    sure_avg_logprob: float
    sure_no_speech_prob: float
    unsure_avg_logprob: float


class Recognizer(
    BatchModel[RecognitionItem | DetectionItem, Hypothesis | LanguageGuesses], Protocol
):
    """Speech to text. All items of a batch are of one class. The pipeline uses it as two typed
    batchers, one for each class of items: see `LeasedRecognizer`.

    `brief_s`: a transcript in a hurry may be made of brief hearings of chunks up to this length;
    0 where they save nothing worth having.
    """

    languages: frozenset[str]
    abilities: Abilities
    thresholds: HypothesisThresholds
    brief_s: float


@dataclass(frozen=True, slots=True)
class AlignmentItem:
    """A segment without words, and the samples between its start and end."""

    samples: Samples
    segment: Segment


class Aligner(BatchModel[AlignmentItem, Aligned], Protocol):
    """Segment -> sentences with timed words; None if this segment cannot be aligned."""


@dataclass(frozen=True, slots=True)
class WindowSpeakers:
    """`run`'s outcome for one block of windows.

    `activity`: float32 (num_windows, num_frames, num_local_speakers), 0 to 1.
    `embeddings`: float32 (num_windows, num_local_speakers, dimension), NaN for the silent.
    """

    activity: npt.NDArray[np.float32]
    embeddings: npt.NDArray[np.float32]


class Diarizer(BatchModel[WindowBlock, WindowSpeakers], Protocol):
    """Finds who speaks when: window by window, then by clustering all windows."""

    def split(self, samples: Samples) -> list[WindowBlock]:
        """The recording as blocks for `run`. Any thread."""

    def join(
        self, samples: Samples, blocks: Sequence[WindowSpeakers], bounds: SpeakerBounds
    ) -> Diarization:
        """Cluster the local speakers of all windows. CPU work; any thread."""


@dataclass(frozen=True, slots=True)
class SpeechScores:
    """The detector's confidence that somebody speaks: float32 (num_frames,), 0 to 1.

    The middle of frame `i` is at `first_s + i * step_s`.
    """

    scores: npt.NDArray[np.float32]
    first_s: float
    step_s: float

    def at_s(self, frame: int) -> float:
        return self.first_s + frame * self.step_s
