"""Chooses the audio track of a file to transcribe.

A single track costs nothing. Several tracks are decoded from the beginning until it is certain
which is the best one with sound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import av
import numpy as np
from av.stream import Disposition

from app.audio.language_tags import same_language
from app.audio.timeline import to_floats
from app.domain.errors import UnsupportedOption

# What FFmpeg and PyAV raise on broken files. IndexError: a track begins midway.
BROKEN_FILE = (av.FFmpegError, ValueError, ArithmeticError, IndexError)

# Tracks that are rarely wanted if there are others.
ASIDE = (
    Disposition.comment
    | Disposition.visual_impaired
    | Disposition.descriptions
    | Disposition.karaoke
    | Disposition.clean_effects
    | Disposition.lyrics
    | Disposition.metadata
    | Disposition.dependent
)
SOUND_POWER, FAINT_POWER = 1e-6, 1e-12  # -60 and -120 dB
LEAST_SOUND_S = 0.3  # ignores clicks and tracks of a millisecond
# How many packets are decoded only to check for sound: a fixed number plus a share of one track's
# packets. Eight hours with ten silent tracks must not take ten times as long.
FREE_PACKETS = 5000
SURVEY_SHARE, ASIDE_SHARE = 0.5, 0.1
RUN_PACKETS = 50  # decoders need several in a row
MAX_LISTED = 20

Tracks = Sequence[Any]


class Hearing:
    """How much sound one track has had so far."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self._loud_s = 0.0
        self._faint_s = 0.0
        self._any_s = 0.0

    @property
    def has_sound(self) -> bool:
        return self._loud_s >= LEAST_SOUND_S

    @property
    def rank(self) -> tuple[bool, bool, bool]:
        """Higher is better."""
        return self.has_sound, self._faint_s >= LEAST_SOUND_S, self._any_s > 0

    def hear(self, packet: Any) -> None:
        try:
            frames = self.stream.decode(packet)
            for frame in frames:
                self._add(frame)
        except (EOFError, *BROKEN_FILE):
            return

    def _add(self, frame: Any) -> None:
        if not frame.samples:
            return
        samples = to_floats(frame)
        power = float(np.square(samples).mean(axis=1, dtype=np.float64).max())
        seconds = frame.samples / frame.sample_rate
        self._any_s += seconds
        self._faint_s += seconds * (power > FAINT_POWER)
        self._loud_s += seconds * (power > SOUND_POWER)


class Listeners:
    """Checks tracks for sound as their packets arrive, within a budget of packets."""

    def __init__(self, tracks: Tracks, share: float) -> None:
        self._hearings = {track.index: Hearing(track) for track in tracks}
        self._gain = share / max(1, len(tracks))
        self._credit = float(FREE_PACKETS)
        self._resting = False

    def __getitem__(self, track: Any) -> Hearing:
        return self._hearings[track.index]

    @property
    def any_sound(self) -> bool:
        return any(hearing.has_sound for hearing in self._hearings.values())

    def hear(self, packet: Any) -> None:
        hearing = self._hearings.get(packet.stream_index)
        if hearing is None:
            return
        self._credit += self._gain
        if self._resting and self._credit < RUN_PACKETS:
            return
        self._resting = False
        if not hearing.has_sound:
            hearing.hear(packet)
            self._credit -= 1
            self._resting = self._credit < 1


def audio_tracks(container: Any) -> list[Any]:
    return list(container.streams.audio)


def candidates(tracks: Tracks, wanted: str) -> list[Any]:
    """The tracks that match, best first. `wanted`: an index, a language, or empty.

    Raises:
        UnsupportedOption: no track matches.
    """
    # no context: FFmpeg cannot decode the codec
    playable = [track for track in tracks if track.codec_context is not None]
    if wanted:
        chosen = [t for i, t in enumerate(tracks) if _is_meant(wanted, i, t)]
        playable = [track for track in playable if track in chosen]
        if not playable:
            raise _no_such_track(wanted, tracks)
    return sorted(
        playable,
        key=lambda track: (
            bool(track.disposition & ASIDE),
            not track.disposition & Disposition.default,
            track.index,
        ),
    )


def _is_meant(wanted: str, index: int, track: Any) -> bool:
    if wanted.isascii() and wanted.isdigit():
        return wanted.lstrip("0") == str(index).lstrip("0")
    tag = _language(track)
    return bool(tag) and same_language(wanted) == same_language(tag)


def _language(track: Any) -> str:
    """The track's language tag as written in the file; empty if it is not safe to show."""
    tag = str(track.metadata.get("language", "")).strip()
    harmless = tag.isascii() and len(tag) <= 16 and tag.replace("-", "").isalnum()
    return tag if harmless and tag.lower() != "und" else ""


def _no_such_track(wanted: str, tracks: Tracks) -> UnsupportedOption:
    listed = [
        f"{i} ({_language(track)})" if _language(track) else str(i)
        for i, track in enumerate(tracks[:MAX_LISTED])
    ]
    more = ", ..." if len(tracks) > MAX_LISTED else ""
    shown = "".join(c for c in wanted[:40] if c.isprintable())
    return UnsupportedOption(
        f"audio_track: the file has no track {shown!r}; it has {', '.join(listed)}{more}."
    )


def first_with_sound(container: Any, tracks: Tracks, check: Callable[[], None]) -> tuple[int, bool]:
    """The position of the first of the tracks (best first) with sound; whether another has sound.

    `check` is called for each packet. Reads the container only as far as needed: to its end if the
    best track is silent.
    """
    listeners = Listeners(tracks, SURVEY_SHARE)
    for packet in _packets(container):
        check()
        listeners.hear(packet)
        if listeners[tracks[0]].has_sound:
            break
    best = max(tracks, key=lambda track: listeners[track].rank)
    others = any(listeners[t].has_sound for t in tracks if t is not best)
    return tracks.index(best), others


def _packets(container: Any) -> Iterator[Any]:
    try:
        yield from container.demux()
    except BROKEN_FILE:
        return
