"""RequestRecord: what the log, the metrics and the trace say about a request."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from app.observability.stages import Stage, StageClock

NOT_SERVED = "other"  # the endpoint of unknown paths
INTERNAL_ERROR = "InternalError"  # any error that is not a ServiceError


@dataclass(slots=True)
class RequestRecord:
    """Filled in while the request is served. Empty or None: unknown, or does not apply.

    `endpoint` is the route, never the path as the client wrote it; `model` is a name of the
    catalog. `error` is the class of the ServiceError, `warnings` are kinds, `text` is the
    transcript if LOG_TRANSCRIPTS is on. `joined`: it was computed for an equal request.
    `counts`: its audio was not counted for another one.
    """

    request_id: str
    method: str
    path: str
    endpoint: str = NOT_SERVED
    dialect: str = ""
    model: str = ""
    client_name: str = ""
    address: str = ""  # of the client, as trusted proxies report it
    status: int = 0
    audio_s: float | None = None
    upload_bytes: int | None = None
    warnings: tuple[str, ...] = ()
    error: str = ""
    joined: bool = False
    counts: bool = True
    text: str | None = None
    stages: StageClock = field(default_factory=StageClock)
    seconds: float = 0.0

    def end(self) -> None:
        self.seconds = time.monotonic() - self.stages.started

    @property
    def processing_s(self) -> float:
        """From the end of the upload to the answer."""
        return max(0.0, self.seconds - self.stages.seconds().get(Stage.UPLOAD, 0.0))

    @property
    def rtf(self) -> float | None:
        """Processing seconds / audio seconds of a successful request. Lower is better. None if
        that counts for another request."""
        if not self.counts or not self.audio_s or not 200 <= self.status < 300:
            return None
        return self.processing_s / self.audio_s

    @property
    def outcome(self) -> str:
        if self.error in ("ClientGone", "Cancelled"):
            return "cancelled"
        if self.status >= 500:
            return "failed"
        return "refused" if self.status >= 400 else "ok"
