"""Reads the packets of a container and decodes those of one track."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from av.audio.frame import AudioFrame

from app.audio.tracks import BROKEN_FILE, Listeners
from app.domain.warnings import TranscriptWarning

MAX_BAD_PACKETS = 10_000
TAGS = (b"ID3", b"TAG", b"APETAGEX", b"LYRICS")  # between joined MP3 files


class PacketReader:
    """Reads a container to its end or to the point where it breaks off."""

    def __init__(
        self,
        container: Any,
        stream: Any,
        others: Listeners,
        warnings: list[TranscriptWarning],
        check: Callable[[], None],
    ) -> None:
        """`check` is called before each packet."""
        self._check = check
        self._container = container
        self._stream = stream
        self._others = others
        self._warnings = warnings
        self.end_s = 0.0  # the latest end of any packet, of any stream

    def frames(self) -> Iterator[AudioFrame]:
        """The frames that can be decoded. Bad packets are skipped and add a warning."""
        num_bad = 0
        packets = self._container.demux()
        while num_bad < MAX_BAD_PACKETS:
            self._check()
            try:
                packet = next(packets)
            except StopIteration:
                return
            except BROKEN_FILE:
                self._warnings.append(TranscriptWarning.BREAKS_OFF)
                return
            if packet.pts is not None and packet.time_base is not None:
                end = (packet.pts + (packet.duration or 0)) * packet.time_base
                self.end_s = max(self.end_s, float(end))
            if packet.stream_index != self._stream.index:
                self._others.hear(packet)
                continue
            try:
                yield from self._stream.decode(packet)  # packet.stream may be of another kind
            except EOFError:  # a track that appears midway ends twice
                continue
            except BROKEN_FILE:
                if bytes(packet).startswith(TAGS):
                    continue
                num_bad += 1
                self._warnings.append(TranscriptWarning.BREAKS_OFF)
