"""Fetches the recording of a page or a playlist with yt-dlp. Runs in the fetching process."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from app.storage.fetch_failure import Failure, FetchLimits, Reason
from app.storage.fetch_gate import Gate
from app.storage.fetch_http import PAUSE_S, Kind, clean_name, reason_of

NUM_TRIES = 2  # of each request and segment


class _Silence:
    """yt-dlp's log: what went wrong is in its exceptions, and lines may hold a client's tokens."""

    def debug(self, message: str) -> None: ...
    def warning(self, message: str) -> None: ...
    def error(self, message: str) -> None: ...


def fetch_page(url: str, kind: Kind, target: Path, gate: Gate, limits: FetchLimits) -> str:
    """The name of the recording of a page or playlist, now at `target`.

    Raises Failure.
    """
    try:
        import yt_dlp  # large, optional, and only few URLs need it
    except ModuleNotFoundError:
        raise Failure(Reason.PAGES_OFF) from None
    try:
        with yt_dlp.YoutubeDL(_options(target, gate, limits)) as downloader:
            # a playlist is of no site: to compare it with all of them takes seconds
            generic = kind is Kind.PLAYLIST
            info = downloader.extract_info(url, download=True, force_generic_extractor=generic)
    # The boundary of a library that raises what its hundreds of sites make it raise.
    except Exception as error:  # noqa: BLE001
        raise _failure(error) from None
    return _take(info, target, gate)


def _options(target: Path, gate: Gate, limits: FetchLimits) -> dict[str, Any]:
    def check_progress(progress: dict[str, Any]) -> None:
        gate.check(progress.get("downloaded_bytes") or 0)  # max_filesize ignores playlists
        gate.expect(progress.get("total_bytes") or 0)

    def check_entry(info: dict[str, Any], *, incomplete: bool) -> None:
        if (info.get("n_entries") or 1) > 1:
            raise Failure(Reason.SEVERAL)
        if info.get("is_live") or info.get("live_status") in ("is_live", "is_upcoming"):
            raise Failure(Reason.LIVE)
        if (info.get("duration") or 0) > limits.max_duration_s:
            raise Failure(Reason.TOO_LONG)

    return {
        "format": "bestaudio/best",
        "outtmpl": {"default": "page.%(ext)s"},
        "paths": {"home": str(target.parent)},
        "playlist_items": "1:2",  # the second one shows that there are several
        "noplaylist": True,  # of a video in a playlist: the video
        "match_filter": check_entry,
        "progress_hooks": [check_progress],
        "socket_timeout": PAUSE_S,
        "retries": NUM_TRIES,
        "fragment_retries": NUM_TRIES,
        "extractor_retries": NUM_TRIES,
        "skip_unavailable_fragments": False,  # no recording with holes
        "external_downloader": {"default": "native"},  # no program may be started
        "fixup": "never",
        "proxy": "",  # it would connect for us, unchecked
        "cachedir": False,
        "updatetime": False,
        "quiet": True,
        "noprogress": True,
        "logger": _Silence(),
    }


def _take(info: dict[str, Any] | None, target: Path, gate: Gate) -> str:
    while info and info.get("entries"):
        info = info["entries"][0]
    downloads = (info or {}).get("requested_downloads") or []
    if not info or not downloads:
        raise Failure(Reason.NO_RECORDING)
    path = Path(downloads[0]["filepath"])
    num_bytes = path.stat().st_size
    gate.check(num_bytes)
    if num_bytes == 0:
        raise Failure(Reason.EMPTY)
    path.rename(target)
    return clean_name(f"{info.get('title') or 'recording'}{path.suffix}")


def _failure(error: BaseException) -> Failure:
    """What an exception of yt-dlp means: the first cause that says it."""
    from yt_dlp.networking.exceptions import HTTPError, TransportError
    from yt_dlp.utils import YoutubeDLError

    causes = list(_causes(error))
    detail = " ".join(type(cause).__name__ for cause in causes)
    for cause in causes:
        if isinstance(cause, Failure):
            return cause
        if isinstance(cause, HTTPError):
            reason = Reason.REDIRECTS if cause.redirect_loop else Reason.STATUS
            return Failure(reason, cause.status, detail=detail)
        if isinstance(cause, MemoryError):
            return Failure(Reason.MEMORY, detail=detail)
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return Failure(Reason.DISK_FULL, detail=detail)
    for cause in causes:
        if isinstance(cause, TransportError):
            return Failure(reason_of(cause), detail=detail)
    known = any(isinstance(cause, YoutubeDLError) for cause in causes)
    return Failure(Reason.NO_RECORDING if known else Reason.FAILED, detail=detail)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The exception and all that led to it, in the ways in which yt-dlp notes that."""
    seen: set[int] = set()
    left: list[Any] = [error]
    while left:
        cause = left.pop(0)
        if not isinstance(cause, BaseException) or id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        with suppress(AttributeError, TypeError, IndexError):
            left.append(cause.exc_info[1])  # type: ignore[attr-defined]
        left += [getattr(cause, "cause", None), cause.__cause__, cause.__context__]
