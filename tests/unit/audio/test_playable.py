"""What browsers get to hear of a file: itself, or an MP3 in which each word is at its time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from app.audio.decode import DecodeRequest
from app.audio.peaks import NUM_PEAKS, peaks_of
from app.audio.playable import make_playable, playable_target
from app.domain.errors import UndecodableAudio
from tests.support.media import FORMATS, Media, encode, found_at_s, samples_of, speech
from tests.support.truth import truth_of

AS_THEY_ARE = {
    "wav": "audio/wav",
    "wav of 24 bits, stereo": "audio/wav",
    "mp3": "audio/mpeg",
    "flac": "audio/flac",
    "ogg opus": "audio/ogg",
    "ogg vorbis": "audio/ogg",
    "m4a": "audio/mp4",
    "webm": "audio/webm",
}
CONVERTED = ("wav mu-law", "amr", "wma", "aac", "avi with video", "mp4 with video")
LIVE = Media("webm", "libopus", 48_000, options=(("live", "1"),))  # as browsers record: no duration


def request(folder: Path, content: bytes) -> DecodeRequest:
    (folder / "source").write_bytes(content)
    wanted = DecodeRequest(folder / "source", folder / "target.f32", max_duration_s=60)
    for path in (wanted.target, playable_target(wanted)):
        path.touch()
    return wanted


@pytest.mark.parametrize("name", AS_THEY_ARE)
def test_browsers_play_it_as_it_is(tmp_path: Path, name: str) -> None:
    playable = make_playable(request(tmp_path, encode(FORMATS[name], (0.0, speech("en_short")))))
    assert (playable.media_type, playable.encoded) == (AS_THEY_ARE[name], False)
    assert (tmp_path / "target.f32").stat().st_size == 0  # nothing was decoded


@pytest.mark.parametrize("name", [*CONVERTED, "live"])
def test_the_others_become_mp3_with_the_same_times(tmp_path: Path, name: str) -> None:
    sound = speech("en_short")
    wanted = request(tmp_path, encode(FORMATS.get(name, LIVE), (0.0, sound)))
    playable = make_playable(wanted)
    assert (playable.media_type, playable.encoded) == ("audio/mpeg", True)
    heard = samples_of(playable_target(wanted)) * 32768  # floats already
    assert len(heard) == pytest.approx(len(sound), abs=0.2 * 16_000)
    part = sound[16_000:40_000]
    assert found_at_s(part, heard) == pytest.approx(1.0, abs=0.1)  # some codecs put silence first
    assert make_playable(replace(wanted, source=playable_target(wanted))).encoded is False


@pytest.mark.parametrize("content", [b"", b"no media", b"RIFF\x00\x00\x00\x00WAVE"])
def test_what_is_no_recording(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UndecodableAudio):
        make_playable(request(tmp_path, content))


def test_peaks_are_high_where_somebody_speaks() -> None:
    sound, truth = speech("en_short"), truth_of("en_short")
    peaks = np.frombuffer(peaks_of([np.zeros_like(sound), sound]), np.uint8)
    assert len(peaks) <= NUM_PEAKS
    at = np.arange(len(peaks)) * truth["duration"] / len(peaks)
    spoken = np.any([(w["start"] <= at) & (at < w["end"]) for w in truth["words"]], axis=0)
    assert peaks[spoken].mean() > 5 * max(1, peaks[~spoken].mean())
    assert peaks.max() == round(float(np.abs(sound).max()) * 255)
    assert peaks_of([sound[:3]]) == bytes(round(abs(float(s)) * 255) for s in sound[:3])
