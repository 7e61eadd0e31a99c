"""What an app serves, as far as the server has to know."""

from __future__ import annotations

from typing import Any

from starlette.routing import Match, Mount

from app.api.middleware.trailing_slash import without_slash


def serves_websocket(app: Any, path: str) -> bool:
    """Whether a route of the app takes WebSockets at this path.

    Mounts do not count: they match every kind of connection, and ours serve files.
    """
    root_path: str = getattr(app, "root_path", "")
    path = without_slash(path, root_path)
    scope = {"type": "websocket", "path": path, "root_path": root_path, "headers": ()}
    return any(
        route.matches(scope)[0] is Match.FULL
        for route in app.routes
        if not isinstance(route, Mount)
    )
