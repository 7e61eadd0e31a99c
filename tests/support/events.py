"""Server-sent events of a running service."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.support.server import Server


@dataclass(frozen=True)
class Told:
    """`after_s`: since the request began."""

    name: str
    data: dict[str, Any]
    after_s: float


def read_events(response: httpx.Response, started: float) -> Iterator[Told]:
    """As the standard has them: fields up to an empty line; comments are skipped."""
    name, data = "", []
    for line in response.iter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            data.append(line.removeprefix("data: "))
        elif not line and data:
            yield Told(name, json.loads("\n".join(data)), time.monotonic() - started)
            name, data = "", []
        else:
            assert not line or line.startswith((":", "id: ")), line


@contextmanager
def streaming(
    server: Server,
    file: Path | bytes,
    endpoint: str = "/asr",
    field: str = "audio_file",
    **form: Any,
) -> Iterator[tuple[httpx.Response, Iterator[Told]]]:
    content = file.read_bytes() if isinstance(file, Path) else file
    started = time.monotonic()
    with (
        httpx.Client(timeout=300) as client,
        client.stream(
            "POST",
            server.url + endpoint,
            data={"stream": "true", **{key: str(value) for key, value in form.items()}},
            files={field: ("audio.flac", content)},
        ) as response,
    ):
        yield response, read_events(response, started)


def stream(server: Server, file: Path | bytes, **form: Any) -> list[Told]:
    """All events of a stream that succeeds."""
    with streaming(server, file, **form) as (response, events):
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"].startswith("text/event-stream")
        return list(events)
