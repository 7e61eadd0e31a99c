"""API keys: who may use the service, found out before anything of a request is read."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.middleware.refusals import refuse
from app.config.settings import Settings
from app.domain.errors import ConfigurationError, Unauthorized

log = logging.getLogger(__name__)

NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")  # harmless in logs and in metrics
KEY = re.compile(r"[!-+\--~]+")  # what a header carries unharmed, less the comma
COMMENT = re.compile(r"(?:^|\s)#.*$", re.MULTILINE)
MAX_FILE_BYTES = 1 << 20

NEEDED = "An API key is needed: send it as Authorization: Bearer KEY or as X-API-Key: KEY."
UNKNOWN = "This API key is not known."

# Probes have no key. The documentation is open so that its Authorize button can be reached.
OPEN = {"/", "/health", "/ready", "/docs", "/docs/oauth2-redirect", "/openapi.json"}
OPEN_BELOW = ("/static-offline-docs/",)
OPS = {"/queue", "/metrics"}  # open for reading where OPS_REQUIRE_KEY says so

SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "password": {
        "type": "http",
        "scheme": "basic",
        "description": "The key as password, for clients that take nothing but an address.",
    },
}


def client_name(scope: Scope) -> str:
    """The name of the key that a request came with; empty where there are no keys."""
    name: str = scope.get("state", {}).get("client_name", "")
    return name


def install(app: FastAPI, settings: Settings) -> None:
    """Ask for keys, if there are any.

    Raises:
        ConfigurationError: keys that cannot be read or cannot work.
    """
    keys = read_keys(settings)
    if keys is None:
        return
    log.info("requests need an API key; there are those of %s", ", ".join(keys.names))
    guard = Guard(settings.root_path, open_ops=not settings.ops_require_key)
    app.add_middleware(KeyMiddleware, keys=keys, guard=guard)
    _declare(app, guard)


# -- the keys ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key is kept as its digest: nothing can print it, and all are of one length."""

    name: str
    digest: bytes = field(repr=False)


class KeyRing:
    def __init__(self, keys: Sequence[ApiKey]) -> None:
        self._keys = tuple(keys)

    @property
    def names(self) -> list[str]:
        return list(dict.fromkeys(key.name for key in self._keys))

    def name_of(self, presented: Iterable[bytes]) -> str | None:
        """Whose key is among those presented. Takes as long whether or not there is one."""
        found = None
        for secret in presented:
            digest = _digest(secret)
            for key in self._keys:
                if hmac.compare_digest(key.digest, digest):
                    found = key.name
        return found


def read_keys(settings: Settings) -> KeyRing | None:
    """The keys of API_KEYS and API_KEYS_FILE; None where neither is set."""
    given = settings.api_keys.get_secret_value()
    if not given and settings.api_keys_file is None:
        return None
    entries = [("API_KEYS", entry) for entry in _entries(given)]
    if given and not entries:
        raise ConfigurationError("API_KEYS: there is no key in it.")
    if settings.api_keys_file is not None:
        text = _read(settings.api_keys_file)
        from_file = [("API_KEYS_FILE", entry) for entry in _entries(COMMENT.sub("", text))]
        if not from_file:
            raise ConfigurationError(f"API_KEYS_FILE: there is no key in {settings.api_keys_file}.")
        entries += from_file
    return KeyRing(_parse(entries))


def _entries(text: str) -> list[str]:
    return [part.strip() for part in re.split(r"[,\r\n]", text) if part.strip()]


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE_BYTES).decode("utf-8-sig")
    except OSError as error:
        raise ConfigurationError(
            f"API_KEYS_FILE: {path} cannot be read: {error.strerror}."
        ) from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"API_KEYS_FILE: {path} is not a text file.") from None


def _parse(entries: Iterable[tuple[str, str]]) -> list[ApiKey]:
    """Messages tell entries by their number: nothing of a key is ever shown."""
    names: dict[bytes, str] = {}
    for number, (variable, entry) in enumerate(entries, 1):
        name, colon, secret = entry.partition(":")
        if not colon:
            name, secret = f"key-{number}", entry
        if not NAME.fullmatch(name):
            raise ConfigurationError(
                f"{variable}: the name of key {number} is not allowed; what stands before the "
                "colon may be up to 64 letters, digits, dots, underscores and hyphens."
            )
        if not KEY.fullmatch(secret):
            raise ConfigurationError(
                f"{variable}: key {number} ({name}) is empty or has characters other than visible "
                "ASCII ones."
            )
        digest = _digest(secret.encode())
        if names.setdefault(digest, name) != name:
            raise ConfigurationError(f"{variable}: {names[digest]} and {name} have the same key.")
    return [ApiKey(name, digest) for digest, name in names.items()]


def _digest(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()


# -- requests ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Guard:
    """Which requests need a key: all but a few."""

    root_path: str
    open_ops: bool

    def lets_pass(self, path: str, method: str) -> bool:
        if self.root_path and path.startswith(f"{self.root_path}/"):  # as the router does
            path = path.removeprefix(self.root_path)
        if path in OPS:
            return self.open_ops and method in ("GET", "HEAD")
        return path in OPEN or path.startswith(OPEN_BELOW)


class KeyMiddleware:
    """Plain ASGI: a request without a key is answered before its body is read."""

    def __init__(self, app: ASGIApp, keys: KeyRing, guard: Guard) -> None:
        self._app = app
        self._keys = keys
        self._guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or self._guard.lets_pass(
            scope["path"], scope.get("method", "")
        ):
            await self._app(scope, receive, send)
            return
        presented = list(_presented(HTTPConnection(scope)))
        name = self._keys.name_of(presented)
        if name is None:
            error = Unauthorized(UNKNOWN if presented else NEEDED)
            await refuse(error, scope, receive, send)
            return
        scope.setdefault("state", {})["client_name"] = name
        await self._app(scope, receive, send)


def _presented(connection: HTTPConnection) -> Iterator[bytes]:
    """The keys of a request, wherever they stand: a proxy may use one of the headers itself."""
    for header, value in connection.headers.raw:
        if header == b"x-api-key" and value:
            yield value
        elif header == b"authorization":
            scheme, _, rest = value.partition(b" ")
            if scheme.lower() == b"bearer" and rest.strip():
                yield rest.strip()
            elif scheme.lower() == b"basic":
                yield from _password(rest.strip())


def _password(credentials: bytes) -> Iterator[bytes]:
    """Source: RFC 7617. What clients make of http://user:KEY@host, http://KEY@host."""
    try:
        user, _, password = base64.b64decode(credentials, validate=True).partition(b":")
    except binascii.Error:
        return
    if password or user:
        yield password or user


# -- the documentation ---------------------------------------------------------------------------


def _declare(app: FastAPI, guard: Guard) -> None:
    """Have /docs offer its Authorize button."""
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
