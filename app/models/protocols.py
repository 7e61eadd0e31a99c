"""What models must do, so that all else can be written and tested without them.

A model object is created and called in one thread only, its own; see `batching.py`. It holds
weights and nothing of any request.
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

    The first starts at sample `first_window * step_samples`; windows that reach beyond the end of
    the recording are padded with silence.
    """

    samples: Samples  # of the whole recording
    first_window: int
    num_windows: int


WindowScores = npt.NDArray[np.float32]


class SpeechTrack(Protocol):
    """The scores of a recording, from those of its blocks."""

    def add(self, block: WindowScores, last: bool) -> SpeechScores:
        """All that is settled once this block is known too, in their order; `last`: all of it."""


class VoiceActivityDetector(BatchModel[WindowBlock, WindowScores], Protocol):
    """Finds speech, window by window."""

    def split(self, samples: Samples) -> list[WindowBlock]:
        """The recording as blocks for `run`. Any thread."""

    def track(self, samples: Samples) -> SpeechTrack:
        """What makes one of the outcomes of `run`. Any thread."""


@dataclass(frozen=True, slots=True)
class RecognitionItem:
    """One chunk: `samples` float32 (num_samples,), at most 30 s.

    `options` None asks for the language only. `speech_s`: seconds of speech in it, as far as known.
    """

    samples: Samples
    options: DecodingOptions | None
    speech_s: float = 0.0


Recognized: TypeAlias = Hypothesis | tuple[LanguageGuess, ...]
Aligned: TypeAlias = tuple[Segment, ...] | None


class Recognizer(BatchModel[RecognitionItem, Recognized], Protocol):
    """Whisper. The language guesses come most likely first."""

    languages: frozenset[str]


@dataclass(frozen=True, slots=True)
class AlignmentItem:
    """A segment without words, and the samples between its start and end."""

    samples: Samples
    segment: Segment


class Aligner(BatchModel[AlignmentItem, Aligned], Protocol):
    """Segment -> sentences with timed words; None where this segment cannot be aligned."""


@dataclass(frozen=True, slots=True)
class WindowSpeakers:
    """`run`'s outcome for one block of windows.

    `activity`: float32 (num_windows, num_frames, num_local_speakers), how active each is.
    `embeddings`: float32 (num_windows, num_local_speakers, dimension), NaN for the silent.
    """

    activity: npt.NDArray[np.float32]
    embeddings: npt.NDArray[np.float32]


class Diarizer(BatchModel[WindowBlock, WindowSpeakers], Protocol):
    """Finds out who speaks when: windows first, then clustering over all of them."""

    def split(self, samples: Samples) -> list[WindowBlock]:
        """The recording as blocks for `run`. Any thread."""

    def join(
        self, samples: Samples, blocks: Sequence[WindowSpeakers], bounds: SpeakerBounds
    ) -> Diarization:
        """Cluster the local speakers of all windows. CPU work; any thread."""


@dataclass(frozen=True, slots=True)
class SpeechScores:
    """How sure the detector is of speech, frame by frame: float32 (num_frames,), 0 to 1.

    The middle of frame `i` lies at `first_s + i * step_s`.
    """

    scores: npt.NDArray[np.float32]
    first_s: float
    step_s: float

    def at_s(self, frame: int) -> float:
        return self.first_s + frame * self.step_s
