"""Live: opens sessions on the models that all requests share, as many as the limits allow."""

from __future__ import annotations

import contextvars
import functools
import itertools
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.config.live import LiveSettings
from app.domain.errors import Overloaded, ServiceError, ShuttingDown, StageFailed
from app.engine.work import Work
from app.live.ears import ModelEars
from app.live.events import Ended, Final, Lagging, LiveEvent, SpeechStarted
from app.live.options import LiveOptions
from app.live.session import LiveSession, Needs
from app.live.turns import Place, Turns
from app.live.voices import Voices
from app.observability.record import RequestRecord
from app.service.calls import Call
from app.service.service import Service
from app.service.threads import Threads

if TYPE_CHECKING:
    from app.models.silero import StreamingVad

log = logging.getLogger(__name__)

KIND = "live"
FULL = "Too many live streams are open; try again later."
YOURS = "You have too many live streams open; close one first."
RETRY_AFTER_S = 10
UTTERANCE_TIMEOUT_S = 300.0
# Transcripts under way at once. A CPU has two batches at a time, which this fills. A GPU has whole
# batches of them; while one is recognized, others are cut or aligned.
AT_ONCE_ON_CPU = 8
BATCHES_AT_ONCE = 2
BEGUN = 0.01  # progress of a stream in which somebody has spoken: its end is not known


class Live:
    """The live streams of this process."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.settings: LiveSettings = service.settings
        # Not those of requests: a stream must not wait until an upload is done.
        num_at_once = _num_at_once(service)
        self.threads = Threads(
            num_at_once + self.settings.live_max_streams, thread_name_prefix="utterance"
        )
        self.turns = Turns(self.threads, num_at_once)
        self._vad = functools.cache(_load_vad)
        self._lock = threading.Lock()
        self._streams: Counter[str] = Counter()
        self._numbers = itertools.count(1)

    @property
    def draining(self) -> bool:
        """Whether the service is ending: streams shall end, too."""
        return self.service.admission.closed

    @contextmanager
    def enter(self, record: RequestRecord, client: str, account: str) -> Iterator[Stream]:
        """A place for a stream until the block ends.

        Raises:
            Overloaded: too many streams.
            ShuttingDown: the service is ending.
        """
        with self._place(account):
            entering = self.service.calls.enter(
                KIND, record, client, account,
                background=True, timeout_s=self.settings.live_max_session_s,
            )  # fmt: skip
            with entering as call:
                voices = Voices(self.service.settings.known_speaker_similarity)
                yield Stream(self, call, Place(account, record.request_id), voices)

    @contextmanager
    def _place(self, account: str) -> Iterator[None]:
        with self._lock:
            if self.draining:
                raise ShuttingDown
            if self._streams.total() >= self.settings.live_max_streams:
                raise Overloaded(FULL, RETRY_AFTER_S)
            if self._streams[account] >= self.settings.live_max_streams_per_client:
                raise Overloaded(YOURS, RETRY_AFTER_S)
            self._streams[account] += 1
        self.service.metrics.stream_opened()
        try:
            yield
        finally:
            self.service.metrics.stream_closed()
            with self._lock:
                self._streams[account] -= 1
                if not self._streams[account]:
                    del self._streams[account]

    def new_work(self, request_id: str) -> Work:
        """Of one utterance."""
        return Work(f"{request_id}.{next(self._numbers)}", UTTERANCE_TIMEOUT_S, urgent=True)

    def vad(self) -> StreamingVad:
        return self._vad()

    def observe(self, event: LiveEvent, delays: Sequence[float]) -> None:
        """Measure what a session tells."""
        metrics = self.service.metrics
        if isinstance(event, Lagging):
            metrics.stream_lags()
        for delay_s in delays:
            metrics.word_known("final" if isinstance(event, Final) else "committed", delay_s)

    def close(self) -> None:
        self.threads.shutdown(wait=False, cancel_futures=True)


def _num_at_once(service: Service) -> int:
    if service.device.startswith("cpu"):
        return AT_ONCE_ON_CPU
    return BATCHES_AT_ONCE * service.settings.batch_size


def _load_vad() -> StreamingVad:
    from app.models.silero import StreamingVad  # brings a model library

    return StreamingVad()


@dataclass(slots=True)
class Stream:
    """An admitted stream. `call`: its place among the requests; its work ends with the stream.
    `place`: among those whose utterances take turns. `voices`: who has spoken in any session.
    `preparing`: one model after the other, however often a client changes its mind.
    """

    live: Live
    call: Call
    place: Place
    voices: Voices
    preparing: Future[None] | None = None

    def open(
        self,
        options: LiveOptions,
        tell: Callable[[LiveEvent], None],
        start_s: float = 0.0,
        numbers: Iterator[int] | None = None,
    ) -> LiveSession:
        """A session that runs in a thread of its own. `tell` is called in that thread.

        It takes sound at once, and loads the model first if need be.
        """
        live, call = self.live, self.call
        call.model = options.model
        transcriber = live.service.transcriber
        needs = Needs(
            lambda: live.vad().track(),
            lambda: live.new_work(call.record.request_id),
            self._observe,
            voices=self.voices,
        )
        session = LiveSession(needs, options, tell, start_s, numbers)

        def run() -> None:
            try:
                start = functools.partial(live.turns.start, self.place)
                with transcriber.ear(options.model, call.work) as ear:
                    session.run(ModelEars(transcriber, ear, start))
            except ServiceError as error:  # of loading
                tell(Ended(error))
            except BaseException:  # SystemExit of a library, too: the client must not wait
                log.exception("a live session failed unexpectedly")
                tell(Ended(StageFailed("A stage failed unexpectedly.")))

        in_context = contextvars.copy_context().run  # its log lines carry the stream's id
        threading.Thread(target=in_context, args=(run,), name="live", daemon=True).start()
        if self.preparing is None or self.preparing.done():  # else the client is in a hurry
            self.preparing = live.threads.start(lambda: self._prepare(options))
        return session

    def _observe(self, event: LiveEvent, delays: Sequence[float]) -> None:
        if isinstance(event, SpeechStarted):
            self.call.work.progress = BEGUN
        self.live.observe(event, delays)

    def _prepare(self, options: LiveOptions) -> None:
        """Load what the first transcript needs besides the recognizer."""
        with suppress(ServiceError):  # whoever needs it is told
            self.live.service.transcriber.prepare(options.model, options.language, self.call.work)
