"""Media files to samples: exact times, files that break off, hostile files, and the processes."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from app.audio import decode as decoding
from app.audio.decode import EMPTY, NO_SOUND, NO_TRACK, NOT_MEDIA, DecodeRequest, decode
from app.domain.errors import UndecodableAudio, UploadTooLarge
from app.domain.warnings import TranscriptWarning
from tests.support.media import FORMATS, PRIMING_S, Media, Samples, encode, found_at_s, speech

SPEECH = speech("en_short")
SPEECH_S = len(SPEECH) / 16_000
HOUR_S = 3600.0
SILENCE_OF_TEN_MINUTES = np.zeros(16_000 * 600, np.float32)

# Cannot be told from a shorter file: no header counts what follows.
SILENT_ABOUT_ITS_LENGTH = {"mp3 without header"}
# The index is at the end: without it, nothing can be found.
INDEX_LAST = {"m4a, index last"}


@pytest.fixture
def decoded(tmp_path: Path) -> Callable[..., tuple[Samples, tuple[str, ...]]]:
    """Decodes bytes in this process: samples and warnings."""

    def run(
        content: bytes, max_duration_s: float = HOUR_S, **options: Any
    ) -> tuple[Samples, tuple[str, ...]]:
        source, target = tmp_path / "source", tmp_path / "target"
        source.write_bytes(content)
        target.touch()
        done = decode(DecodeRequest(source, target, max_duration_s, **options))
        samples = np.fromfile(target, "<f4")
        assert len(samples) == done.num_samples
        return samples, done.warnings

    return run


# -- formats -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FORMATS)
def test_sound_is_where_it_was(decoded: Any, kind: str) -> None:
    samples, warnings = decoded(encode(FORMATS[kind], (0, SPEECH)))
    assert found_at_s(SPEECH, samples) == pytest.approx(PRIMING_S.get(kind, 0), abs=0.008)
    assert len(samples) / 16_000 == pytest.approx(SPEECH_S, abs=0.08)
    assert warnings == ()


@pytest.mark.parametrize("share", [0.5, 0.8])
@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_that_breaks_off(decoded: Any, kind: str, share: float) -> None:
    whole = encode(FORMATS[kind], (0, SPEECH))
    broken = whole[: int(len(whole) * share) | 1]
    if kind in INDEX_LAST:
        with pytest.raises(UndecodableAudio, match="can be decoded"):
            decoded(broken)
        return
    samples, warnings = decoded(broken)
    assert (share - 0.3) * SPEECH_S < len(samples) / 16_000 < (share + 0.1) * SPEECH_S
    assert warnings == (() if kind in SILENT_ABOUT_ITS_LENGTH else (TranscriptWarning.BREAKS_OFF,))


@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_of_which_nearly_nothing_is_left(decoded: Any, kind: str) -> None:
    with pytest.raises(UndecodableAudio):
        decoded(encode(FORMATS[kind], (0, SPEECH))[:20])


def _wav_of_unknown_size(size: int) -> bytes:
    wav = bytearray(encode(FORMATS["wav"], (0, SPEECH)))
    data = wav.index(b"data")
    wav[4:8] = wav[data + 4 : data + 8] = struct.pack("<I", size)
    return bytes(wav)


def _wav_of_no_samples() -> bytes:
    wav = encode(FORMATS["wav"], (0, SPEECH))
    end = wav.index(b"data") + 4
    return wav[:4] + struct.pack("<I", end - 4) + wav[8:end] + bytes(4)


def _flac_of_unknown_length() -> bytes:
    flac = bytearray(encode(Media("flac", "flac"), (0, SPEECH)))
    flac[21] &= 0xF0  # STREAMINFO: 36 bits of total samples
    flac[22:26] = bytes(4)
    return bytes(flac)


def _ape_tag() -> bytes:
    item = struct.pack("<II", 3, 0) + b"Title\0abc"
    edges = [
        b"APETAGEX" + struct.pack("<IIII", 2000, len(item) + 32, 1, flags) + bytes(8)
        for flags in (0xA000_0000, 0x8000_0000)
    ]
    return edges[0] + item + edges[1]


MP3, BARE_MP3 = FORMATS["mp3"], FORMATS["mp3 without header"]
LIVE = (("live", "1"),)
INTACT: dict[str, Callable[[], bytes]] = {
    "wav from a pipe": lambda: _wav_of_unknown_size(0xFFFF_FFFF),
    "wav of a recorder that crashed": lambda: _wav_of_unknown_size(0),
    "wav from sox": lambda: _wav_of_unknown_size(0x7FFF_FFFF),
    "flac from a pipe": _flac_of_unknown_length,
    "mp3 with tags at its end": lambda: encode(MP3, (0, SPEECH)) + _ape_tag() + b"TAG" + b"x" * 125,
    "mp3 with a picture": lambda: (
        b"ID3\3\0\0\0\x06\x20\0" + bytes(0x06 << 14 | 0x20 << 7) + encode(MP3, (0, SPEECH))
    ),
    "webm of a browser": lambda: encode(replace(FORMATS["webm"], options=LIVE), (0, SPEECH)),
    "mkv of a stream": lambda: encode(
        Media("matroska", "libmp3lame", 44_100, options=LIVE), (0, SPEECH)
    ),
    "mkv, pictures go on": lambda: encode(
        replace(FORMATS["mkv with video"], video_s=20), (0, SPEECH)
    ),
    "mp4, pictures go on": lambda: encode(
        replace(FORMATS["mp4 with video"], video_s=20), (0, SPEECH)
    ),
    "avi, pictures go on": lambda: encode(
        replace(FORMATS["avi with video"], video_s=20), (0, SPEECH)
    ),
    "ogg cut out of a stream": lambda: encode(FORMATS["ogg opus"], (2, SPEECH)),
}


@pytest.mark.parametrize("kind", INTACT)
def test_no_false_alarm(decoded: Any, kind: str) -> None:
    samples, warnings = decoded(INTACT[kind]())
    assert warnings == ()
    assert found_at_s(SPEECH, samples) < 0.03
    assert len(samples) / 16_000 == pytest.approx(SPEECH_S, abs=0.06)


def test_a_guess_from_the_bit_rate_is_no_stated_length(decoded: Any) -> None:
    """Ten quiet seconds at the start of an MP3 of variable rate, and no header that counts."""
    late = (10.0, SPEECH)
    media = replace(BARE_MP3, options=(*BARE_MP3.options, ("id3v2_version", "0")))
    samples, warnings = decoded(encode(media, (0, np.zeros(160_000, np.float32)), late))
    assert warnings == ()
    assert found_at_s(SPEECH, samples) == pytest.approx(10 + 1105 / 44_100, abs=0.006)


@pytest.mark.parametrize(("layout", "channels"), [("stereo", 2), ("5.1", 6)])
def test_mixing_down_does_not_clip(decoded: Any, layout: str, channels: int) -> None:
    """The same full-scale sound on all channels stays what it is."""
    loud = (SPEECH / np.abs(SPEECH).max() * 0.99).astype(np.float32)
    everywhere = np.repeat((loud * 32767).astype("<i2")[:, None], channels, axis=1)
    wav = bytearray(encode(Media("wav", "pcm_s16le", layout=layout), (0, loud)))
    start = wav.index(b"data") + 8
    wav[start:] = everywhere.tobytes()
    samples, _ = decoded(bytes(wav))
    assert np.abs(samples - loud).max() < 0.001


def test_floats_that_are_no_numbers(decoded: Any) -> None:
    wild = SPEECH.copy()
    wild[1000:1010], wild[2000], wild[3000] = np.nan, np.inf, 1e30
    samples, _ = decoded(encode(Media("wav", "pcm_f32le"), (0, wild)))
    assert np.isfinite(samples).all()
    assert np.abs(samples).max() <= 1
    assert np.abs(samples[8000:] - SPEECH[8000:]).max() < 0.001


@pytest.mark.parametrize("wanted_s", [0.5, 2.0, 60.0])
def test_the_beginning_of_a_file(decoded: Any, wanted_s: float) -> None:
    for content, raw in (
        (encode(FORMATS["mp3"], (0, SPEECH)), False),
        ((SPEECH * 32768).astype("<i2").tobytes() * 30, True),
    ):
        samples, warnings = decoded(content, raw_pcm=raw, stop_after_s=wanted_s)
        available = SPEECH_S * (30 if raw else 1)
        assert len(samples) / 16_000 >= min(wanted_s, available) - 0.01
        assert len(samples) / 16_000 <= min(wanted_s + 9, available) + 0.01
        assert warnings == ()


def test_nothing_in_it(decoded: Any) -> None:
    for content, raw, message in (
        (b"", False, EMPTY),
        (b"", True, EMPTY),
        (b"\0", True, NO_SOUND),
        (_wav_of_no_samples(), False, NO_SOUND),
        (b"once upon a time\n" * 100, False, NOT_MEDIA),
    ):
        with pytest.raises(UndecodableAudio) as caught:
            decoded(content, raw_pcm=raw)
        assert caught.value.message == message


def test_pictures_only(decoded: Any) -> None:
    file = BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream: Any = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(10):
            container.mux(stream.encode(av.VideoFrame(64, 48, "yuv420p")))
        container.mux(stream.encode(None))
    with pytest.raises(UndecodableAudio) as caught:
        decoded(file.getvalue())
    assert caught.value.message == NO_TRACK


# -- the time line -------------------------------------------------------------------------------

CUT = 33_600  # samples: between the two sentences
FIRST, SECOND = SPEECH[:CUT], SPEECH[CUT:]
CUT_S = CUT / 16_000

TIMED = {
    "mkv": Media("matroska", "aac", 44_100),
    "mkv of opus": Media("matroska", "libopus", 48_000),
    "webm": FORMATS["webm"],
    "mp4": Media("mp4", "aac", 44_100),
    "mov": Media("mov", "aac", 44_100),
    "3gp": Media("3gp", "libopencore_amrnb", 8_000, bit_rate=12_200),
    "wma": FORMATS["wma"],
    "flv": Media("flv", "aac", 44_100),
}


@pytest.mark.parametrize("video", [False, True])
@pytest.mark.parametrize("kind", TIMED)
def test_a_late_start_and_a_gap_become_silence(decoded: Any, kind: str, video: bool) -> None:
    picture = {"webm": "libvpx", "flv": "flv1"}.get(kind, "mpeg4") if video else ""
    media = replace(TIMED[kind], video=picture)
    samples, warnings = decoded(encode(media, (2, FIRST), (5 + CUT_S, SECOND)))
    assert found_at_s(FIRST, samples) == pytest.approx(2, abs=0.005)
    assert found_at_s(SECOND, samples) == pytest.approx(5 + CUT_S, abs=0.005)
    assert np.abs(samples[: int(1.9 * 16_000)]).max() == 0
    assert np.abs(samples[int((2.2 + CUT_S) * 16_000) : int((4.9 + CUT_S) * 16_000)]).max() == 0
    assert warnings == ()


@pytest.mark.parametrize("container", ["mpegts", "mpeg"])
def test_a_broadcast_clock_counts_from_its_own_start(decoded: Any, container: str) -> None:
    media = Media(container, "mp2", 48_000, video="mpeg2video")
    samples, _ = decoded(encode(media, (2, FIRST), (5 + CUT_S, SECOND)))
    assert found_at_s(FIRST, samples) == pytest.approx(2, abs=0.015)
    assert found_at_s(SECOND, samples) == pytest.approx(5 + CUT_S, abs=0.015)


@pytest.mark.parametrize("kind", ["mkv", "mkv of opus", "wma", "flv"])
def test_rounded_timestamps_are_no_gaps(decoded: Any, kind: str) -> None:
    minutes = np.tile(SPEECH, 25)
    samples, warnings = decoded(encode(TIMED[kind], (0, minutes)))
    primed_s = PRIMING_S.get(kind, 0.024)
    assert 0 <= len(samples) - len(minutes) < 2 * primed_s * 16_000
    last_s = (len(minutes) - len(SECOND)) / 16_000
    end = samples[int((last_s - 1) * 16_000) :]
    assert 1 <= found_at_s(SECOND, end) < 1.001 + primed_s
    assert warnings == ()


@pytest.mark.parametrize("kind", ["mkv", "mp4"])
def test_a_start_before_zero(decoded: Any, kind: str) -> None:
    media = replace(TIMED[kind], options=(("avoid_negative_ts", "disabled"),))
    samples, warnings = decoded(encode(media, (-0.3, SPEECH)))
    # players leave out what lies before zero, or begin with it
    assert len(samples) / 16_000 == pytest.approx(SPEECH_S - 0.15, abs=0.2)
    assert found_at_s(SECOND, samples) == pytest.approx(len(samples) / 16_000 - 1.3, abs=0.06)
    assert warnings == ()


@pytest.mark.parametrize("days", [1, 30])
@pytest.mark.parametrize("kind", ["mkv", "mp4", "webm", "flv"])
def test_a_clock_that_jumps_by_days_is_not_believed(decoded: Any, kind: str, days: int) -> None:
    jump_s = days * 24 * HOUR_S
    samples, _ = decoded(encode(TIMED[kind], (0, FIRST), (jump_s, SECOND)), 20 * HOUR_S)
    assert len(samples) / 16_000 == pytest.approx(SPEECH_S, abs=0.1)
    assert found_at_s(SECOND, samples) == pytest.approx(CUT_S, abs=0.06)


# -- limits --------------------------------------------------------------------------------------


def test_hours_of_silence_take_no_space(decoded: Any, tmp_path: Path) -> None:
    """A gap that may be true is a hole in the file; one over the limit is not even begun."""
    bomb = encode(TIMED["mkv"], (0, FIRST), (3000, SECOND))
    with pytest.raises(UploadTooLarge, match="2999 seconds"):
        decoded(bomb, 2999)
    assert (tmp_path / "target").stat().st_blocks * 512 < 1 << 20
    samples, _ = decoded(bomb)
    assert len(samples) / 16_000 == pytest.approx(3000 + SPEECH_S - CUT_S, abs=0.1)
    assert (tmp_path / "target").stat().st_blocks * 512 < 1 << 20


@pytest.mark.parametrize("kind", ["flac", "webm"])
def test_a_duration_bomb_stops_at_the_limit(decoded: Any, tmp_path: Path, kind: str) -> None:
    bomb = encode(FORMATS[kind], (0, SILENCE_OF_TEN_MINUTES))
    assert len(bomb) < 400_000
    with pytest.raises(UploadTooLarge, match="longer than the limit of 60 seconds"):
        decoded(bomb, 60)
    assert (tmp_path / "target").stat().st_size <= 61 * 64_000


def test_a_header_that_lies_about_the_duration(decoded: Any) -> None:
    mkv = bytearray(encode(TIMED["mkv"], (0, SPEECH)))
    duration = mkv.index(b"\x44\x89\x88") + 3
    (stated_ms,) = struct.unpack_from(">d", mkv, duration)
    assert stated_ms == pytest.approx(SPEECH_S * 1000, abs=100)
    for lie_ms, expected in (
        (1e9, (TranscriptWarning.BREAKS_OFF,)),
        (500.0, ()),
        (-1.0, ()),
        (float("nan"), ()),
    ):
        struct.pack_into(">d", mkv, duration, lie_ms)
        samples, warnings = decoded(bytes(mkv), 60)
        assert len(samples) / 16_000 == pytest.approx(SPEECH_S, abs=0.05)
        assert warnings == expected


def test_a_sample_rate_that_lies(decoded: Any) -> None:
    """At one sample a second, a few kilobytes are hours."""
    wav = bytearray(encode(FORMATS["wav"], (0, SPEECH)))
    wav[24:28] = struct.pack("<I", 1)
    with pytest.raises(UndecodableAudio, match="sampling rate"):
        decoded(bytes(wav), HOUR_S)


def test_broken_headers_never_surface_as_anything_else(decoded: Any) -> None:
    """Hundreds of damaged files: samples, or one of the two errors that a client can be told."""
    random = np.random.default_rng(7)
    files = [encode(media, (0, SPEECH[:8000])) for media in FORMATS.values()]
    outcomes = {"decoded": 0, "refused": 0}
    for _ in range(300):
        content = bytearray(files[random.integers(len(files))])
        for _ in range(random.integers(1, 30)):
            content[random.integers(min(len(content), 1000))] = random.integers(256)
        try:
            decoded(bytes(content), 60)
            outcomes["decoded"] += 1
        except (UndecodableAudio, UploadTooLarge):
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 30


# -- hostile -------------------------------------------------------------------------------------


def _playlists(victim: Path) -> dict[str, bytes]:
    uri = victim.as_uri()
    return {
        "ffconcat": f"ffconcat version 1.0\nfile {victim}\n".encode(),
        "hls": (
            "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:9\n#EXT-X-MEDIA-SEQUENCE:0\n"
            f"#EXTINF:3.4,\n{uri}\n#EXT-X-ENDLIST\n"
        ).encode(),
        "dash": (
            '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
            'mediaPresentationDuration="PT3S" profiles="urn:mpeg:dash:profile:isoff-live:2011">'
            '<Period duration="PT3S"><AdaptationSet mimeType="audio/mp4">'
            f'<Representation id="1" bandwidth="1"><BaseURL>{uri}</BaseURL></Representation>'
            "</AdaptationSet></Period></MPD>"
        ).encode(),
        "sdp": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
        b"m=audio 5004 RTP/AVP 0\n",
        "subtitles": b"1\n00:00:00,000 --> 00:00:01,000\nHello.\n\n",
        "webvtt": b"WEBVTT\n\n00:00.000 --> 00:01.000\nHello.\n",
        "svg": f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{uri}"/></svg>'.encode(),
        "png": _png(),
    }


def _png() -> bytes:
    context: Any = av.CodecContext.create("png", "w")
    context.width, context.height, context.pix_fmt = 16, 16, "rgb24"
    return bytes(context.encode(av.VideoFrame(16, 16, "rgb24"))[0])


@pytest.mark.parametrize(
    "kind", ["ffconcat", "hls", "dash", "sdp", "subtitles", "webvtt", "svg", "png"]
)
def test_what_is_not_media_is_refused(decoded: Any, tmp_path: Path, kind: str) -> None:
    victim = tmp_path / "secret.wav"
    victim.write_bytes(encode(FORMATS["wav"], (0, SPEECH)))
    with pytest.raises(UndecodableAudio) as caught:
        decoded(_playlists(victim)[kind])
    assert caught.value.message == NOT_MEDIA
    assert str(tmp_path) not in str(caught.value)


def _opens_victim(content: bytes, victim: Path, **options: Any) -> bool:
    """Whether FFmpeg, given the content as a byte stream, plays the victim's sound."""
    try:
        with av.open(BytesIO(content), **options) as container:
            frames = [frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)]
    except (av.FFmpegError, ValueError, IndexError):
        return False
    return sum(len(frame) for frame in frames) == len(SPEECH)


