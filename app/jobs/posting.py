"""Posts a webhook once, and says how that went."""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass

import httpcore
import httpx

from app import __version__
from app.storage.checked_network import CheckedNetwork, ForbiddenAddress, Resolve, resolve
from app.storage.egress import EgressRules
from app.storage.retry_after import retry_after_s
from app.storage.tls import is_unknown_host, is_wrong_certificate, tls_context

CONNECT_S = 10.0
MAX_ANSWER_BYTES = 64 << 10
# Answers that another try may change, although they say that the client is at fault.
TRANSIENT = frozenset({408, 425, 429})
FORBIDDEN = "The address is not public."


@dataclass(frozen=True, slots=True)
class Posted:
    """`status`: of the answer, if one came; else `reason` says why not. `refused`: nothing was
    sent and never will be.
    """

    status: int | None = None
    reason: str = ""
    retry_after_s: int | None = None
    refused: bool = False

    @property
    def accepted(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    @property
    def may_recover(self) -> bool:
        """Whether the receiver is at fault, and may work later."""
        return not (self.accepted or self.final)

    @property
    def final(self) -> bool:
        """Whether another try would be of no use."""
        if self.status is None:
            return self.refused
        return self.accepted or (400 <= self.status < 500 and self.status not in TRANSIENT)


class Poster:
    """Any thread."""

    def __init__(self, rules: EgressRules, timeout_s: float, look_up: Resolve = resolve) -> None:
        self._rules = rules
        self._timeout_s = timeout_s
        self._look_up = look_up
        self._tls: ssl.SSLContext | None = None

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Posted:
        """Redirects are not followed: they would take a signed body elsewhere."""
        try:
            request = httpx.Request("POST", url, headers=self._headers(headers), content=body)
            return self._send(_authorized(request), body)
        except ForbiddenAddress:
            return Posted(reason=FORBIDDEN, refused=True)
        except (httpx.InvalidURL, httpcore.UnsupportedProtocol):
            return Posted(reason="The URL is not valid.", refused=True)
        except httpcore.TimeoutException:
            return Posted(reason=f"No answer within {self._timeout_s:g} seconds.")
        except (httpcore.NetworkError, httpcore.ProtocolError) as error:
            return Posted(reason=_reason_of(error))

    @staticmethod
    def _headers(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
        """As bytes: httpx takes text in ASCII only, and a secret may be any text."""
        ours = {"Content-Type": "application/json", "User-Agent": f"whisperx-asr/{__version__}"}
        return [(name.encode(), value.encode()) for name, value in {**ours, **headers}.items()]

    def _trust(self, url: httpcore.URL) -> ssl.SSLContext | None:
        """Read when it is needed first: that takes long."""
        if self._tls is None and url.scheme == b"https":
            self._tls = tls_context()
        return self._tls

    def _send(self, request: httpx.Request, body: bytes) -> Posted:
        deadline = time.monotonic() + self._timeout_s
        network = CheckedNetwork(self._rules, deadline, CONNECT_S, self._look_up)
        url = httpcore.URL(
            scheme=request.url.raw_scheme,
            host=request.url.raw_host,
            port=request.url.port,
            target=request.url.raw_path,
        )
        with (
            httpcore.ConnectionPool(ssl_context=self._trust(url), network_backend=network) as pool,
            pool.stream("POST", url, headers=request.headers.raw, content=body) as response,
        ):
            _drain(response)
            answered = httpx.Headers(response.headers)
            return Posted(
                response.status, retry_after_s=retry_after_s(answered.get("Retry-After", ""))
            )


def _authorized(request: httpx.Request) -> httpx.Request:
    """With the user and the password of its URL, as every client of HTTP sends them."""
    url = request.url
    if not url.userinfo or "Authorization" in request.headers:
        return request
    return next(httpx.BasicAuth(url.username, url.password).auth_flow(request))


def _drain(response: httpcore.Response) -> None:
    """Read what a receiver says, up to a limit: to hang up on it would look like a failure there.

    The status has come, so what goes wrong from here on does not matter.
    """
    num_bytes = 0
    try:
        for piece in response.iter_stream():
            num_bytes += len(piece)
            if num_bytes > MAX_ANSWER_BYTES:
                return
    except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError):
        return


def _reason_of(error: Exception) -> str:
    if is_wrong_certificate(error):
        return "The certificate is not valid."
    if is_unknown_host(error):
        return "The host cannot be found."
    if isinstance(error, httpcore.ConnectError):
        return "The connection was refused."
    return "The connection broke before an answer came."
