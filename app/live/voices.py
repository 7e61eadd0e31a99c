"""Voices: the speakers of the transcripts of a stream, under names that hold for all of it."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby

from app.domain.transcript import Segment, Transcript, Turn
from app.live.speakers import Speakers

SAME_SPEAKER = 0.5  # cosine of two voices, as of known speakers by default


class Voices:
    """Names the speakers of each transcript, and keeps who spoke when until the end. Any thread:
    two sessions of a stream may use it at once.
    """

    def __init__(self, similarity: float = SAME_SPEAKER) -> None:
        """`similarity`: cosine of two voices from which on they are one speaker's."""
        self._lock = threading.Lock()
        self._speakers = Speakers(similarity)
        self._turns: dict[int, tuple[Turn, ...]] = {}  # by utterance, under its own labels

    def know(self, voices: Mapping[str, Sequence[float]]) -> None:
        """The known voices from now on."""
        with self._lock:
            self._speakers.know(voices)

    def name(self, utterance: int, transcript: Transcript) -> Transcript:
        """The transcript of a new utterance, in times of the stream, with names of the stream."""
        turns = turns_of(transcript)
        if not turns:
            return transcript
        seconds: dict[str, float] = {}
        for turn in turns:
            seconds[turn.speaker] = seconds.get(turn.speaker, 0.0) + turn.end_s - turn.start_s
        voices = {s: v for s, v in transcript.speaker_embeddings.items() if s in seconds}
        with self._lock:
            names = self._speakers.label(utterance, voices, seconds)
            self._turns[utterance] = turns
        segments = tuple(_renamed(segment, names) for segment in transcript.segments)
        own = {names.get(s, s): v for s, v in transcript.speaker_embeddings.items()}
        return replace(transcript, segments=segments, speaker_embeddings=own)

    def forget_turns(self) -> None:
        """Nobody asks any more who spoke so far; who comes back is known all the same."""
        with self._lock:
            self._turns = {}

    def corrected(self) -> dict[int, tuple[Turn, ...]]:
        """Who spoke when, by utterance, now that all are known."""
        with self._lock:
            names, told = self._speakers.corrected(), dict(self._turns)
        return {
            utterance: tuple(
                replace(turn, speaker=names.get((utterance, turn.speaker), turn.speaker))
                for turn in turns
            )
            for utterance, turns in told.items()
        }


def turns_of(transcript: Transcript) -> tuple[Turn, ...]:
    """Who speaks when in a transcript: one turn for each run of one speaker's segments."""
    spoken = [segment for segment in transcript.segments if segment.speaker is not None]
    runs = [list(run) for _, run in groupby(spoken, key=lambda segment: segment.speaker)]
    return tuple(Turn(run[0].start_s, run[-1].end_s, run[0].speaker or "") for run in runs)


def main_speaker(turns: tuple[Turn, ...]) -> str | None:
    """Who speaks longest; None if nobody is known to."""
    seconds: dict[str, float] = {}
    for turn in turns:
        seconds[turn.speaker] = seconds.get(turn.speaker, 0.0) + turn.end_s - turn.start_s
    return max(seconds, key=seconds.__getitem__, default=None)


def _renamed(segment: Segment, names: Mapping[str, str]) -> Segment:
    def name(speaker: str | None) -> str | None:
        return None if speaker is None else names.get(speaker, speaker)

    words = segment.words and tuple(replace(w, speaker=name(w.speaker)) for w in segment.words)
    return replace(segment, speaker=name(segment.speaker), words=words)
