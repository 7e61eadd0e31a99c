"""Keeps a record of each request and reports it once the answer is sent."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.observability.record import NOT_SERVED, RequestRecord
from app.service.service import Service

CLIENT_CLOSED = 499


class ObservationMiddleware:
    """Plain ASGI, so that bodies stream through untouched. Runs inside RequestIdMiddleware."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state: dict[str, Any] = scope["state"]
        record = RequestRecord(state["request_id"], scope["method"], scope["path"])
        state["record"] = record

        async def send_and_note(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
            await send(message)

        with self._service.tracing.request(record, Headers(scope=scope)):
            try:
                await self._app(scope, receive, send_and_note)
            except asyncio.CancelledError:
                record.status, record.error = CLIENT_CLOSED, "Cancelled"
                raise
            except BaseException as error:
                record.status, record.error = 500, type(error).__name__
                raise
            finally:
                record.request_id = state["request_id"]  # changed if it was taken
                record.endpoint = getattr(scope.get("route"), "path", NOT_SERVED)
                record.address = (scope.get("client") or ("",))[0]
                record.client_name = str(state.get("client_name") or "")
                record.end()
                self._service.report(record)
