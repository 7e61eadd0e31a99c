"""A front's calls: repeated where their transcriber is lost, and only there."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError
from ray.serve.exceptions import BackPressureError

from app.domain.errors import ModelUnavailable, Overloaded, ShuttingDown, UnsupportedOption
from app.serving import ray_line
from app.serving.orders import Outcome
from app.serving.ray_line import TRIES, Line
from tests.support.waiting import eventually

DIED = ActorDiedError()


class Handle:
    """Of transcribers that answer so, one after the other; the last one ever again."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.calls = 0
        self.cancelled = threading.Event()
        self.method = SimpleNamespace(remote=self._called)

    def _called(self, *_: object) -> Handle:
        self.calls += 1
        return self

    def __await__(self) -> Generator[Any, None, Any]:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is None:
            yield from asyncio.sleep(600).__await__()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def cancel(self) -> None:
        self.cancelled.set()


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_line, "FIRST_PAUSE_S", 0.0)


def test_another_one_does_it() -> None:
    unavailable = ActorUnavailableError("gone", None)
    handle = Handle(DIED, unavailable, Outcome(error=ShuttingDown()), Outcome("done"))
    assert Line(handle).ask("method").result(60).value == "done"
    assert handle.calls == 4


def test_what_kills_everybody_ends() -> None:
    handle = Handle(DIED)
    with pytest.raises(ModelUnavailable) as raised:
        Line(handle).ask("method").result(60)
    assert raised.value.retry_after_s
    assert handle.calls == TRIES


def test_full_is_overloaded() -> None:
    handle = Handle(BackPressureError(5, 5))
    with pytest.raises(Overloaded) as raised:
        Line(handle).ask("method").result(60)
    assert raised.value.retry_after_s
    assert handle.calls == 1


def test_errors_of_the_service_arrive_as_themselves() -> None:
    handle = Handle(Outcome(error=UnsupportedOption("language: no.")))
    with pytest.raises(UnsupportedOption, match="language: no"):
        Line(handle).ask("method").result(60)
    assert handle.calls == 1


def test_a_cancelled_call_is_cancelled_there() -> None:
    handle = Handle(None)
    call = Line(handle).ask("method")
    eventually(lambda: handle.calls)
    call.cancel()
    assert handle.cancelled.wait(60)
