"""A request whose front has died goes to another one, as far as that is right."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from app.serving import second_try
from app.serving.second_try import SecondTry

LARGE = bytes(3 << 20)


class Proxy:
    """Passes requests to fronts, of which the first ones die; answers with what they have read."""

    def __init__(self, deaths: int, dies_after: int = 1) -> None:
        self.deaths = deaths
        self.dies_after = dies_after  # messages
        self.tries = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.tries += 1
        if self.tries <= self.deaths:
            for _ in range(self.dies_after):
                await receive()
            return  # its server says 500
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        headers = [(b"x-request-id", b"a")] * 2
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def answer(
    proxy: Proxy,
    body: list[bytes],
    path: str = "/asr",
    headers: tuple[tuple[bytes, bytes], ...] = (),
) -> tuple[int, bytes]:
    messages = [
        {"type": "http.request", "body": part, "more_body": i < len(body) - 1}
        for i, part in enumerate(body)
    ]
    sent: list[Any] = []

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": path, "headers": list(headers)}
    asyncio.run(SecondTry(proxy)(scope, receive, send))
    starts = [message for message in sent if message["type"] == "http.response.start"]
    if not starts:
        return 500, b""
    assert starts == [starts[0] | {"headers": [(b"x-request-id", b"a")]}]
    return starts[0]["status"], b"".join(message.get("body", b"") for message in sent)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(second_try, "PAUSE_S", 0.0)


@pytest.mark.parametrize("dies_after", [0, 1, 3])
def test_another_front_gets_the_whole_body(dies_after: int) -> None:
    proxy = Proxy(2, dies_after)
    assert answer(proxy, [b"a", LARGE, b"b"]) == (200, b"a" + LARGE + b"b")
    assert proxy.tries == 3


def test_not_for_ever() -> None:
    proxy = Proxy(100)
    assert answer(proxy, [b"a"])[0] == 500
    assert proxy.tries == second_try.TRIES


def test_a_job_is_accepted_twice_only_with_a_key() -> None:
    assert answer(Proxy(1), [b"a"], "/jobs")[0] == 500
    assert answer(Proxy(1), [b"a"], "/jobs", ((b"idempotency-key", b"x"),)) == (200, b"a")


def test_a_body_that_was_too_long_to_keep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(second_try, "MOST_BYTES", 10)
    assert answer(Proxy(1, 2), [b"x" * 6, b"y" * 6])[0] == 500
    assert answer(Proxy(0), [b"x" * 6, b"y" * 6]) == (200, b"x" * 6 + b"y" * 6)


def test_a_client_that_is_gone_needs_no_other_try() -> None:
    proxy = Proxy(100, dies_after=2)
    asyncio.run(SecondTry(proxy)(SCOPE, hanging_up(), unheard))
    assert proxy.tries == 1


SCOPE = {"type": "http", "method": "POST", "path": "/asr", "headers": []}


def hanging_up() -> Any:
    messages = [{"type": "http.request", "body": b"a", "more_body": True}]

    async def receive() -> Any:
        return messages.pop() if messages else {"type": "http.disconnect"}

    return receive


async def unheard(message: Any) -> None:
    raise AssertionError(message)
