"""API keys: reads them and checks the keys that requests present."""

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
KEY = re.compile(r"[!-+\--~]+")  # the characters that are safe in a header, except the comma
COMMENT = re.compile(r"(?:^|\s)#.*$", re.MULTILINE)
MAX_FILE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class ApiKey:
    """Keeps only the digest: nothing can print the key, and all digests have the same length."""

    name: str
    digest: bytes = field(repr=False)


class KeyRing:
    def __init__(self, keys: Sequence[ApiKey]) -> None:
        self._keys = tuple(keys)

    @property
    def names(self) -> list[str]:
        return list(dict.fromkeys(key.name for key in self._keys))

    def name_of(self, presented: Iterable[bytes]) -> str | None:
        """The name of the presented key, or None. Takes equally long in both cases."""
        found = None
        for secret in presented:
            digest = _digest(secret)
            for key in self._keys:
                if hmac.compare_digest(key.digest, digest):
                    found = key.name
        return found

    def sign(self, name: str, message: str) -> str:
        """A signature by the first key of this name, as hexadecimal digits."""
        return next(_signature(key, message) for key in self._keys if key.name == name)

    def has_signed(self, name: str, message: str, signature: str) -> bool:
        """Whether any key of this name has made a signature."""
        presented = signature.encode()  # other characters than ASCII are not compared as text
        own = [key for key in self._keys if key.name == name]
        return any(hmac.compare_digest(_signature(k, message).encode(), presented) for k in own)


def read_keys(settings: AccessSettings) -> KeyRing | None:
    """The keys of API_KEYS and API_KEYS_FILE; None if neither is set."""
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
    """The keys of all entries. Messages refer to entries by number and show no part of a key."""
    names: dict[bytes, str] = {}
    for number, (variable, entry) in enumerate(entries, 1):
        name, colon, secret = entry.partition(":")
        if not colon:
            name, secret = f"key-{number}", entry
        if not NAME.fullmatch(name):
            raise ConfigurationError(
                f"{variable}: the name of key {number} is not allowed; the part before the "
                "colon may have up to 64 letters, digits, dots, underscores and hyphens."
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


def _signature(key: ApiKey, message: str) -> str:
    return hmac.new(key.digest, message.encode(), hashlib.sha256).hexdigest()


def _digest(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()
