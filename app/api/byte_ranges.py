"""Range requests: the one part of a file that a player asks for. Source: RFC 9110, section 14."""

from __future__ import annotations

import re

RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


class Unsatisfiable(Exception):
    """The range begins behind the end of the file."""


def requested_range(header: str, num_bytes: int) -> range | None:
    """The bytes that a Range header names; None for all of them: that is the answer to several
    ranges, and to what is no range.

    Raises:
        Unsatisfiable
    """
    match = RANGE.fullmatch(header.strip())
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        return _checked(max(0, num_bytes - int(last)), num_bytes, num_bytes)
    if last and int(last) < int(first):
        return None
    return _checked(int(first), int(last) + 1 if last else num_bytes, num_bytes)


def _checked(begin: int, end: int, num_bytes: int) -> range:
    if begin >= num_bytes:
        raise Unsatisfiable
    return range(begin, min(end, num_bytes))
