"""The page for people: /, /client, and its files below /web. Nothing of it needs a key."""

from __future__ import annotations

import hashlib
import html
import posixpath
import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from app import __version__
from app.api.head import answer_head

WEB = Path(__file__).parents[1] / "web"
ADDRESSES = ("/", "/client", "/client/")
NONCE, WEB_ROOT, ROOT, PRELOADS = "{nonce}", "{web}", "{root}", "{preloads}"
FIRST_MODULE = "js/main.js"
IMPORT = re.compile(r'^(?:import|export)\b[^"\n]*"(\.[^"]+)";', re.MULTILINE)
CONTENT_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
FRESH = "no-cache"  # browsers ask each time, and mostly hear that nothing has changed
LASTING = "public, max-age=31536000, immutable"  # below an address that names this very version


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


def version_of(files: Mapping[str, WebFile]) -> str:
    """A name for all files as they are: part of their addresses, so that browsers keep them."""
    names = "".join(f"{path}{files[path].etag}" for path in sorted(files))
    return hashlib.sha256(names.encode()).hexdigest()[:16]


def modules_of(files: Mapping[str, WebFile], first: str = FIRST_MODULE) -> Iterator[str]:
    """Every module that the first one imports, itself or through others; each once.

    A browser that knows them at once need not read one to hear of the next.
    """
    found = [first]
    for path in found:
        yield path
        for address in IMPORT.findall(files[path].content.decode()):
            imported = posixpath.normpath(posixpath.join(posixpath.dirname(path), address))
            if imported not in found:
                found.append(imported)


def complete(index: str, files: Mapping[str, WebFile]) -> str:
    """The page, but for what differs between requests."""
    links = (f'<link rel="modulepreload" href="{WEB_ROOT}/{path}">' for path in modules_of(files))
    text = index.replace(PRELOADS, "\n    ".join(links))
    return text.replace(WEB_ROOT, f"{ROOT}web/{version_of(files)}")


def build_router() -> APIRouter:
    router = APIRouter(include_in_schema=False)
    files = read_web_files()
    index, version = complete((WEB / "index.html").read_text(), files), version_of(files)

    async def page(request: Request) -> Response:
        if wants_page(request):
            return moved_page(request) or page_response(index, root_of(request))
        return JSONResponse(about(request))

    for address in ADDRESSES:
        router.add_api_route(address, page, methods=["GET"])

    @router.get("/web/{path:path}")
    async def web_file(request: Request, path: str) -> Response:
        named, path = split_version(path)
        found = files.get(path)
        if found is None:
            return JSONResponse({"detail": "The page has no such file."}, 404)
        cache = LASTING if named == version else FRESH  # a page of before an update may ask, too
        headers = {"ETag": found.etag, "Cache-Control": cache}
        if request.headers.get("if-none-match") == found.etag:
            return Response(status_code=304, headers=headers)
        return Response(found.content, media_type=found.content_type, headers=headers)

    answer_head(router)
    return router


def split_version(path: str) -> tuple[str, str]:
    """The version that an address names, if any, and the file."""
    match = re.fullmatch(r"(?:([0-9a-f]{16})/)?(.*)", path, re.DOTALL)
    assert match
    return match.group(1) or "", match.group(2)


def root_of(request: Request) -> str:
    """What addresses on the page begin with. Nothing without a root path: they are relative then,
    and right behind a proxy that the settings do not tell of, as long as it is asked with a slash.
    """
    root = request.scope.get("root_path", "")
    return html.escape(f"{root}/") if root else ""


def wants_page(request: Request) -> bool:
    """Whether a browser asks, which names HTML; other clients take anything."""
    return "text/html" in request.headers.get("accept", "")


def moved_page(request: Request) -> Response | None:
    """The way from `/client/`, where the relative links of the page are wrong."""
    if not request.url.path.endswith("/client/"):
        return None
    return Response(status_code=307, headers={"Location": "../client"})


def page_response(index: str, root: str) -> Response:
    """The page, with a nonce of its own for the style sheet that the waveform adds."""
    nonce = secrets.token_urlsafe(16)
    policy = (
        "default-src 'none'; script-src 'self'; connect-src 'self'; img-src 'self' data:; "
        f"style-src 'self' 'nonce-{nonce}'; media-src 'self' blob:; worker-src 'self'; "
        "manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    headers = {"Content-Security-Policy": policy, "Cache-Control": "no-store"}
    content = index.replace(NONCE, nonce).replace(ROOT, root)
    return Response(content, media_type="text/html", headers=headers)


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
