"""Damaged media files by the thousand, the same from run to run: small real files, mutated.

What is done to them: bits flipped, bytes cut, zeroed, doubled and moved, headers that lie about
counts, sizes and rates, halves of two files joined, one container's header before another's body.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from tests.support.media import FASTSTART, FORMATS, Media, encode, speech

CLIP_S = 0.5
SAMPLE_RATE = 16_000
HEADER_BYTES = 600  # where containers keep what they say of themselves
KINDS = {
    **FORMATS,
    "mkv of pcm": Media("matroska", "pcm_s16le"),
    "caf": Media("caf", "pcm_s16be", 44_100),
    "mp4 in fragments": Media(
        "mp4", "aac", 44_100, options=(("movflags", "frag_keyframe+empty_moov"),)
    ),
    "mp4 of flac": Media("mp4", "flac", 44_100, options=FASTSTART),
    "au": Media("au", "pcm_s16be", 8_000),
    "w64": Media("w64", "pcm_s16le"),
    "flv": Media("flv", "aac", 44_100),
}  # fmt: skip
LIES_32 = (0, 1, 0x7F, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFF0, 0xFFFF_FFFF)
LIES_16 = (0, 1, 0x7FFF, 0x8000, 0xFFFF)
FIELDS = ("<I", ">I", "<H", ">H")

Random = np.random.Generator
Mutation = Callable[[bytes, Random], bytes]


@dataclass(frozen=True, slots=True)
class Mutant:
    """`name` says what was done to which file, for the report of a failure."""

    name: str
    content: bytes


@cache
def originals() -> dict[str, bytes]:
    """A clip of speech in every kind of file."""
    start = SAMPLE_RATE // 2
    clip = speech("en_short")[start : start + round(CLIP_S * SAMPLE_RATE)]
    exactly = ("fflags", "+bitexact")  # no random ids in the headers
    return {
        kind: encode(replace(media, options=(*media.options, exactly)), (0, clip))
        for kind, media in KINDS.items()
    }


def mutants(count: int, seed: int = 1) -> Iterator[Mutant]:
    """The kinds of files and of damage take turns, so that a few hundred have all of them."""
    files = list(originals().items())
    names = list(MUTATIONS)
    random = np.random.default_rng(seed)
    for index in range(count):
        kind, content = files[index % len(files)]
        name = names[(index // len(files) + index) % len(names)]
        mutated = MUTATIONS[name](content, random)
        # bad luck seldom comes alone; and zeros that are zeroed are no damage yet
        if random.random() < 0.2 or mutated == content:
            mutated = _flip_bits(mutated, random)
        yield Mutant(f"{index}: {kind}, {name}", mutated)


# -- damage --------------------------------------------------------------------------------------


def _flip_bits(content: bytes, random: Random) -> bytes:
    changed = bytearray(content)
    for _ in range(random.integers(1, 64)):
        if changed:
            changed[random.integers(len(changed))] ^= 1 << random.integers(8)
    return bytes(changed)


def _flip_header_bits(content: bytes, random: Random) -> bytes:
    return _flip_bits(content[:HEADER_BYTES], random) + content[HEADER_BYTES:]


def _truncate(content: bytes, random: Random) -> bytes:
    return content[: random.integers(len(content))]


def _behead(content: bytes, random: Random) -> bytes:
    return content[random.integers(1, len(content)) :]


def _span(content: bytes, random: Random) -> tuple[int, int]:
    begin = int(random.integers(len(content)))
    return begin, min(len(content), begin + int(random.integers(1, 4000)))


def _zero(content: bytes, random: Random) -> bytes:
    begin, end = _span(content, random)
    return content[:begin] + bytes(end - begin) + content[end:]


def _noise(content: bytes, random: Random) -> bytes:
    begin, end = _span(content, random)
    return content[:begin] + random.bytes(end - begin) + content[end:]


def _cut_out(content: bytes, random: Random) -> bytes:
    begin, end = _span(content, random)
    return content[:begin] + content[end:]


def _double(content: bytes, random: Random) -> bytes:
    begin, end = _span(content, random)
    return content[:end] + content[begin:]


def _move(content: bytes, random: Random) -> bytes:
    begin, end = _span(content, random)
    rest = content[:begin] + content[end:]
    to = int(random.integers(len(rest) + 1))
    return rest[:to] + content[begin:end] + rest[to:]


def _lie(content: bytes, random: Random, within: int = HEADER_BYTES) -> bytes:
    """One to three numbers are replaced by extreme ones, of either byte order."""
    changed = bytearray(content)
    for _ in range(random.integers(1, 4)):
        field = FIELDS[random.integers(len(FIELDS))]
        size = struct.calcsize(field)
        at = random.integers(max(1, min(within, len(changed)) - size))
        lies = LIES_32 if size == 4 else LIES_16
        if at + size <= len(changed):
            struct.pack_into(field, changed, at, lies[random.integers(len(lies))])
    return bytes(changed)


# Names that stand before the numbers in which a container counts and measures.
MARKS = {
    b"data": 4, b"fmt ": 24, b"RIFF": 4, b"fLaC": 42, b"OggS": 24, b"OpusHead": 12, b"vorbis": 16,
    b"moov": 0, b"mvhd": 24, b"mdhd": 24, b"stsz": 32, b"stts": 32, b"stsc": 32, b"stco": 32,
    b"mdat": 8, b"trun": 24, b"esds": 40, b"dfLa": 44, b"mp4a": 28, b"COMM": 26, b"SSND": 8,
    b"Xing": 120, b"Info": 120, b"avih": 56, b"strh": 56, b"strf": 40, b"idx1": 32, b"movi": 16,
    b"\x1a\x45\xdf\xa3": 12, b"\x18\x53\x80\x67": 12, b"\x15\x49\xa9\x66": 40,
    b"\x16\x54\xae\x6b": 80, b"\x1f\x43\xb6\x75": 24, b"\x44\x89": 9, b"\xa3": 6, b"FLV": 16,
    b"caff": 24, b"desc": 40, b"pakt": 32, b".snd": 24, b"#!AMR": 2,
}  # fmt: skip


def _lie_at_marks(content: bytes, random: Random) -> bytes:
    """The numbers right behind, or before, the names of a container's parts."""
    found = [mark for mark in MARKS if mark in content]
    if not found:
        return _lie(content, random)
    changed = bytearray(content)
    for _ in range(random.integers(1, 4)):
        mark = found[random.integers(len(found))]
        at = changed.find(mark)
        if at < 0:
            continue
        begin = max(0, at - 8)
        end = min(len(changed), at + len(mark) + max(4, MARKS[mark]))
        changed[begin:end] = _lie(bytes(changed[begin:end]), random, end - begin)
    return bytes(changed)


