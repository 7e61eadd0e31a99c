"""Why a URL could not be fetched: what the fetching process says, and the error that it means.

The process may have been taken over by what it fetched, so it chooses among the reasons below and
writes no sentence of its own.
"""

from __future__ import annotations

import http
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum, auto

from app.domain.errors import (
    DiskFull,
    FetchFailed,
    ServiceError,
    StageFailed,
    UploadTooLarge,
    UrlUnusable,
)
from app.storage.tempdir import DISK_FULL

MAX_REDIRECTS = 10
TRANSIENT_STATUSES = frozenset({408, 425, 429})
REFUSING, MISSING = frozenset({401, 403, 407, 451}), frozenset({404, 410})


class Reason(StrEnum):
    """Why a fetch failed."""

    FORBIDDEN = auto()
    SCHEME = auto()
    REDIRECTS = auto()
    STATUS = auto()
    TOO_LARGE = auto()
    TOO_LONG = auto()
    LIVE = auto()
    NO_RECORDING = auto()
    SEVERAL = auto()
    PAGES_OFF = auto()
    EMPTY = auto()
    CERTIFICATE = auto()
    UNRESOLVED = auto()
    TIMEOUT = auto()
    CONNECTION = auto()
    DISK_FULL = auto()
    MEMORY = auto()
    UNSAFE = auto()
    FAILED = auto()


class Failure(Exception):
    """`status`: of the server's answer, 0 if there was none. `detail`: names of exceptions."""

    def __init__(
        self, reason: Reason, status: int = 0, retry_after_s: int | None = None, detail: str = ""
    ) -> None:
        super().__init__(reason)
        self.reason, self.status, self.retry_after_s = reason, status, retry_after_s
        self.detail = detail


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """Limits of one fetch."""

    max_bytes: int
    max_duration_s: float


_UNUSABLE = {
    Reason.FORBIDDEN: "The URL leads to an address that is not public.",
    Reason.SCHEME: "The URL leads to an address that is neither http nor https.",
    Reason.REDIRECTS: f"The URL redirects in a wrong way or more than {MAX_REDIRECTS} times.",
    Reason.LIVE: "The URL leads to a live stream; only finished recordings can be fetched.",
    Reason.NO_RECORDING: "No recording was found at the URL.",
    Reason.SEVERAL: "There are several recordings at the URL; give the URL of one of them.",
    Reason.PAGES_OFF: "The URL leads to a page or a playlist; this service fetches files only.",
    Reason.EMPTY: "The file at the URL is empty.",
    Reason.CERTIFICATE: "The certificate of the URL's server is not valid.",
    Reason.MEMORY: "Fetching the URL takes too much memory.",
}
_FAILED = {
    Reason.UNRESOLVED: "The URL's server cannot be found; try again later.",
    Reason.TIMEOUT: "The URL's server did not answer in time; try again later.",
    Reason.CONNECTION: "The connection to the URL's server failed; try again later.",
}


def error_of(failure: Failure, limits: FetchLimits) -> ServiceError:
    """The error for the client."""
    reason = failure.reason
    if reason in _UNUSABLE:
        return UrlUnusable(_UNUSABLE[reason])
    if reason in _FAILED:
        return FetchFailed(_FAILED[reason])
    others: dict[Reason, Callable[[], ServiceError]] = {
        Reason.STATUS: lambda: _status_error(failure.status, failure.retry_after_s),
        Reason.TOO_LARGE: lambda: UploadTooLarge(
            f"The file at the URL is larger than the limit of {limits.max_bytes >> 20} MB."
        ),
        Reason.TOO_LONG: lambda: UploadTooLarge(
            f"The recording at the URL is longer than {limits.max_duration_s:g} seconds."
        ),
        Reason.DISK_FULL: lambda: DiskFull(DISK_FULL),
    }
    return others.get(reason, lambda: StageFailed("Fetching the URL failed."))()


def _status_error(status: int, retry_after_s: int | None) -> ServiceError:
    try:
        shown = f"{status} {http.HTTPStatus(status).phrase}"
    except ValueError:
        shown = str(status)
    if status in MISSING:
        return UrlUnusable(f"There is nothing at the URL: its server answered {shown}.")
    if status in REFUSING:
        return UrlUnusable(f"The URL's server refuses access: it answered {shown}.")
    if status >= 500 or status in TRANSIENT_STATUSES:
        return FetchFailed(f"The URL's server answered {shown}; try again later.", retry_after_s)
    return UrlUnusable(f"The URL's server answered {shown}.")
