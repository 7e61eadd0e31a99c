"""What may be asked of a transcription."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from app.domain.transcript import Audio


class Task(StrEnum):
    TRANSCRIBE = "transcribe"
    TRANSLATE = "translate"


@dataclass(frozen=True, slots=True)
class DecodingOptions:
    """How one chunk is decoded. Travels with the chunk; nothing is ever set on a shared model.

    `language` None: the one of `languages` (empty: of all) that the chunk is found to be in.
    """

    language: str | None
    task: Task = Task.TRANSCRIBE
    initial_prompt: str = ""
    hotwords: str = ""
    beam_size: int = 5
    temperature: float = 0.0
    with_words: bool = False
    with_token_probs: bool = False
    languages: tuple[str, ...] = ()


class WordAligner(StrEnum):
    """Where the times of words come from.

    `AUTO`: wav2vec2 where there is a model for the language, else Whisper's cross-attention.
    """

    AUTO = "auto"
    WAV2VEC2 = "wav2vec2"
    WHISPER = "whisper"


@dataclass(frozen=True, slots=True)
class SpeakerBounds:
    """What the caller knows about the number of speakers."""

    num_speakers: int | None = None
    min_speakers: int | None = None
    max_speakers: int | None = None


@dataclass(frozen=True, slots=True)
class KnownSpeaker:
    """Somebody by name, with a few seconds of nobody else's voice."""

    name: str
    audio: Audio


@dataclass(frozen=True, slots=True)
class TranscribeOptions:
    """One request, free of any wire format.

    `model`: canonical. `language` None: detect, among `languages` if there are any;
    `multilingual`: chunk by chunk. `temperature` 0: rise where decoding fails. `must_diarize`: no
    transcript without speakers, where `diarize` alone makes do with a warning. `known_speakers`
    bear their names in the transcript.
    """

    model: str
    language: str | None = None
    languages: tuple[str, ...] = ()
    multilingual: bool = False
    task: Task = Task.TRANSCRIBE
    initial_prompt: str = ""
    hotwords: str = ""
    temperature: float = 0.0
    with_token_probs: bool = False
    diarize: bool = False
    must_diarize: bool = False
    speakers: SpeakerBounds = SpeakerBounds()
    known_speakers: tuple[KnownSpeaker, ...] = ()