def _another(random: Random) -> bytes:
    files = list(originals().values())
    return files[random.integers(len(files))]


def _splice(content: bytes, random: Random) -> bytes:
    other = _another(random)
    return content[: len(content) // 2] + other[len(other) // 2 :]


def _wrong_body(content: bytes, random: Random) -> bytes:
    other = _another(random)
    size = int(random.integers(4, HEADER_BYTES))
    return content[:size] + other[size:]


def _append(content: bytes, random: Random) -> bytes:
    return content + _another(random)


def _repeat(content: bytes, random: Random) -> bytes:
    return content * int(random.integers(2, 6))


def _broken_pages(content: bytes, random: Random) -> bytes:
    """Ogg pages that lie and whose checksums agree: else FFmpeg drops them unread."""
    if not content.startswith(b"OggS"):
        return _lie_at_marks(content, random)
    changed, pages = bytearray(content), []
    at = 0
    while (at := content.find(b"OggS", at)) >= 0:
        pages.append(at)
        at += 4
    begin = pages[random.integers(len(pages))]
    end = next((page for page in pages if page > begin), len(content))
    page = bytearray(changed[begin:end])
    page[4:] = _lie(_flip_bits(bytes(page[4:]), random), random, 60)
    page[22:26] = bytes(4)
    page[22:26] = struct.pack("<I", _ogg_checksum(bytes(page)))
    changed[begin:end] = page
    return bytes(changed)


def _ogg_checksum(page: bytes) -> int:
    """Source: RFC 3533, section 6: polynomial 0x04c11db7, no reflection."""
    checksum = 0
    for byte in page:
        checksum ^= byte << 24
        for _ in range(8):
            checksum = (checksum << 1) ^ (0x04C1_1DB7 if checksum & 0x8000_0000 else 0)
            checksum &= 0xFFFF_FFFF
    return checksum


MUTATIONS: dict[str, Mutation] = {
    "flipped bits": _flip_bits,
    "flipped header bits": _flip_header_bits,
    "truncated": _truncate,
    "beheaded": _behead,
    "zeroed": _zero,
    "noise": _noise,
    "cut out": _cut_out,
    "doubled": _double,
    "moved": _move,
    "lies": _lie,
    "lies of its parts": _lie_at_marks,
    "lies of its pages": _broken_pages,
    "spliced": _splice,
    "another's body": _wrong_body,
    "appended": _append,
    "repeated": _repeat,
}
