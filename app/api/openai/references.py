"""Known speakers: what a form's references hold, told from data URLs."""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from pathlib import Path

from app.api.openai.parameters import REFERENCES
from app.domain.errors import UndecodableAudio, UnsupportedOption, UploadTooLarge
from app.domain.options import KnownSpeaker
from app.service.calls import Call
from app.service.recording import Recording
from app.storage.tempdir import told_when_full

REFERENCE_S = (2.0, 10.0)
SLACK_S = 0.5  # codecs add silence, and cuts are inexact
MAX_HEAD_BYTES = 256  # of a data URL, before its comma
BLANKS = b" \t\r\n"
ALPHABET = bytes.maketrans(b"-_", b"+/")  # of base64 in URLs, to the usual one
ESCAPES = {b"%2b": b"+", b"%2f": b"/", b"%3d": b"="}


def known_speakers(
    call: Call, names: Sequence[str], paths: Sequence[Path]
) -> tuple[KnownSpeaker, ...]:
    """The speakers of the references. Each of `paths` holds a data URL, and then its content.

    Raises:
        UnsupportedOption: a reference is no data URL in base64, or not of one voice's length.
        ServiceError: the call was cancelled.
    """
    named = zip(names, paths, strict=True)
    return tuple(_known_speaker(call, name, path, i) for i, (name, path) in enumerate(named))


def _known_speaker(call: Call, name: str, path: Path, number: int) -> KnownSpeaker:
    call.work.check()
    parameter = f"{REFERENCES}[{number}]"
    least, most = REFERENCE_S
    wanted = f"it must be a data URL in base64 with {least:g} to {most:g} seconds of one voice."
    try:
        _overwrite(path, read_data_url(path.read_bytes()))
        audio = call.audio.decode(Recording(path), max_duration_s=most + SLACK_S)
    except (ValueError, UndecodableAudio, UploadTooLarge):
        raise UnsupportedOption(f"{parameter}: {wanted}") from None
    if audio.duration_s < least - SLACK_S:
        raise UnsupportedOption(f"{parameter}: {audio.duration_s:.1f} s is too short; {wanted}")
    return KnownSpeaker(name, audio)


def _overwrite(path: Path, content: bytes) -> None:
    # "r+" does not recreate a file that was removed with its request
    with told_when_full(), path.open("r+b") as file:
        file.write(content)
        file.truncate()


def read_data_url(url: bytes) -> bytes:
    """The content of a data URL in base64. Takes time and memory in proportion to its length.

    No library reads it: those for URLs open other kinds, too, and parse the media type as an
    e-mail's. Source: RFC 2397.

    Raises:
        ValueError: it is not one.
    """
    comma = url.find(b",", 0, MAX_HEAD_BYTES)
    head = url[: max(0, comma)].strip().lower()
    if not head.startswith(b"data:") or not head.endswith(b";base64"):
        raise ValueError("not a data URL in base64")
    data = url[comma + 1 :]
    for escape, byte in ESCAPES.items():
        data = data.replace(escape, byte).replace(escape.upper(), byte)
    plain = data.translate(ALPHABET, delete=BLANKS)
    return binascii.a2b_base64(plain + b"=" * (-len(plain) % 4), strict_mode=True)
