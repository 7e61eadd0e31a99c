"""Sound: the bytes of a stream, as samples by their time, and where utterances begin and end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from app.audio.stream import StreamDecoder
from app.domain.transcript import SAMPLE_RATE, Samples
from app.live.endpointing import FRAME_S, Ended, Endpointer, Mark, Started, moved
from app.live.options import LiveOptions
from app.live.tape import Tape

FRAME_SAMPLES = round(FRAME_S * SAMPLE_RATE)
LONGEST_S = 600.0  # of an utterance whose end the client does not tell


class Track(Protocol):
    def add(self, samples: Samples) -> npt.NDArray[np.float32]:
        """The probability of speech in each frame of 512 samples."""


class Sound:
    """The sound of one stream as long as its options stay. Times are seconds of the stream."""

    def __init__(
        self, options: LiveOptions, new_track: Callable[[], Track], start_s: float
    ) -> None:
        self.tape = Tape(start_s)
        self._options = options
        self._decoder = StreamDecoder(options.encoding, options.rate)
        self._endpointer = None if options.endpoints is None else Endpointer(options.endpoints)
        self._new_track = new_track
        self._track: Track | None = None  # made by the thread that needs it
        self._begin_s = start_s  # of the endpointer's time
        self._frames = np.zeros(0, np.float32)  # not complete yet
        self._speaking = False

    @property
    def end_s(self) -> float:
        return self.tape.end_s

    def suits(self, options: LiveOptions) -> bool:
        """Whether sound under these options is the same to us."""
        ours, new = self._options, options
        return (ours.encoding, ours.rate, ours.endpoints) == (
            new.encoding,
            new.rate,
            new.endpoints,
        )

    def hear(self, data: bytes) -> list[Mark]:
        """Take bytes; what they tell of utterances."""
        return self._take(self._decoder.decode(data))

    def finish(self) -> list[Mark]:
        """As `hear`, at the end of what is said: an open utterance ends here."""
        marks = self._take(self._decoder.flush())
        if self._endpointer is not None:
            self._endpointer.finish()
        if self._speaking:
            self._speaking = False
            marks.append(Ended(self.end_s))
        return marks

    def drop(self) -> None:
        """Forget all sound so far."""
        self.finish()
        self.tape.forget(self.end_s)

    def forget_silence(self) -> None:
        """Keep only what an utterance may begin with that is noticed later."""
        lead_s = 0.0 if self._options.endpoints is None else self._options.endpoints.lead_s
        self.tape.forget(self.end_s - lead_s - FRAME_S)

    def _take(self, samples: Samples) -> list[Mark]:
        before_s = self.end_s
        self.tape.add(samples)
        if self._endpointer is None:
            marks = self._without_endpoints(before_s)
        else:
            marks = self._find(self._endpointer, samples)
        if marks:
            self._speaking = isinstance(marks[-1], Started)
        return marks

    def _without_endpoints(self, before_s: float) -> list[Mark]:
        """All sound is speech until the client says that it has ended."""
        if self.end_s == before_s:
            return []
        if not self._speaking:
            return [Started(before_s)]
        if self.end_s - self.tape.start_s > LONGEST_S:
            return [Ended(self.end_s, cut=True), Started(self.end_s)]
        return []

    def _find(self, endpointer: Endpointer, samples: Samples) -> list[Mark]:
        if self._track is None:
            self._track = self._new_track()
        waiting = np.concatenate([self._frames, samples])
        whole = len(waiting) - len(waiting) % FRAME_SAMPLES
        self._frames = waiting[whole:]
        return [
            moved(mark, self._begin_s)
            for probability in self._track.add(waiting[:whole])
            for mark in endpointer.feed(float(probability))
        ]
