"""Partials: quick hypotheses of an utterance that goes on."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

from app.domain.errors import ServiceError
from app.domain.transcript import Hypothesis, Samples
from app.live import events
from app.live.agreement import Agreed
from app.live.tape import Tape
from app.live.utterance import Utterance

LEAST_S = 0.5  # of speech, for a first hypothesis
SHORTEST_STEP_S, LONGEST_STEP_S = 0.5, 2.0
LATE_STEP_S = 0.75
STEP_PER_LATENCY = 1.2

Listen = Callable[[Utterance, Samples], Future[Hypothesis]]


@dataclass(frozen=True, slots=True)
class _Asked:
    """For a hypothesis of the sound from `since_s` to `heard_s`, which is in a pause or not."""

    utterance: Utterance
    since_s: float
    heard_s: float
    in_pause: bool
    at: float


class Partials:
    """In the session's thread only. One hypothesis is under way at a time."""

    def __init__(
        self,
        listen: Listen,
        is_credible: Callable[[Hypothesis], bool],
        tell: Callable[[events.LiveEvent], None],
        post: Callable[[Callable[[], None]], None],
        clock: Callable[[], float],
        paused_at_s: Callable[[], float | None],
    ) -> None:
        """`post`: runs a function in the session's thread. `paused_at_s`: when it became clear that
        the speaker pauses, None while somebody speaks.
        """
        self._listen = listen
        self._is_credible = is_credible
        self._tell = tell
        self._post = post
        self._clock = clock
        self._paused_at_s = paused_at_s
        self._tape = Tape()
        self._utterance: Utterance | None = None
        self._under_way: Future[Hypothesis] | None = None
        self._in_pause = False  # what is under way was asked for in one
        self._latency_s = 0.0
        self._heard_s = 0.0
        self._wanted_s = 0.0  # a hypothesis is wanted up to here, however little is new
        self._troubled = False  # its client was told
        self.strain = 0.0  # 0 to 1: how late transcripts are

    def begin(self, utterance: Utterance, tape: Tape) -> None:
        self._utterance, self._tape = utterance, tape
        self._heard_s = self._wanted_s = utterance.start_s
        self._troubled = False

    def end(self) -> None:
        """The utterance is over. Its last words are told before its transcript, if they were asked
        for in the pause; other hypotheses that were not begun are not needed any more.
        """
        self._utterance = None
        if self._under_way is not None and not self._in_pause:
            self._under_way.cancel()

    def want_now(self) -> None:
        """Listen to the sound so far. What is much at once is heard in two steps: without a pause,
        it takes two hypotheses to commit a word.
        """
        self._wanted_s = self._tape.end_s

    @property
    def step_s(self) -> float:
        """New sound before the next hypothesis: more if the models are busy, and the most before
        clients have to be told that transcripts are late.
        """
        wanted = max(STEP_PER_LATENCY * self._latency_s, LONGEST_STEP_S * self.strain)
        return min(LONGEST_STEP_S, max(SHORTEST_STEP_S, wanted))

    @property
    def late(self) -> bool:
        """Whether the models are too busy for hypotheses as often as wanted."""
        return self.step_s >= LATE_STEP_S

    def look_ahead(self) -> None:
        """Ask for a hypothesis, if there is enough new sound."""
        utterance, now_s = self._utterance, self._tape.end_s
        if utterance is None or self._under_way is not None:
            return
        paused_at_s = self._paused_at_s()
        if paused_at_s is not None:
            if self._heard_s < paused_at_s:  # else there is nothing new but silence
                self._ask(utterance, now_s, in_pause=True)
            return
        new_s = now_s - self._heard_s
        wanted = self._wanted_s > self._heard_s
        if wanted and new_s > 2 * SHORTEST_STEP_S:
            now_s -= SHORTEST_STEP_S
        elif new_s < max(self.step_s, LEAST_S) and not wanted:
            return
        self._ask(utterance, now_s, in_pause=False)

    def _ask(self, utterance: Utterance, now_s: float, in_pause: bool) -> None:
        asked = _Asked(utterance, utterance.window_s(now_s), now_s, in_pause, self._clock())
        self._heard_s, self._in_pause = now_s, in_pause
        samples = self._tape.between(asked.since_s, now_s)
        self._under_way = future = self._listen(utterance, samples)
        heard = partial(self._listened, asked, future)
        future.add_done_callback(lambda _: self._post(heard))

    def _listened(self, asked: _Asked, done: Future[Hypothesis]) -> None:
        self._under_way = None
        if not done.cancelled():
            self._latency_s = self._clock() - asked.at
        if not asked.utterance.closed and not done.cancelled():
            error = done.exception()
            if error is None:
                self._take(asked, done.result())
            elif asked.utterance is self._utterance:
                self._complain(asked.utterance, error)
        self.look_ahead()

    def _take(self, asked: _Asked, hypothesis: Hypothesis) -> None:
        utterance, heard_s = asked.utterance, asked.heard_s
        agreed = Agreed((), ())  # of noise, too, clients learn that it was heard
        if self._is_credible(hypothesis):
            agreed = utterance.hear(hypothesis, asked.since_s, heard_s, asked.in_pause)
        told = (agreed.committed, agreed.tentative, heard_s, hypothesis.language)
        self._tell(events.Partial(utterance.number, *told, utterance.probability))

    def _complain(self, utterance: Utterance, error: BaseException) -> None:
        """Once; the transcript of the utterance may do without."""
        if isinstance(error, ServiceError) and not (self._troubled or error.is_permanent):
            self._troubled = True
            self._tell(events.Troubled(utterance.number, error))
