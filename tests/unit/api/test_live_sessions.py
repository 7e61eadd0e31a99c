"""Sessions: how many are open, and in which order a client is told of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

from app.api.live.sessions import Sessions
from app.domain.errors import ClientGone, ModelUnavailable, ServiceError
from app.engine.work import Work
from app.live.events import Ended, LiveEvent, Looked, Reset
from app.live.options import LiveOptions

OPTIONS = LiveOptions("m")
FAILED = ModelUnavailable("The model cannot be loaded.")


class Session:
    """Does nothing by itself; notes what is asked of it."""

    def __init__(self, tell: Callable[[LiveEvent], None]) -> None:
        self.tell = tell
        self.finished = 0
        self.aborted: ServiceError | None = None
        self.heard = b""
        self.odd = b""

    def rest(self, options: LiveOptions) -> bytes:
        return self.odd

    def hear(self, data: bytes) -> None:
        self.heard += data

    def finish(self) -> None:
        self.finished += 1

    def abort(self, error: ServiceError) -> None:
        self.aborted = error


class Scene:
    def __init__(self) -> None:
        self.opened: list[Session] = []
        self.told: list[LiveEvent] = []
        call = SimpleNamespace(work=Work("w", 60))
        self.sessions = Sessions(SimpleNamespace(open=self.new, call=call), self.told.append)  # type: ignore[arg-type]

    def new(self, options: Any, tell: Callable[[LiveEvent], None], *more: Any) -> Session:
        self.opened.append(Session(tell))
        return self.opened[-1]

    async def open(self) -> asyncio.Task[None]:
        task = asyncio.create_task(self.sessions.open(OPTIONS))
        await passed()
        return task

    async def tell(self, number: int, *events: LiveEvent) -> None:
        for event in events:
            self.opened[number].tell(event)
        await passed()


async def passed() -> None:
    """What was begun has come as far as it can."""
    for _ in range(5):
        await asyncio.sleep(0)


def run(play: Callable[[Scene], Awaitable[None]]) -> Scene:
    async def all_of_it() -> Scene:
        scene = Scene()
        await play(scene)
        return scene

    return asyncio.run(all_of_it())


def test_a_third_waits_and_all_are_told_in_order() -> None:
    async def play(scene: Scene) -> None:
        for _ in range(2):
            assert (await scene.open()).done()
        assert scene.opened[0].finished
        third = await scene.open()
        assert not third.done()
        assert len(scene.opened) == 2
        await scene.tell(1, Looked(2.0), Ended())
        await scene.tell(0, Looked(1.0))
        assert scene.told == [Looked(1.0)]
        await scene.tell(0, Ended())  # of both at once
        assert third.done()
        assert scene.told == [Looked(1.0), Looked(2.0)]
        scene.sessions.finish()
        await scene.tell(2, Looked(3.0), Ended(), Reset())

    assert run(play).told == [Looked(1.0), Looked(2.0), Looked(3.0), Ended()]


def test_the_end_waits_for_both() -> None:
    async def play(scene: Scene) -> None:
        await scene.open()
        await scene.open()
        third = await scene.open()
        scene.sessions.finish()
        await passed()
        assert third.done()  # there is none any more
        await scene.tell(1, Ended())
        assert scene.told == []
        await scene.tell(0, Looked(1.0), Ended())
        assert (await scene.open()).done()

    scene = run(play)
    assert scene.told == [Looked(1.0), Ended()]
    assert len(scene.opened) == 2


def test_a_failure_ends_all_but_words_come_first() -> None:
    async def play(scene: Scene) -> None:
        await scene.open()
        await scene.open()
        await scene.tell(1, Ended(FAILED))
        await scene.tell(0, Looked(1.0), Ended())

    assert run(play).told == [Looked(1.0), Ended(FAILED)]

    async def play_first(scene: Scene) -> None:
        await scene.open()
        await scene.open()
        waiting = await scene.open()
        await scene.tell(0, Ended(FAILED))
        await scene.tell(1, Looked(2.0), Ended(FAILED))
        assert waiting.done()
        assert scene.opened[1].aborted is FAILED

    scene = run(play_first)
    assert scene.told == [Ended(FAILED)]
    assert len(scene.opened) == 2


def test_a_client_that_goes_ends_all_once() -> None:
    gone = ClientGone()

    async def play(scene: Scene) -> None:
        await scene.open()
        await scene.open()
        scene.sessions.abort(gone)
        scene.sessions.abort(gone)
        assert [session.aborted for session in scene.opened] == [gone, gone]
        await scene.tell(1, Ended(gone))
        await scene.tell(0, Ended(gone))

    assert run(play).told == [Ended(gone)]


def test_an_end_before_the_beginning() -> None:
    async def play(scene: Scene) -> None:
        scene.sessions.finish()
        scene.sessions.finish()
        assert (await scene.open()).done()
        scene.sessions.abort(ClientGone())

    assert run(play).told == [Ended()]


def test_the_beginning_of_a_sample_goes_to_the_session_that_hears_its_end() -> None:
    async def play(scene: Scene) -> None:
        await scene.open()
        scene.opened[0].odd = b"a"
        await scene.open()

    assert [session.heard for session in run(play).opened] == [b"", b"a"]
