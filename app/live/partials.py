"""Partials: quick hypotheses of an utterance that goes on."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
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


class Partials:
    """In the session's thread only. One hypothesis is under way at a time."""

    def __init__(
        self,
        listen: Listen,
        is_credible: Callable[[Hypothesis], bool],
        tell: Callable[[events.LiveEvent], None],
        post: Callable[[Callable[[], None]], None],
        clock: Callable[[], float],
        voiced_until_s: Callable[[], float],
    ) -> None:
        """`post`: runs a function in the session's thread. `voiced_until_s`: the end of what is
        worth listening to.
        """
        self._listen = listen
        self._is_credible = is_credible
        self._tell = tell
        self._post = post
        self._clock = clock
        self._voiced_until_s = voiced_until_s
        self._tape = Tape()
        self._utterance: Utterance | None = None
        self._under_way: Future[Hypothesis] | None = None
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
        """The utterance is over: what was not begun is not needed any more."""
        self._utterance = None
        if self._under_way is not None:
            self._under_way.cancel()

    def want_now(self) -> None:
        """Listen to the sound so far. What is much at once is heard in two steps: it takes two
        hypotheses to commit a word.
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
        if self._heard_s >= self._voiced_until_s():  # silence has no words
            return
        new_s = now_s - self._heard_s
        wanted = self._wanted_s > self._heard_s
        if wanted and new_s > 2 * SHORTEST_STEP_S:
            now_s -= SHORTEST_STEP_S
        elif new_s < max(self.step_s, LEAST_S) and not wanted:
            return
        self._ask(utterance, now_s)

    def _ask(self, utterance: Utterance, now_s: float) -> None:
        window_s = utterance.window_s(now_s)
        samples = self._tape.between(window_s, now_s)
        self._heard_s = now_s
        asked = self._clock()
        self._under_way = future = self._listen(utterance, samples)
        heard = partial(self._listened, utterance, window_s, now_s, asked, future)
        future.add_done_callback(lambda _: self._post(heard))

    def _listened(
        self,
        utterance: Utterance,
        window_s: float,
        heard_s: float,
        asked: float,
        done: Future[Hypothesis],
    ) -> None:
        self._under_way = None
        if not done.cancelled():
            self._latency_s = self._clock() - asked
        if utterance is self._utterance and not done.cancelled():
            error = done.exception()
            if error is not None:
                self._complain(utterance, error)
            else:
                self._take(utterance, done.result(), window_s, heard_s)
        self.look_ahead()

    def _take(
        self, utterance: Utterance, hypothesis: Hypothesis, window_s: float, heard_s: float
    ) -> None:
        agreed = Agreed((), ())  # of noise, too, clients learn that it was heard
        if self._is_credible(hypothesis):
            agreed = utterance.hear(hypothesis, window_s, heard_s)
        told = (agreed.committed, agreed.tentative, heard_s, hypothesis.language)
        self._tell(events.Partial(utterance.number, *told, utterance.probability))

    def _complain(self, utterance: Utterance, error: BaseException) -> None:
        """Once; the transcript of the utterance may do without."""
        if isinstance(error, ServiceError) and not (self._troubled or error.is_permanent):
            self._troubled = True
            self._tell(events.Troubled(utterance.number, error))
