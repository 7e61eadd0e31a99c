"""Where the audio of a message lies: an object in a bucket, or a URL. Pure.

Source of the forms of addresses: "Methods for accessing a general purpose bucket" in the user guide
of Amazon S3, with its older ones.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import SplitResult, unquote, urlsplit

from app.domain.errors import UnsupportedOption
from app.jobs.buckets import KEYS, is_key
from app.jobs.job import S3Object, Source, Url
from app.storage.egress import EgressRules

AWS = r"s3(?:[.-](?:dualstack\.)?[a-z0-9-]+)?\.amazonaws\.com(?:\.cn)?"
VIRTUAL_HOST = re.compile(rf"(?P<bucket>.+)\.{AWS}")
PATH_HOST = re.compile(AWS)
PARAMETER = "audioUrl"


@dataclass(frozen=True, slots=True)
class AudioPlaces:
    """What this service may read. `endpoint`: the address of its own S3 server, if it has one."""

    buckets: Collection[str] = ()
    endpoint: str | None = None
    urls: EgressRules | None = None  # None: URLs are not accepted

    def source_of(self, url: str) -> Source:
        """Raises UnsupportedOption: it may not be read, and why."""
        found = s3_object(url, self.endpoint)
        if found is not None and (found.bucket in self.buckets or self._is_only_s3(url)):
            self._check(found)
            return found
        if self.urls is None:
            raise UnsupportedOption(self._refusal(found))
        return Url(url=self.urls.check_url(url, PARAMETER))

    @staticmethod
    def _is_only_s3(url: str) -> bool:
        return url.lower().startswith("s3:")

    def _check(self, found: S3Object) -> None:
        if found.bucket not in self.buckets:
            raise UnsupportedOption(self._refusal(found))
        if not is_key(found.key):
            raise UnsupportedOption(f"{PARAMETER}: the key of the object {KEYS}.")

    @staticmethod
    def _refusal(found: S3Object | None) -> str:
        if found is None:
            return f"{PARAMETER}: URLs are not accepted here (URL_INGEST)."
        return (
            f"{PARAMETER}: {found.bucket[:64]!r} is not a bucket that jobs of this service may "
            "use (S3_ALLOWED_BUCKETS)."
        )


def s3_object(url: str, endpoint: str | None = None) -> S3Object | None:
    """The object that a URL names; None if it is not one of S3, or not valid."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return None
    if parts.scheme == "s3":
        bucket, _, key = url.partition("://")[2].partition("/")  # a key may hold ? and #
        return S3Object(bucket=bucket, key=key)
    if parts.scheme not in ("http", "https"):
        return None
    virtual = VIRTUAL_HOST.fullmatch(host)
    if virtual:
        return S3Object(bucket=virtual["bucket"], key=unquote(parts.path[1:]))
    if PATH_HOST.fullmatch(host) or _is_at(parts, endpoint):
        bucket, _, key = parts.path[1:].partition("/")
        return S3Object(bucket=unquote(bucket), key=unquote(key))
    return None


def _is_at(parts: SplitResult, endpoint: str | None) -> bool:
    return endpoint is not None and parts.netloc == urlsplit(endpoint).netloc


def audio_format(source: Source) -> str | None:
    """The ending of the file's name, in lower case, without the dot."""
    return PurePosixPath(file_name(source)).suffix[1:].lower() or None


def file_name(source: Source) -> str:
    match source:
        case S3Object(key=key):
            return PurePosixPath(key).name
        case Url(url=url):
            return PurePosixPath(unquote(urlsplit(url).path)).name
    return ""
