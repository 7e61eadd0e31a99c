"""Small files that cause much work."""

from __future__ import annotations

import struct

import numpy as np


def wav(rate: int, num_samples: int, num_channels: int = 1) -> bytes:
    """8-bit noise."""
    noise = np.random.default_rng(1).integers(0, 255, num_samples * num_channels, np.uint8)
    form = struct.pack("<HHIIHH", 1, num_channels, rate, rate * num_channels, num_channels, 8)
    chunks = b"WAVEfmt " + struct.pack("<I", len(form)) + form
    chunks += b"data" + struct.pack("<I", len(noise)) + noise.tobytes()
    return b"RIFF" + struct.pack("<I", len(chunks)) + chunks


def _checksum(data: bytes, bits: int, polynomial: int) -> bytes:
    value = 0
    for byte in data:
        value ^= byte << (bits - 8)
        for _ in range(8):
            value = value << 1 ^ (polynomial if value >> (bits - 1) else 0)
            value &= (1 << bits) - 1
    return value.to_bytes(bits // 8)


def _flac_frame(number: int, rate: int, size: int) -> bytes:
    """Mono, 16 bits, one value throughout. `rate`: the code of RFC 9639, 9.1.2."""
    if number < 0x80:
        coded = bytes([number])
    else:
        coded = bytes([0xE0 | number >> 12, 0x80 | number >> 6 & 63, 0x80 | number & 63])
        coded = coded if number >= 0x800 else bytes([0xC0 | number >> 6, 0x80 | number & 63])
    head = bytes([0xFF, 0xF8, 0x70 | rate, 0x08]) + coded + struct.pack(">H", size - 1)
    head += _checksum(head, 8, 0x07)
    body = head + b"\0" + struct.pack(">h", 1000)
    return body + _checksum(body, 16, 0x8005)


def flac(num_frames: int, size: int, *rates: int) -> bytes:
    """Frames whose rates alternate."""
    info = struct.pack(">HH", size, size) + bytes(6)
    info += (44_100 << 44 | 15 << 36).to_bytes(8) + bytes(16)
    frames = (_flac_frame(i, rates[i % len(rates)], size) for i in range(num_frames))
    return b"fLaC" + bytes([0x80]) + len(info).to_bytes(3) + info + b"".join(frames)
