"""WS /stream: the streaming service's contract, and events of our own for those who ask.

Source: aws-samples/ray-serve-whisper-streaming-on-eks and its descendants. There, each chunk of the
sound is transcribed by itself, so words at its edges are lost. Here a result comes for each chunk,
too, but holds all words that became certain since the last one.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from starlette.websockets import WebSocket

from app.api.intake import resolve_model
from app.api.live.connection import LiveConnection, Message
from app.api.live.results import Results, own_events
from app.audio.stream import HIGHEST_RATE, LOWEST_RATE, Encoding
from app.domain.errors import ServiceError, UnsupportedOption
from app.domain.languages import parse_language
from app.domain.options import Task
from app.live.events import Ended, Failed, Lagging, LiveEvent
from app.live.options import LiveOptions
from app.service.service import Service

CHUNK_S = 5.0
SHORTEST_CHUNK_S, LONGEST_CHUNK_S = 0.5, 60.0
RESULT_WAIT_S = 3.0  # for the words of a chunk that has been received
MAX_TEXT_BYTES = 65_536
MAX_PROMPT_CHARS = 2_000


@dataclass(frozen=True, slots=True)
class StreamConfig:
    """`overlap` has no effect, since words at the edges of chunks are not lost here."""

    options: LiveOptions
    chunk_s: float = CHUNK_S
    events: bool = False
    resume_from_s: float = 0.0


class StreamContract:
    """See `api/live/connection.Contract`."""

    def __init__(self, connection: LiveConnection, websocket: WebSocket) -> None:
        self._connection = connection
        self._service = connection.live.service
        self._config = default_config(self._service)
        self._results = self._new_results(0.0)
        self._heard = False
        self._num_bytes = 0
        self._begun_s = 0.0  # of the session, in seconds of the stream
        self._timer: asyncio.TimerHandle | None = None

    @staticmethod
    def protocol(websocket: WebSocket) -> str | None:
        return None

    async def start(self) -> None:
        self._connection.send({"status": "connected", "message": "Ready to receive audio"})

    async def text(self, text: str) -> None:
        message = _object(text)
        command = message.get("command")
        if not self._heard and self._connection.session is None and command is None:
            self._configure(message)
            return
        match command:
            case "reset":
                self._reset()
            case "config":
                self._reconfigure(message.get("config"))
            case "end":
                self._connection.close()
            case _:
                self._complain("command: must be reset, config or end.")

    async def data(self, data: bytes) -> None:
        if self._connection.session is None:
            self._begin()
        self._heard = True
        self._num_bytes += len(data)
        options = self._config.options
        received_s = self._num_bytes / (options.encoding.sample_bytes * options.rate)
        self._results.received_s = self._begun_s + received_s
        await self._connection.charge(received_s)
        await self._connection.hear(data)
        self._look_for_results()

    def _look_for_results(self) -> None:
        """At the end of a chunk: its result, now or once its words are known."""
        session = self._connection.session
        for message in self._results.ready():
            self._connection.send(message)
        if session is not None and self._results.due and self._timer is None:
            session.look_now()
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(RESULT_WAIT_S, self._no_longer_wait)

    def _no_longer_wait(self) -> None:
        self._timer = None
        if self._results.due:
            self._connection.send(self._results.take())

    # -- configuration ---------------------------------------------------------------------------

    def _configure(self, message: Mapping[str, Any]) -> None:
        try:
            self._config = parse_config(self._service, message, self._config)
        except UnsupportedOption as error:  # the defaults, as there
            self._complain(error.message)
        self._begin()

    def _begin(self) -> None:
        self._begun_s = self._config.resume_from_s
        self._results = self._new_results(self._begun_s)
        self._connection.open(self._config.options, self._begun_s)

    def _new_results(self, start_s: float) -> Results:
        return Results(self._config.chunk_s, start_s, self._config.options.language)

    def _reset(self) -> None:
        session = self._connection.session
        if session is None:
            self._connection.send({"status": "reset_complete"})
            return
        session.clear()
        session.call(lambda: self._connection.send_soon({"status": "reset_complete"}))

    def _reconfigure(self, config: object) -> None:
        try:
            wanted = parse_config(
                self._service, config if isinstance(config, dict) else {}, self._config
            )
        except UnsupportedOption as error:
            self._complain(error.message)
            return
        session, before = self._connection.session, self._config
        other_model = wanted.options.model != before.options.model
        if other_model or (wanted.options.encoding, wanted.options.rate) != (
            before.options.encoding,
            before.options.rate,
        ):
            self._begun_s, self._num_bytes = self._results.received_s, 0
        self._config = wanted
        self._results.chunk_s = wanted.chunk_s
        if session is not None and other_model:
            self._connection.open(wanted.options, self._begun_s)
        elif session is not None:
            session.reconfigure(wanted.options)
        self._connection.send({"status": "config_updated"})

    def _complain(self, message: str) -> None:
        self._connection.send({"status": "error", "message": message})

    # -- events ----------------------------------------------------------------------------------

    def messages(self, event: LiveEvent) -> Iterable[Message]:
        if self._config.events:
            yield from own_events(event)
        yield from self._results.hear(event)
        match event:
            case Lagging(behind_s=behind_s):
                yield {"status": "lagging", "behind_seconds": round(behind_s, 1)}
            case Failed(error=error):
                yield {"status": "error", "message": error.message}
            case Ended(error=None):
                yield {"status": "ended"}

    def failure(self, error: ServiceError) -> Iterable[Message]:
        yield {"status": "error", "message": error.message, "code": error.code}


# -- the config message ----------------------------------------------------------------------------


def default_config(service: Service) -> StreamConfig:
    return StreamConfig(LiveOptions(model=service.catalog.default_model))


def parse_config(
    service: Service, message: Mapping[str, Any], before: StreamConfig
) -> StreamConfig:
    """The config with what a message changes. Raises UnsupportedOption."""
    options = before.options
    if name := message.get("model_size") or message.get("model"):
        options = replace(options, model=resolve_model(service, str(name)))
    if "language" in message:
        options = replace(options, language=parse_language(str(message["language"] or "")))
    if "task" in message:
        options = replace(options, task=_choice(message, "task", Task))
    if "encoding" in message:
        options = replace(options, encoding=_choice(message, "encoding", Encoding))
    options = replace(
        options,
        rate=round(_number(message, "sample_rate", LOWEST_RATE, HIGHEST_RATE, options.rate)),
        use_context=_flag(message, "use_context", options.use_context),
        prompt=str(message.get("prompt", options.prompt))[:MAX_PROMPT_CHARS],
        hotwords=str(message.get("hotwords", options.hotwords))[:MAX_PROMPT_CHARS],
    )
    return StreamConfig(
        options,
        _number(message, "chunk_duration", SHORTEST_CHUNK_S, LONGEST_CHUNK_S, before.chunk_s),
        _flag(message, "events", before.events),
        _number(message, "resume_from_s", 0.0, 1e6, before.resume_from_s),
    )


def _object(text: str) -> dict[str, Any]:
    """Broken JSON counts as no configuration, as there."""
    if len(text) > MAX_TEXT_BYTES:
        return {}
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return message if isinstance(message, dict) else {}


def _choice(message: Mapping[str, Any], name: str, kind: Any) -> Any:
    try:
        return kind(str(message[name]).lower())
    except ValueError:
        raise UnsupportedOption(f"{name}: must be one of {', '.join(kind)}.") from None


def _number(
    message: Mapping[str, Any], name: str, low: float, high: float, default: float
) -> float:
    value = message.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise UnsupportedOption(f"{name}: must be a number from {low:g} to {high:g}.")
    return float(value)


def _flag(message: Mapping[str, Any], name: str, default: bool) -> bool:
    value = message.get(name, default)
    if not isinstance(value, bool):
        raise UnsupportedOption(f"{name}: must be true or false.")
    return value
