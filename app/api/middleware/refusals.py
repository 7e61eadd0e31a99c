"""The answer to a request that middleware refuses before its body is read."""

from __future__ import annotations

from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from app.api.middleware.unread_body import UnreadBody, has_body
from app.domain.errors import ServiceError


async def refuse(error: ServiceError, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the application's own form of an error."""
    answer = scope["app"].exception_handlers[ServiceError]
    response: Response = await answer(HTTPConnection(scope), error)
    if scope["type"] == "websocket":
        await response(scope, receive, send)
        return
    request = Request(scope, receive)
    if has_body(request.headers):
        response.headers["Connection"] = "close"  # else the server would read the whole body

    async def send_and_hold(message: Message) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "more_body": True}
        await send(message)

    # The whole answer goes out first: a client that looks for it stops sending. We read on for a
    # while for one that does not, since it would see a reset connection instead.
    await response(scope, receive, send_and_hold)
    await UnreadBody(receive, begun="expect" not in request.headers).drain()
    await send({"type": "http.response.body", "body": b"", "more_body": False})
