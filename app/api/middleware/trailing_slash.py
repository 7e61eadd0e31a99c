"""Serves `/asr/` as `/asr`."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send


class TrailingSlashMiddleware:
    """Plain ASGI, outermost. A redirect instead would break clients that do not repeat their form,
    and lose the prefix that a proxy has taken away.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if "path" in scope:  # not the lifespan
            scope["path"] = without_slash(scope["path"], scope.get("root_path", ""))
        await self._app(scope, receive, send)


def without_slash(path: str, root_path: str) -> str:
    """The path without the slash at its end, unless it is all of it, or of what follows
    `root_path`, which gets one.
    """
    if root_path and path == root_path:
        return f"{path}/"
    shorter = path.removesuffix("/")
    return path if shorter in ("", root_path) or shorter.endswith("/") else shorter