def test_the_whitelist_is_what_keeps_local_files_closed(tmp_path: Path) -> None:
    """Without it, a text in a byte stream makes FFmpeg read any file of this machine."""
    victim = tmp_path / "secret.wav"
    victim.write_bytes(encode(FORMATS["wav"], (0, SPEECH)))
    playlist = _playlists(victim)["ffconcat"]
    unsafe = {"options": {"safe": "0"}}
    formats = {"format_whitelist": decoding.MEDIA_FORMATS}
    protocols = {"protocol_whitelist": "none"}
    assert _opens_victim(playlist, victim, **unsafe)
    assert _opens_victim(playlist, victim, **unsafe, container_options={})
    assert not _opens_victim(playlist, victim, **unsafe, container_options=formats)
    assert not _opens_victim(playlist, victim, **unsafe, container_options=protocols)
    # a relative name needs no "safe"
    relative = f"ffconcat version 1.0\nfile {victim.name}\n".encode()
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        assert _opens_victim(relative, victim)
        assert not _opens_victim(relative, victim, container_options=formats)
    finally:
        os.chdir(before)


def test_only_whitelisted_formats_are_opened() -> None:
    """The options do reach FFmpeg for byte streams: what opens with them is what they name."""
    wav = encode(FORMATS["wav"], (0, SPEECH))
    av.open(BytesIO(wav), container_options={"format_whitelist": "wav"}).close()
    with pytest.raises(av.FFmpegError):
        av.open(BytesIO(wav), container_options={"format_whitelist": "flac,mp3"})


