"""Which address a client meant that asked for one that is not served. Pure."""

from __future__ import annotations

from collections.abc import Iterable

SHOWN = 200  # characters of a wrong address in an answer


def known_addresses(paths: Iterable[str]) -> frozenset[str]:
    """Those that can be recognized as the end of a wrong one: neither `/` nor with a variable."""
    return frozenset(path for path in paths if path.strip("/") and "{" not in path)


def address_meant(path: str, known: frozenset[str]) -> str | None:
    """The longest known address that the path ends with, with or without its `/v1`; for example
    of `/v1/v1/models` or `/asr/asr`. Doubled slashes count as one.
    """
    parts = [part for part in path.split("/") if part]
    for begin in range(max(0, len(parts) - 4), len(parts)):
        end = "/" + "/".join(parts[begin:])
        for address in (end, f"/v1{end}"):
            if address in known:
                return address
    return None
