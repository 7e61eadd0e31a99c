"""Hall: a service without HTTP, whose models work for other processes."""

from __future__ import annotations

import asyncio
import math
import tempfile
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
import structlog

from app.domain.errors import ClientGone, ServiceError, ShuttingDown
from app.domain.options import DecodingOptions, TranscribeOptions
from app.domain.transcript import SAMPLE_RATE, Audio, Samples
from app.engine.model import ModelKind
from app.engine.work import Work
from app.observability.stages import StageClock
from app.pipeline.flow import Listener
from app.service.service import Service
from app.service.vitals import read_vitals
from app.serving.busy import BusyShare
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
    shipped,
    write_samples,
)
from app.serving.outbox import Outbox

KIND = "remote"
TICK_S = 0.5  # how often the progress is told if nothing else is
MAPPED_S = 600.0  # longer recordings lie in a file, as a whole one does not fit in memory


class Hall:
    """In the event loop's thread, unless a method says otherwise."""

    def __init__(self, service: Service, name: str) -> None:
        self.service = service
        self.name = name
        self.busy = BusyShare()
        self._transcriber = service.transcriber

    # -- orders ----------------------------------------------------------------------------------

    async def transcribe(
        self,
        order: Order,
        sound: Callable[[], Sound],
        info: SoundInfo,
        options: TranscribeOptions,
    ) -> AsyncIterator[tuple[Event, ...]]:
        """Events as they come, then the outcome. `sound` is called in the order's thread."""
        outbox = Outbox()

        def run(work: Work) -> Any:
            listener = Listener(
                lambda segment: outbox.put(Recognized(segment)),
                lambda segment: outbox.put(Settled(segment)),
            )
            return self._transcriber.transcribe(self._audio(sound(), info), options, work, listener)

        work = _work(order)
        outcome = self._start(order, work, run)
        outcome.add_done_callback(lambda _: outbox.wake())
        told = 0.0
        try:
            while True:
                done = outcome.done()
                events = await outbox.take(0.0 if done else TICK_S)
                if done:
                    events.append(outcome.result())
                elif work.progress > told:
                    told = work.progress
                    events.append(Progress(told))
                if events:
                    yield tuple(events)
                if done:
                    return
        finally:
            work.cancel(ClientGone())

    async def detect_language(
        self, order: Order, sound: Callable[[], Sound], info: SoundInfo, is_all: bool
    ) -> Outcome:
        return await self._answer(
            order,
            lambda work: self._transcriber.detect_language(
                self._audio(sound(), info), order.model, work, is_all
            ),
        )

    async def listen(self, order: Order, sound: Sound, options: DecodingOptions) -> Outcome:
        """A quick hypothesis of at most 30 s."""

        def run(work: Work) -> Any:
            with self._transcriber.ear(order.model, work) as ear:
                return work.wait(ear.listen(_samples(sound), options, work))

        return await self._answer(order, run)

    async def traits(self, order: Order) -> Outcome:
        """What the recognizer can do, once it is loaded."""

        def run(work: Work) -> Any:
            with self._transcriber.ear(order.model, work) as ear:
                return ear.traits

        return await self._answer(order, run)

    async def prepare(self, order: Order, language: str | None) -> Outcome:
        return await self._answer(
            order, lambda work: self._transcriber.prepare(order.model, language, work)
        )

    async def _answer(self, order: Order, run: Callable[[Work], Any]) -> Outcome:
        work = _work(order)
        try:
            return await self._start(order, work, run)
        finally:
            work.cancel(ClientGone())

    def _start(
        self, order: Order, work: Work, run: Callable[[Work], Any]
    ) -> asyncio.Future[Outcome]:
        """Run an order in a thread of its own."""

        def running() -> Outcome:
            with structlog.contextvars.bound_contextvars(request_id=order.request_id):
                return self._outcome(order, work, run)

        try:
            return asyncio.wrap_future(self.service.threads.start(running))
        except ServiceError as error:
            refused: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
            refused.set_result(self._told(work, None, error))
            return refused

    def _outcome(self, order: Order, work: Work, run: Callable[[Work], Any]) -> Outcome:
        """Anything but an error of the service is raised, and the front logs it."""
        value, failure = None, None
        try:
            value = self._admitted(order, work, run)
        except ServiceError as error:
            failure = error.with_traceback(None)
        return self._told(work, value, failure)

    def _told(self, work: Work, value: Any, failure: ServiceError | None) -> Outcome:
        loaded = tuple(self.service.models.loaded())
        return Outcome(value, failure, shipped(work.stages), loaded, self.name)

    def _admitted(self, order: Order, work: Work, run: Callable[[Work], Any]) -> Any:
        """Once the device is lost, only errors that any transcriber would have are told. For all
        others, another one shall do it.
        """
        broken = self.service.broken
        if broken.is_set():
            raise ShuttingDown
        try:
            with self.service.admission.enter(KIND, work) as ticket, self.busy.working():
                self.service.admission.weigh(ticket, order.audio_s)
                return run(work)
        except Exception as error:
            if broken.is_set() and not (isinstance(error, ServiceError) and error.is_permanent):
                raise ShuttingDown from error
            raise

    def _audio(self, sound: Sound, info: SoundInfo) -> Audio:
        return Audio(self._long_samples(sound), info.warnings, info.silent_s)

    def _long_samples(self, sound: Sound) -> Samples:
        if len(sound) <= MAPPED_S * SAMPLE_RATE:
            return _samples(sound)
        with tempfile.TemporaryFile(dir=self.service.temp.path) as file:
            mapped = np.memmap(file, np.float32, "w+", shape=(len(sound),))
        return write_samples(sound, mapped)

    # -- figures, any thread ---------------------------------------------------------------------

    @property
    def queued_s(self) -> float:
        """Seconds of audio that are still to be done."""
        entries = self.service.admission.entries()
        return sum((entry.audio_s or 0.0) * (1 - entry.progress) for entry in entries)

    @property
    def routed_s(self) -> float:
        """The same for those who choose a transcriber: nobody shall choose a broken one."""
        return math.inf if self.service.broken.is_set() else self.queued_s

    @property
    def models(self) -> list[str]:
        loaded = self.service.models.loaded()
        return [key.name for key in loaded if key.kind is ModelKind.RECOGNIZER]

    def report(self) -> Outcome:
        vitals = read_vitals(self.service)
        loaded = tuple(self.service.models.loaded())
        return Outcome(Report(self.name, loaded, vitals.degraded, self.service.device))


def _samples(sound: Sound) -> Samples:
    return write_samples(sound, np.empty(len(sound), np.float32))


def _work(order: Order) -> Work:
    return Work(order.request_id, order.timeout_s, StageClock(), order.background, order.urgent)
