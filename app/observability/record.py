"""RequestRecord: what is known of a request when it ends, for log, metrics and trace."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from app.observability.stages import Stage, StageClock

NOT_SERVED = "other"  # the endpoint of paths that there is nothing at
INTERNAL_ERROR = "InternalError"  # whatever is no ServiceError


@dataclass(slots=True)
class RequestRecord:
    """Filled in along the way; empty or None is what is not known, or not so.

    `endpoint` is the route, never what the client wrote; `model` a name of the catalog. `error` is
    the class of the ServiceError, `warnings` are kinds, `text` is the transcript where the operator
    wants it in the log.
    """

    request_id: str
    method: str
    path: str
    endpoint: str = NOT_SERVED
    dialect: str = ""
    model: str = ""
    client_name: str = ""
    address: str = ""  # of the client, as trusted proxies tell it
    status: int = 0
    audio_s: float | None = None
    upload_bytes: int | None = None
    warnings: tuple[str, ...] = ()
    error: str = ""
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
        """Processing seconds by audio seconds, of what succeeded; lower is better."""
        if not self.audio_s or not 200 <= self.status < 300:
            return None
        return self.processing_s / self.audio_s

    @property
    def outcome(self) -> str:
        if self.error in ("ClientGone", "Cancelled"):
            return "cancelled"
        if self.status >= 500:
            return "failed"
        return "refused" if self.status >= 400 else "ok"
