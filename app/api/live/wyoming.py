"""Wyoming: the protocol of Home Assistant's voice assistants, over TCP. Only this module and those
beside it of the same name know the package `wyoming`.

A client describes, or transcribes: `transcribe`, `audio-start`, `audio-chunk` ..., `audio-stop`;
the answer is a `transcript`. Words that are certain before that are told as `transcript-chunk`.
After an `error` the connection is closed: Home Assistant waits for a transcript or the end, and
for nothing else. The protocol has no keys, so only clients of WYOMING_NETWORKS are served.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from ipaddress import ip_address, ip_network
from typing import Any

from wyoming.asr import Transcribe
from wyoming.audio import AudioStart, AudioStop
from wyoming.error import Error
from wyoming.event import Event, Eventable, async_write_event
from wyoming.info import Describe
from wyoming.ping import Ping, Pong

from app.api.live.wyoming_events import MAX_LINE_BYTES, Format, describe, options_of, read_event
from app.api.live.wyoming_stream import Transcription
from app.api.rate_limits import account_of_address
from app.api.statuses import status_of
from app.config.live import LiveSettings
from app.domain.errors import (
    ClientGone,
    DeadlineExceeded,
    ServiceError,
    ShuttingDown,
    UnsupportedOption,
)
from app.live.live import Live
from app.observability.record import RequestRecord

log = logging.getLogger(__name__)

POLL_S = 0.5
WRITE_S = 20.0  # for a client to read what it was sent
LINGER_S = 20.0  # for a client that still sends to read why it is cut off
IDLE = "Nothing was sent for too long."

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def start_wyoming(live: Live, host: str, port: int) -> asyncio.Server:
    """Serve clients until the server is closed. Raises OSError."""
    server = await asyncio.start_server(_handler(live), host, port, limit=MAX_LINE_BYTES)
    log.info("listening for Wyoming clients on %s:%d", host, port)
    return server


def _handler(live: Live) -> Handler:
    served: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address = (writer.get_extra_info("peername") or ("",))[0]
        if not is_allowed(address, live.settings):
            log.warning("a Wyoming client of a foreign network was turned away: %s", address)
        elif len(served) >= live.service.settings.max_connections:
            log.warning("a Wyoming client was turned away: too many connections are open")
        else:
            served.add(writer)
            try:
                await Conversation(live, reader, writer, address).run()
            finally:
                served.discard(writer)
        await _close(writer)

    return serve


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):  # TimeoutError is one
        await asyncio.wait_for(writer.wait_closed(), WRITE_S)
    writer.transport.abort()  # where it does not read


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
        self._wanted: Mapping[str, Any] = {}  # the data of `transcribe`
        self._goes_on = True

    async def run(self) -> None:
        """Until the client hangs up, is silent for too long or wrong, or the service ends."""
        try:
            while self._goes_on and (event := await self._next()) is not None:
                await self._answer(event)
            if self._live.draining:
                raise ShuttingDown
        except ClientGone:
            log.debug("a Wyoming client hung up")
        except ServiceError as error:
            with suppress(ServiceError):
                await self._write(Error(error.message, error.code))
        with suppress(OSError, RuntimeError, ServiceError):  # uvloop: if it is closed already
            await asyncio.wait_for(self._linger(), LINGER_S)

    async def _next(self) -> Event | None:
        """What comes after a transcription, or at first. None: no more is to be expected."""
        reading = asyncio.create_task(self._read())
        ending = asyncio.create_task(self._end_of_service())
        try:
            await asyncio.wait({reading, ending}, return_when=asyncio.FIRST_COMPLETED)
            return reading.result() if reading.done() else None
        except DeadlineExceeded:
            return None
        finally:
            reading.cancel()
            ending.cancel()

    async def _end_of_service(self) -> None:
        while not self._live.draining:  # noqa: ASYNC110 - a signal handler sets it
            await asyncio.sleep(POLL_S)

    async def _read(self) -> Event:
        """Raises ServiceError."""
        await asyncio.sleep(0)  # else many small events that have arrived keep all others waiting
        idle_s = self._live.settings.live_idle_timeout_s
        try:
            event = await asyncio.wait_for(read_event(self._reader), idle_s)
        except TimeoutError:
            raise DeadlineExceeded(IDLE) from None
        except OSError:
            raise ClientGone from None
        if event is None:
            raise ClientGone
        return event

    async def _write(self, message: Eventable) -> None:
        """Raises ClientGone, also for one that does not read."""
        try:
            await asyncio.wait_for(async_write_event(message.event(), self._writer), WRITE_S)
        except (OSError, RuntimeError):
            self._writer.transport.abort()
            raise ClientGone from None

    async def _linger(self) -> None:
        """Drop what a client still sends: it would see a reset, not what it was told."""
        if self._writer.is_closing():  # it has gone
            return
        if self._writer.can_write_eof():
            self._writer.write_eof()
        while await self._reader.read(MAX_LINE_BYTES):
            pass

    async def _answer(self, event: Event) -> None:
        if Describe.is_type(event.type):
            await self._write(describe(self._live))
        elif Ping.is_type(event.type):
            await self._write(Pong(text=Ping.from_event(event).text))
        elif Transcribe.is_type(event.type):
            self._wanted = event.data
        elif AudioStart.is_type(event.type):
            await self._transcribe(event)
        elif AudioStop.is_type(event.type):
            raise UnsupportedOption("audio-stop: an audio-start is needed before.")

    async def _transcribe(self, start: Event) -> None:
        """Raises ServiceError."""
        record = RequestRecord(secrets.token_hex(8), "TCP", "wyoming", "wyoming")
        record.address = self._address
        try:
            sound = Format.of(start)
            options = options_of(self._live, self._wanted, sound)
            with self._live.enter(record, "", account_of_address(self._address)) as stream:
                if self._live.service.calls.rate_limits.enabled:
                    await asyncio.to_thread(stream.call.account.admit)
                transcription = Transcription(stream, sound, self._read, self._write)
                self._goes_on = await transcription.run(options)
            record.status = 200
        except ServiceError as error:
            record.error, record.status = type(error).__name__, status_of(error)
            raise
        finally:
            record.end()
            self._live.service.report(record)
