"""Whether a media file is complete, judged by its container.

FFmpeg plays what it finds and often does not report what is missing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import av

from app.audio.matroska import has_hole

# Containers that state a duration. For others FFmpeg guesses it from the bit rate, which proves
# nothing.
STATING_FORMATS = {
    "flac", "matroska", "webm", "mov", "mp4", "aiff", "au", "asf", "flv", "tta", "wv", "ape",
    "mpc8", "tak",
}  # fmt: skip
TRANSPORT_PACKETS = ((188, 0), (192, 4), (204, 0))  # bytes of a packet, offset of its sync byte
SLACK_BYTES = 16  # writers disagree on what a stated size includes
MP3_SLACK_BYTES = 2048  # a frame: some writers do not count the one with the size
SLACK_S = 0.25
SLACK_SHARE = 0.005

# Placeholders from writers that cannot know the size in advance: all bits set, the largest signed
# number, round numbers; sometimes reduced by the size of the header.
NOT_KNOWN = 0x7FFF_0000  # and above
ROUND = ((1_000_000, 500_000_000), (1 << 20, 1 << 28))  # multiples of the first, from the second up
HEADER_BYTES = 256
ABSURD_BYTES, ABSURD_FACTOR = 1 << 29, 16  # beyond both, the stated size is wrong
MAX_CHUNKS = 10_000


def breaks_off(container: Any, stream: Any, source: BinaryIO, end_s: float) -> bool:
    """Whether the file ends before it should. `end_s`: the latest end of any packet."""
    name: str = container.format.name
    size = source.seek(0, os.SEEK_END)
    for names, check in BY_BYTES:
        if name in names:
            return check(source, size)
    if "matroska" in name and has_hole(source):
        return True
    stating = bool(STATING_FORMATS & set(name.split(",")))
    if not stating:
        return False
    stated_s: float = (container.duration or 0) / av.time_base
    if stream.duration and stream.time_base:
        stated_s = float(stream.duration * stream.time_base)
    return stated_s > end_s * (1 + SLACK_SHARE) + SLACK_S


def _is_known(stated: int, size: int) -> bool:
    """Whether a stated number of bytes is a real size, not a placeholder."""
    if stated == 0 or stated >= NOT_KNOWN:
        return False
    if stated >= ABSURD_BYTES and stated > ABSURD_FACTOR * size:
        return False
    return not any(
        stated >= least - HEADER_BYTES and min(stated % unit, -stated % unit) <= HEADER_BYTES
        for unit, least in ROUND
    )


def _riff_breaks_off(source: BinaryIO, size: int) -> bool:
    head = _read(source, 0, 12)
    if head[:4] in (b"RF64", b"BW64"):
        return _rf64_breaks_off(source, size)
    if head[:4] != b"RIFF":
        return False
    stated = int.from_bytes(head[4:8], "little")
    if not _is_known(stated, size) or size + SLACK_BYTES >= stated + 8:
        return False
    # a recorder may know only one of the two sizes
    data = [length for name, _, length in _riff_chunks(source, size) if name == b"data"]
    return not data or _is_known(data[0], size)


def _riff_chunks(source: BinaryIO, size: int) -> Iterator[tuple[bytes, int, int]]:
    """Each chunk's name, and the position and length of its content."""
    at = 12
    for _ in range(MAX_CHUNKS):
        head = _read(source, at, 8)
        if len(head) < 8:
            return
        length = int.from_bytes(head[4:], "little")
        yield head[:4], at + 8, length
        at += 8 + length + length % 2


def _rf64_breaks_off(source: BinaryIO, size: int) -> bool:
    """The first chunk holds the 64-bit sizes. Source: EBU Tech 3306."""
    sizes = _read(source, 12, 24)
    stated = int.from_bytes(sizes[8:16], "little")
    return sizes[:4] == b"ds64" and 0 < stated < 1 << 62 and size + SLACK_BYTES < stated + 8


def _w64_breaks_off(source: BinaryIO, size: int) -> bool:
    """The file starts with a name of 16 bytes and the size of the whole file."""
    stated = int.from_bytes(_read(source, 16, 8), "little")
    return 0 < stated < 1 << 62 and size + SLACK_BYTES < stated


def _caf_breaks_off(source: BinaryIO, size: int) -> bool:
    """Chunks fill the file to its end; a size of -1 is unknown."""
    at = 8
    for _ in range(MAX_CHUNKS):
        head = _read(source, at, 12)
        if len(head) < 12:
            return False
        length = int.from_bytes(head[4:], "big", signed=True)
        if length < 0:
            return False
        at += 12 + length
        if at > size + SLACK_BYTES:
            return True
    return False


def _voc_breaks_off(source: BinaryIO, size: int) -> bool:
    """Blocks fill the file. The last one has type 0; some writers leave it out."""
    at = int.from_bytes(_read(source, 20, 2), "little")
    for _ in range(MAX_CHUNKS):
        head = _read(source, at, 4)
        if len(head) < 4 or head[0] == 0:
            return 0 < len(head) < 4 and head[0] != 0
        at += 4 + int.from_bytes(head[1:], "little")
        if at > size:
            return True
    return False


def _transport_breaks_off(source: BinaryIO, size: int) -> bool:
    """Whether the last packet is cut. Source: ISO 13818-1, section 2.4.3.2."""
    head = _read(source, 0, 1024)
    for packet_bytes, sync in TRANSPORT_PACKETS:
        if set(head[sync::packet_bytes]) == {0x47}:
            return size % packet_bytes != 0
    return False


def _nothing_known(source: BinaryIO, size: int) -> bool:
    """False. Ogg pages are checked before decoding."""
    return False


def _mp3_breaks_off(source: BinaryIO, size: int) -> bool:
    """Whether the file is shorter than its first frame (Xing, LAME or Fraunhofer) states.

    Compares bytes, not frames, because joined files keep the header of the first one.
    Source: http://gabriel.mp3-tech.org/mp3infotag.html
    """
    head = _read(source, 0, 10)
    start = 0
    if head[:3] == b"ID3" and len(head) == 10:
        start = 10 + sum(
            byte << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True)
        )
    frame = _read(source, start, 1024)
    for tag in (b"Xing", b"Info", b"VBRI"):
        at = frame.find(tag)
        if at < 0:
            continue
        if tag == b"VBRI":
            stated = frame[at + 10 : at + 14]
        else:
            flags = frame[at + 7] if at + 7 < len(frame) else 0
            at += 8 + 4 * (flags & 1)
            stated = frame[at : at + 4] if flags & 2 else b""
        return size + MP3_SLACK_BYTES < start + int.from_bytes(stated, "big")
    return False


def _read(source: BinaryIO, position: int, num_bytes: int) -> bytes:
    source.seek(position)
    return source.read(num_bytes)


BY_BYTES: tuple[tuple[tuple[str, ...], Callable[[BinaryIO, int], bool]], ...] = (
    (("wav", "avi"), _riff_breaks_off),
    (("w64",), _w64_breaks_off),
    (("caf",), _caf_breaks_off),
    (("voc",), _voc_breaks_off),
    (("mpegts",), _transport_breaks_off),
    (("mp3",), _mp3_breaks_off),
    (("ogg",), _nothing_known),
)
