"""Wyoming: the protocol of Home Assistant's voice assistants, over TCP. The only module that knows
the package `wyoming`.

A client describes, or transcribes: `transcribe`, `audio-start`, `audio-chunk` ..., `audio-stop`;
the answer is a `transcript`. Words that are certain before that are told as `transcript-chunk`.
The protocol has no keys, so only clients of the networks in WYOMING_NETWORKS are served.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import Mapping
from contextlib import suppress
from ipaddress import ip_address, ip_network
from typing import Any

import numpy as np
from wyoming.asr import (
    Transcribe,
    Transcript,
    TranscriptChunk,
    TranscriptStart,
    TranscriptStop,
)
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.error import Error
from wyoming.event import Event, Eventable, async_write_event
from wyoming.info import AsrModel, AsrProgram, Attribution, Describe, Info
from wyoming.ping import Ping, Pong

from app import __version__
from app.audio.stream import Encoding
from app.config.live import LiveSettings
from app.domain.errors import MalformedRequest, ServiceError, UnsupportedOption
from app.domain.languages import LANGUAGES, parse_language
from app.live.endpointing import EndpointOptions
from app.live.events import Ended, Failed, Final, LiveEvent, Partial
from app.live.live import Live, Stream
from app.live.options import LiveOptions
from app.live.session import LiveSession
from app.observability.record import RequestRecord

log = logging.getLogger(__name__)

MAX_LINE_BYTES = 64 << 10
MAX_DATA_BYTES = 256 << 10
MAX_PAYLOAD_BYTES = 4 << 20
MAX_CHANNELS = 8
MAX_BACKLOG_S = 5.0
POLL_S = 0.02
ANSWER_S = 120.0
OURS = Attribution("whisperx-asr-service", "https://github.com/m-bain/whisperX")


async def start_wyoming(live: Live, host: str, port: int) -> asyncio.Server:
    """Serve clients until the server is closed. Raises OSError."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _serve(live, reader, writer)

    server = await asyncio.start_server(serve, host, port, limit=MAX_LINE_BYTES)
    log.info("listening for Wyoming clients on %s:%d", host, port)
    return server


