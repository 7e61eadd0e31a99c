"""Fetches a file over HTTP. Runs in the fetching process."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from enum import Enum, auto
from pathlib import Path
from urllib.parse import unquote

import httpx

from app import __version__
from app.storage.fetch_failure import MAX_REDIRECTS, Failure, Reason
from app.storage.fetch_gate import Gate
from app.storage.retry_after import retry_after_s
from app.storage.tls import causes, is_unknown_host, is_wrong_certificate, tls_context

PAUSE_S = 30.0  # longest pause of a server
CONNECT_S = 15.0
PIECE_BYTES = 64 << 10
MAX_NAME_CHARS = 255
PAGES = {"text/html", "application/xhtml+xml"}
PLAYLISTS = {
    "application/vnd.apple.mpegurl", "application/mpegurl", "application/x-mpegurl",
    "audio/mpegurl", "audio/x-mpegurl", "application/dash+xml", "video/vnd.mpeg.dash.mpd",
    "application/vnd.ms-sstr+xml",
}  # fmt: skip
PAGE_STARTS = re.compile(rb"\s*<(!doctype html|html)", re.IGNORECASE)
PLAYLIST_STARTS = re.compile(rb"\s*(#EXTM3U|(<\?xml[^>]*>\s*)?<MPD)")
CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


class Kind(Enum):
    """What a URL may lead to besides a file."""

    PAGE = auto()
    PLAYLIST = auto()


def fetch_file(url: str, target: Path, gate: Gate) -> str | Kind:
    """The name of the file, now at `target`, or what is there instead of one.

    Raises Failure.
    """
    with _failures(), _client() as client, client.stream("GET", url) as response:
        _check_status(response)
        pieces = response.iter_bytes(PIECE_BYTES)
        first = next(pieces, b"")
        if not first:
            raise Failure(Reason.EMPTY)
        kind = _kind(response, first)
        if kind is not None:
            return kind
        gate.expect(_announced_bytes(response))
        _write(target, first, pieces, gate)
        return name_of(response)


def _client() -> httpx.Client:
    return httpx.Client(
        verify=tls_context(),
        trust_env=False,  # a proxy would connect for us, unchecked
        follow_redirects=True,
        max_redirects=MAX_REDIRECTS,
        timeout=httpx.Timeout(PAUSE_S, connect=CONNECT_S),
        headers={"User-Agent": f"whisperx-asr/{__version__}", "Accept-Encoding": "identity"},
    )


def _write(target: Path, first: bytes, pieces: Iterator[bytes], gate: Gate) -> None:
    num_bytes = len(first)
    with target.open("wb") as file:
        gate.check(num_bytes)
        file.write(first)
        for piece in pieces:
            num_bytes += len(piece)
            gate.check(num_bytes)
            file.write(piece)


def _check_status(response: httpx.Response) -> None:
    if response.status_code != 200:
        raise Failure(
            Reason.STATUS,
            response.status_code,
            retry_after_s(response.headers.get("Retry-After", "")),
        )


def _announced_bytes(response: httpx.Response) -> int:
    value = response.headers.get("Content-Length", "")
    return int(value) if value.isascii() and value.isdecimal() and len(value) < 20 else 0


def _kind(response: httpx.Response, first: bytes) -> Kind | None:
    if PLAYLIST_STARTS.match(first):
        return Kind.PLAYLIST
    if PAGE_STARTS.match(first):
        return Kind.PAGE
    if b"\0" in first:  # some servers call every file a page
        return None
    media_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if media_type in PLAYLISTS:
        return Kind.PLAYLIST
    return Kind.PAGE if media_type in PAGES else None


def name_of(response: httpx.Response) -> str:
    """How the server calls its file."""
    message = Message()
    message["Content-Disposition"] = response.headers.get("Content-Disposition", "")
    try:
        given = message.get_filename("")
    except (ValueError, LookupError):  # an encoding that does not exist
        given = ""
    return clean_name(given or unquote(response.url.path))


def clean_name(name: str) -> str:
    """The last part of a name, without signs that would change how it is shown."""
    last = re.split(r"[/\\]", name)[-1]
    return CONTROLS.sub("", last).strip()[-MAX_NAME_CHARS:]


@contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except httpx.TooManyRedirects:
        raise Failure(Reason.REDIRECTS) from None
    except httpx.UnsupportedProtocol:
        raise Failure(Reason.SCHEME) from None
    except httpx.InvalidURL:
        raise Failure(Reason.REDIRECTS) from None
    except httpx.TimeoutException:
        raise Failure(Reason.TIMEOUT) from None
    except httpx.HTTPError as error:
        raise Failure(reason_of(error), detail=type(error).__name__) from None


def reason_of(error: BaseException) -> Reason:
    """The reason of a failed connection, by what caused it."""
    if is_wrong_certificate(error):
        return Reason.CERTIFICATE
    if is_unknown_host(error):
        return Reason.UNRESOLVED
    timed_out = any(isinstance(cause, TimeoutError) for cause in causes(error))
    return Reason.TIMEOUT if timed_out else Reason.CONNECTION
