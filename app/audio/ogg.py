"""Finds the links of an Ogg file, and pages that are missing.

FFmpeg reads a chained file through one decoder, which stops at a link of another kind. So each
link is opened separately. Source: RFC 3533, section 6.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import SEEK_CUR, SEEK_END, SEEK_SET
from typing import BinaryIO

CAPTURE = b"OggS\0"
HEADER_BYTES = 27
MAX_PAGE_BYTES = 65_307
CHUNK_BYTES = 1 << 20
BEGINS, ENDS = 0x02, 0x04
CHECKSUM = slice(22, 26)
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclass(frozen=True, slots=True)
class OggLink:
    """The bytes from `begin` to `end`. `damaged`: pages are missing or cut."""

    begin: int
    end: int
    damaged: bool


@dataclass(frozen=True, slots=True)
class _Page:
    begin: int
    flags: int
    serial: int
    number: int
    intact: bool
    in_place: bool  # it directly follows the previous page


def find_links(source: BinaryIO) -> list[OggLink]:
    """The links in file order; at least one."""
    links: list[OggLink] = []
    begin, damaged, headers = 0, False, True
    numbers: dict[int, int] = {}
    for page in _pages(source):
        if page.intact and page.flags & BEGINS and not headers:
            links.append(OggLink(begin, page.begin, damaged))
            begin, damaged, headers, numbers = page.begin, False, True, {}
        headers = headers and bool(page.flags & BEGINS)
        expected = numbers.get(page.serial)
        follows = expected is None or page.number in (expected, expected - 1)
        damaged = damaged or not (page.intact and page.in_place and follows)
        if page.intact:
            numbers[page.serial] = page.number + 1
    size = source.seek(0, os.SEEK_END)
    links.append(OggLink(begin, size, damaged))
    return links


def _pages(source: BinaryIO) -> Iterator[_Page]:
    """All pages, including the rest of a cut one."""
    source.seek(0)
    data, offset, at, complete, in_place = b"", 0, 0, False, True
    while True:
        if not complete and len(data) - at < MAX_PAGE_BYTES:
            more = source.read(CHUNK_BYTES)
            complete = len(more) < CHUNK_BYTES
            data, offset, at = data[at:] + more, offset + at, 0
            continue
        if at >= len(data):
            return
        found = data.find(CAPTURE, at)
        if found != at:
            in_place = False
            at = found if found >= 0 else max(at + 1, len(data) - len(CAPTURE) + 1)
            if found < 0 and complete:
                if any(data[at - 1 :]) and offset + at > len(CAPTURE):
                    yield _Page(offset + at, 0, -1, 0, intact=False, in_place=False)
                return
            continue
        header = data[at : at + HEADER_BYTES]
        num_segments = header[-1] if len(header) == HEADER_BYTES else 0
        lacing = data[at + HEADER_BYTES : at + HEADER_BYTES + num_segments]
        num_bytes = HEADER_BYTES + num_segments + sum(lacing)
        page = data[at : at + num_bytes]
        intact = len(header) == HEADER_BYTES and len(page) == num_bytes and _is_intact(page)
        yield _Page(
            offset + at,
            header[5] if len(header) > 5 else 0,
            int.from_bytes(header[14:18], "little"),
            int.from_bytes(header[18:22], "little"),
            intact,
            in_place,
        )
        in_place = True
        at += num_bytes if intact else len(CAPTURE)


def _is_intact(page: bytes) -> bool:
    stated = int.from_bytes(page[CHECKSUM], "little")
    return ogg_checksum(page[:22] + bytes(4) + page[26:]) == stated


def ogg_checksum(page: bytes) -> int:
    """The CRC-32 of a page: zlib's polynomial with its bits reversed, without inversions."""
    reflected = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{reflected:032b}"[::-1], 2)


class Section:
    """A part of a file that reads like a file."""

    def __init__(self, source: BinaryIO, begin: int, end: int) -> None:
        self._source = source
        self._begin = begin
        self._size = end - begin
        self._at = 0

    def read(self, num_bytes: int = -1) -> bytes:
        left = max(0, self._size - self._at)
        num_bytes = left if num_bytes < 0 else min(num_bytes, left)
        self._source.seek(self._begin + self._at)
        data = self._source.read(num_bytes)
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = SEEK_SET) -> int:
        base = {SEEK_SET: 0, SEEK_CUR: self._at, SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        return self._at
