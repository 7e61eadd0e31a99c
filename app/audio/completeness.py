"""Whether a media file is all there, as far as its container can tell.

FFmpeg plays what there is and often says nothing about what is missing.
"""

from __future__ import annotations

import os
from typing import Any, BinaryIO

import av

# Containers that state durations; others are guessed at from the bit rate, which proves nothing.
STATING_FORMATS = {"flac", "matroska", "webm", "mov", "mp4", "aiff", "au", "caf"}
UNKNOWN_SIZE = 0x7FFF_0000  # and more: written by recorders that cannot know it in advance
TRANSPORT_PACKETS = ((188, 0), (192, 4), (204, 0))  # bytes, and where their sync byte stands
SLACK_BYTES = 16  # writers disagree on what a stated size counts
SLACK_S = 0.25
SLACK_SHARE = 0.005


def breaks_off(container: Any, stream: Any, source: BinaryIO, end_s: float) -> bool:
    """Whether the file ends before it should. `end_s`: the latest end of any packet."""
    name: str = container.format.name
    size = source.seek(0, os.SEEK_END)
    if name in ("wav", "avi"):
        return _riff_breaks_off(source, size)
    if name == "ogg":
        return _ogg_breaks_off(source, size)
    if name == "mpegts":
        return _transport_breaks_off(source, size)
    stating = bool(STATING_FORMATS & set(name.split(",")))
    if not stating and not (name == "mp3" and _mp3_states_frames(source)):
        return False
    stated_s: float = (container.duration or 0) / av.time_base
    if stream.duration and stream.time_base:
        stated_s = float(stream.duration * stream.time_base)
    return stated_s > end_s * (1 + SLACK_SHARE) + SLACK_S


def _riff_breaks_off(source: BinaryIO, size: int) -> bool:
    head = _read(source, 0, 8)
    stated = int.from_bytes(head[4:], "little")
    return head[:4] == b"RIFF" and stated < UNKNOWN_SIZE and size + SLACK_BYTES < stated + 8


def _ogg_breaks_off(source: BinaryIO, size: int) -> bool:
    """Whether the last page is cut. Source: RFC 3533, section 6.

    Its "end of stream" mark proves nothing: there are encoders that do not set it.
    """
    tail = _read(source, max(0, size - 70_000), 70_000)  # a page has 65,307 bytes at most
    page = tail.rfind(b"OggS\0")
    if page < 0:
        return True
    header = tail[page : page + 27]
    lacing = tail[page + 27 : page + 27 + header[-1]]
    complete = len(header) == 27 and len(lacing) == header[-1]
    return not complete or len(tail) < page + 27 + len(lacing) + sum(lacing)


def _transport_breaks_off(source: BinaryIO, size: int) -> bool:
    """Whether the last packet is cut. Source: ISO 13818-1, section 2.4.3.2."""
    head = _read(source, 0, 1024)
    for packet_bytes, sync in TRANSPORT_PACKETS:
        if set(head[sync::packet_bytes]) == {0x47}:
            return size % packet_bytes != 0
    return False


def _mp3_states_frames(source: BinaryIO) -> bool:
    """Whether the first frame is Xing's, LAME's or Fraunhofer's, which counts the others."""
    head = _read(source, 0, 10)
    start = 0
    if head[:3] == b"ID3" and len(head) == 10:
        start = 10 + sum(
            byte << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True)
        )
    frame = _read(source, start, 1024)
    return any(tag in frame for tag in (b"Xing", b"Info", b"VBRI"))


def _read(source: BinaryIO, position: int, num_bytes: int) -> bytes:
    source.seek(position)
    return source.read(num_bytes)
