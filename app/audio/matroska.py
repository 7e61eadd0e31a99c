"""Finds holes between the elements of a Matroska or WebM file.

FFmpeg silently skips what it cannot read. This module reads only names and sizes.
Source: RFC 8794 (EBML) and RFC 9559 (Matroska).
"""

from __future__ import annotations

import os
from typing import BinaryIO

SEGMENT, CLUSTER = 0x18538067, 0x1F43B675
# Inside a segment. Includes the file's header, which appears again in joined files.
TOP = {
    0x1A45DFA3, SEGMENT, CLUSTER, 0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1C53BB6B, 0x1941A469,
    0x1043A770, 0x1254C367,
}  # fmt: skip
IN_CLUSTER = {0xE7, 0xA3, 0xA0, 0xAB, 0xA7, 0xAF, 0x5854}
ANYWHERE = {0xEC, 0xBF}
KNOWN = TOP | IN_CLUSTER | ANYWHERE
WINDOW_BYTES = 1 << 18
MAX_HEAD_BYTES = 12


def has_hole(source: BinaryIO) -> bool:
    """Whether an element is unknown or extends beyond the end of the file."""
    size = source.seek(0, os.SEEK_END)
    at, window, begin = 0, b"", 0
    while at < size:
        if at < begin or at + MAX_HEAD_BYTES > begin + len(window):
            source.seek(at)
            begin, window = at, source.read(WINDOW_BYTES)
        name, length, num_bytes = _head(window, at - begin)
        if name not in KNOWN:
            return True
        at += num_bytes
        if name in (SEGMENT, CLUSTER):  # go into it
            continue
        if length is None:
            return True
        at += length
    return at > size


def _head(data: bytes, at: int) -> tuple[int, int | None, int]:
    """An element's name, its size (None: unknown), and the length of its head in bytes."""
    first = data[at] if at < len(data) else 0
    name_bytes = 9 - first.bit_length()
    if name_bytes > 4:
        return 0, None, 0
    name = int.from_bytes(data[at : at + name_bytes])
    at += name_bytes
    first = data[at] if at < len(data) else 0
    size_bytes = 9 - first.bit_length()
    if size_bytes > 8:
        return 0, None, 0
    mask = (1 << 7 * size_bytes) - 1
    length = int.from_bytes(data[at : at + size_bytes]) & mask
    return name, None if length == mask else length, name_bytes + size_bytes
