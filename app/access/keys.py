"""API keys: who may use the service."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from app.config.access import AccessSettings
from app.domain.errors import ConfigurationError

NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")  # harmless in logs and in metrics
KEY = re.compile(r"[!-+\--~]+")  # what a header carries unharmed, less the comma
COMMENT = re.compile(r"(?:^|\s)#.*$", re.MULTILINE)
MAX_FILE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key is kept as its digest: nothing can print it, and all are of one length."""

    name: str
    digest: bytes = field(repr=False)


class KeyRing:
    def __init__(self, keys: Sequence[ApiKey]) -> None:
        self._keys = tuple(keys)

    @property
    def names(self) -> list[str]:
        return list(dict.fromkeys(key.name for key in self._keys))

    def name_of(self, presented: Iterable[bytes]) -> str | None:
        """Whose key is among those presented. Takes as long whether or not there is one."""
        found = None
        for secret in presented:
            digest = _digest(secret)
            for key in self._keys:
                if hmac.compare_digest(key.digest, digest):
                    found = key.name
        return found


def read_keys(settings: AccessSettings) -> KeyRing | None:
    """The keys of API_KEYS and API_KEYS_FILE; None where neither is set."""
    given = settings.api_keys.get_secret_value()
    if not given and settings.api_keys_file is None:
        return None
    entries = [("API_KEYS", entry) for entry in _entries(given)]
    if given and not entries:
        raise ConfigurationError("API_KEYS: there is no key in it.")
    if settings.api_keys_file is not None:
        text = _read(settings.api_keys_file)
        from_file = [("API_KEYS_FILE", entry) for entry in _entries(COMMENT.sub("", text))]
        if not from_file:
            raise ConfigurationError(f"API_KEYS_FILE: there is no key in {settings.api_keys_file}.")
        entries += from_file
    return KeyRing(_parse(entries))


def _entries(text: str) -> list[str]:
    return [part.strip() for part in re.split(r"[,\r\n]", text) if part.strip()]


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE_BYTES).decode("utf-8-sig")
    except OSError as error:
        raise ConfigurationError(
            f"API_KEYS_FILE: {path} cannot be read: {error.strerror}."
        ) from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"API_KEYS_FILE: {path} is not a text file.") from None


def _parse(entries: Iterable[tuple[str, str]]) -> list[ApiKey]:
    """Messages tell entries by their number: nothing of a key is ever shown."""
    names: dict[bytes, str] = {}
    for number, (variable, entry) in enumerate(entries, 1):
        name, colon, secret = entry.partition(":")
        if not colon:
            name, secret = f"key-{number}", entry
        if not NAME.fullmatch(name):
            raise ConfigurationError(
                f"{variable}: the name of key {number} is not allowed; what stands before the "
                "colon may be up to 64 letters, digits, dots, underscores and hyphens."
            )
        if not KEY.fullmatch(secret):
            raise ConfigurationError(
                f"{variable}: key {number} ({name}) is empty or has characters other than visible "
                "ASCII ones."
            )
        digest = _digest(secret.encode())
        if names.setdefault(digest, name) != name:
            raise ConfigurationError(f"{variable}: {names[digest]} and {name} have the same key.")
    return [ApiKey(name, digest) for digest, name in names.items()]


def _digest(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()
