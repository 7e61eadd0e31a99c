"""Sound: the bytes of a stream, as samples by their time, and where utterances begin and end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from app.audio.stream import StreamDecoder
from app.domain.transcript import SAMPLE_RATE, Samples
from app.live.endpointing import (
    FRAME_S,
    Ended,
    Endpointer,
    EndpointOptions,
    Mark,
    Started,
    moved,
)
from app.live.options import LiveOptions
from app.live.tape import Tape

FRAME_SAMPLES = round(FRAME_S * SAMPLE_RATE)
# Where the client says where utterances end:
LONGEST_S = 600.0  # of an utterance
LEAD_S = 1.0  # kept before its first speech: what is before that only delays its transcript
FORGET_S = 1.0  # at a time: what is kept is copied
UNHEARD_S = 30.0  # kept as long as no speech was found: it may be too quiet to be found


class Track(Protocol):
    def add(self, samples: Samples) -> npt.NDArray[np.float32]:
        """The probability of speech in each frame of 512 samples."""


class Sound:
    """The sound of one stream as long as its options stay. Times are seconds of the stream."""

    def __init__(
        self,
        options: LiveOptions,
        new_track: Callable[[], Track],
        start_s: float,
        rest: bytes = b"",
    ) -> None:
        """`rest`: of a sample that is not complete."""
        self.tape = Tape(start_s)
        self._options = options
        self._decoder = StreamDecoder(options.encoding, options.rate, rest)
        self._endpointer = Endpointer(options.endpoints or EndpointOptions())
        self._new_track = new_track
        self._track: Track | None = None  # made by the thread that needs it
        self._begin_s = start_s  # of the endpointer's time
        self._frames = np.zeros(0, np.float32)  # not complete yet
        self._speaking = False
        self._ended_s = start_s  # of what the client has committed

    @property
    def end_s(self) -> float:
        return self.tape.end_s

    @property
    def is_voiced(self) -> bool:
        """Whether somebody speaks just now, pauses of half a second or so included."""
        return self._endpointer.speaking

    @property
    def paused_at_s(self) -> float | None:
        """When it became clear that the speaker pauses. None while somebody speaks."""
        at_s = self._endpointer.paused_at_s
        return None if at_s is None else self._begin_s + at_s

    def suits(self, options: LiveOptions) -> bool:
        """Whether sound under these options is the same to us."""
        ours, new = self._options, options
        return (ours.encoding, ours.rate, ours.endpoints) == (
            new.encoding,
            new.rate,
            new.endpoints,
        )

    def continued(self, options: LiveOptions) -> Sound:
        """The sound that follows, from the next sample on."""
        same = options.encoding is self._options.encoding
        rest = self._decoder.rest if same else b""
        return Sound(options, self._new_track, self.end_s, rest)

    def hear(self, data: bytes) -> list[Mark]:
        """Take bytes; what they tell of utterances."""
        return self._take(self._decoder.decode(data))

    def finish(self) -> list[Mark]:
        """As `hear`, at the end of what is said: an open utterance ends here."""
        marks = self._take(self._decoder.flush())
        self._endpointer.finish()
        if self._options.endpoints is None and not self._speaking and self.end_s > self._ended_s:
            marks.append(Started(self._ended_s))  # no speech was found, but the client says so
            self._speaking = True
        if self._speaking:
            self._speaking = False
            marks.append(Ended(self.end_s))
        self._ended_s = self.end_s
        return marks

    def drop(self) -> None:
        """Forget all sound so far."""
        self.finish()
        self.tape.forget(self.end_s)

    def forget_silence(self) -> bool:
        """Keep only what an utterance may begin with that is noticed later. Whether that is less
        than before.
        """
        endpoints = self._options.endpoints
        lead_s = UNHEARD_S if endpoints is None else endpoints.lead_s
        needed_s = self.end_s - lead_s - FRAME_S
        if needed_s - self.tape.start_s < FORGET_S:
            return False
        self.tape.forget(needed_s)
        return True

    def _take(self, samples: Samples) -> list[Mark]:
        self.tape.add(samples)
        marks = self._find(samples)
        if self._options.endpoints is None:
            marks = self._as_the_client_says(marks)
        if marks:
            self._speaking = isinstance(marks[-1], Started)
        return marks

    def _as_the_client_says(self, found: list[Mark]) -> list[Mark]:
        """An utterance begins with the first speech, and goes on until the client ends it."""
        starts = [mark.at_s for mark in found if isinstance(mark, Started)]
        if starts and not self._speaking:
            return [Started(max(self._ended_s, starts[0] - LEAD_S))]
        if self._speaking and self.end_s - self.tape.start_s > LONGEST_S:
            self._ended_s = self.end_s
            ended = Ended(self.end_s, cut=True)
            return [ended, Started(self.end_s)] if self.is_voiced else [ended]
        return []

    def _find(self, samples: Samples) -> list[Mark]:
        if self._track is None:
            self._track = self._new_track()
        waiting = np.concatenate([self._frames, samples])
        whole = len(waiting) - len(waiting) % FRAME_SAMPLES
        self._frames = waiting[whole:]
        return [
            moved(mark, self._begin_s)
            for probability in self._track.add(waiting[:whole])
            for mark in self._endpointer.feed(float(probability))
        ]
