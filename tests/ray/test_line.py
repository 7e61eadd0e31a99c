"""A front's calls: repeated where their transcriber is lost, and only there."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Generator
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError, RaySystemError
from ray.serve.exceptions import BackPressureError, RayServeException

from app.domain.errors import ModelUnavailable, Overloaded, ShuttingDown, UnsupportedOption
from app.serving import ray_line
from app.serving.orders import Outcome
from app.serving.ray_line import TRIES, Line, asked_all
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


def test_one_that_is_full_ends_nothing() -> None:
    handle = Handle(Outcome(error=Overloaded("full", 7)), Outcome("done"))
    assert Line(handle).ask("method").result(60).value == "done"
    handle = Handle(Outcome(error=Overloaded("full", 7)))
    with pytest.raises(Overloaded) as raised:
        Line(handle).ask("method").result(60)
    assert raised.value.retry_after_s == 7
    assert handle.calls == TRIES


def test_calls_have_no_part_in_the_request_of_their_thread() -> None:
    """Ray would give them its ID."""
    request = contextvars.ContextVar("request", default="none")
    seen = []

    class Watching(Handle):
        def _called(self, *_: object) -> Handle:
            seen.append(request.get())
            return super()._called()

    request.set("of the client")
    Line(Watching(Outcome("done"))).ask("method").result(60)
    assert seen == ["none"]


def test_whatever_fails_when_all_are_asked_is_no_answer() -> None:
    def failing(error: Exception) -> Any:
        def results(**_: object) -> list[object]:
            raise error

        return SimpleNamespace(broadcast=lambda *_: SimpleNamespace(results=results))

    for error in (DIED, TimeoutError(), RayServeException("no"), RaySystemError("no")):
        assert asked_all(failing(error), "report", 1.0) == []


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
