"""What a transcriber answers once it has lost its device."""

from __future__ import annotations

import asyncio
import math
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from app.domain.errors import ShuttingDown, StageFailed, UnsupportedOption
from app.service.admission import Admission
from app.service.threads import Threads
from app.serving.hall import Hall
from app.serving.orders import Order, Outcome

ORDER = Order("a", "demo", 1.0, 60.0)


class Device:
    """Is lost while it works, and then nothing else says why."""

    def __init__(self, error: Exception) -> None:
        self.broken = threading.Event()
        self.error = error
        self.calls = 0

    def prepare(self, *_: object) -> None:
        self.calls += 1
        self.broken.set()
        raise self.error


def prepared(device: Device) -> Outcome:
    return asyncio.run(hall(device).prepare(ORDER, None))


def hall(device: Device) -> Hall:
    service: Any = SimpleNamespace(
        transcriber=device,
        broken=device.broken,
        admission=Admission(9),
        threads=Threads(1),
        models=SimpleNamespace(loaded=list),
    )
    return Hall(service, "Transcriber#a")


@pytest.mark.parametrize("error", [StageFailed("failed"), RuntimeError("an illegal memory access")])
def test_another_one_does_what_a_lost_device_has_spoiled(error: Exception) -> None:
    device = Device(error)
    assert isinstance(prepared(device).error, ShuttingDown)
    assert isinstance(prepared(device).error, ShuttingDown)
    assert device.calls == 1  # it begins nothing more
    assert hall(device).routed_s == math.inf


def test_what_nobody_could_do_is_told_nevertheless() -> None:
    assert isinstance(prepared(Device(UnsupportedOption("no"))).error, UnsupportedOption)


def test_a_transcriber_without_a_thread_sends_the_request_on() -> None:
    device = Device(StageFailed("failed"))
    closed = hall(device)
    closed.service.threads.shutdown()
    assert isinstance(asyncio.run(closed.prepare(ORDER, None)).error, ShuttingDown)
    assert device.calls == 0
