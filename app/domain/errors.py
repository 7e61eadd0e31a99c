"""The service's errors. `api/statuses.py` maps them to status codes.

Messages address the client: one clear sentence, no path, no token, no exception text.
"""

from __future__ import annotations

STOPPING = "The service is shutting down; try again."
HUNG_UP = "The client hung up."
NO_WEBSOCKET = (
    "No WebSocket can be opened at this address. Send a recording as a multipart form with POST."
)
TOO_LATE = "The request took longer than it may."


class ServiceError(Exception):
    """`code` is stable and machine readable, `message` is for people. `ends_request`: it is why all
    of a request was cancelled, so no stage goes on without it. `is_permanent`: the same request
    would fail again.
    """

    code = "error"
    ends_request = False
    is_permanent = False

    def __init__(self, message: str, retry_after_s: int | None = None) -> None:
        super().__init__(message, retry_after_s)
        self.message = message
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return self.message


class UndecodableAudio(ServiceError):
    """The upload cannot be decoded or has no sound."""

    code = "undecodable_audio"
    is_permanent = True


class TooCostly(UndecodableAudio):
    """Decoding the upload takes far more work than its length explains."""


class MalformedRequest(ServiceError):
    """The body is not a valid multipart form."""

    code = "malformed_request"


class UnsupportedEncoding(ServiceError):
    """The body is compressed."""

    code = "unsupported_encoding"


class UploadStalled(ServiceError):
    """The client stopped sending before the end of the upload."""

    code = "upload_stalled"


class UploadTooLarge(ServiceError):
    """Over the size or the duration limit."""

    code = "upload_too_large"
    is_permanent = True


class UrlUnusable(ServiceError):
    """A client's URL leads to nothing that may be fetched; another try would not help."""

    code = "url_unusable"
    is_permanent = True


class FetchFailed(ServiceError):
    """A client's URL could not be fetched this time: its server or the network failed."""

    code = "fetch_failed"


class UnsupportedOption(ServiceError):
    """A parameter has a value that is not allowed."""

    code = "unsupported_option"
    is_permanent = True


class UnknownModel(UnsupportedOption):
    """A model that this service does not offer."""

    code = "unknown_model"


class NoWebSocket(ServiceError):
    """A WebSocket was asked for where none is served."""

    code = "no_websocket"

    def __init__(self, message: str = NO_WEBSOCKET, retry_after_s: int | None = None) -> None:
        super().__init__(message, retry_after_s)


class Unauthorized(ServiceError):
    """The API key is missing or unknown."""

    code = "unauthorized"


class Forbidden(ServiceError):
    """This API key does not permit the request."""

    code = "forbidden"
    is_permanent = True


class RateLimited(ServiceError):
    """The client has reached its rate limit."""

    code = "rate_limited"


class Overloaded(ServiceError):
    """Too much work is already waiting."""

    code = "overloaded"


class ShuttingDown(ServiceError):
    """The service accepts no more work."""

    code = "shutting_down"

    def __init__(self, message: str = STOPPING, retry_after_s: int | None = 5) -> None:
        super().__init__(message, retry_after_s)


class DeadlineExceeded(ServiceError):
    """The request took too long."""

    code = "deadline_exceeded"
    is_permanent = True

    def __init__(self, message: str = TOO_LATE, retry_after_s: int | None = None) -> None:
        super().__init__(message, retry_after_s)


class ModelUnavailable(ServiceError):
    """A model cannot be loaded: not reachable, not permitted, not enough memory."""

    code = "model_unavailable"


class ModelMissing(ModelUnavailable):
    """The model is not on this machine and cannot be downloaded now."""


class StageFailed(ServiceError):
    """A stage failed through no fault of the client."""

    code = "stage_failed"


class DiskFull(ServiceError):
    """No disk space for temporary files."""

    code = "disk_full"


class ClientGone(ServiceError):
    """The client hung up, so nobody reads the answer."""

    code = "client_gone"

    def __init__(self, message: str = HUNG_UP, retry_after_s: int | None = None) -> None:
        super().__init__(message, retry_after_s)


class Cancelled(ServiceError):
    """The work was cancelled on purpose."""

    code = "cancelled"


class ConfigurationError(ServiceError):
    """Settings that cannot work. The service prints one line and does not start."""

    code = "configuration"


class UnknownJob(ServiceError):
    """No job of this client has this ID."""

    code = "unknown_job"

    def __init__(
        self, message: str = "There is no job with this ID.", retry_after_s: int | None = None
    ) -> None:
        super().__init__(message, retry_after_s)


class NotEnded(ServiceError):
    """The job has not ended yet."""

    code = "not_ended"

    def __init__(
        self,
        message: str = "The job has not ended yet: cancel it first.",
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message, retry_after_s)


class StillAccepting(ServiceError):
    """Another request with the same idempotency key is being accepted."""

    code = "still_accepting"

    def __init__(
        self,
        message: str = "Another request with this Idempotency-Key is being accepted.",
        retry_after_s: int | None = 5,
    ) -> None:
        super().__init__(message, retry_after_s)


class IdempotencyMismatch(ServiceError):
    """The idempotency key came with another payload before."""

    code = "idempotency_mismatch"
    is_permanent = True

    def __init__(
        self,
        message: str = "This Idempotency-Key was used for another request before.",
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message, retry_after_s)
