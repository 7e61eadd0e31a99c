"""Security headers of every answer, and which web pages may call the service (CORS)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.config.access import AccessSettings

SECURITY = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}
# Only pages load anything, and nothing from other hosts.
POLICY = "default-src 'none'; frame-ancestors 'none'"
PAGE_POLICY = (
    "default-src 'self'; img-src 'self' data:; media-src 'self' blob:; object-src 'none'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
# Swagger UI starts from an inline script and sets inline styles.
DOCS_POLICY = f"{PAGE_POLICY}; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'"
DOCS = ("/docs", "/docs/oauth2-redirect")

# In addition to the headers that every page may read.
EXPOSED = (
    "Asr-Engine",
    "Content-Disposition",
    "Location",
    "RateLimit-Limit",
    "RateLimit-Policy",
    "RateLimit-Remaining",
    "RateLimit-Reset",
    "Retry-After",
    "WWW-Authenticate",
    "X-ASR-Ignored",
    "X-ASR-Joined",
    "X-ASR-Warning",
    "X-Request-ID",
)


def install(app: FastAPI, settings: AccessSettings) -> None:
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=("GET", "POST", "PUT", "PATCH", "DELETE"),
            allow_headers=("*",),
            expose_headers=EXPOSED,
        )
    app.add_middleware(HeadersMiddleware)


class HeadersMiddleware:
    """Adds headers to every answer; never replaces one that is already set. Plain ASGI.

    Calls the functions in `scope["state"]["answer_headers"]` for further headers when the answer
    begins. Refusals get them too.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        further: list[Callable[[], Mapping[str, str]]] = state.setdefault("answer_headers", [])

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                policy = _policy(scope, headers)
                for name, value in {
                    **SECURITY,
                    "Content-Security-Policy": policy,
                    **dict(item for give in further for item in give().items()),
                }.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers)


def _policy(scope: Scope, headers: MutableHeaders) -> str:
    if not headers.get("content-type", "").startswith("text/html"):
        return POLICY
    path = scope["path"].removeprefix(scope.get("root_path", ""))
    return DOCS_POLICY if path in DOCS else PAGE_POLICY
