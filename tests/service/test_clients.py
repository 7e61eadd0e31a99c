"""Clients written like those that people already use, against the running service."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import srt

from tests.support.curl import curl_program
from tests.support.media import speech
from tests.support.server import Server
from tests.support.truth import audio_of, matched_words, truth_of, word_error_rate

CONVERSATION = "en_two_b"
PAUSE_S = 0.6  # between sentences: a word beside it may be drawn out over it


def spoken(name: str, key: str = "text") -> str:
    return " ".join(sentence[key] for sentence in truth_of(name)["sentences"])


# -- Speakr --------------------------------------------------------------------------------------


@dataclass
class Speakr:
    """A meeting recorder: query parameters of both dialects at once, reads segments."""

    base_url: str

    def is_reachable(self) -> bool:
        paths = ("/health", "/")
        return all(httpx.get(self.base_url + path).status_code < 500 for path in paths)

    def models(self) -> list[str]:
        response = httpx.get(f"{self.base_url}/v1/models")
        response.raise_for_status()
        return [entry["id"] for entry in response.json()["data"] if entry.get("id")]

    def transcribe(self, path: Path, diarize: bool = True, **wanted: Any) -> dict[str, Any]:
        parameters = {
            "encode": True,
            "task": "transcribe",
            "output": "json",
            "diarize": diarize,
            "enable_diarization": diarize,
            **wanted,
        }
        # its HTTP library writes booleans in lower case, others write Python's
        given = {name: str(value) for name, value in parameters.items()}
        with path.open("rb") as file, httpx.Client() as client:
            response = client.post(
                f"{self.base_url}/asr",
                params=given,
                files={"audio_file": ("Team meeting.flac", file, "audio/flac")},
                timeout=httpx.Timeout(None, connect=60, read=300),
            )
        response.raise_for_status()
        body: dict[str, Any] = response.json()
        return body


@pytest.fixture(scope="module")
def speakr(server: Server) -> Speakr:
    return Speakr(server.url)


def test_speakr_finds_the_service(speakr: Speakr) -> None:
    assert speakr.is_reachable()
    assert "demo" in speakr.models()
    assert "large-v3" in speakr.models()


def test_speakr_transcribes_a_meeting(speakr: Speakr) -> None:
    body = speakr.transcribe(
        audio_of(CONVERSATION),
        language="en",
        min_speakers=2,
        max_speakers=4,
        hotwords="Anna, Wednesday",
        initial_prompt="The weekly meeting.",
        return_speaker_embeddings=True,
        model="demo",
    )
    assert isinstance(body["text"], str)
    assert word_error_rate(spoken(CONVERSATION), body["text"]) <= 0.02
    sentences = truth_of(CONVERSATION)["sentences"]
    names: dict[str, set[str]] = {}
    for segment, sentence in zip(body["segments"], sentences, strict=True):
        assert segment["text"].strip() == sentence["text"]
        assert segment["start"] == pytest.approx(sentence["start"], abs=PAUSE_S)
        assert segment["end"] == pytest.approx(sentence["end"], abs=PAUSE_S)
        names.setdefault(sentence["speaker"], set()).add(segment["speaker"])
    assert sorted(map(sorted, names.values())) == [["SPEAKER_00"], ["SPEAKER_01"]]
    vectors = body["speaker_embeddings"]
    assert vectors.keys() == {"SPEAKER_00", "SPEAKER_01"}
    assert len({len(vector) for vector in vectors.values()}) == 1
    assert "word_segments" in body


def test_speakr_without_speakers(speakr: Speakr) -> None:
    body = speakr.transcribe(audio_of("es_short"), diarize=False)
    assert body["text"] == spoken("es_short")
    assert body["language"] == "es"
    assert all("speaker" not in segment for segment in body["segments"])


# -- Bazarr --------------------------------------------------------------------------------------


def pcm_of(name: str) -> bytes:
    """Raw 16 kHz mono signed 16-bit little-endian PCM, as ffmpeg's s16le writes it."""
    return (speech(name) * 32768).clip(-32768, 32767).astype("<i2").tobytes()


@dataclass
class Bazarr:
    """Subtitles for a film: hears the language first, then asks for SRT; raw PCM throughout."""

    base_url: str

    def detect_language(self, sound: bytes) -> tuple[str, str]:
        response = httpx.post(
            f"{self.base_url}/detect-language",
            params={"encode": "false"},
            files={"audio_file": ("audio_file", sound)},
            timeout=60,
        )
        body = response.json()
        return body["language_code"], body["detected_language"]

    def subtitles(self, sound: bytes, task: str, language: str) -> list[srt.Subtitle]:
        response = httpx.post(
            f"{self.base_url}/asr",
            params={"task": task, "language": language, "output": "srt", "encode": "false"},
            files={"audio_file": ("audio_file", sound)},
            timeout=60,
        )
        response.raise_for_status()
        return list(srt.parse(response.content.decode("utf-8")))


