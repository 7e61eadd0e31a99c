"""The models of other processes, with the interfaces of those that would be here."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TypeAlias, cast

import ray
from ray import ObjectRef

from app.domain.options import DecodingOptions, TranscribeOptions
from app.domain.transcript import SAMPLE_RATE, Audio, Hypothesis, LanguageGuess, Samples, Transcript
from app.engine.model import ModelKey
from app.engine.work import Work
from app.pipeline.flow import NOBODY, Listener
from app.pipeline.transcribing import Ear, Traits
from app.serving.orders import (
    Event,
    Order,
    Outcome,
    Progress,
    Recognized,
    Report,
    Settled,
    Sound,
    SoundInfo,
    Started,
    landed,
    order_of,
    to_sound,
)
from app.serving.ray_line import Line

log = logging.getLogger(__name__)

INLINE_BYTES = 1 << 20  # sound up to here travels with the call, longer one by reference
REPORT_EVERY_S = 2.0
REPORT_TIMEOUT_S = 5.0
FORGET_S = 30.0  # after which a transcriber that reports no more is gone

Packed: TypeAlias = Sound | tuple[ObjectRef[Sound]]


def packed(samples: Samples) -> Packed:
    """Sound for a call. In a tuple, so that Ray does not look for it before the call begins."""
    sound = to_sound(samples)
    return sound if sound.nbytes <= INLINE_BYTES else (ray.put(sound),)


class RemoteTranscriber:
    """Implements `Transcribing` with transcribers elsewhere."""

    def __init__(self, line: Line, models: RemoteModels, timeout_s: float) -> None:
        """`timeout_s`: the operator's limit for a request."""
        self._line = line
        self._models = models
        self._timeout_s = timeout_s

    def transcribe(
        self, audio: Audio, options: TranscribeOptions, work: Work, listener: Listener = NOBODY
    ) -> Transcript:
        order = self._order(work, options.model, audio.duration_s)
        events: SimpleQueue[Event | None] = SimpleQueue()
        call = self._line.follow(
            "transcribe", events.put, order, packed(audio.samples), _info(audio), options
        )
        work.track(call)
        call.add_done_callback(lambda _: events.put(None))
        retelling = Retelling(listener, work)
        try:
            while (event := work.next_of(events)) is not None:
                retelling.take(event)
            outcome = work.wait(call)
        except BaseException:
            call.cancel()  # nobody needs what still runs for this request
            raise
        self._note(outcome, work, retelling.begun)
        return cast("Transcript", outcome.value)

    def detect_language(
        self, audio: Audio, model: str, work: Work, is_all: bool
    ) -> LanguageGuess | None:
        order = self._order(work, model, audio.duration_s)
        sound, info = packed(audio.samples), _info(audio)
        outcome = self._ask(work, "detect_language", order, sound, info, is_all)
        return cast("LanguageGuess | None", outcome.value)

    @contextmanager
    def ear(self, model: str, work: Work) -> Iterator[Ear]:
        outcome = self._ask(work, "traits", self._order(work, model))
        traits = cast("Traits", outcome.value)
        yield RemoteEar(self._line, traits, lambda w, s: self._order(w, model, s))

    def prepare(self, model: str, language: str | None, work: Work) -> None:
        self._ask(work, "prepare", self._order(work, model), language)

    def close(self) -> None:
        self._line.close()

    def _order(self, work: Work, model: str, audio_s: float = 0.0) -> Order:
        return order_of(work, model, audio_s, self._timeout_s)

    def _ask(self, work: Work, method: str, *arguments: object) -> Outcome:
        begun = time.monotonic()
        outcome = work.wait_tracked(self._line.ask(method, *arguments))
        self._note(outcome, work, begun)
        return outcome

    def _note(self, outcome: Outcome, work: Work, begun: float) -> None:
        work.stages.times.extend(landed(outcome.stages, begun))
        self._models.learn(outcome)


def _info(audio: Audio) -> SoundInfo:
    return SoundInfo(audio.warnings, audio.silent_s)


