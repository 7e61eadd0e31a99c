"""WS /v1/realtime: OpenAI's Realtime transcription, in its general and its beta form."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from starlette.websockets import WebSocket

from app.api.live.connection import LiveConnection, Message
from app.api.live.realtime_config import RealtimeConfig, beta_updated, default_config, updated
from app.api.live.values import decoded, parsed
from app.domain.errors import ServiceError, UnsupportedOption
from app.formats.live import stream_seconds
from app.live.events import Dropped, Failed, Final, LiveEvent, Partial, SpeechEnded, SpeechStarted

SUBPROTOCOL = "realtime"
BETA_SUBPROTOCOL = "openai-beta.realtime-v1"
BETA_HEADER = "openai-beta"
LEAST_COMMIT_S = 0.1
MAX_ID_CHARS = 512
NO_MESSAGE = "The message must be a JSON object with a type."
EMPTY = "input_audio_buffer_commit_empty"


class RealtimeContract:
    """See `api/live/connection.Contract`."""

    def __init__(self, connection: LiveConnection, websocket: WebSocket) -> None:
        self._connection = connection
        self._service = connection.live.service
        # A model of conversations stands in the address, not one that transcribes.
        self._config = default_config(self._service)
        self._beta = is_beta(websocket)
        self._id = f"sess_{secrets.token_hex(10)}"
        self._item_prefix = f"item_{secrets.token_hex(8)}"
        self._expires_at = int(time.time() + connection.live.settings.live_max_session_s)
        self._previous: str | None = None
        self._told: dict[int, str] = {}  # the text of deltas, by utterance
        self._received_s = self._begun_s = self._committed_s = 0.0

    @staticmethod
    def protocol(websocket: WebSocket) -> str | None:
        offered = websocket.scope.get("subprotocols") or ()
        return SUBPROTOCOL if SUBPROTOCOL in offered else None

    async def start(self) -> None:
        name = "transcription_session.created" if self._beta else "session.created"
        self._send(name, session=self._shown())

    async def text(self, text: str) -> None:
        message: Any = None
        try:
            message = parsed(text)
            await self._handle(message)
        except UnsupportedOption as error:
            self._refuse(error.message, message)
        except ValueError:
            self._refuse(NO_MESSAGE, message)

    async def data(self, data: bytes) -> None:
        self._refuse("Send sound in input_audio_buffer.append, not as binary messages.", None)

    async def _handle(self, message: Any) -> None:
        match message.get("type") if isinstance(message, dict) else None:
            case "input_audio_buffer.append":
                await self._append(message)
            case "input_audio_buffer.commit":
                self._commit(message)
            case "input_audio_buffer.clear":
                self._clear()
            case "session.update":
                session = _session(message)
                config = updated(self._service, self._config, session)
                await self._update(config, "session.updated")
            case "transcription_session.update":
                session = _session(message)
                config = beta_updated(self._service, self._config, session)
                await self._update(config, "transcription_session.updated")
            case str(kind):
                raise UnsupportedOption(f"type: {kind[:60]!r} is not one of a transcription.")
            case _:
                raise UnsupportedOption(NO_MESSAGE)

    # -- what clients send -----------------------------------------------------------------------

    async def _append(self, message: Mapping[str, Any]) -> None:
        data = await decoded(message.get("audio"))
        if self._connection.finishing:
            return
        if self._connection.session is None:
            await self._connection.open(self._config.options)
        options = self._config.options
        self._received_s += len(data) / (options.encoding.sample_bytes * options.rate)
        await self._connection.charge(self._received_s)
        await self._connection.hear(data)

    def _commit(self, message: Mapping[str, Any]) -> None:
        session = self._connection.session
        if session is None or self._received_s - self._committed_s < LEAST_COMMIT_S:
            self._refuse("The buffer has less than 100 ms of sound.", message, code=EMPTY)
            return
        self._committed_s = self._received_s
        nothing = self._refusal("Nobody has spoken since the last commit.", message, EMPTY)
        session.commit(otherwise=lambda: self._connection.send_soon(nothing))

    def _clear(self) -> None:
        session, self._committed_s = self._connection.session, self._received_s
        cleared = self._event("input_audio_buffer.cleared")
        if session is None:
            self._connection.send(cleared)
            return
        session.clear()
        session.call(lambda: self._connection.send_soon(cleared))

    async def _update(self, config: RealtimeConfig, answer: str) -> None:
        before, self._config = self._config, config
        session = self._connection.session
        if session is not None and config.options.model != before.options.model:
            await self._connection.open(config.options, self._received_s)
        elif session is not None:
            session.reconfigure(config.options)
        self._send(answer, session=self._shown())

    def _shown(self) -> Message:
        config, vad = self._config, self._config.turn_detection
        common = {"id": self._id, "expires_at": self._expires_at}
        if self._beta:
            beta = {"audio/pcm": "pcm16", "audio/pcmu": "g711_ulaw", "audio/pcma": "g711_alaw"}
            return {
                **common,
                "object": "realtime.transcription_session",
                "input_audio_format": beta[config.format_type],
                "input_audio_transcription": config.transcription(),
                "turn_detection": vad,
                "input_audio_noise_reduction": None,
                "include": None,
            }
        sound = {
            "format": config.format,
            "transcription": config.transcription(),
            "noise_reduction": None,
            "turn_detection": vad,
        }
        return {
            **common,
            "object": "realtime.transcription_session",
            "type": "transcription",
            "audio": {"input": sound},
            "include": None,
        }

    # -- what they hear --------------------------------------------------------------------------

    def messages(self, event: LiveEvent) -> Iterator[Message]:
        match event:
            case SpeechStarted() if self._config.turn_detection is not None:
                yield self._event(
                    "input_audio_buffer.speech_started",
                    audio_start_ms=_ms(event.at_s),
                    item_id=self._item(event.utterance),
                )
            case SpeechEnded():
                yield from self._committed(event)
            case Partial() if event.committed:
                text = "".join(word.text for word in event.committed)
                yield self._delta(event.utterance, text)
            case Final():
                yield from self._completed(event)
            case Dropped():
                self._told.pop(event.utterance, None)
            case Failed():
                self._told.pop(event.utterance, None)
                yield self._transcription("failed", event.utterance, error=_error(event.error))

    def _committed(self, event: SpeechEnded) -> Iterator[Message]:
        item_id = self._item(event.utterance)
        if self._config.turn_detection is not None:
            yield self._event(
                "input_audio_buffer.speech_stopped",
                audio_end_ms=_ms(event.at_s),
                item_id=item_id,
            )
        before, self._previous = self._previous, item_id
        yield self._event("input_audio_buffer.committed", item_id=item_id, previous_item_id=before)
        item = {
            "id": item_id,
            "object": "realtime.item",
            "type": "message",
            "role": "user",
            "status": "completed",
            "content": [{"type": "input_audio", "transcript": None}],
        }
        names = ("created",) if self._beta else ("added", "done")
        for name in names:
            yield self._event(f"conversation.item.{name}", item=item, previous_item_id=before)

    def _delta(self, utterance: int, text: str) -> Message:
        told = self._told.get(utterance, "")
        self._told[utterance] = told + text
        return self._transcription("delta", utterance, delta=text if told else text.lstrip())

    def _completed(self, event: Final) -> Iterator[Message]:
        rest = "".join(word.text for word in event.rest)
        if rest:
            yield self._delta(event.utterance, rest)
        self._told.pop(event.utterance, None)
        yield from self._segments(event)
        text = "".join(segment.text for segment in event.transcript.segments).strip()
        seconds = round(event.end_s - event.start_s, 3)
        yield self._transcription(
            "completed",
            event.utterance,
            transcript=text,
            usage={"type": "duration", "seconds": seconds},
        )

    def _segments(self, event: Final) -> Iterator[Message]:
        """Who says what, where speakers were asked for."""
        for number, segment in enumerate(event.transcript.segments):
            if segment.speaker is not None:
                yield self._transcription(
                    "segment",
                    event.utterance,
                    id=f"seg_{self._item(event.utterance)}_{number}",
                    speaker=segment.speaker,
                    start=stream_seconds(segment.start_s),
                    end=stream_seconds(segment.end_s),
                    text=segment.text.strip(),
                )

    def _transcription(self, kind: str, utterance: int, **fields: Any) -> Message:
        name = f"conversation.item.input_audio_transcription.{kind}"
        return self._event(name, item_id=self._item(utterance), content_index=0, **fields)

    def failure(self, error: ServiceError) -> Iterable[Message]:
        yield self._event("error", error={**_error(error), "event_id": None})

    def _refuse(self, message: str, cause: Any, code: str = "invalid_value") -> None:
        self._connection.send(self._refusal(message, cause, code))

    def _refusal(self, message: str, cause: Any, code: str) -> Message:
        event_id = cause.get("event_id") if isinstance(cause, dict) else None
        error = {
            "type": "invalid_request_error",
            "code": code,
            "message": message,
            "param": None,
            "event_id": event_id if _is_id(event_id) else None,
        }
        return self._event("error", error=error)

    def _send(self, name: str, **fields: Any) -> None:
        self._connection.send(self._event(name, **fields))

    def _event(self, name: str, **fields: Any) -> Message:
        return {"type": name, "event_id": f"event_{secrets.token_hex(10)}", **fields}

    def _item(self, utterance: int) -> str:
        return f"{self._item_prefix}_{utterance}"


def _session(message: Mapping[str, Any]) -> Mapping[str, Any]:
    session = message.get("session") or {}
    if not isinstance(session, dict):
        raise UnsupportedOption("session: must be an object.")
    return session


def _is_id(value: object) -> bool:
    return isinstance(value, str) and len(value) <= MAX_ID_CHARS


def is_beta(websocket: WebSocket) -> bool:
    offered = websocket.scope.get("subprotocols") or ()
    return BETA_SUBPROTOCOL in offered or "realtime=v1" in websocket.headers.get(BETA_HEADER, "")


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _error(error: ServiceError) -> Message:
    kind = "invalid_request_error" if error.is_permanent else "server_error"
    return {"type": kind, "code": error.code, "message": error.message, "param": None}
