"""Forms that are made to take long: they end early, or wait for their turn."""

from __future__ import annotations

import asyncio

import pytest

from app.api.multipart import CALLBACKS, MAX_STEP_BYTES, PatientParser
from app.domain.errors import MalformedRequest
from app.service.pace import Pace

START = b'--b\r\nContent-Disposition: form-data; name="audio_file"; filename="a"\r\n\r\n'


class Ignored:
    """Takes the parser's callbacks and counts the bytes of contents."""

    num_bytes = 0

    def __getattr__(self, name: str) -> object:
        assert name in CALLBACKS
        return self.take if name == "on_part_data" else lambda *_: None

    def take(self, data: bytes, start: int, end: int) -> None:
        self.num_bytes += end - start


class Turns(Pace):
    """Lets everybody go on at once, and adds up what it is told."""

    cost_s = 0.0

    def reserve(self, now_s: float, cost_s: float) -> float:
        self.cost_s += cost_s
        return now_s


def parsed(*pieces: bytes) -> tuple[Ignored, Turns]:
    form, turns = Ignored(), Turns()
    parser = PatientParser(b"b", form, turns)

    async def parse() -> None:
        for piece in pieces:
            await parser.parse(piece)

    asyncio.run(parse())
    return form, turns


def test_a_boundary_all_over_a_file() -> None:
    for size in (1 << 20, 7):  # at once, or cut into pieces anywhere
        body = START + b"\r\n--bx" * 5000
        with pytest.raises(MalformedRequest, match="its boundary is inside"):
            parsed(*(body[i : i + size] for i in range(0, len(body), size)))


def test_only_what_takes_long_waits() -> None:
    megabytes = 16 << 20
    form, cheap = parsed(START, bytes(megabytes), b"\r\n--b--\r\n")
    assert form.num_bytes == megabytes
    _, dear = parsed(START, b"\r\n--b", b" " * (megabytes // 16))
    assert dear.cost_s > 5 * cheap.cost_s
    assert dear.cost_s > 0.01
    assert MAX_STEP_BYTES <= 16 << 10  # which bounds how long a step takes
