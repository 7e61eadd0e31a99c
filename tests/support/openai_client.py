"""The official OpenAI package for Python at a server of the tests, and its types taken literally.

The package builds its objects from whatever it is sent: a missing field becomes None, a string
passes for a number. So bodies and events are held against its types here, and strictly.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from openai import AsyncOpenAI, OpenAI
from openai.types.audio import TranscriptionDiarizedSegment
from openai.types.audio.transcription_stream_event import TranscriptionStreamEvent
from pydantic import BaseModel, TypeAdapter

from tests.support.server import Server
from tests.support.truth import audio_of, truth_of

T = TypeVar("T", bound=BaseModel)

MODEL = "whisper-1"
DIARIZING = "gpt-4o-transcribe-diarize"
EVENTS: TypeAdapter[Any] = TypeAdapter(TranscriptionStreamEvent)


def client_of(server: Server, **options: Any) -> OpenAI:
    """It tries everything once, unless told otherwise."""
    return OpenAI(**{"base_url": f"{server.url}/v1", "api_key": "any", "max_retries": 0, **options})


def async_client_of(server: Server) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0)


def strictly(kind: type[T], body: str) -> T:
    """A body as the package's own type of it."""
    json.loads(body, parse_constant=refuse)
    return kind.model_validate_json(body, strict=True)


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


def transcribe(client: OpenAI, name: str, kind: type[T], **options: Any) -> T:
    """A conversation's transcript: what came, which is also what the package makes of it."""
    answer = client.audio.transcriptions.with_raw_response.create(
        **{"file": audio_of(name), "model": MODEL, **options}
    )
    assert answer.headers["content-type"] == "application/json"
    body = strictly(kind, answer.text)
    parsed: Any = answer.parse()
    assert type(parsed) is kind
    assert parsed.model_dump() == body.model_dump()
    return body


def transcribed_text(client: OpenAI, name: str, response_format: str, **options: Any) -> str:
    """The same for the formats that are no JSON."""
    answer = client.audio.transcriptions.with_raw_response.create(
        **{"file": audio_of(name), "model": MODEL, "response_format": response_format, **options}
    )
    kind = "markdown" if response_format == "md" else "plain"
    assert answer.headers["content-type"] == f"text/{kind}; charset=utf-8"
    text: Any = answer.parse()
    assert isinstance(text, str)
    return text


def stream_events(client: OpenAI, name: str, **options: Any) -> list[Any]:
    """The events of a stream as they came, each held against its type."""
    with client.audio.transcriptions.with_streaming_response.create(
        **{"file": audio_of(name), "model": MODEL, "stream": True, **options}
    ) as answer:
        assert answer.headers["content-type"].split(";")[0] == "text/event-stream"
        blocks = "\n".join(answer.iter_lines()).strip().split("\n\n")
    events = []
    for block in blocks:
        fields = [line.split(": ", 1) for line in block.split("\n") if not line.startswith(":")]
        if not fields:  # a comment that keeps the connection alive
            continue
        assert [name for name, _ in fields] == ["event", "data"]
        event = EVENTS.validate_json(fields[1][1], strict=True)
        assert event.type == fields[0][1]
        events.append(event)
    return events


# -- truth ---------------------------------------------------------------------------------------


def spoken(name: str, key: str = "text") -> str:
    return " ".join(sentence[key] for sentence in truth_of(name)["sentences"])


def words_by_speaker(segments: Iterable[Any]) -> list[dict[str, Any]]:
    """The words of diarized segments, each with its segment's speaker."""
    return [{"word": word, "speaker": s.speaker} for s in segments for word in s.text.split()]


def labels(segments: Sequence[TranscriptionDiarizedSegment]) -> list[str]:
    """Who speaks, in the order in which they first do."""
    return list(dict.fromkeys(segment.speaker for segment in segments))