def test_bazarr_makes_subtitles(server: Server) -> None:
    bazarr, sound = Bazarr(server.url), pcm_of(CONVERSATION)
    assert bazarr.detect_language(sound) == ("en", "english")
    cues = bazarr.subtitles(sound, "transcribe", "en")
    sentences = truth_of(CONVERSATION)["sentences"]
    for cue, sentence in zip(cues, sentences, strict=True):
        assert cue.content == sentence["text"]
        assert cue.start.total_seconds() == pytest.approx(sentence["start"], abs=PAUSE_S)
        assert cue.end.total_seconds() == pytest.approx(sentence["end"], abs=PAUSE_S)


def test_bazarr_translates(server: Server) -> None:
    bazarr, sound = Bazarr(server.url), pcm_of("es_short")
    code, name = bazarr.detect_language(sound)
    assert (code, name) == ("es", "spanish")
    cues = bazarr.subtitles(sound, "translate", code)
    text = " ".join(cue.content for cue in cues)
    assert word_error_rate(spoken("es_short", "translation"), text) <= 0.1
    for cue, sentence in zip(cues, truth_of("es_short")["sentences"], strict=True):
        assert cue.start.total_seconds() == pytest.approx(sentence["start"], abs=0.4)


# -- note-taking plug-ins ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["recording.webm", "blob", "20250102 - Notiz ä.m4a"])
def test_a_note_taking_plug_in(server: Server, name: str) -> None:
    response = httpx.post(
        f"{server.url}/asr?task=transcribe&language=en&output=json",
        files={"audio_file": (name, audio_of("en_short").read_bytes())},
        timeout=60,
    )
    assert response.json()["text"] == spoken("en_short")


def test_a_plug_in_that_joins_words_by_the_time(server: Server) -> None:
    """Obsidian's plug-in of that name: a line for each interval, of the words that begin in it."""
    response = httpx.post(
        f"{server.url}/asr?output=json&word_timestamps=true",
        files={"audio_file": ("blob", audio_of(CONVERSATION).read_bytes())},
        timeout=60,
    )
    lines: dict[float, str] = {}
    for segment in response.json()["segments"]:
        for word in segment["words"]:
            begun = word["start"] // 5
            lines[begun] = lines.get(begun, "") + word["word"]
    assert list(lines) == sorted(lines)
    assert len(lines) >= 4
    assert " ".join(line.strip() for line in lines.values()) == spoken(CONVERSATION)


# -- curl ----------------------------------------------------------------------------------------


def curl(folder: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [curl_program(), "--silent", "--show-error", "--fail", *arguments],
        cwd=folder,
        check=True,
        capture_output=True,
        timeout=60,
    )


def test_curl_with_form_fields(server: Server, tmp_path: Path) -> None:
    fields = ("-F", f"audio_file=@{audio_of('en_short')}", "-F", "language=en")
    body = json.loads(curl(tmp_path, *fields, f"{server.url}/asr").stdout)
    assert body["text"] == body["segments"]
    truth = truth_of("en_short")["words"]
    pairs = matched_words(truth, body["word_segments"])
    assert len(pairs) == len(truth)
    assert all(heard["speaker"] == "SPEAKER_00" for _, heard in pairs)


def test_curl_saves_under_the_name_that_it_is_given(server: Server, tmp_path: Path) -> None:
    upload = f"audio_file=@{audio_of('en_short')};filename=meeting.flac"
    fields = ("-F", upload, "-F", "output_format=srt", "-F", "enable_diarization=false")
    curl(tmp_path, "-OJ", *fields, f"{server.url}/asr")
    (saved,) = tmp_path.iterdir()
    assert saved.name == "meeting.flac.srt"
    cues = list(srt.parse(saved.read_text(encoding="utf-8")))
    assert " ".join(cue.content for cue in cues) == spoken("en_short")


def test_curl_waits_to_send_until_it_may(server: Server, tmp_path: Path) -> None:
    fields = ("-F", f"audio_file=@{audio_of('en_short')}", "-F", "output_format=text")
    expect = ("--expect100-timeout", "30", "-H", "Expect: 100-continue")
    started = curl(tmp_path, *expect, *fields, "-w", "%{time_total}", f"{server.url}/asr").stdout
    text, seconds = re.fullmatch(r"(.*\n)([\d.]+)", started.decode(), re.S).groups()  # type: ignore[union-attr]
    assert word_error_rate(spoken("en_short"), re.sub(r"\[\w+\]:", "", text)) == 0
    assert float(seconds) < 28, "curl waits 30 s for its leave"
