"""What is not speech, not sound or not even a file: the right answer, and the service goes on."""

from __future__ import annotations

import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
import pytest

from app.audio.decode import EMPTY, NO_SOUND, NO_TRACK, NOT_MEDIA
from tests.support.media import FORMATS, Media, Samples, encode, speech
from tests.support.server import Server
from tests.support.truth import audio_of, normalize, truth_of
from tests.support.waiting import eventually

WAV = Media("wav", "pcm_s16le")


def silent_video() -> bytes:
    """Pictures without a sound track."""
    file = BytesIO()
    with av.open(file, "w", format="matroska") as container:
        stream: Any = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(10):
            container.mux(stream.encode(av.VideoFrame(64, 48, "yuv420p")))
        container.mux(stream.encode(None))
    return file.getvalue()


def wav_of(samples: Samples) -> bytes:
    return encode(WAV, (0, samples.astype(np.float32)))


def header_only() -> bytes:
    wav = wav_of(np.zeros(100))
    end = wav.index(b"data") + 4
    return wav[:4] + (end - 4).to_bytes(4, "little") + wav[8:end] + bytes(4)


UNDECODABLE: dict[str, tuple[Callable[[], bytes], bool, str]] = {
    "empty": (lambda: b"", False, EMPTY),
    "empty, without a header": (lambda: b"", True, EMPTY),
    "half a sample": (lambda: b"\0", True, NO_SOUND),
    "text": (lambda: b"Dear diary, nothing happened today.\n" * 50, False, NOT_MEDIA),
    "zeros": (lambda: bytes(100_000), False, NOT_MEDIA),
    "a web page": (lambda: b"<!doctype html><html><body>404</body></html>", False, NOT_MEDIA),
    "a playlist": (lambda: f"ffconcat version 1.0\nfile {audio_of('en_short')}\n".encode(),
                   False, NOT_MEDIA),
    "a playlist of addresses": (
        lambda: b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:3.4,\nhttp://127.0.0.1:1/a.ts\n",
        False, NOT_MEDIA),
    "pictures only": (silent_video, False, NO_TRACK),
    "a header only": (header_only, False, NO_SOUND),
    "the first bytes of a video": (
        lambda: encode(FORMATS["mp4 with video"], (0, speech("en_short")))[:100], False, NOT_MEDIA),
}  # fmt: skip


@pytest.mark.parametrize("endpoint", ["/asr", "/detect-language"])
@pytest.mark.parametrize("kind", UNDECODABLE)
def test_nothing_to_decode(server: Server, kind: str, endpoint: str) -> None:
    make, raw, message = UNDECODABLE[kind]
    encoded = {"encode": "false"} if raw else {}
    response = server.post(make(), endpoint=endpoint, name="speech.mp3", **encoded)
    assert response.status_code == 400
    assert response.json() == {"detail": message}
    eventually(lambda: server.temp_files() == [])
    eventually(lambda: server.get("/health").json()["requests"] == 0)


FORMATS_OUT = ("json", "txt", "srt", "vtt", "tsv", "md")


@pytest.mark.parametrize("output", FORMATS_OUT)
def test_silence_is_a_success(server: Server, output: str) -> None:
    response = server.post(wav_of(np.zeros(160_000)), output=output)
    assert response.status_code == 200
    if output == "json":
        body = response.json()
        assert (body["text"], body["segments"]) == ("", [])
        assert body["duration"] == 10.0
    else:
        expected = {
            "txt": "",
            "srt": "",
            "vtt": "WEBVTT",
            "tsv": "start\tend\ttext",
            "md": "# Full Transcript\n\n# Timestamped Transcript",
        }[output]
        assert response.text.strip() == expected
    assert "X-ASR-Warning" not in response.headers


@pytest.mark.parametrize("num_samples", [1, 2, 160, 800, 8000])
def test_almost_no_sound(server: Server, num_samples: int) -> None:
    """Down to a single sample: 50 ms are 800 of them. With speakers, and with each of the rest."""
    samples = speech("en_short")[12_000 : 12_000 + num_samples]
    raw = (samples * 32767).astype("<i2").tobytes()
    response = server.post(raw, encode="false", output="json", diarize="true")
    assert response.status_code == 200, response.text
    assert response.json()["duration"] == pytest.approx(num_samples / 16_000, abs=0.001)
    if num_samples > 2:
        response = server.post(wav_of(samples), endpoint="/detect-language")
        assert response.status_code == 200, response.text


def test_noise(server: Server) -> None:
    noise = np.random.default_rng(1).normal(0, 0.1, 80_000).clip(-1, 1)
    response = server.post(wav_of(noise), output="json", diarize="true", word_timestamps="true")
    assert response.status_code == 200, response.text
    assert all(0 <= s["start"] <= s["end"] <= 5 for s in response.json()["segments"])


def test_floats_that_are_no_numbers(server: Server) -> None:
    wild = speech("en_short")
    wild[::7] = np.nan
    response = server.post(encode(Media("wav", "pcm_f32le"), (0, wild)), output="json")
    assert response.status_code == 200, response.text


def test_decoding_processes_may_be_killed(server: Server) -> None:
    children = psutil.Process(server.process.pid).children()
    workers = [c for c in children if "app.audio.worker" in " ".join(c.cmdline())]
    assert len(workers) == 1
    for worker in workers:
        worker.kill()
    time.sleep(0.3)
    response = server.post(audio_of("en_short"), output="txt", language="en")
    assert response.status_code == 200, response.text
    assert normalize(response.text) == [
        normalize(w["word"])[0] for w in truth_of("en_short")["words"]
    ]


def test_no_path_and_no_trace_in_any_answer(server: Server, tmp_path: Path) -> None:
    for content in (b"ffconcat version 1.0\nfile /etc/hostname\n", b"\0" * 10, b""):
        text = server.post(content, name="/etc/passwd").text
        assert "/" not in text
        assert "Traceback" not in text
        assert "Errno" not in text
