"""What Whisper's encoder made of chunks that are heard more than once.

A chunk is encoded to detect its language, to decode it, and for each higher temperature. The
encoder takes most of the time on a CPU, and always gives the same.
"""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from ctranslate2 import DataType, StorageView

from app.domain.transcript import Samples

MOST_KEPT = 8  # chunks: 3 MB each for base, 8 MB for large-v3

Encoding = npt.NDArray[np.float32]


class Encodings:
    """Encodes chunks, and keeps the last encodings while their recordings are in memory.

    Only in the host's memory and in float32, as on every CPU. Any thread.
    """

    def __init__(self, encode: Callable[[Sequence[Samples]], StorageView]) -> None:
        self._encode = encode
        # by a digest of the samples; the reference drops the entry with the recording
        self._kept: dict[bytes, tuple[weakref.ref[Any], Encoding]] = {}
        self._keeps = True  # until the model shows that its encodings are elsewhere

    def of(self, chunks: Sequence[Samples]) -> StorageView:
        """The encodings as one batch, in order."""
        if not self._keeps:
            return self._encode(chunks)
        digests = [hashlib.sha256(np.ascontiguousarray(chunk).data).digest() for chunk in chunks]
        found = {digest: entry[1] for digest in digests if (entry := self._kept.get(digest))}
        missing = [i for i, digest in enumerate(digests) if digest not in found]
        if missing:
            encoded = self._encode([chunks[i] for i in missing])
            if encoded.device != "cpu" or encoded.dtype != DataType.float32:
                self._keeps = False
                return encoded  # of all chunks: none was ever kept
            for i, encoding in zip(missing, np.array(encoded), strict=True):
                found[digests[i]] = encoding
                self._keep(digests[i], chunks[i], encoding)
            if len(missing) == len(chunks):
                return encoded
        return StorageView.from_array(np.stack([found[digest] for digest in digests]))

    def _keep(self, digest: bytes, chunk: Samples, encoding: Encoding) -> None:
        # a list first: recordings may come and go in other threads
        for oldest in list(self._kept)[: max(0, len(self._kept) + 1 - MOST_KEPT)]:
            self._kept.pop(oldest, None)
        recording = chunk.base if isinstance(chunk.base, np.ndarray) else chunk
        reference = weakref.ref(recording, lambda _: self._kept.pop(digest, None))
        self._kept[digest] = (reference, encoding.copy())
