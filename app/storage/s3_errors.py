"""What errors of S3 mean: the caller's fault, the operator's, or nobody's for long. Pure.

Messages go to clients: no access key, no host, no text of the library.
"""

from __future__ import annotations

import re
from typing import Any

from app.domain.errors import (
    ObjectMissing,
    ServiceError,
    StorageRefused,
    StorageUnavailable,
)
from app.storage.tls import causes

NO_OBJECT = "There is no such object in the bucket."
NO_BUCKET = "There is no such bucket."
NEITHER = "There is no such object, or no such bucket."
DENIED = "The bucket denies access: it lacks the object, or does not permit this service to use it."
BAD_KEY = "The object store does not accept the access key of this service."
NO_KEY = "This service has no access key for the object store."
ELSEWHERE = "The bucket is in another region than this service is set to (AWS_REGION)."
ARCHIVED = "The object is archived: restore it first."
CHANGED = "The object was replaced while it was read."
UNREACHABLE = "The object store cannot be reached, or broke off."
FAILING = "The object store fails or is overloaded."

MEANINGS: dict[str, tuple[type[ServiceError], str]] = {
    "NoSuchKey": (ObjectMissing, NO_OBJECT),
    "NoSuchBucket": (ObjectMissing, NO_BUCKET),
    "NoSuchVersion": (ObjectMissing, NO_OBJECT),
    "404": (ObjectMissing, NEITHER),  # an answer to HEAD, which has no body
    "InvalidAccessKeyId": (StorageRefused, BAD_KEY),
    "SignatureDoesNotMatch": (StorageRefused, BAD_KEY),
    "InvalidToken": (StorageRefused, BAD_KEY),
    "ExpiredToken": (StorageRefused, BAD_KEY),
    "InvalidObjectState": (StorageRefused, ARCHIVED),
    "PermanentRedirect": (StorageRefused, ELSEWHERE),
    "AuthorizationHeaderMalformed": (StorageRefused, ELSEWHERE),
    "301": (StorageRefused, ELSEWHERE),
    "PreconditionFailed": (StorageUnavailable, CHANGED),
    "RequestTimeout": (StorageUnavailable, UNREACHABLE),
    "SlowDown": (StorageUnavailable, FAILING),
}
NO_CREDENTIALS = frozenset(
    {
        "NoCredentialsError",
        "PartialCredentialsError",
        "CredentialRetrievalError",
        "TokenRetrievalError",
    }
)
UNUSABLE_NAME = frozenset({"ParamValidationError", "UnsupportedS3ArnError"})
PLAIN_CODE = re.compile(r"[A-Za-z]{1,40}")
FORBIDDEN, TOO_MANY, LEAST_SERVER_ERROR = 403, 429, 500


def error_of(error: Exception) -> ServiceError:
    """`error`: of boto3 or botocore."""
    responses = (getattr(found, "response", None) for found in causes(error))
    answered = next((response for response in responses if isinstance(response, dict)), None)
    if answered is not None:
        return _answered(answered)
    names = {type(found).__name__ for found in causes(error)}
    if "S3DownloadFailedError" in names:  # a part has another ETag
        return StorageUnavailable(CHANGED)
    if names & NO_CREDENTIALS:
        return StorageRefused(NO_KEY)
    if names & UNUSABLE_NAME:
        return StorageRefused("The names of the bucket and the object are not valid.")
    return StorageUnavailable(UNREACHABLE)


def _answered(response: dict[str, Any]) -> ServiceError:
    code = str(response.get("Error", {}).get("Code", ""))
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code in MEANINGS:
        kind, sentence = MEANINGS[code]
        return kind(sentence)
    if status == FORBIDDEN:
        return StorageRefused(DENIED)
    if status == TOO_MANY or status >= LEAST_SERVER_ERROR:
        return StorageUnavailable(FAILING)
    shown = f" ({code})" if PLAIN_CODE.fullmatch(code) else ""
    return StorageRefused(f"The object store refuses the request{shown}.")
