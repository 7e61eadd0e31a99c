"""A front's calls of transcribers: repeated on another one if theirs dies, cancelled at will."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any, TypeAlias, TypeVar

from ray.exceptions import (
    ObjectLostError,
    RayActorError,
    RayError,
    TaskCancelledError,
    WorkerCrashedError,
)
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RayServeException
from ray.serve.handle import DeploymentHandle

from app.domain.errors import ModelUnavailable, Overloaded, ServiceError, ShuttingDown
from app.serving.orders import Event, Outcome, Started

log = logging.getLogger(__name__)

T = TypeVar("T")
Handle: TypeAlias = DeploymentHandle[Any]

# The transcriber has died, or is about to: another one may do it.
LOST = (
    RayActorError, WorkerCrashedError, ObjectLostError, TaskCancelledError,
    DeploymentUnavailableError, ShuttingDown,
)  # fmt: skip
TRIES = 4  # a recording that kills each process must not kill them all
FIRST_PAUSE_S = 0.1
GONE = "No process that holds models could do it; try again."
FULL = "All processes that hold models are busy; try again later."
RETRY_AFTER_S = 10


class Line:
    """Has an event loop of its own in a thread of its own. Any thread may call."""

    def __init__(self, transcribers: Handle) -> None:
        self._transcribers = transcribers
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="transcribers", daemon=True).start()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)

    def ask(self, method: str, *arguments: object) -> Future[Outcome]:
        """One answer. Cancelling the future cancels the call in the transcriber, too.

        Its future raises ServiceError: the answer is one, all transcribers are full, or none lives.
        """
        return self._start(lambda: self._ask(method, arguments))

    def follow(
        self, method: str, take: Callable[[Event], None], *arguments: object
    ) -> Future[Outcome]:
        """Many events, then the outcome. `take` is called in the thread of the calls; it gets
        `Started` whenever it is begun anew.
        """
        return self._start(lambda: self._follow(method, take, arguments))

    def _start(self, once: Callable[[], Awaitable[Outcome]]) -> Future[Outcome]:
        # Ray would take over the ID of the request that the thread works for, and mix its calls up.
        context = contextvars.Context()
        return context.run(asyncio.run_coroutine_threadsafe, _repeated(once), self._loop)

    async def _ask(self, method: str, arguments: tuple[object, ...]) -> Outcome:
        response = getattr(self._transcribers, method).remote(*arguments)
        try:
            return _checked(await response)
        except asyncio.CancelledError:
            response.cancel()
            raise

    async def _follow(
        self, method: str, take: Callable[[Event], None], arguments: tuple[object, ...]
    ) -> Outcome:
        streaming = self._transcribers.options(stream=True)
        events = getattr(streaming, method).remote(*arguments)
        take(Started())
        try:
            async for several in events:
                for event in several:
                    if isinstance(event, Outcome):
                        return _checked(event)
                    take(event)
        except asyncio.CancelledError:
            events.cancel()
            raise
        raise ShuttingDown  # it ended without an outcome

    def everybody(self, method: str, timeout_s: float, *arguments: object) -> list[Any]:
        """The answers of all transcribers that live and answer in time."""
        return asked_all(self._transcribers, method, timeout_s, *arguments)


def asked_all(handle: Handle, method: str, timeout_s: float, *arguments: object) -> list[Any]:
    """The answers of all replicas that live and answer in time."""
    try:
        answers = handle.broadcast(method, *arguments).results(
            timeout_s=timeout_s, return_exceptions=True
        )
    except (TimeoutError, RayError, RayServeException):
        return []
    return [answer for answer in answers if not isinstance(answer, BaseException)]


def _checked(outcome: Outcome) -> Outcome:
    if outcome.error is not None:
        raise outcome.error
    return outcome


async def _repeated(once: Callable[[], Awaitable[Outcome]]) -> Outcome:
    failure: ServiceError = ModelUnavailable(GONE, RETRY_AFTER_S)
    for attempt in range(TRIES):
        if attempt:
            await asyncio.sleep(FIRST_PAUSE_S * 4**attempt)
        try:
            return await once()
        except BackPressureError:  # of all
            raise Overloaded(FULL, RETRY_AFTER_S) from None
        except Overloaded as error:  # of one
            failure = error
        except LOST as error:
            failure = ModelUnavailable(GONE, RETRY_AFTER_S)
            log.warning("a transcriber is lost, trying another one: %s", _kind(error))
    raise failure


def _kind(error: BaseException) -> str:
    return error.code if isinstance(error, ServiceError) else type(error).__name__
