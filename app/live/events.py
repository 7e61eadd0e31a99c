"""What a live session tells its client. Times are seconds of the stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from app.domain.errors import ServiceError
from app.domain.transcript import SpokenWord, Transcript, Turn


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    utterance: int
    at_s: float


@dataclass(frozen=True, slots=True)
class SpeechEnded:
    utterance: int
    at_s: float


@dataclass(frozen=True, slots=True)
class Silence:
    """Nobody speaks: utterances that are told later begin at `until_s` or after it."""

    until_s: float


@dataclass(frozen=True, slots=True)
class Partial:
    """`committed`: new words that never change. `tentative`: all words after the committed ones, as
    far as `heard_s`; the next event about this utterance replaces them. `probability`: of the
    language, None if it was given.
    """

    utterance: int
    committed: tuple[SpokenWord, ...]
    tentative: tuple[SpokenWord, ...]
    heard_s: float
    language: str
    probability: float | None = None


@dataclass(frozen=True, slots=True)
class Final:
    """The transcript of an utterance. `rest`: its words after those that partials committed.
    `speaker`: who speaks most of it; None if not asked for, or not known.
    """

    utterance: int
    start_s: float
    end_s: float
    transcript: Transcript
    rest: tuple[SpokenWord, ...]
    speaker: str | None = None


@dataclass(frozen=True, slots=True)
class SpeakersKnown:
    """At the end: who speaks when, by utterance. Replaces the names that `Final` told."""

    turns: Mapping[int, tuple[Turn, ...]]


@dataclass(frozen=True, slots=True)
class Failed:
    """An utterance has no transcript. The session goes on."""

    utterance: int
    error: ServiceError


@dataclass(frozen=True, slots=True)
class Dropped:
    """An utterance has no transcript because the client wanted none."""

    utterance: int


@dataclass(frozen=True, slots=True)
class Reset:
    """Nothing more comes of what was said before."""


@dataclass(frozen=True, slots=True)
class Troubled:
    """Something failed; the session goes on. An utterance is tried again; 0: there was none."""

    utterance: int
    error: ServiceError


@dataclass(frozen=True, slots=True)
class Looked:
    """The answer to `look_now`: all utterances that begin before `at_s` were told."""

    at_s: float


@dataclass(frozen=True, slots=True)
class Lagging:
    """The service is so far behind the stream."""

    behind_s: float


@dataclass(frozen=True, slots=True)
class Ended:
    """The last event. `error`: why, if the client did not ask for it."""

    error: ServiceError | None = None


LiveEvent: TypeAlias = (
    SpeechStarted
    | SpeechEnded
    | Silence
    | Partial
    | Final
    | SpeakersKnown
    | Failed
    | Dropped
    | Reset
    | Troubled
    | Looked
    | Lagging
    | Ended
)
