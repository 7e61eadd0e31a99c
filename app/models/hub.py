"""Hub: the only way to the network for models. One watched attempt, which ends if nothing arrives.

The libraries that load models would ask a hub at every load, repeat failed requests for a minute
and a half, and wait forever for some answers. Here a fetch is a separate step before a model is
built; outside of one, huggingface_hub is offline and uses the cache.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
from huggingface_hub import configure_http_backend
from huggingface_hub.errors import OfflineModeIsEnabled
from requests.adapters import HTTPAdapter
from urllib3.exceptions import ReadTimeoutError

from app.config.environment import hub_is_offline

T = TypeVar("T")

MIN_BYTES_PER_S = 1000  # on average over the timeout; slower hubs count as silent
PIECE_BYTES = 1 << 16

UNREACHABLE = "the model hub cannot be reached."
SILENT = "the model hub does not answer."
STALLED = "the model hub stopped sending, or sends too slowly."
BROKE_OFF = "the download broke off."
OFFLINE = "it is not in the cache, and HF_HUB_OFFLINE forbids downloads."
NO_CERTIFICATE = "the model hub's certificate is not trusted."
REFUSALS = {
    401: "the model hub answered 401: it has no such model, or wants a valid HF_TOKEN.",
    403: "the model hub answered 403: accept the model's licence there, and set HF_TOKEN.",
    404: "the model hub answered 404: it has no such model.",
    429: "the model hub answered 429: too many requests from this address.",
}


class HubError(requests.RequestException):
    """Why a fetch failed: `reason` is a sentence for clients, `host` is for the log.

    huggingface_hub does not repeat a request for this exception, as it does for some of requests.
    """

    def __init__(self, reason: str, host: str = "") -> None:
        super().__init__(f"{reason} ({host})" if host else reason)
        self.reason = reason


class OfflineError(HubError):
    """The hub was not asked, because the operator forbids it."""


class _Watch:
    """Whether a fetch makes progress. Written by its thread, read by the thread that waits."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self.enough_bytes = int(MIN_BYTES_PER_S * timeout_s)
        self.host = ""
        self.answered = False
        self._stopped = False
        self._num_bytes = 0
        self._alive_at = time.monotonic()

    @property
    def left_s(self) -> float:
        return max(0.0, self._alive_at + self.timeout_s - time.monotonic())

    def alive(self) -> None:
        self._num_bytes = 0
        self._alive_at = time.monotonic()

    def received(self, num_bytes: int) -> None:
        self.check()
        self._num_bytes += num_bytes
        if self._num_bytes >= self.enough_bytes:
            self.alive()

    def stop(self) -> HubError:
        """End the fetch at its next step; returns the reason."""
        self._stopped = True
        return HubError(STALLED if self.answered else SILENT, self.host)

    def check(self) -> None:
        if self._stopped:
            raise HubError(STALLED, self.host)


class Hub:
    """Fetches with short timeouts. One per process, because huggingface_hub has one backend."""

    def __init__(self, timeout_s: float) -> None:
        """`timeout_s`: how long a hub may take to connect, to answer and to send more."""
        self._timeout_s = timeout_s
        self._thread = threading.local()
        configure_http_backend(self.session)

    def session(self) -> requests.Session:
        """For use inside `fetch`."""
        session = requests.Session()
        for scheme in ("http://", "https://"):
            session.mount(scheme, _WatchedAdapter(self))
        return session

    @property
    def watch(self) -> _Watch | None:
        """The watch of the fetch that this thread works on."""
        watch: _Watch | None = getattr(self._thread, "watch", None)
        return watch

    def fetch(self, download: Callable[[], T], bytes_on_disk: Callable[[], int] = lambda: 0) -> T:
        """What `download` returns. It runs in a thread of its own, which is abandoned without
        progress: not even a slow name server or file system holds the caller longer.

        `bytes_on_disk`: the size of the files that are being written. They also grow while another
        process downloads the same file and `download` waits for it.

        Raises:
            HubError: with the reason.
            OSError: from the disk.
        """
        if hub_is_offline():
            raise OfflineError(OFFLINE)
        watch = _Watch(self._timeout_s)
        done: Future[T] = Future()

        def work() -> None:
            self._thread.watch = watch
            try:
                done.set_result(download())
            # The boundary of the thread: libraries raise anything, and the caller must get it.
            except BaseException as error:  # noqa: BLE001
                done.set_exception(error)

        threading.Thread(target=work, name="fetch", daemon=True).start()
        num_bytes = bytes_on_disk()
        while not wait([done], watch.left_s).done:
            if watch.left_s > 0:
                continue
            grown = bytes_on_disk() - num_bytes
            if grown < watch.enough_bytes:
                raise watch.stop()
            num_bytes += grown
            watch.alive()
        try:
            return done.result()
        except HubError:
            raise
        except requests.RequestException as error:
            raise HubError(BROKE_OFF, watch.host) from error


class _WatchedAdapter(HTTPAdapter):
    """Sends each request of a fetch once; a failure becomes a `HubError`."""

    def __init__(self, hub: Hub) -> None:
        super().__init__(max_retries=0)
        self._hub = hub

    def send(  # type: ignore[override]
        self, request: requests.PreparedRequest, stream: bool = False, **options: Any
    ) -> requests.Response:
        watch = self._hub.watch
        if watch is None:
            raise OfflineModeIsEnabled("models are loaded from the cache")
        watch.check()
        watch.host = urlsplit(request.url or "").netloc.rpartition("@")[2]
        options["timeout"] = (watch.timeout_s, watch.timeout_s)
        try:
            response = super().send(request, stream, **options)
        except requests.Timeout as error:
            raise HubError(SILENT, watch.host) from error
        except requests.exceptions.SSLError as error:
            raise HubError(NO_CERTIFICATE, watch.host) from error
        except requests.ConnectionError as error:
            raise HubError(UNREACHABLE, watch.host) from error
        watch.answered = True
        watch.alive()
        if response.status_code >= 400:
            status = response.status_code
            response.close()
            raise HubError(REFUSALS.get(status, f"the model hub answered {status}."), watch.host)
        response.raw.stream = _watched_stream(response.raw, watch)
        return response


def _watched_stream(raw: Any, watch: _Watch) -> Callable[..., Iterator[bytes]]:
    """A replacement for `raw.stream` that reads piece by piece and reports each to the watch."""

    def stream(amt: int = PIECE_BYTES, decode_content: bool | None = None) -> Iterator[bytes]:
        while True:
            try:
                piece = raw.read1(min(amt, PIECE_BYTES), decode_content)
            except ReadTimeoutError as error:
                raise HubError(STALLED, watch.host) from error
            if not piece:
                return
            watch.received(len(piece))
            yield piece

    return stream
