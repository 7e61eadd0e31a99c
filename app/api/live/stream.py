"""WS /stream: the streaming service's contract, and events of our own for those who ask.

Source: aws-samples/ray-serve-whisper-streaming-on-eks and its descendants. There, each chunk of the
sound is transcribed by itself, so words at its edges are lost. Here a result comes for each chunk,
too, but holds all words that became certain since the last one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from starlette.websockets import WebSocket

from app.api.live.connection import LiveConnection, Message
from app.api.live.results import Results, own_events
from app.api.live.stream_config import changed, default_config
from app.api.live.values import parsed
from app.domain.errors import ServiceError, UnsupportedOption
from app.live.events import Ended, Failed, Lagging, LiveEvent, Reset, Troubled

RESULT_WAIT_S = 3.0  # for the words of a chunk that has been received
CONFIG_WAIT_S = 0.5  # until a client is greeted that sends nothing; there it has to send first
MAX_TEXT_CHARS = 512 << 10  # with the voices of many speakers
RESET = {"status": "reset_complete"}
COMMANDS = "command: must be reset, config or end."
NO_OBJECT = "The first message is no JSON object; the defaults are used."


class StreamContract:
    """See `api/live/connection.Contract`."""

    def __init__(self, connection: LiveConnection, websocket: WebSocket) -> None:
        self._connection = connection
        self._service = connection.live.service
        self._config = default_config(self._service)
        self._results = self._new_results(0.0)
        self._sound_s = 0.0  # that has come, under all configurations
        self._greeting: asyncio.TimerHandle | None = None
        self._timer: asyncio.TimerHandle | None = None

    @staticmethod
    def protocol(websocket: WebSocket) -> str | None:
        # a browser that offers one, to send a key, wants one back
        return "stream" if "stream" in (websocket.scope.get("subprotocols") or ()) else None

    async def start(self) -> None:
        self._greeting = self._connection.call_later(CONFIG_WAIT_S, self._greet)

    def _greet(self, notes: Iterable[str] = ()) -> None:
        """Once. `notes`: what is not as the client wishes; no message of its own, since clients
        take the next one for a result.
        """
        if self._greeting is None:
            return
        self._greeting.cancel()
        self._greeting = None
        notes = list(notes)
        self._connection.send(
            {
                "status": "connected",
                "message": "Ready to receive audio",
                "config": self._config.shown(),
                **({"notes": notes} if notes else {}),
            }
        )

    async def text(self, text: str) -> None:
        found = _object(text)
        message = found or {}
        if self._connection.session is None and "command" not in message:
            await self._configure(message, [] if found is not None else [NO_OBJECT])
            return
        match message.get("command"):
            case "reset":
                self._reset()
            case "config":
                await self._reconfigure(message.get("config"))
            case "end":
                self._greet()
                self._connection.close()
            case _:
                self._complain(COMMANDS)

    async def data(self, data: bytes) -> None:
        if self._connection.finishing:  # it would be missing from the results
            return
        if self._connection.session is None:
            await self._begin()
        more_s = len(data) / self._config.options.bytes_per_s
        self._sound_s += more_s
        self._results.receive(self._config.resume_from_s + self._sound_s)
        await self._connection.charge(self._sound_s)
        await self._connection.hear(data)
        self._look_for_results()

    def _look_for_results(self) -> None:
        """At the end of a chunk: its result comes once its words are known, or after a while."""
        session = self._connection.session
        if session is None or not self._results.due:
            return
        session.look_now()
        if self._timer is None:
            self._timer = self._connection.call_later(RESULT_WAIT_S, self._no_longer_wait)

    def _forget_timer(self) -> None:
        """If nothing is due: the next chunk may take as long."""
        if self._timer is not None and not self._results.due:
            self._timer.cancel()
            self._timer = None

    def _no_longer_wait(self) -> None:
        self._timer = None
        for message in self._results.overdue():
            self._connection.send(message)

    # -- configuration ---------------------------------------------------------------------------

    async def _configure(self, message: Message, known: Iterable[str]) -> None:
        """What is wrong in it does not count, as there. `known`: what is wrong with all of it."""
        self._config, wrong, ignored = changed(self._service, self._config, message)
        notes = [*known, *wrong, *ignored]
        if self._greeting is None:  # the client had been greeted before it said what it wants
            self._connection.send(_config_updated(notes))
        await self._begin(notes)

    async def _begin(self, notes: Iterable[str] = ()) -> None:
        self._greet(notes)
        begin_s = self._config.resume_from_s
        self._results = self._new_results(begin_s)
        await self._connection.open(self._config.options, begin_s)

    def _new_results(self, start_s: float) -> Results:
        return Results(self._config.chunk_s, start_s, self._config.options.language)

    def _reset(self) -> None:
        session = self._connection.session
        if session is None:
            self._connection.send(RESET)
        else:
            self._results.restart()
            session.reset()

    async def _reconfigure(self, message: object) -> None:
        if not isinstance(message, dict):
            self._complain("config: must be an object.")
            return
        wanted, wrong, ignored = changed(self._service, self._config, message)
        session = self._connection.session
        if session is not None and wanted.resume_from_s != self._config.resume_from_s:
            wrong.append("resume_from_s: only before the first sound.")
        if wrong:
            self._complain(" ".join(wrong))
            return
        before, self._config = self._config, wanted
        self._results.chunk_s = wanted.chunk_s
        self._results.language = wanted.options.language or self._results.language
        if session is not None and wanted.options.model != before.options.model:
            await self._connection.open(wanted.options, self._results.received_s)
        elif session is not None:
            session.reconfigure(wanted.options)
        self._connection.send(_config_updated(ignored))

    def _complain(self, message: str) -> None:
        self._connection.send({"status": "error", "message": message})

    # -- events ----------------------------------------------------------------------------------

    def messages(self, event: LiveEvent) -> Iterable[Message]:
        if self._config.events:
            yield from own_events(event)
        yield from self._results.hear(event)
        self._forget_timer()
        match event:
            case Lagging(behind_s=behind_s):
                yield {"status": "lagging", "behind_seconds": round(behind_s, 1)}
            case Failed(error=error) | Troubled(error=error):
                yield {"status": "error", "message": error.message}
            case Reset():
                yield RESET
            case Ended(error=None):
                yield {"status": "ended"}

    def failure(self, error: ServiceError) -> Iterable[Message]:
        yield {"status": "error", "message": error.message, "code": error.code}


def _config_updated(notes: Iterable[str]) -> Message:
    notes = list(notes)
    return {"status": "config_updated", **({"notes": notes} if notes else {})}


def _object(text: str) -> dict[str, Any] | None:
    """Broken JSON counts as no configuration, as there."""
    if len(text) > MAX_TEXT_CHARS:
        return None
    try:
        message = parsed(text)
    except (ValueError, UnsupportedOption):
        return None
    return message if isinstance(message, dict) else None