def _movie_without_sound_of_its_own(victim: Path) -> bytes:
    """QuickTime whose data reference (dref) is an alias of another file.

    Source: mov_read_dref in libavformat/mov.c.
    """
    movie = encode(Media("mov", "pcm_s16le", options=(("movflags", "faststart"),)), (0, SPEECH))
    entry = movie.index(b"dref") + 12  # after size, type, version and count: the first entry
    assert movie[entry + 4 : entry + 8] == b"url "
    path = str(victim).encode()
    path += bytes(len(path) % 2)
    alias = bytes(10) + bytes(28) + bytes(12) + bytes(64) + bytes(16) + bytes(4) + bytes(16)
    alias += struct.pack(">HH", 2, len(path)) + path + struct.pack(">HH", 0xFFFF, 0)
    reference = struct.pack(">I4sI", 12 + len(alias), b"alis", 0) + alias
    outside = bytearray(movie[:entry] + reference + movie[entry + 12 :])
    for box in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        at = outside.index(box) - 4
        size = struct.unpack_from(">I", outside, at)[0] + len(reference) - 12
        struct.pack_into(">I", outside, at, size)
    chunks = outside.index(b"stco") + 12  # where the sound is in the other file
    first = struct.unpack_from(">I", outside, chunks)[0]
    for index in range(struct.unpack_from(">I", outside, chunks - 4)[0]):
        offset = struct.unpack_from(">I", outside, chunks + 4 * index)[0]
        struct.pack_into(">I", outside, chunks + 4 * index, offset - first + 10_000_000)
    return bytes(outside[: outside.index(b"mdat") - 4])


def test_a_reference_to_another_file_is_not_followed(decoded: Any, tmp_path: Path) -> None:
    victim = tmp_path / "secret.pcm"
    victim.write_bytes(bytes(10_000_000) + (SPEECH * 32768).astype("<i2").tobytes())
    movie = _movie_without_sound_of_its_own(victim)
    willing = {"options": {"enable_drefs": "1", "use_absolute_path": "1"}}
    assert _opens_victim(movie, victim, **willing)
    protocols = {"container_options": {"protocol_whitelist": "none"}}
    assert not _opens_victim(movie, victim, **willing, **protocols)
    with pytest.raises(UndecodableAudio):
        decoded(movie)
