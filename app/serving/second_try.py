"""A second try for requests whose front has died, in the proxies of Ray Serve.

A proxy passes a request to one front; if that dies, the proxy gives no answer, and its server then
says 500. What has been read of the request is kept here until an answer begins, so that another
front may have it. Ray
Serve loads `middlewares` into its proxies, see `config/environment.py`.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections import deque
from typing import IO

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger("ray.serve")

TRIES = 4
PAUSE_S = 0.2
IN_MEMORY_BYTES = 1 << 20  # of a body; more lies in a file
MOST_BYTES = 2 << 30  # longer bodies have no second try
READ_BYTES = 1 << 20
# Nothing becomes different if these come twice; or the client says so with a key.
REPEATABLE = ("/asr", "/detect-language", "/audio/transcriptions", "/audio/translations")
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})
IDEMPOTENCY_KEY = b"idempotency-key"


def middlewares() -> list[Middleware]:
    return [Middleware(SecondTry)]


class SecondTry:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        tries = TRIES if may_repeat(scope) else 1
        with Kept(receive) as kept:
            if tries == 1:
                kept.forget()
            for left in reversed(range(tries)):
                answer = Answer(send, kept)
                own = {**scope, "headers": list(scope["headers"])}
                await self._app(own, kept.receive, answer.send)
                if answer.begun or not left or not kept.may_be_read_again:
                    return
                log.warning("a front is lost, trying another one: %s", scope["path"])
                kept.rewind()
                await asyncio.sleep(PAUSE_S)


def may_repeat(scope: Scope) -> bool:
    return (
        scope["method"] in SAFE_METHODS
        or scope["path"].rstrip("/").endswith(REPEATABLE)
        or any(name == IDEMPOTENCY_KEY for name, _ in scope["headers"])
    )


class Kept:
    """A request's body as far as it was read, to be read once more."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        # closed by `forget`, often long before the block ends
        self._file: IO[bytes] | None = tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES)  # noqa: SIM115
        self._num_bytes = 0
        self._ended = False  # the body has been read to its end
        self._again: deque[int] = deque()  # sizes of what is to be read once more
        self._gone: Message | None = None

    def __enter__(self) -> Kept:
        return self

    def __exit__(self, *_: object) -> None:
        self._again.clear()
        self.forget()

    def forget(self) -> None:
        """There will be no other try."""
        if self._file is not None and not self._again:
            self._file.close()
            self._file = None

    @property
    def may_be_read_again(self) -> bool:
        """Whether all that was read is here, and its client as well."""
        return self._file is not None and self._gone is None

    def rewind(self) -> None:
        assert self._file is not None
        whole, rest = divmod(self._num_bytes, READ_BYTES)
        self._again = deque([READ_BYTES] * whole + [rest])
        self._file.seek(0)

    async def receive(self) -> Message:
        if self._again and self._file is not None:
            body = self._file.read(self._again.popleft())
            more = bool(self._again) or not self._ended
            return {"type": "http.request", "body": body, "more_body": more}
        if self._gone is not None:
            return self._gone
        message = await self._receive()
        if message["type"] == "http.request":
            self._keep(message)
        else:
            self._gone = message
        return message

    def _keep(self, message: Message) -> None:
        body = message.get("body", b"")
        self._num_bytes += len(body)
        self._ended = not message.get("more_body", False)
        if self._num_bytes > MOST_BYTES:
            self.forget()
        if self._file is not None:
            self._file.write(body)


class Answer:
    """Passes an answer on. Once it has begun, there is no other try."""

    def __init__(self, send: Send, kept: Kept) -> None:
        self._send = send
        self._kept = kept
        self.begun = False

    async def send(self, message: Message) -> None:
        if not self.begun:
            self.begun = True
            self._kept.forget()
        await self._send(without_doubles(message))


def without_doubles(message: Message) -> Message:
    """The proxy adds the ID of a request to an answer that has it already."""
    headers = message.get("headers")
    return message if headers is None else {**message, "headers": list(dict.fromkeys(headers))}
