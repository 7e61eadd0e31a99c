"""The right sound out of any file: which track, which channels, how loud, whether it is whole."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from av.stream import Disposition

from app.audio.decode import DecodeRequest, channel_targets, decode
from app.audio.ogg import ogg_checksum
from app.domain.errors import UndecodableAudio, UnsupportedOption
from app.domain.warnings import TranscriptWarning
from tests.support.media import FORMATS, Media, Samples, encode, found_at_s, speech
from tests.support.tracks import Track, tracks_file, wav

SPEECH = speech("en_short")
OTHER = speech("es_short")
SILENCE = np.zeros_like(SPEECH)
NOISE = np.random.default_rng(3).normal(0, 0.1, len(SPEECH)).astype(np.float32)
SPEECH_S = len(SPEECH) / 16_000


@pytest.fixture
def decoded(tmp_path: Path) -> Callable[..., tuple[list[Samples], tuple[str, ...]]]:
    """The samples of each file that is written, and the warnings."""

    def run(content: bytes, **options: Any) -> tuple[list[Samples], tuple[str, ...]]:
        source = tmp_path / "source"
        source.write_bytes(content)
        request = DecodeRequest(source, tmp_path / "target", 3600.0, **options)
        for path in channel_targets(request):
            path.write_bytes(b"")
        done = decode(request)
        found = [np.fromfile(path, "<f4") for path in channel_targets(request)]
        assert all(len(samples) == done.num_samples for samples in found[: done.num_channels])
        return found[: done.num_channels], done.warnings

    return run


def likeness(samples: Samples, original: Samples) -> float:
    """The correlation where it is highest within 0.1 s: 1 for the same sound at any level."""
    size = 1 << (len(samples) + len(original)).bit_length()
    spectrum = np.fft.rfft(samples, size) * np.conj(np.fft.rfft(original, size))
    most = np.abs(np.fft.irfft(spectrum, size)[:1600]).max()
    return float(most / np.linalg.norm(samples) / np.linalg.norm(original))


def level_db(samples: Samples) -> float:
    return float(10 * np.log10(np.mean(np.square(samples, dtype=np.float64)) + 1e-20))


# -- which track ---------------------------------------------------------------------------------


KINDS = [("matroska", "libopus"), ("matroska", "flac"), ("mp4", "aac")]
DEFAULT, COMMENT = int(Disposition.default), int(Disposition.comment)
DESCRIPTIONS = int(Disposition.visual_impaired | Disposition.descriptions)
GOOD = Track(SPEECH)


@pytest.mark.parametrize(("container", "codec"), KINDS)
@pytest.mark.parametrize(
    ("tracks", "warned"),
    [
        ([Track(OTHER), Track(SPEECH, DEFAULT)], True),
        ([Track(SPEECH), Track(OTHER)], True),
        ([Track(SILENCE, DEFAULT), GOOD], False),
        ([Track(SPEECH[:16], DEFAULT), GOOD], False),
        ([Track(SILENCE), Track(SILENCE), GOOD, Track(SILENCE)], False),
        ([GOOD, Track(SILENCE)], False),
        ([Track(OTHER, COMMENT), GOOD], True),
        ([Track(OTHER, DESCRIPTIONS), GOOD], True),
        ([Track(SILENCE), Track(SPEECH, COMMENT)], False),
        ([Track(NOISE * 1e-5, DEFAULT), GOOD], False),
    ],
)  # fmt: skip
def test_the_track_with_the_sound(
    decoded: Any, container: str, codec: str, tracks: list[Track], warned: bool
) -> None:
    [samples], warnings = decoded(tracks_file(container, codec, tracks))
    assert likeness(samples, SPEECH) > 0.95
    assert warnings == ((TranscriptWarning.OTHER_TRACKS,) if warned else ())


THREE = [Track(OTHER, DEFAULT, "spa"), Track(SPEECH, 0, "eng"), Track(SILENCE, 0, "fre")]


@pytest.mark.parametrize("wanted", ["1", "en", "eng", "English", "en-US"])
def test_a_track_by_index_or_language(decoded: Any, wanted: str) -> None:
    [samples], warnings = decoded(tracks_file("matroska", "libopus", THREE), audio_track=wanted)
    assert likeness(samples, SPEECH) > 0.95
    assert warnings == ()


def test_a_silent_track_that_is_asked_for(decoded: Any) -> None:
    for wanted in ("2", "fr", "fra"):
        [samples], warnings = decoded(tracks_file("mp4", "aac", THREE), audio_track=wanted)
        assert level_db(samples) < -60
        assert warnings == ()


@pytest.mark.parametrize("wanted", ["3", "-1", "de", "1.0", "\u00b2", "x" * 40, "und"])
def test_a_track_that_is_not_there(decoded: Any, wanted: str) -> None:
    content = tracks_file("matroska", "libopus", THREE)
    with pytest.raises(UnsupportedOption) as caught:
        decoded(content, audio_track=wanted)
    assert "audio_track: " in caught.value.message
    assert "it has 0 (spa), 1 (eng), 2 (fre)." in caught.value.message
    with pytest.raises(UnsupportedOption, match="raw PCM has one track, 0"):
        decoded(bytes(3200), raw_pcm=True, audio_track=wanted)


@pytest.mark.parametrize("wanted", ["", "0", "00"])
def test_raw_samples_are_one_track(decoded: Any, wanted: str) -> None:
    [samples], warnings = decoded(b"\0\1" * 1600, raw_pcm=True, audio_track=wanted)
    assert len(samples) == 1600
    assert warnings == ()


def test_attachments_are_no_tracks(decoded: Any) -> None:
    [samples], warnings = decoded(tracks_file("matroska", "libopus", [GOOD], fonts=300))
    assert likeness(samples, SPEECH) > 0.95
    assert warnings == ()
    with pytest.raises(UndecodableAudio, match="more than 3 tracks"):
        decoded(tracks_file("matroska", "libopus", [GOOD] * 4), max_streams=3)


def test_a_hundred_silent_tracks_cost_little_more_than_one() -> None:
    """Listened to within bounds: far fewer packets are decoded than there are."""
    from app.audio.tracks import FREE_PACKETS, SURVEY_SHARE, Listeners

    class Stream:
        num_decoded = 0

        def __init__(self, index: int) -> None:
            self.index = index

        def decode(self, packet: Any) -> list[Any]:
            Stream.num_decoded += 1
            return []

    class Packet:
        def __init__(self, index: int) -> None:
            self.stream_index = index

    listeners = Listeners([Stream(i) for i in range(100)], SURVEY_SHARE)
    for i in range(2_000_000):
        listeners.hear(Packet(i % 100))
    assert Stream.num_decoded <= FREE_PACKETS + SURVEY_SHARE * 20_000 + 1


# -- many channels -------------------------------------------------------------------------------


@pytest.mark.parametrize("num_channels", [1, 2, 3, 5, 6, 8, 9, 10, 12, 16, 17, 24, 32, 48, 64])
def test_speech_on_any_channel_of_any_layout(decoded: Any, num_channels: int) -> None:
    for speaking in {0, num_channels // 2, 3 % num_channels, num_channels - 1}:
        channels = [SILENCE] * num_channels
        channels[speaking] = SPEECH
        for mask in {0, (1 << num_channels) - 1 if num_channels <= 18 else 0}:
            [samples], warnings = decoded(wav(channels, mask))
            assert likeness(samples, SPEECH) > 0.99
            assert abs(level_db(samples) - level_db(SPEECH)) < 1
            assert warnings == ()


def test_a_mono_recording_is_what_it_was(decoded: Any) -> None:
    [samples], _ = decoded(wav([SPEECH]))
    assert np.array_equal(samples, SPEECH)


@pytest.mark.parametrize("likewise", [1.0, -1.0, -0.5, -0.1])
def test_channels_that_cancel(decoded: Any, likewise: float) -> None:
    hum = 0.2 * np.sin(np.arange(len(SPEECH)) * 2 * np.pi * 50 / 16_000).astype(np.float32)
    for common in (0, hum):
        [samples], _ = decoded(wav([SPEECH + common, likewise * SPEECH + common]))
        assert likeness(np.diff(samples), np.diff(SPEECH)) > 0.95
        assert level_db(np.diff(samples)) > level_db(np.diff(SPEECH)) - 6.5


def test_four_channels_of_which_one_pair_is_turned(decoded: Any) -> None:
    [samples], _ = decoded(wav([SPEECH, -SPEECH, -0.9 * SPEECH, 0.7 * SPEECH]))
    assert likeness(samples, SPEECH) > 0.99
    assert level_db(samples) > level_db(SPEECH) - 3


def test_each_side_its_own_speaker(decoded: Any) -> None:
    """Panned hard, one after the other and at the same time: both are there."""
    rest = np.zeros(5 * 16_000, np.float32)
    left = np.concatenate([SPEECH, rest, np.zeros_like(OTHER), rest, SPEECH])
    right = np.concatenate([SILENCE, rest, OTHER, rest, np.resize(OTHER, len(SPEECH))])
    [samples], _ = decoded(wav([left, right]))
    first, second = samples[: len(SPEECH)], samples[len(SPEECH) + len(rest) :][: len(OTHER)]
    assert likeness(first, SPEECH) > 0.98
    assert likeness(second, OTHER) > 0.98
    both = samples[-len(SPEECH) :]
    assert likeness(both, SPEECH + right[-len(SPEECH) :]) > 0.98


@pytest.mark.parametrize("noisy", [0, 1])
def test_a_loud_noise_beside_speech(decoded: Any, noisy: int) -> None:
    """Ten dB over the speech: steady noise on a channel of its own is left out."""
    channels = [SPEECH, SPEECH]
    channels[noisy] = NOISE * 3
    [samples], _ = decoded(wav(channels))
    assert likeness(samples, SPEECH) > 0.95


def test_noise_on_all_channels_hides_nobody(decoded: Any) -> None:
    [samples], _ = decoded(wav([NOISE / 10 + SPEECH, NOISE / 10]))
    assert likeness(samples, SPEECH) > 0.95


def test_full_scale_on_many_channels_does_not_clip(decoded: Any) -> None:
    loud = SPEECH / np.abs(SPEECH).max()
    for channels in ([loud] * 16, [loud, np.roll(loud, 200), loud[::-1].copy()]):
        [samples], _ = decoded(wav(channels))
        assert 0.3 < np.abs(samples).max() <= 1
        assert (np.abs(samples) > 0.9999).sum() < 10


@pytest.mark.parametrize("kind", ["u8", "s16", "s32", "s64", "flt", "dbl"])
def test_every_kind_of_sample(decoded: Any, kind: str) -> None:
    codec = {"u8": "pcm_u8", "s16": "pcm_s16le", "s32": "pcm_s32le", "s64": "pcm_s64le",
             "flt": "pcm_f32le", "dbl": "pcm_f64le"}[kind]  # fmt: skip
    container = "nut" if kind == "s64" else "wav"
    [samples], warnings = decoded(encode(Media(container, codec), (0, SPEECH)))
    assert np.abs(samples - SPEECH).max() < (0.01 if kind == "u8" else 0.0001)
    assert warnings == ()


# -- one party per channel -----------------------------------------------------------------------


def test_channels_into_files_of_their_own(decoded: Any) -> None:
    size = max(len(SPEECH), len(OTHER))
    channels = [np.pad(part, (0, size - len(part))) for part in (SPEECH, OTHER)]
    for rate in (16_000, 8_000):  # the second claims another rate: resampled
        found, warnings = decoded(wav(channels, rate=rate), split_channels=True)
        assert warnings == ()
        assert len(found) == 2
    found, _ = decoded(wav(channels), split_channels=True)
    assert all(np.array_equal(f, c) for f, c in zip(found, channels, strict=True))
    eight, _ = decoded(wav([SPEECH, *[SILENCE] * 7]), split_channels=True)
    assert len(eight) == 8
    with pytest.raises(
        UnsupportedOption, match="at most 8 channels can be split; the recording has 9"
    ):
        decoded(wav([SPEECH] * 9), split_channels=True)


def test_channels_that_are_one(decoded: Any) -> None:
    found, warnings = decoded(wav([SPEECH, SPEECH]), split_channels=True)
    assert len(found) == 1
    assert warnings == (TranscriptWarning.SAME_CHANNELS,)
    raw = (SPEECH * 32768).astype("<i2").tobytes()
    for content, options in ((wav([SPEECH]), {}), (raw, {"raw_pcm": True})):
        [samples], warnings = decoded(content, split_channels=True, **options)
        assert likeness(samples, SPEECH) > 0.99
        assert warnings == (TranscriptWarning.ONE_CHANNEL,)


# -- how loud ------------------------------------------------------------------------------------

MINUTE = np.concatenate([SPEECH, np.zeros(40_000, np.float32)] * 4)


@pytest.mark.parametrize("down_db", [40, 60, 80])
def test_quiet_recordings_are_raised(decoded: Any, down_db: int) -> None:
    quiet = MINUTE * np.float32(10 ** (-down_db / 20))
    for content in (wav([quiet]), encode(Media("flac", "flac"), (0, MINUTE))):
        [samples], _ = decoded(content)
        assert likeness(samples, MINUTE) > 0.99
        assert -35 < level_db(samples) < -14
        assert np.abs(samples).max() <= 1


def test_a_click_does_not_hide_quiet_speech(decoded: Any) -> None:
    quiet = MINUTE * np.float32(1e-3)
    quiet[100_000:100_800] = 0.99
    [samples], _ = decoded(wav([quiet]))
    rest = np.r_[0:96_000, 106_000 : len(quiet)]
    assert likeness(samples[rest], MINUTE[rest]) > 0.98
    assert level_db(samples[rest]) > -40
    assert np.abs(samples).max() <= 1


def test_what_is_loud_enough_stays_as_it_is(decoded: Any) -> None:
    for down_db in (0, 6, 15):
        usual = MINUTE * np.float32(10 ** (-down_db / 20))
        [samples], _ = decoded(wav([usual]))
        assert np.array_equal(samples, usual)


@pytest.mark.parametrize("level", [1e-5, 1e-4, 1e-3])
def test_faint_noise_stays_faint(decoded: Any, level: float) -> None:
    noise = np.tile(NOISE, 5) * 10 * np.float32(level)
    [samples], _ = decoded(wav([noise]))
    assert np.array_equal(samples, noise)
    [samples], _ = decoded(wav([np.zeros(160_000, np.float32)]))
    assert not samples.any()


def test_raising_keeps_silence_off_the_disk(decoded: Any, tmp_path: Path) -> None:
    media = Media("matroska", "flac", 16_000)
    [samples], _ = decoded(encode(media, (0, SPEECH * 1e-3), (3000, SPEECH * 1e-3)))
    assert len(samples) / 16_000 == pytest.approx(3000 + SPEECH_S, abs=0.1)
    assert level_db(samples[: len(SPEECH)]) > -35
    assert (tmp_path / "target").stat().st_blocks * 512 < 2 << 20


# -- clocks --------------------------------------------------------------------------------------

RAW = {
    "adts": Media("adts", "aac", 16_000),
    "mp3": Media("mp3", "libmp3lame", 16_000),
    "ac3": Media("ac3", "ac3", 48_000, bit_rate=96_000),
    "eac3": Media("eac3", "eac3", 48_000, bit_rate=96_000),
    "amr": Media("amr", "libopencore_amrnb", 8_000, bit_rate=12_200),
}
SECOND = {
    "adts": Media("adts", "aac", 44_100, "stereo"),
    "mp3": Media("mp3", "libmp3lame", 44_100, "stereo"),
    "ac3": Media("ac3", "ac3", 44_100, "stereo", 128_000),
    "eac3": Media("eac3", "eac3", 44_100, "stereo", 128_000),
}


@pytest.mark.parametrize("kind", RAW)
def test_bare_streams_have_no_gaps(decoded: Any, kind: str) -> None:
    second = SECOND.get(kind)
    parts = [encode(RAW[kind], (0, SPEECH))]
    if second:
        parts.append(encode(second, (0, SPEECH)))
    [samples], warnings = decoded(b"".join(parts))
    assert len(samples) / 16_000 == pytest.approx(len(parts) * SPEECH_S, abs=0.35)
    assert found_at_s(SPEECH, samples[-len(SPEECH) - 6000 :]) < 0.4
    assert warnings == ()


OGG = {
    "vorbis": Media("ogg", "vorbis", 16_000, "stereo", 64_000),
    "vorbis of another rate": Media("ogg", "vorbis", 44_100, "stereo", 128_000),
    "opus": Media("ogg", "libopus", 48_000),
    "opus stereo": Media("ogg", "libopus", 48_000, "stereo"),
    "flac": Media("ogg", "flac", 22_050),
}


@pytest.mark.parametrize("second", OGG)
@pytest.mark.parametrize("first", OGG)
def test_chained_ogg_is_read_on(decoded: Any, first: str, second: str) -> None:
    [samples], warnings = decoded(encode(OGG[first], (0, SPEECH)) + encode(OGG[second], (0, OTHER)))
    assert warnings == ()
    assert len(samples) / 16_000 == pytest.approx(SPEECH_S + len(OTHER) / 16_000, abs=0.1)
    assert found_at_s(OTHER, samples) == pytest.approx(SPEECH_S, abs=0.1)


def test_the_checksum_of_ogg() -> None:
    page = encode(OGG["opus"], (0, SPEECH[:8000]))[:47]
    stated = int.from_bytes(page[22:26], "little")
    assert ogg_checksum(page[:22] + bytes(4) + page[26:]) == stated


# -- whole or not --------------------------------------------------------------------------------

LONG = np.concatenate([SPEECH, OTHER, SPEECH])


@pytest.mark.parametrize("size", [0, 1, 0xFFFF_FFFF, 0xFFFF_FFFF - 36, 0x7FFF_FFFF, 0x7FFF_FFDB,
                                  0x8000_0000, 2_000_000_000, 2_000_000_036, 1_000_000_000,
                                  0x4000_0000, 1_999_999_964])  # fmt: skip
@pytest.mark.parametrize("where", ["riff", "data", "both"])
def test_headers_of_pipes(decoded: Any, size: int, where: str) -> None:
    content = bytearray(encode(FORMATS["wav"], (0, SPEECH)))
    data = content.index(b"data")
    if where != "data":
        content[4:8] = struct.pack("<I", size)
    if where != "riff" and size != 1:
        content[data + 4 : data + 8] = struct.pack("<I", size)
    [samples], warnings = decoded(bytes(content))
    assert warnings == ()
    assert likeness(samples, SPEECH) > 0.99


def test_joined_mp3s(decoded: Any) -> None:
    tagged = (("write_id3v1", "1"),)
    for media in (FORMATS["mp3"], Media("mp3", "libmp3lame", 16_000, options=tagged)):
        [samples], warnings = decoded(encode(media, (0, SPEECH)) + encode(media, (0, OTHER)))
        assert warnings == ()
        assert found_at_s(OTHER, samples) == pytest.approx(SPEECH_S, abs=0.2)


STATING = {
    "flv": Media("flv", "libmp3lame", 44_100),
    "flv of aac": Media("flv", "aac", 44_100),
    "w64": Media("w64", "pcm_s16le"),
    "rf64": Media("wav", "pcm_s16le", options=(("rf64", "always"),)),
    "caf": Media("caf", "pcm_s16be", 44_100),
    "wma": FORMATS["wma"],
    "voc": Media("voc", "pcm_u8", 16_000),
    "tta": Media("tta", "tta", 44_100),
    "wavpack": Media("wv", "wavpack", 44_100),
}


@pytest.mark.parametrize("kind", STATING)
def test_half_a_file_is_told(decoded: Any, kind: str) -> None:
    whole = encode(STATING[kind], (0, LONG))
    [samples], warnings = decoded(whole)
    assert warnings == ()
    assert len(samples) / 16_000 == pytest.approx(len(LONG) / 16_000, abs=0.3)
    for share in (0.5, 0.8):
        [samples], warnings = decoded(whole[: int(len(whole) * share) | 1])
        assert warnings == (TranscriptWarning.BREAKS_OFF,)
        assert len(samples) / len(LONG) == pytest.approx(share, abs=0.15)


HOLED = {
    "flac": Media("flac", "flac", 16_000),
    "flac in ogg": Media("ogg", "flac", 16_000),
    "opus": FORMATS["ogg opus"],
    "vorbis": FORMATS["ogg vorbis"],
    "mkv of opus": Media("matroska", "libopus", 48_000),
    "mkv of aac": Media("matroska", "aac", 44_100),
    "mkv of a stream": Media("matroska", "libopus", 48_000, options=(("live", "1"),)),
    "mkv of flac": Media("matroska", "flac", 16_000),
    "webm": FORMATS["webm"],
}


@pytest.mark.parametrize("how", ["zeroed", "removed", "noise"])
@pytest.mark.parametrize("kind", HOLED)
def test_holes_are_told(decoded: Any, kind: str, how: str) -> None:
    whole = encode(HOLED[kind], (0, LONG))
    assert decoded(whole)[1] == ()
    for at in (0.35, 0.6):
        begin = int(len(whole) * at)
        hole = len(whole) // 10
        noise = np.random.default_rng(begin).bytes(hole)
        filling = {"zeroed": bytes(hole), "removed": b"", "noise": noise}[how]
        [samples], warnings = decoded(whole[:begin] + filling + whole[begin + hole :])
        assert warnings == (TranscriptWarning.BREAKS_OFF,)
        # what comes after it is where it was
        last = found_at_s(SPEECH[-20_000:], samples[-60_000:])
        assert last > 1
