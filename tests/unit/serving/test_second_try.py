"""A request whose front has died goes to another one, as far as that is right."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from typing import Any

import pytest

from app.api.forms import ASR_FORM
from app.api.jobs.parameters import JOB_FORM
from app.api.middleware.unread_body import DRAIN_BYTES
from app.api.openai.parameters import OPENAI_FORM
from app.serving import second_try
from app.serving.second_try import SecondTry

LARGE = bytes(3 << 20)
MOST_BYTES = 8 << 20


class Proxy:
    """Passes requests to fronts, of which the first ones die; answers with what they have read."""

    def __init__(self, deaths: int, dies_after: int = 1) -> None:
        self.deaths = deaths
        self.dies_after = dies_after  # messages
        self.tries = 0
        self.headers: dict[bytes, bytes] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.tries += 1
        self.headers = dict(scope["headers"])
        if self.tries <= self.deaths:
            for _ in range(self.dies_after):
                await receive()
            return  # its server says 500
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        headers = [(b"x-request-id", b"a"), (b"X-Request-ID", b"of the proxy")]
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
    asyncio.run(SecondTry(proxy, MOST_BYTES)(scope, receive, send))
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


@pytest.mark.parametrize(
    ("headers", "most"),
    [
        ((), 10),
        (((b"content-length", b"99"),), DRAIN_BYTES),
        (((b"content-length", b"99"), (b"expect", b"100-continue")), 0),
    ],
)
def test_no_more_is_read_than_any_front_takes(
    headers: tuple[tuple[bytes, bytes], ...], most: int
) -> None:
    """A front answers by what it has; nothing of such a body is kept."""
    part = {"type": "http.request", "body": bytes(max(2, most // 4)), "more_body": True}
    received: list[int] = []
    sent: list[Any] = []

    async def receive() -> Any:
        received.append(len(part["body"]))
        return part

    async def refuse(scope: Any, receive: Any, send: Any) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                while True:
                    await receive()
        await send({"type": "http.response.start", "status": 413, "headers": []})

    async def send(message: Any) -> None:
        sent.append(message["status"])

    scope = {"type": "http", "method": "POST", "path": "/asr", "headers": list(headers)}
    asyncio.run(SecondTry(refuse, 10)(scope, receive, send))
    assert most <= sum(received) <= most + len(part["body"])
    assert sent == [413]


def test_a_longest_body_is_kept() -> None:
    body = [bytes(MOST_BYTES // 2)] * 2
    assert answer(Proxy(1, 2), body) == (200, bytes(MOST_BYTES))


def test_no_form_may_have_more() -> None:
    for layout in (ASR_FORM, JOB_FORM, OPENAI_FORM):
        for mb in (1, 1000, 1_000_000):
            assert layout.max_bytes(mb << 20, True) <= second_try.most_bytes(mb)


@pytest.mark.parametrize("given", [b"", b"note-7", b"\xff", b"a b", b"x" * 200])
def test_the_proxy_learns_nothing_but_a_harmless_id(given: bytes) -> None:
    proxy = Proxy(0)
    hints = [b"x-request-timeout-seconds", b"X_Session_ID", b"serve_multiplexed_model_id"]
    own = [(b"x-request-id", given)] if given else []
    answer(proxy, [b"a"], headers=(*own, (b"accept", b"*/*"), *((hint, b"1") for hint in hints)))
    assert set(proxy.headers) == {b"x-request-id", b"accept"}
    request_id = proxy.headers[b"x-request-id"]
    assert request_id == given if given == b"note-7" else re.fullmatch(b"[0-9a-f]{16}", request_id)


def test_a_client_that_is_gone_needs_no_other_try() -> None:
    proxy = Proxy(100, dies_after=2)
    asyncio.run(SecondTry(proxy, MOST_BYTES)(SCOPE, hanging_up(), unheard))
    assert proxy.tries == 1


SCOPE = {"type": "http", "method": "POST", "path": "/asr", "headers": []}


def hanging_up() -> Any:
    messages = [{"type": "http.request", "body": b"a", "more_body": True}]

    async def receive() -> Any:
        return messages.pop() if messages else {"type": "http.disconnect"}

    return receive


async def unheard(message: Any) -> None:
    raise AssertionError(message)