async def _serve(live: Live, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    address = (writer.get_extra_info("peername") or ("",))[0]
    try:
        if is_allowed(address, live.settings):
            await Conversation(live, reader, writer, address).run()
        else:
            log.warning("a Wyoming client of a foreign network was turned away: %s", address)
    except (OSError, EOFError):
        log.debug("a Wyoming client hung up")
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


def is_allowed(address: str, settings: LiveSettings) -> bool:
    with suppress(ValueError):
        client = ip_address(address.partition("%")[0])
        client = getattr(client, "ipv4_mapped", None) or client
        return any(client in ip_network(network) for network in settings.wyoming_networks)
    return False


class Conversation:
    """One connection: any number of transcriptions, one after the other."""

    def __init__(
        self,
        live: Live,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        address: str,
    ) -> None:
        self._live = live
        self._reader = reader
        self._writer = writer
        self._address = address
        self._wanted = Transcribe()

    async def run(self) -> None:
        """Until the client hangs up, is silent for too long or the service ends."""
        while not self._live.draining:
            event = await self._read()
            if event is None:
                return
            if Describe.is_type(event.type):
                await self._write(describe(self._live))
            elif Ping.is_type(event.type):
                await self._write(Pong(text=Ping.from_event(event).text))
            elif Transcribe.is_type(event.type):
                self._wanted = Transcribe.from_event(event)
            elif AudioStart.is_type(event.type):
                await self._transcribe(AudioStart.from_event(event))

    async def _read(self) -> Event | None:
        try:
            return await asyncio.wait_for(
                read_event(self._reader), self._live.settings.live_idle_timeout_s
            )
        except TimeoutError:
            return None
        except MalformedRequest as error:
            await self._write(Error(error.message, error.code))
            return None

    async def _write(self, message: Eventable) -> None:
        await async_write_event(message.event(), self._writer)

    async def _transcribe(self, start: AudioStart) -> None:
        record = RequestRecord(secrets.token_hex(8), "TCP", "wyoming", "wyoming")
        record.address = self._address
        try:
            options = self._options(start)
            account = f"address {self._address}"
            with self._live.enter(record, "", account) as stream:
                await self._listen(stream, options, start.channels)
            record.status = 200
        except ServiceError as error:
            record.error = type(error).__name__
            await self._write(Error(error.message, error.code))
            await self._skip()
        finally:
            record.end()
            self._live.service.report(record)

    def _options(self, start: AudioStart) -> LiveOptions:
        """Raises UnsupportedOption."""
        if start.width != 2 or not 1 <= start.channels <= MAX_CHANNELS:
            raise UnsupportedOption("audio-start: signed 16-bit samples of 1 to 8 channels.")
        catalog, wanted = self._live.service.catalog, self._wanted
        words = (*(wanted.transcript_names or ()), *(wanted.transcript_terms or ()))
        return LiveOptions(
            model=catalog.resolve(wanted.name or catalog.default_model),
            encoding=Encoding.S16,
            rate=start.rate,
            language=parse_language(wanted.language or ""),
            hotwords=", ".join(map(str, words)),
            use_context=False,
            endpoints=EndpointOptions(),
        )

    async def _listen(self, stream: Stream, options: LiveOptions, channels: int) -> None:
        told: asyncio.Queue[LiveEvent] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def tell(event: LiveEvent) -> None:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(told.put_nowait, event)

        session = stream.open(options, tell)
        try:
            await self._write(TranscriptStart(language=options.language))
            answering = asyncio.create_task(self._answer(told))
            try:
                await self._hear(session, stream, channels)
                await asyncio.wait_for(answering, ANSWER_S)
            finally:
                answering.cancel()
        finally:
            session.abort()

    async def _hear(self, session: LiveSession, stream: Stream, channels: int) -> None:
        """Pass on the sound until `audio-stop`."""
        num_bytes = 0
        while (event := await self._read()) is not None and not AudioStop.is_type(event.type):
            if not AudioChunk.is_type(event.type):
                continue
            data = mono(AudioChunk.from_event(event).audio, channels)
            num_bytes += len(data)
            session.hear(data)
            while session.backlog_s > MAX_BACKLOG_S:  # noqa: ASYNC110 - another thread reads it
                await asyncio.sleep(POLL_S)
        stream.call.record.audio_s = num_bytes / 2 / session.options.rate
        if event is None:
            raise EOFError
        await asyncio.to_thread(stream.call.account.charge, stream.call.record.audio_s)
        session.finish()

    async def _answer(self, told: asyncio.Queue[LiveEvent]) -> None:
        """Tell the words, then the transcript of all utterances."""
        texts: list[str] = []
        language = ""
        while not isinstance(event := await told.get(), Ended):
            match event:
                case Partial() if event.committed:
                    await self._chunk("".join(word.text for word in event.committed))
                case Final():
                    language = language or event.transcript.language
                    texts += [segment.text.strip() for segment in event.transcript.segments]
                    await self._chunk("".join(word.text for word in event.rest))
                case Failed():
                    raise event.error
        if event.error is not None:
            raise event.error
        await self._write(Transcript(" ".join(texts), language=language or None))
        await self._write(TranscriptStop())

    async def _chunk(self, text: str) -> None:
        if text:
            await self._write(TranscriptChunk(text))

    async def _skip(self) -> None:
        """What the client still sends of a transcription that was refused."""
        while (event := await self._read()) is not None and not AudioStop.is_type(event.type):
            pass


def describe(live: Live) -> Info:
    """What this service can do."""
    catalog = live.service.catalog
    languages = sorted(LANGUAGES)
    models = [
        AsrModel(
            name=name, attribution=OURS, installed=True, description=name, version=None,
            languages=languages,
        )
        for name in sorted(catalog.names, key=lambda name: name != catalog.default_model)
    ]  # fmt: skip
    program = AsrProgram(
        name="whisperx-asr", attribution=OURS, installed=True, description="WhisperX",
        version=__version__, models=models, supports_transcript_streaming=True,
    )  # fmt: skip
    return Info(asr=[program])


def mono(data: bytes, channels: int) -> bytes:
    """Signed 16-bit samples of interleaved channels as their mean."""
    if channels == 1:
        return data
    whole = len(data) - len(data) % (2 * channels)
    samples = np.frombuffer(data[:whole], "<i2").reshape(-1, channels)
    mixed: bytes = samples.mean(axis=1).astype("<i2").tobytes()
    return mixed


async def read_event(reader: asyncio.StreamReader) -> Event | None:
    """The next event; None at the end. Unlike the package's own, it has limits.

    Raises:
        MalformedRequest: too large, or not an event.
    """
    try:
        line = await reader.readline()
        if not line:
            return None
        head = json.loads(line)
        data = dict(head.get("data") or {})
        if size := _size(head, "data_length", MAX_DATA_BYTES):
            data.update(json.loads(await reader.readexactly(size)))
        payload = None
        if size := _size(head, "payload_length", MAX_PAYLOAD_BYTES):
            payload = await reader.readexactly(size)
        return Event(type=str(head["type"]), data=data, payload=payload)
    except asyncio.IncompleteReadError:
        return None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise MalformedRequest("This is no Wyoming event.") from None


def _size(head: Mapping[str, Any], name: str, limit: int) -> int:
    size = head.get(name) or 0
    if not isinstance(size, int) or not 0 <= size <= limit:
        raise ValueError
    return size