class Retelling:
    """Passes events on, but not those that an earlier transcriber has told already: what one says
    again after another has died is the same.
    """

    def __init__(self, listener: Listener, work: Work) -> None:
        self._listener = listener
        self._work = work
        self._told = {Recognized: 0, Settled: 0}
        self._heard = {Recognized: 0, Settled: 0}  # of the present transcriber
        self.begun = time.monotonic()

    def take(self, event: Event) -> None:
        if isinstance(event, Started):
            self._heard = dict.fromkeys(self._heard, 0)
            self.begun = time.monotonic()
        elif isinstance(event, Progress):
            self._work.progress = max(self._work.progress, event.share)
        elif isinstance(event, Recognized) and self._is_new(Recognized):
            self._listener.recognized(event.segment)
        elif isinstance(event, Settled) and self._is_new(Settled):
            self._listener.settled(event.segment)

    def _is_new(self, kind: type[Recognized | Settled]) -> bool:
        self._heard[kind] += 1
        if self._heard[kind] <= self._told[kind]:
            return False
        self._told[kind] += 1
        return True


class RemoteEar:
    """Implements `Ear`: each hypothesis may come from another transcriber."""

    def __init__(
        self, line: Line, traits: Traits, new_order: Callable[[Work, float], Order]
    ) -> None:
        self._line = line
        self._new_order = new_order
        self._traits = traits

    @property
    def traits(self) -> Traits:
        return self._traits

    def expect(self, work: Work) -> None:
        """Nothing: which transcriber will hear it is not known yet."""

    def listen(self, samples: Samples, options: DecodingOptions, work: Work) -> Future[Hypothesis]:
        work.check()
        order = self._new_order(work, len(samples) / SAMPLE_RATE)
        answer = self._line.ask("listen", order, to_sound(samples), options)
        heard: Future[Hypothesis] = Future()
        heard.add_done_callback(lambda _: answer.cancel() if heard.cancelled() else None)
        answer.add_done_callback(lambda _: _pass_on(answer, heard))
        return work.track(heard)


def _pass_on(answer: Future[Outcome], heard: Future[Hypothesis]) -> None:
    if answer.cancelled() or not heard.set_running_or_notify_cancel():
        heard.cancel()
    elif error := answer.exception():
        heard.set_exception(error)
    else:
        heard.set_result(answer.result().value)


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of a transcriber since `at` (time.monotonic)."""

    loaded: tuple[ModelKey, ...]
    degraded: tuple[str, ...]
    device: str
    at: float


class RemoteModels:
    """Implements `Models` by what the transcribers report now and then, and with each answer."""

    def __init__(self, line: Line, may_be_none: bool) -> None:
        """`may_be_none`: it is fine if no transcriber runs."""
        self._line = line
        self._may_be_none = may_be_none
        self._known: dict[str, _Known] = {}
        self._closed = threading.Event()
        threading.Thread(target=self._listen, name="reports", daemon=True).start()

    def loaded(self) -> Sequence[ModelKey]:
        known = list(self._known.values())
        return list(dict.fromkeys(key for one in known for key in one.loaded))

    def degraded(self) -> list[str]:
        known = dict(self._known)
        if not known and not self._may_be_none:
            return ["No process that holds models runs."]
        return [f"{name}: {text}" for name, one in known.items() for text in one.degraded]

    def fatal(self) -> str:
        return ""  # others can be replaced without this process

    def device(self) -> str:
        known = {one.device for one in list(self._known.values()) if one.device}
        return ", ".join(sorted(known))

    def check(self) -> None:
        pass

    def preload(self, model: str) -> None:
        """Wait for a transcriber; each loads PRELOAD_MODEL by itself before it takes requests."""
        if not self._may_be_none:
            self._hear(self._line.ask("report").result())

    def close(self) -> None:
        self._closed.set()

    def learn(self, outcome: Outcome) -> None:
        """An answer tells which models its transcriber has."""
        if outcome.transcriber:
            before = self._known.get(outcome.transcriber)
            degraded, device = (before.degraded, before.device) if before else ((), "")
            known = _Known(outcome.loaded, degraded, device, time.monotonic())
            self._known[outcome.transcriber] = known

    def _listen(self) -> None:
        while not self._closed.wait(REPORT_EVERY_S):
            try:
                self._hear_reports()
            # Nothing that one report holds may end the hearing of all others.
            except Exception:
                log.exception("asking the transcribers for reports failed")
            self._forget()

    def _hear_reports(self) -> None:
        for outcome in self._line.everybody("report", REPORT_TIMEOUT_S):
            self._hear(outcome)

    def _hear(self, outcome: Outcome) -> None:
        report = cast("Report", outcome.value)
        known = _Known(report.loaded, report.degraded, report.device, time.monotonic())
        self._known[report.name] = known

    def _forget(self) -> None:
        since = time.monotonic() - FORGET_S
        for name in [name for name, one in list(self._known.items()) if one.at < since]:
            del self._known[name]
