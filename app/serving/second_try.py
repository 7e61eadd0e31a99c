"""A second try for requests whose front has died, in the proxies of Ray Serve.

A proxy passes a request to one front; if that dies, the proxy gives no answer, and its server then
says 500. What has been read of the request is kept here until an answer begins, so that another
front may have it. A proxy also reads whatever comes, however slowly its front takes it, so a body
that is too large for any endpoint ends here; its front refuses it. Ray Serve loads `middlewares`
into its proxies, see `config/environment.py`.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections import deque
from typing import IO

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.middleware.unread_body import DRAIN_BYTES
from app.config.settings import load_settings
from app.serving.proxy_headers import awaits_word, own_headers, stated_bytes, with_one_id

log = logging.getLogger("ray.serve")

TRIES = 4
PAUSE_S = 0.2
IN_MEMORY_BYTES = 1 << 20  # of a body; more lies in a file
READ_BYTES = 1 << 20
# What a body may have besides its file, which takes more in base64: see `FormLayout.max_bytes`.
BESIDES_FILE_BYTES = 64 << 20
BASE64 = 3 / 2
# Nothing becomes different if these come twice; or the client says so with a key.
REPEATABLE = ("/asr", "/detect-language", "/audio/transcriptions", "/audio/translations")
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})
IDEMPOTENCY_KEY = b"idempotency-key"


def middlewares() -> list[Middleware]:
    """Raises ConfigurationError."""
    return [Middleware(SecondTry, most_bytes(load_settings().max_file_size_mb))]


def most_bytes(max_file_size_mb: int) -> int:
    """Of a body: no endpoint takes more."""
    return round((max_file_size_mb << 20) * BASE64) + BESIDES_FILE_BYTES


class SecondTry:
    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        """`max_bytes`: of a body."""
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        scope = {**scope, "headers": own_headers(scope["headers"])}
        if scope["type"] == "websocket":
            await self._app(scope, receive, send)
            return
        tries = TRIES if may_repeat(scope) else 1
        with Kept(receive, self._passed_on(scope)) as kept:
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

    def _passed_on(self, scope: Scope) -> int:
        """How much of the body goes to the front. Of one that is to be refused, no more than a
        front reads so that its client looks for the answer.
        """
        if stated_bytes(scope["headers"]) <= self._max_bytes:
            return self._max_bytes
        return 0 if awaits_word(scope["headers"]) else DRAIN_BYTES


def may_repeat(scope: Scope) -> bool:
    return (
        scope["method"] in SAFE_METHODS
        or scope["path"].rstrip("/").endswith(REPEATABLE)
        or any(name == IDEMPOTENCY_KEY for name, _ in scope["headers"])
    )


class Kept:
    """A request's body as far as it was read, to be read once more."""

    def __init__(self, receive: Receive, max_bytes: int) -> None:
        """`max_bytes`: nothing is read beyond, and a body that is longer is not kept."""
        self._receive = receive
        self._max_bytes = max_bytes
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
        if self._num_bytes >= self._max_bytes and not self._ended:
            await asyncio.get_running_loop().create_future()  # until the front has answered
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
        if self._num_bytes >= self._max_bytes and not self._ended:
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
        if "headers" in message:
            message = {**message, "headers": with_one_id(message["headers"])}
        await self._send(message)
