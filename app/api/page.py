"""The page for people: /, /client, and its files below /web. Nothing of it needs a key."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from app import __version__
from app.api.head import answer_head

WEB = Path(__file__).parents[1] / "web"
ADDRESSES = ("/", "/client", "/client/")
NONCE = "{nonce}"
CONTENT_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
FRESH = "no-cache"  # browsers ask each time, and mostly hear that nothing has changed


@dataclass(frozen=True, slots=True)
class WebFile:
    content: bytes
    content_type: str
    etag: str


def read_web_files(folder: Path = WEB) -> dict[str, WebFile]:
    """All that is served below /web, by its path in there. Read once: it is small."""
    return {
        file.relative_to(folder).as_posix(): WebFile(
            content := file.read_bytes(), content_type, _etag(content)
        )
        for file in folder.rglob("*")
        if (content_type := CONTENT_TYPES.get(file.suffix))
    }


def _etag(content: bytes) -> str:
    return f'"{hashlib.sha256(content).hexdigest()[:32]}"'


def build_router() -> APIRouter:
    router = APIRouter(include_in_schema=False)
    files = read_web_files()
    index = (WEB / "index.html").read_text()

    async def page(request: Request) -> Response:
        if wants_page(request):
            return moved_page(request) or page_response(index)
        return JSONResponse(about(request))

    for address in ADDRESSES:
        router.add_api_route(address, page, methods=["GET"])

    @router.get("/web/{path:path}")
    async def web_file(request: Request, path: str) -> Response:
        found = files.get(path)
        if found is None:
            return JSONResponse({"detail": "The page has no such file."}, 404)
        headers = {"ETag": found.etag, "Cache-Control": FRESH}
        if request.headers.get("if-none-match") == found.etag:
            return Response(status_code=304, headers=headers)
        return Response(found.content, media_type=found.content_type, headers=headers)

    answer_head(router)
    return router


def wants_page(request: Request) -> bool:
    """Whether a browser asks, which names HTML; other clients take anything."""
    return "text/html" in request.headers.get("accept", "")


def moved_page(request: Request) -> Response | None:
    """The way from `/client/`, where the relative links of the page are wrong."""
    if not request.url.path.endswith("/client/"):
        return None
    return Response(status_code=307, headers={"Location": "../client"})


def page_response(index: str) -> Response:
    """The page, with a nonce of its own for the style sheet that the waveform adds."""
    nonce = secrets.token_urlsafe(16)
    policy = (
        "default-src 'none'; script-src 'self'; connect-src 'self'; img-src 'self' data:; "
        f"style-src 'self' 'nonce-{nonce}'; media-src 'self' blob:; worker-src 'self'; "
        "manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    headers = {"Content-Security-Policy": policy, "Cache-Control": "no-store"}
    return Response(index.replace(NONCE, nonce), media_type="text/html", headers=headers)


def about(request: Request) -> dict[str, Any]:
    """What the service is, for whoever asks without a browser."""
    root = request.scope.get("root_path", "")
    return {
        "service": "WhisperX ASR service",
        "version": __version__,
        "docs": f"{root}/docs",
        "endpoints": {
            "transcribe": f"{root}/asr",
            "openai": f"{root}/v1/audio/transcriptions",
            "jobs": f"{root}/transcribe",
            "stream": f"{root}/stream",
            "health": f"{root}/health",
        },
    }
