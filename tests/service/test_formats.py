"""The formats through HTTP: each says what the others say."""

from __future__ import annotations

import csv
import io
import json
from itertools import groupby
from typing import Any

import pytest
import srt
import webvtt

from tests.support.json_bodies import refuse_constant
from tests.support.markdown import read_markdown
from tests.support.markdown import seconds_of as whole_seconds
from tests.support.server import Server
from tests.support.truth import audio_of, truth_of, word_error_rate

CONVERSATION = "en_two_b"


@pytest.fixture(scope="module")
def answers(server: Server) -> dict[str, str]:
    """One recording with two speakers in every format."""
    found = {}
    for output in ("json", "srt", "vtt", "tsv", "txt", "md"):
        response = server.post(audio_of(CONVERSATION), output=output, diarize=True)
        assert response.status_code == 200, response.text
        found[output] = response.text
    return found


@pytest.fixture(scope="module")
def segments(answers: dict[str, str]) -> list[dict[str, Any]]:
    body = json.loads(answers["json"], parse_constant=refuse_constant)
    spoken = " ".join(sentence["text"] for sentence in truth_of(CONVERSATION)["sentences"])
    assert word_error_rate(spoken, body["text"]) <= 0.02
    assert {item["speaker"] for item in body["segments"]} == {"SPEAKER_00", "SPEAKER_01"}
    found: list[dict[str, Any]] = body["segments"]
    return found


def line_of(item: dict[str, Any]) -> str:
    return f"[{item['speaker']}]: {item['text'].strip()}"


def test_srt_says_what_json_says(answers: dict[str, str], segments: list[dict[str, Any]]) -> None:
    cues = list(srt.parse(answers["srt"]))
    assert [cue.index for cue in cues] == list(range(1, len(segments) + 1))
    for cue, item in zip(cues, segments, strict=True):
        assert cue.content == line_of(item)
        assert cue.start.total_seconds() == pytest.approx(item["start"], abs=0.0011)
        assert cue.end.total_seconds() == pytest.approx(item["end"], abs=0.0011)


def test_vtt_says_what_json_says(answers: dict[str, str], segments: list[dict[str, Any]]) -> None:
    captions = webvtt.from_string(answers["vtt"]).captions
    for caption, item in zip(captions, segments, strict=True):
        assert caption.text == line_of(item)
        assert seconds_of(caption.start) == pytest.approx(item["start"], abs=0.0011)
        assert seconds_of(caption.end) == pytest.approx(item["end"], abs=0.0011)


def test_tsv_says_what_json_says(answers: dict[str, str], segments: list[dict[str, Any]]) -> None:
    rows = list(csv.DictReader(io.StringIO(answers["tsv"]), delimiter="\t"))
    for row, item in zip(rows, segments, strict=True):
        assert row["text"] == item["text"].strip()
        assert int(row["start"]) == pytest.approx(item["start"] * 1000, abs=1.1)
        assert int(row["end"]) == pytest.approx(item["end"] * 1000, abs=1.1)


def test_txt_says_what_json_says(answers: dict[str, str], segments: list[dict[str, Any]]) -> None:
    assert answers["txt"].splitlines() == [line_of(item) for item in segments]


def test_markdown_says_what_json_says(
    answers: dict[str, str], segments: list[dict[str, Any]]
) -> None:
    document = read_markdown(answers["md"])
    assert document.whole == [
        (speaker, "".join(item["text"] for item in spoken).strip())
        for speaker, spoken in groupby(segments, key=lambda item: item["speaker"])
    ]
    for number, (section, item) in enumerate(zip(document.segments, segments, strict=True), 1):
        assert (section.number, section.speaker) == (number, item["speaker"])
        assert section.text == item["text"].strip()
        clocks = [section.start, *(word[-8:] for _, word in section.words), section.end]
        times = [whole_seconds(clock) for clock in clocks]
        assert times == sorted(times)
        assert (times[0], times[-1]) == (int(item["start"]), int(item["end"]))
        assert [(who, word[:-11]) for who, word in section.words] == [
            (item["speaker"], word) for word in item["text"].split()
        ]


def seconds_of(clock: str) -> float:
    parts = [float(part) for part in clock.split(":")]
    return sum(part * 60**power for power, part in enumerate(reversed(parts)))
