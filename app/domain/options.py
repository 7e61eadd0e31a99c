"""The options of a transcription."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from app.domain.transcript import Audio, Samples


class Task(StrEnum):
    TRANSCRIBE = "transcribe"
    TRANSLATE = "translate"


BRIEF_S = 15.0


@dataclass(frozen=True, slots=True)
class DecodingOptions:
    """How one chunk is decoded. Travels with the chunk, because models are shared.

    `language` None: detect it among `languages` (empty: among all). `context`: the text before the
    chunk; its end counts as a prompt, of a length that does not vary, so that chunks share batches.
    `brief`: the chunk is of at most `BRIEF_S`, and a recognizer may hear it more cheaply, since it
    is a preview or a first try.
    """

    language: str | None
    task: Task = Task.TRANSCRIBE
    initial_prompt: str = ""
    hotwords: str = ""
    context: str = ""
    beam_size: int = 5
    temperature: float = 0.0
    with_token_probs: bool = False
    brief: bool = False
    languages: tuple[str, ...] = ()


class WordAligner(StrEnum):
    """The source of word times.

    `AUTO`: wav2vec2 if the language has a model, otherwise Whisper's cross-attention.
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
class SpeechDetection:
    """How the speech of one recording is found. None: as the operator has set it.

    `keep_silence`: what lies between the speech is recognized, too.
    """

    onset: float | None = None
    offset: float | None = None
    keep_silence: bool = False


@dataclass(frozen=True, slots=True)
class KnownSpeaker:
    """A name and a few seconds of only that person's voice."""

    name: str
    audio: Audio


@dataclass(frozen=True, slots=True)
class TranscribeOptions:
    """One request, independent of any wire format.

    `model`: the canonical name. `language` None: detect it, among `languages` if any are given;
    `multilingual`: for each chunk. `usual_language`: taken instead of detection by models that
    know it. `context`: what was said before the recording. `left_context`: the sound just before
    it, with which its first chunk is heard again if the recognizer is unsure. `temperature` 0:
    raise it if decoding fails. `beam_size` None: the operator's. `hurry`: somebody waits for these
    words while people speak: hear chunks briefly, and again where there is any doubt.
    `must_diarize`: fail if speakers are unavailable; `diarize` alone only warns. `known_speakers`
    appear by name in the transcript.
    """

    model: str
    language: str | None = None
    languages: tuple[str, ...] = ()
    usual_language: str | None = None
    multilingual: bool = False
    task: Task = Task.TRANSCRIBE
    initial_prompt: str = ""
    hotwords: str = ""
    context: str = ""
    left_context: tuple[Samples, ...] = ()
    temperature: float = 0.0
    beam_size: int | None = None
    speech: SpeechDetection = SpeechDetection()
    with_token_probs: bool = False
    hurry: bool = False
    diarize: bool = False
    must_diarize: bool = False
    speakers: SpeakerBounds = SpeakerBounds()
    known_speakers: tuple[KnownSpeaker, ...] = ()
