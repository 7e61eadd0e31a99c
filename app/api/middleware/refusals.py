"""The answer to a request that middleware turns away, its body unread."""

from __future__ import annotations

from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from app.api.middleware.unread_body import UnreadBody, has_body
from app.domain.errors import ServiceError


async def refuse(error: ServiceError, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with an error in the form that the application gives it."""
    answer = scope["app"].exception_handlers[ServiceError]
    response: Response = await answer(HTTPConnection(scope), error)
    if scope["type"] == "websocket":
        await response(scope, receive, send)
        return
    request = Request(scope, receive)
    if has_body(request.headers):
        response.headers["Connection"] = "close"  # else all that is still to come would be read

    async def send_and_hold(message: Message) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "more_body": True}
        await send(message)

    # The answer comes first, whole: a client that looks for it stops sending. One that does not is
    # heard out for a while, since it would find a reset connection instead.
    await response(scope, receive, send_and_hold)
    await UnreadBody(receive, begun="expect" not in request.headers).drain()
    await send({"type": "http.response.body", "body": b"", "more_body": False})
