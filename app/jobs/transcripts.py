"""A transcript as bytes and back, so that any format can be written later, on any machine."""

from __future__ import annotations

import dataclasses
import zlib

from pydantic import BaseModel, ConfigDict

from app.domain.transcript import Transcript
from app.domain.warnings import TranscriptWarning

LEVEL = 6


class _Packed(BaseModel):
    """`warnings`: by name. A name that this version does not know is left out."""

    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    transcript: Transcript
    warnings: tuple[str, ...]


def pack(transcript: Transcript) -> bytes:
    """Compressed JSON with every field of the transcript."""
    packed = _Packed(
        transcript=dataclasses.replace(transcript, warnings=()),
        warnings=tuple(warning.name for warning in transcript.warnings),
    )
    return zlib.compress(packed.model_dump_json().encode(), LEVEL)


def unpack(body: bytes) -> Transcript:
    """The transcript of `pack`."""
    packed = _Packed.model_validate_json(zlib.decompress(body))
    known = TranscriptWarning.__members__
    return dataclasses.replace(
        packed.transcript, warnings=tuple(known[name] for name in packed.warnings if name in known)
    )
