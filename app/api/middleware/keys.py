"""API keys over HTTP, checked before any of the request's body is read."""

from __future__ import annotations

import base64
import binascii
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any
from urllib.parse import unquote_to_bytes

from fastapi import FastAPI
from starlette.datastructures import QueryParams
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from app.access.guesses import Guesses
from app.access.keys import KeyRing, read_keys
from app.access.links import SIGNATURE, Links
from app.api.middleware.refusals import refuse
from app.api.rate_limits import address_of
from app.config.access import AccessSettings
from app.domain.errors import RateLimited, Unauthorized

log = logging.getLogger(__name__)
NEEDED = "An API key is needed: send it as Authorization: Bearer KEY or as X-API-Key: KEY."
UNKNOWN = "This API key is not known."
EXPIRED = "This link has expired, or its key is gone: ask for a new one."
LINKED = re.compile(r"(?:/api/v1)?/media/([^/]{1,64})")  # what links lead to

MAX_PRESENTED = 8  # keys of one request that are looked at

# Probes have no key. The documentation is open so that its Authorize button is reachable.
OPEN = {
    "/",
    "/client",
    "/health",
    "/ready",
    "/status",
    "/docs",
    "/docs/oauth2-redirect",
    "/openapi.json",
}
OPEN_BELOW = ("/static-offline-docs/", "/web/")
KEY_SUBPROTOCOL = b"openai-insecure-api-key."
OPS = {"/queue", "/metrics"}  # readable without a key unless OPS_REQUIRE_KEY is true

SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "password": {
        "type": "http",
        "scheme": "basic",
        "description": "The key as password, for clients that take nothing but an address.",
    },
}


def install(app: FastAPI, settings: AccessSettings, root_path: str) -> None:
    """Require an API key if any are configured.

    Raises:
        ConfigurationError: keys that cannot be read or are invalid.
    """
    keys = read_keys(settings)
    if keys is None:
        return
    log.info("requests need an API key; keys exist for %s", ", ".join(keys.names))
    guard = Guard(root_path, open_ops=not settings.ops_require_key)
    app.add_middleware(KeyMiddleware, keys=keys, guard=guard)
    _declare(app, guard)


@dataclass(frozen=True, slots=True)
class Guard:
    """Decides which few requests need no key."""

    root_path: str
    open_ops: bool

    def lets_pass(self, path: str, method: str) -> bool:
        path = self._within_root(path)
        if path in OPS:
            return self.open_ops and method in ("GET", "HEAD")
        return path in OPEN or path.startswith(OPEN_BELOW)

    def linked(self, scope: Scope) -> tuple[str, QueryParams] | None:
        """The job whose recording a signed link asks for, and the link's query."""
        if scope.get("method") not in ("GET", "HEAD"):
            return None
        match = LINKED.fullmatch(self._within_root(scope["path"]))
        query = QueryParams(scope["query_string"])
        return (match[1], query) if match and SIGNATURE in query else None

    def _within_root(self, path: str) -> str:
        is_below = self.root_path and path.startswith(f"{self.root_path}/")  # like the router
        return path.removeprefix(self.root_path) if is_below else path


class KeyMiddleware:
    """Refuses a request without a valid key before its body is read. Plain ASGI."""

    def __init__(self, app: ASGIApp, keys: KeyRing, guard: Guard) -> None:
        self._app = app
        self._keys = keys
        self._links = Links(keys)
        self._guard = guard
        self._guesses = Guesses()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or self._guard.lets_pass(
            scope["path"], scope.get("method", "")
        ):
            await self._app(scope, receive, send)
            return
        try:
            scope.setdefault("state", {})["client_name"] = self._client_name(scope)
        except (Unauthorized, RateLimited) as error:
            await refuse(error, scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _client_name(self, scope: Scope) -> str:
        """The name of the request's key.

        Raises:
            Unauthorized: it has none, or a wrong one.
            RateLimited: too many wrong ones came from its address.
        """
        if linked := self._guard.linked(scope):
            return self._client_of_link(*linked)
        presented = dict.fromkeys(islice(_presented(HTTPConnection(scope)), MAX_PRESENTED))
        if not presented:
            raise Unauthorized(NEEDED)
        names = [self._keys.name_of([key]) for key in presented]
        name = next(filter(None, names), None)
        num_wrong = names.count(None)
        # beside a right one, one may be a proxy's own
        self._guesses.note(address_of(scope), name, num_wrong - (name is not None))
        if name is None:
            raise Unauthorized(UNKNOWN)
        return name

    def _client_of_link(self, task_id: str, query: QueryParams) -> str:
        """The name of the key that has signed it. Raises Unauthorized."""
        name = self._links.client_of(task_id, query)
        if name is None:
            raise Unauthorized(EXPIRED)
        return name


def _presented(connection: HTTPConnection) -> Iterator[bytes]:
    """The keys in any of the headers, since a proxy may use one of the headers itself."""
    for header, value in connection.headers.raw:
        if header == b"x-api-key" and value:
            yield value
        elif header == b"sec-websocket-protocol":
            yield from _in_subprotocol(value)
        elif header == b"authorization":
            scheme, _, rest = value.partition(b" ")
            if scheme.lower() == b"bearer" and rest.strip():
                yield rest.strip()
            elif scheme.lower() == b"basic":
                yield from _password(rest.strip())


def _in_subprotocol(value: bytes) -> Iterator[bytes]:
    """The key that pages send, which cannot set headers of a WebSocket. Source: OpenAI's API."""
    for offered in value.split(b","):
        name = offered.strip()
        if name.startswith(KEY_SUBPROTOCOL):
            key = name.removeprefix(KEY_SUBPROTOCOL)
            yield key
            yield unquote_to_bytes(key)  # a page has to write what no name may have as %2F


def _password(credentials: bytes) -> Iterator[bytes]:
    """The key that clients send for http://user:KEY@host or http://KEY@host. Source: RFC 7617."""
    try:
        user, _, password = base64.b64decode(credentials, validate=True).partition(b":")
    except binascii.Error:
        return
    if password or user:
        yield password or user


# -- the documentation ---------------------------------------------------------------------------


def _declare(app: FastAPI, guard: Guard) -> None:
    """Make /docs show its Authorize button."""
    without_keys = app.openapi

    def openapi() -> dict[str, Any]:
        schema = without_keys()
        schema["components"]["securitySchemes"] = SCHEMES
        schema["security"] = [{scheme: []} for scheme in SCHEMES]
        for path, operations in schema["paths"].items():
            for method, operation in operations.items():
                if guard.lets_pass(path, method.upper()):
                    operation["security"] = []
        return schema

    app.openapi = openapi  # type: ignore[method-assign]
