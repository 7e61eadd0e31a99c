"""Links that carry the right to one recording for a while: a browser's player sends no header.

The key of the client signs them. So they hold on every replica, and end with the key.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from app.access.keys import KeyRing, read_keys
from app.config.access import AccessSettings

LIFETIME_S = 3600
MAX_DIGITS = 12
CLIENT, EXPIRES, SIGNATURE = "client", "expires", "signature"


class Links:
    def __init__(self, keys: KeyRing, clock: Callable[[], float] = time.time) -> None:
        self._keys = keys
        self._clock = clock

    def sign(self, client: str, task_id: str) -> dict[str, str]:
        """The query of a link to a client's recording."""
        expires = str(int(self._clock()) + LIFETIME_S)
        signature = self._keys.sign(client, _message(task_id, client, expires))
        return {CLIENT: client, EXPIRES: expires, SIGNATURE: signature}

    def client_of(self, task_id: str, query: Mapping[str, str]) -> str | None:
        """Whose link it is; None if it is nobody's, or has expired."""
        client, expires = query.get(CLIENT, ""), query.get(EXPIRES, "")
        if not (expires.isascii() and expires.isdigit() and len(expires) <= MAX_DIGITS):
            return None
        signature, message = query.get(SIGNATURE, ""), _message(task_id, client, expires)
        is_valid = self._keys.has_signed(client, message, signature)
        return client if is_valid and int(expires) > self._clock() else None


def read_links(settings: AccessSettings) -> Links | None:
    """None where no key is needed. Raises ConfigurationError."""
    keys = read_keys(settings)
    return None if keys is None else Links(keys)


def _message(task_id: str, client: str, expires: str) -> str:
    return "\n".join(("media", task_id, client, expires))
