"""One transcription of a Wyoming client: it hears, tells, and watches the time, all at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

from wyoming.asr import Transcript, TranscriptChunk, TranscriptStart, TranscriptStop
from wyoming.audio import AudioChunk, AudioStop
from wyoming.event import Event, Eventable

from app.api.live.meter import Meter
from app.api.live.wyoming_events import Format, Mixer
from app.domain.errors import (
    ClientGone,
    DeadlineExceeded,
    RateLimited,
    ServiceError,
    UnsupportedOption,
)
from app.live.certain import CertainWords
from app.live.events import Ended, Failed, Final, LiveEvent
from app.live.live import Stream
from app.live.options import LiveOptions

PIECE_BYTES = 64 << 10  # that the session is given at a time
MAX_BACKLOG_S = 5.0
POLL_S = 0.02
WATCH_S = 0.5
ANSWER_S = 120.0  # without a word, once all sound was heard


class Transcription:
    def __init__(
        self,
        stream: Stream,
        sound: Format,
        read: Callable[[], Awaitable[Event]],
        write: Callable[[Eventable], Awaitable[None]],
    ) -> None:
        """`read`: raises if there is no next event."""
        self._stream = stream
        self._sound = sound
        self._read = read
        self._write = write
        self._meter = Meter(stream)
        self._told: asyncio.Queue[LiveEvent] = asyncio.Queue()
        self._begun = time.monotonic()
        self._stopped: float | None = None  # since when the client waits for an answer
        self._finished = False
        self._reason: ServiceError | None = None  # to be told after what was said
        self._loop = asyncio.get_running_loop()

    async def run(self, options: LiveOptions) -> bool:
        """Whether all that belongs to it has been read, so that another one may follow.

        Raises:
            ServiceError, OSError: the client or the service ended it.
        """
        self._session = self._stream.open(options, self._tell)
        hearing = asyncio.create_task(self._hear())
        answering = asyncio.create_task(self._answer(options.language))
        watching = asyncio.create_task(self._watch())
        try:
            await _until_done(answering, (hearing, watching))
            if self._reason is not None:
                raise self._reason
            return hearing.done()
        finally:
            await _end(hearing, answering, watching)
            self._session.abort(ClientGone())
            self._stream.call.work.cancel(ClientGone())  # it may still wait for its model
            await self._meter.settle()

    def _tell(self, event: LiveEvent) -> None:
        """In the session's thread."""
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._told.put_nowait, event)

    async def _hear(self) -> None:
        """Until `audio-stop`, or until no more is to be heard."""
        try:
            await self._pass_on()
        except (DeadlineExceeded, RateLimited) as error:  # what was said before is charged
            self._reason = error
        self._stopped = time.monotonic()
        self._finish()

    async def _pass_on(self) -> None:
        """The sound until `audio-stop`."""
        mixer, num_bytes = Mixer(self._sound), 0
        while not AudioStop.is_type((event := await self._read()).type):
            if self._finished or not AudioChunk.is_type(event.type):
                continue
            if Format.of(event) != self._sound:
                raise UnsupportedOption("audio-chunk: its format must be that of audio-start.")
            data = event.payload or b""
            for at in range(0, len(data), PIECE_BYTES):
                piece = data[at : at + PIECE_BYTES]
                num_bytes += len(piece)
                await self._meter.hear(num_bytes / self._sound.frame_bytes / self._sound.rate)
                await self._take(mixer.mono(piece))

    def _finish(self) -> None:
        """No more is heard, nor charged."""
        self._finished = True
        self._session.finish()

    async def _take(self, data: bytes) -> None:
        self._session.hear(data)
        while self._session.backlog_s > MAX_BACKLOG_S:  # noqa: ASYNC110 - another thread reads it
            await asyncio.sleep(POLL_S)

    async def _watch(self) -> None:
        """Ends what takes too long, and all when the service ends. Raises ServiceError."""
        live = self._stream.live
        while True:
            await asyncio.sleep(WATCH_S)
            self._stream.call.work.check()  # cancelled by an operator
            now = time.monotonic()
            if live.draining or now - self._begun > live.settings.live_max_session_s:
                self._finish()
            if self._session.num_waiting:  # for the model, or for what was to be heard before
                self._goes_on()
            if self._stopped is not None and now - self._stopped > ANSWER_S:
                raise DeadlineExceeded

    def _goes_on(self) -> None:
        """The time for the answer begins anew: there is no end to be seen, but something happens,
        or is waited for that has a bound of its own.
        """
        if self._stopped is not None:
            self._stopped = time.monotonic()

    async def _answer(self, language: str | None) -> None:
        """Tell the words, then the transcript of all utterances."""
        await self._write(TranscriptStart(language=language))
        texts: list[str] = []
        certain, found = CertainWords(), ""
        while not isinstance(event := await self._told.get(), Ended):
            self._goes_on()
            await self._chunk(word.text for word in certain.hear(event))
            match event:
                case Final():
                    found = found or event.transcript.language
                    texts += [segment.text for segment in event.transcript.segments]
                case Failed():
                    raise event.error
        if event.error is not None:
            raise event.error
        await self._write(Transcript("".join(texts).strip(), language=found or None))
        await self._write(TranscriptStop())

    async def _chunk(self, words: Iterable[str]) -> None:
        if text := "".join(words):
            await self._write(TranscriptChunk(text))


async def _until_done(first: asyncio.Task[None], others: Iterable[asyncio.Task[None]]) -> None:
    """Raises what the first of them raises."""
    running = {first, *others}
    while not first.done():
        done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()


async def _end(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
