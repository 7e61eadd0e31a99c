"""What can go wrong, in the service's own terms. Status codes are `api/errors.py`'s business.

Messages are written for the client: one clear sentence, no path, no token, no exception text.
"""

from __future__ import annotations

STOPPING = "The service is shutting down; try again."
HUNG_UP = "The client hung up."
TOO_LATE = "The request took longer than it may."


class ServiceError(Exception):
    """`code` is stable and machine readable, `message` is for people."""

    code = "error"

    def __init__(self, message: str, retry_after_s: int | None = None) -> None:
        super().__init__(message, retry_after_s)
        self.message = message
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return self.message


class UndecodableAudio(ServiceError):
    """Nothing in the upload can be decoded, or there is no sound in it."""

    code = "undecodable_audio"


class MalformedRequest(ServiceError):
    """The body is not the multipart form that it should be."""

    code = "malformed_request"


class UploadStalled(ServiceError):
    """The client stopped sending half-way."""

    code = "upload_stalled"


class UploadTooLarge(ServiceError):
    """Over the size or the duration limit."""

    code = "upload_too_large"


class UnsupportedOption(ServiceError):
    """A parameter has a value that is not allowed."""

    code = "unsupported_option"


class UnknownModel(UnsupportedOption):
    """A model that this service does not offer."""

    code = "unknown_model"


class Unauthorized(ServiceError):
    """No API key, or one that is not known."""

    code = "unauthorized"


class Forbidden(ServiceError):
    """Not with this API key."""

    code = "forbidden"


class RateLimited(ServiceError):
    """This client has had its share for now."""

    code = "rate_limited"


class Overloaded(ServiceError):
    """Too much work is waiting already."""

    code = "overloaded"


class ShuttingDown(ServiceError):
    """The service admits no more work."""

    code = "shutting_down"

    def __init__(self, message: str = STOPPING, retry_after_s: int | None = 5) -> None:
        super().__init__(message, retry_after_s)


class DeadlineExceeded(ServiceError):
    """The request took longer than it may."""

    code = "deadline_exceeded"

    def __init__(self, message: str = TOO_LATE, retry_after_s: int | None = None) -> None:
        super().__init__(message, retry_after_s)


class ModelUnavailable(ServiceError):
    """A model cannot be loaded: not reachable, not permitted, not enough memory."""

    code = "model_unavailable"


class ModelMissing(ModelUnavailable):
    """It is not on this machine, and a hub does not give it now."""


class StageFailed(ServiceError):
    """A stage broke for a reason that is ours, not the client's."""

    code = "stage_failed"


class DiskFull(ServiceError):
    """No room for temporary files."""

    code = "disk_full"


class ClientGone(ServiceError):
    """The client hung up: nobody reads the answer."""

    code = "client_gone"

    def __init__(self, message: str = HUNG_UP, retry_after_s: int | None = None) -> None:
        super().__init__(message, retry_after_s)


class Cancelled(ServiceError):
    """The work was given up on purpose."""

    code = "cancelled"


class ConfigurationError(ServiceError):
    """Settings that cannot work; ends the start with one line."""

    code = "configuration"
