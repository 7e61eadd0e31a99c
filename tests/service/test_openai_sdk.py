"""The official OpenAI package for Python against the running service: what it gets is right."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import srt
import webvtt
from openai import APIError, AsyncOpenAI, OpenAI
from openai.types import Model
from openai.types.audio import (
    Transcription,
    TranscriptionDiarized,
    TranscriptionVerbose,
    Translation,
    TranslationVerbose,
)
from tokenizers import Tokenizer

from tests.support.markdown import read_markdown
from tests.support.openai_client import (
    DIARIZING,
    MODEL,
    async_client_of,
    client_of,
    labels,
    spoken,
    stream_events,
    strictly,
    transcribe,
    transcribed_text,
    words_by_speaker,
)
from tests.support.paths import DEMO
from tests.support.server import Server
from tests.support.truth import (
    audio_of,
    matched_words,
    median_start_error_s,
    normalize,
    speaker_accuracy,
    truth_of,
    word_error_rate,
)
from tests.support.waiting import eventually

OPENAI_MODELS = (
    MODEL, "gpt-transcribe", "gpt-4o-transcribe", "gpt-4o-mini-transcribe", DIARIZING,
)  # fmt: skip
CONVERSATIONS = ("en_two_b", "es_two_b")
PAUSE_S = 0.6  # between sentences: a word beside it may be drawn out over it


@pytest.fixture(scope="module")
def piecemeal_client(piecemeal_server: Server) -> Iterator[OpenAI]:
    """For what must be under way for a while."""
    with client_of(piecemeal_server) as client:
        yield client


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[OpenAI]:
    with client_of(server) as opened:
        yield opened


def under_way(server: Server) -> list[str]:
    return [entry["id"] for entry in server.get("/queue").json()["requests"]]


# -- models ----------------------------------------------------------------------------------------


def test_models(client: OpenAI) -> None:
    listed = list(client.models.list())
    names = [model.id for model in listed]
    assert names[0] == "demo"
    assert len(names) == len(set(names))
    assert {"large-v3", *OPENAI_MODELS} <= set(names)
    for name in ("demo", "large-v3", *OPENAI_MODELS):
        answer = client.models.with_raw_response.retrieve(name)
        model = strictly(Model, answer.text)
        assert model in listed
        assert model.id == name
        assert model.owned_by
        assert model.to_dict()["loaded"] is (name == "demo" or name in OPENAI_MODELS)


# -- formats -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_json(client: OpenAI, name: str) -> None:
    for options in ({}, {"response_format": "json", "stream": False}):
        body = transcribe(client, name, Transcription, **options)
        assert word_error_rate(spoken(name), body.text) <= 0.02
        assert body.text == body.text.strip()
        assert body.logprobs is None
        assert body.usage is not None
        assert body.usage.type == "duration"
        assert body.usage.seconds == pytest.approx(truth_of(name)["duration"], abs=1)


@pytest.mark.parametrize("model", ["demo", *OPENAI_MODELS])
def test_every_name_of_the_model(client: OpenAI, model: str) -> None:
    assert transcribe(client, "en_short", Transcription, model=model).text == spoken("en_short")


def test_text(client: OpenAI) -> None:
    assert transcribed_text(client, "es_short", "text").strip() == spoken("es_short")


def test_srt(client: OpenAI) -> None:
    cues = list(srt.parse(transcribed_text(client, "en_two_b", "srt"), ignore_errors=False))
    for cue, sentence in zip(cues, truth_of("en_two_b")["sentences"], strict=True):
        assert cue.content == sentence["text"]
        assert cue.start.total_seconds() == pytest.approx(sentence["start"], abs=PAUSE_S)
        assert cue.end.total_seconds() == pytest.approx(sentence["end"], abs=PAUSE_S)


def test_vtt(client: OpenAI) -> None:
    body = transcribed_text(client, "en_two_b", "vtt")
    assert re.search(r"^00:00:\d\d\.\d{3} --> 00:00:\d\d\.\d{3}$", body, re.M)  # with hours
    captions = webvtt.from_string(body).captions
    for caption, sentence in zip(captions, truth_of("en_two_b")["sentences"], strict=True):
        assert caption.text == sentence["text"]
        assert caption.start_in_seconds == pytest.approx(sentence["start"], abs=PAUSE_S + 1)


def test_markdown(client: OpenAI) -> None:
    """Not one of OpenAI's formats. A model that tells speakers apart names them."""
    truth = truth_of("en_two_b")["sentences"]
    plain = read_markdown(transcribed_text(client, "en_two_b", "md"))
    [(speaker, text)] = plain.whole
    assert (speaker, text) == (None, spoken("en_two_b"))
    assert [segment.text for segment in plain.segments] == [s["text"] for s in truth]
    options = {"model": "gpt-4o-transcribe-diarize"}
    named = read_markdown(transcribed_text(client, "en_two_b", "md", **options))
    assert {speaker for speaker, _ in named.whole} == {"SPEAKER_00", "SPEAKER_01"}


@pytest.mark.parametrize(("name", "language"), [("en_two_b", "english"), ("es_two_b", "spanish")])
def test_verbose_json(client: OpenAI, name: str, language: str) -> None:
    truth = truth_of(name)
    body = transcribe(client, name, TranscriptionVerbose, response_format="verbose_json")
    assert body.to_dict()["task"] == "transcribe"
    assert body.language == language
    assert body.duration == pytest.approx(truth["duration"], abs=0.01)
    assert body.words is None
    assert body.usage is not None
    assert word_error_rate(spoken(name), body.text) <= 0.02
    segments = body.segments
    assert segments is not None
    assert [segment.id for segment in segments] == list(range(len(segments)))
    assert normalize("".join(segment.text for segment in segments)) == normalize(body.text)
    for segment, sentence in zip(segments, truth["sentences"], strict=True):
        assert segment.text.strip() == sentence["text"]
        assert segment.start == pytest.approx(sentence["start"], abs=PAUSE_S)
        assert segment.end == pytest.approx(sentence["end"], abs=PAUSE_S)
    tokenizer = Tokenizer.from_file(str(DEMO / "whisper" / "tokenizer.json"))
    for segment in segments:
        assert segment.avg_logprob <= 0
        assert segment.compression_ratio > 0
        assert 0 <= segment.no_speech_prob <= 1
        assert segment.seek >= 0
        assert segment.temperature == 0
        assert normalize(tokenizer.decode(segment.tokens)) == normalize(segment.text)


@pytest.mark.parametrize(
    "wanted", [["word"], ["segment"], ["word", "segment"], ["segment", "word"]]
)
def test_granularities(client: OpenAI, wanted: list[str]) -> None:
    body = transcribe(
        client,
        "en_short",
        TranscriptionVerbose,
        response_format="verbose_json",
        timestamp_granularities=wanted,
    )
    assert (body.words is not None) is ("word" in wanted)
    assert (body.segments is not None) is ("segment" in wanted)
    assert body.text == spoken("en_short")


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_word_times(client: OpenAI, name: str) -> None:
    truth = truth_of(name)
    body = transcribe(
        client,
        name,
        TranscriptionVerbose,
        response_format="verbose_json",
        timestamp_granularities=["word"],
    )
    assert body.words is not None
    words = [word.model_dump() for word in body.words]
    assert len(matched_words(truth["words"], words)) >= 0.98 * len(truth["words"])
    assert median_start_error_s(truth["words"], words) <= 0.020
    for word in body.words:
        assert 0 <= word.start <= word.end <= truth["duration"]


def test_diarized_json(client: OpenAI) -> None:
    truth = truth_of("en_three")
    body = transcribe(
        client,
        "en_three",
        TranscriptionDiarized,
        model=DIARIZING,
        response_format="diarized_json",
        chunking_strategy="auto",
    )
    assert body.task == "transcribe"
    assert body.duration == pytest.approx(truth["duration"], abs=0.01)
    assert body.usage is not None
    assert word_error_rate(spoken("en_three"), body.text) <= 0.02
    assert normalize(" ".join(segment.text for segment in body.segments)) == normalize(body.text)
    assert [s.id for s in body.segments] == [f"seg_{index}" for index in range(len(body.segments))]
    assert labels(body.segments) == ["A", "B", "C"]
    assert speaker_accuracy(truth["words"], words_by_speaker(body.segments)) >= 0.98
    starts = [segment.start for segment in body.segments]
    assert starts == sorted(starts)
    for segment in body.segments:
        assert 0 <= segment.start < segment.end <= truth["duration"]


def test_diarized_json_of_any_model(client: OpenAI) -> None:
    body = transcribe(client, "en_short", TranscriptionDiarized, response_format="diarized_json")
    assert labels(body.segments) == ["A"]
    assert body.text == spoken("en_short")


# -- options -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["en_short", "es_short"])
def test_logprobs(client: OpenAI, name: str) -> None:
    body = transcribe(client, name, Transcription, include=["logprobs"])
    assert body.text == spoken(name)
    assert body.logprobs
    heard = b""
    for item in body.logprobs:
        assert item.token is not None
        assert item.bytes is not None
        assert item.logprob is not None
        assert -20 < item.logprob <= 0
        raw = bytes(map(int, item.bytes))
        if "\N{REPLACEMENT CHARACTER}" not in item.token:
            assert raw == item.token.encode()
        heard += raw
    assert heard.decode().strip() == body.text
    if name == "en_short":
        assert "".join(item.token or "" for item in body.logprobs).strip() == body.text
    # the model is sure of what it was trained on
    assert np.median([item.logprob for item in body.logprobs if item.logprob is not None]) > -0.5


@pytest.mark.parametrize("language", [None, "es", "spanish", "Spanish"])
def test_languages(client: OpenAI, language: str | None) -> None:
    given = {} if language is None else {"language": language}
    wanted: dict[str, Any] = {"response_format": "verbose_json", **given}
    body = transcribe(client, "es_short", TranscriptionVerbose, **wanted)
    assert body.language == "spanish"
    assert body.text == spoken("es_short")


@pytest.mark.parametrize(("name", "code"), [("en_short", "en"), ("es_short", "es")])
def test_candidate_languages(client: OpenAI, name: str, code: str) -> None:
    body = transcribe(
        client, name, Transcription, model="gpt-transcribe", languages=["de", "es", "en"]
    )
    assert body.text == spoken(name)
    assert body.languages is not None
    assert [language.code for language in body.languages] == [code]


def test_a_language_that_is_no_candidate_is_not_chosen(client: OpenAI) -> None:
    body = transcribe(client, "en_short", Transcription, model="gpt-transcribe", languages=["es"])
    assert body.languages is not None
    assert [language.code for language in body.languages] == ["es"]


@pytest.mark.parametrize(
    "options",
    [
        {"prompt": "A meeting about the budget and the contract."},
        {"keywords": ["transcript", "microphone"]},
        {"extra_body": {"hotwords": "transcript microphone"}},
        {"chunking_strategy": "auto"},
        {
            "chunking_strategy": {
                "type": "server_vad",
                "threshold": 0.5,
                "prefix_padding_ms": 300,
                "silence_duration_ms": 200,
            }
        },
        {"temperature": 0},
    ],
    ids=["prompt", "keywords", "hotwords", "auto", "server_vad", "temperature"],
)
def test_options_do_not_spoil_the_words(client: OpenAI, options: dict[str, Any]) -> None:
    body = transcribe(client, "en_mono", Transcription, **options)
    assert word_error_rate(spoken("en_mono"), body.text) <= 0.02


def test_temperature(client: OpenAI) -> None:
    options = {"response_format": "verbose_json", "temperature": 0.2}
    body = transcribe(client, "en_short", TranscriptionVerbose, **options)
    assert body.segments
    assert {segment.temperature for segment in body.segments} == {0.2}
    assert word_error_rate(spoken("en_short"), body.text) <= 0.34  # three words of nine


def opened(path: Path) -> Any:
    return path.open("rb")


@pytest.mark.parametrize(
    "given",
    [
        opened,
        Path.read_bytes,  # it then calls the file "upload"
        lambda path: ("Notiz ä.m4a", path.read_bytes()),
        lambda path: ("note.flac", path.read_bytes(), "audio/flac"),
        lambda path: ("note.txt", path.read_bytes(), "text/plain"),
    ],
    ids=["open file", "bytes", "wrong ending", "type", "wrong type"],
)
def test_files_of_every_kind(client: OpenAI, given: Callable[[Path], Any]) -> None:
    file = given(audio_of("en_short"))
    assert transcribe(client, "", Transcription, file=file).text == spoken("en_short")


# -- translation -------------------------------------------------------------------------------


def test_translation(client: OpenAI) -> None:
    create = client.audio.translations.with_raw_response.create
    answer = create(file=audio_of("es_two_b"), model=MODEL)
    text = strictly(Translation, answer.text).text
    assert word_error_rate(spoken("es_two_b", "translation"), text) <= 0.02


def test_translation_with_segments(client: OpenAI) -> None:
    create = client.audio.translations.with_raw_response.create
    answer = create(file=audio_of("es_two_b"), model=MODEL, response_format="verbose_json")
    truth = truth_of("es_two_b")
    body = strictly(TranslationVerbose, answer.text)
    assert body.to_dict()["task"] == "translate"
    assert body.language == "english"  # that of the text
    assert body.duration == pytest.approx(truth["duration"], abs=0.01)
    assert word_error_rate(spoken("es_two_b", "translation"), body.text) <= 0.02
    assert body.segments is not None
    assert len(body.segments) >= 0.8 * len(truth["sentences"])
    assert body.segments[0].start == pytest.approx(truth["sentences"][0]["start"], abs=0.5)
    assert body.segments[-1].end == pytest.approx(truth["sentences"][-1]["end"], abs=PAUSE_S)


@pytest.mark.parametrize("response_format", ["text", "srt", "vtt"])
def test_translation_as_a_file(client: OpenAI, response_format: Any) -> None:
    file = client.audio.translations.create(
        file=audio_of("es_short"),
        model=MODEL,
        response_format=response_format,
        prompt="A meeting about the budget.",
        temperature=0,
    )
    assert isinstance(file, str)
    lines = {
        "text": lambda: [file],
        "srt": lambda: [cue.content for cue in srt.parse(file)],
        "vtt": lambda: [caption.text for caption in webvtt.from_string(file).captions],
    }[response_format]()
    assert word_error_rate(spoken("es_short", "translation"), " ".join(lines)) <= 0.1


# -- streams -----------------------------------------------------------------------------------


def of_type(events: list[Any], kind: str) -> list[Any]:
    return [event for event in events if event.type == f"transcript.text.{kind}"]


@pytest.mark.parametrize("options", [{}, {"response_format": "text", "model": "demo"}])
def test_stream(client: OpenAI, options: dict[str, Any]) -> None:
    *deltas, done = stream_events(client, "en_two", **options)
    assert len(deltas) > 1  # one for each part of the recording at the least
    assert {event.type for event in deltas} == {"transcript.text.delta"}
    assert done.type == "transcript.text.done"
    assert "".join(event.delta for event in deltas) == done.text
    assert word_error_rate(spoken("en_two"), done.text) <= 0.02
    assert all(event.logprobs is None for event in (*deltas, done))
    lines, sentences = done.model_extra["segments"], truth_of("en_two")["sentences"]
    assert "".join(line["text"] for line in lines).strip() == done.text
    for line, sentence in zip(lines, sentences, strict=True):
        assert line["start"] == pytest.approx(sentence["start"], abs=PAUSE_S)
        assert line["end"] == pytest.approx(sentence["end"], abs=PAUSE_S)


def test_stream_with_logprobs(client: OpenAI) -> None:
    *deltas, done = stream_events(client, "es_two_b", include=["logprobs"])
    for event in deltas:
        heard = b"".join(bytes(item.bytes) for item in event.logprobs)
        assert heard.decode().strip() == event.delta.strip()
    told = [item.model_dump() for event in deltas for item in event.logprobs]
    assert told == [item.model_dump() for item in done.logprobs]
    assert all(item.logprob <= 0 for item in done.logprobs)
    assert word_error_rate(spoken("es_two_b"), done.text) <= 0.02


def test_diarized_stream(client: OpenAI) -> None:
    options = {"model": DIARIZING, "response_format": "diarized_json", "chunking_strategy": "auto"}
    whole = transcribe(client, "en_two_b", TranscriptionDiarized, **options)
    events = stream_events(client, "en_two_b", **options)
    deltas, segments = of_type(events, "delta"), of_type(events, "segment")
    done = events[-1]
    assert events == [*deltas, *segments, done]
    assert "".join(event.delta for event in deltas) == done.text == whole.text
    assert labels(segments) == ["A", "B"]
    assert speaker_accuracy(truth_of("en_two_b")["words"], words_by_speaker(segments)) >= 0.98
    for streamed, segment in zip(segments, whole.segments, strict=True):
        assert (streamed.id, streamed.speaker) == (segment.id, segment.speaker)
        assert streamed.text == segment.text
        assert streamed.start == pytest.approx(segment.start, abs=0.05)
        assert streamed.end == pytest.approx(segment.end, abs=0.05)


def test_streams_as_the_package_reads_them(client: OpenAI, server: Server) -> None:
    expected = [event.to_dict() for event in stream_events(client, "es_short")]
    with client.audio.transcriptions.create(
        file=audio_of("es_short"), model=MODEL, stream=True
    ) as stream:
        assert [event.to_dict() for event in stream] == expected

    async def scenario() -> list[Any]:
        async with async_client_of(server) as waiting:
            events = await waiting.audio.transcriptions.create(
                file=audio_of("es_short"), model=MODEL, stream=True
            )
            return [event.to_dict() async for event in events]

    assert asyncio.run(scenario()) == expected


def long_stream(client: OpenAI, request_id: str) -> Any:
    return client.audio.transcriptions.create(
        file=audio_of("en_long"),
        model=DIARIZING,
        response_format="diarized_json",
        chunking_strategy="auto",
        stream=True,
        extra_headers={"X-Request-ID": request_id},
    )


def test_an_abandoned_stream_frees_its_place(
    piecemeal_client: OpenAI, piecemeal_server: Server
) -> None:
    with long_stream(piecemeal_client, "abandoned") as stream:
        assert next(stream).type == "transcript.text.delta"
        assert under_way(piecemeal_server) == ["abandoned"]  # text came while the rest was at work
    eventually(lambda: under_way(piecemeal_server) == [])
    eventually(lambda: piecemeal_server.temp_files() == [])
    assert transcribe(piecemeal_client, "en_short", Transcription).text == spoken("en_short")


def test_an_error_in_mid_stream(piecemeal_client: OpenAI, piecemeal_server: Server) -> None:
    with long_stream(piecemeal_client, "cancelled") as stream:
        next(stream)
        assert httpx.delete(f"{piecemeal_server.url}/queue/cancelled").status_code == 204
        with pytest.raises(APIError, match="cancelled") as failure:
            list(stream)
    assert type(failure.value) is APIError  # the status had been 200
    assert isinstance(failure.value.body, dict)
    assert failure.value.body.keys() == {"message", "type", "param", "code"}
    assert failure.value.type
    assert "/" not in failure.value.message
    eventually(lambda: under_way(piecemeal_server) == [])
    assert transcribe(piecemeal_client, "en_short", Transcription).text == spoken("en_short")


# -- ways to call ------------------------------------------------------------------------------


def test_the_id_of_a_request(client: OpenAI) -> None:
    given = {"X-Request-ID": "note-7"}
    create = client.audio.transcriptions.create
    body: Any = create(file=audio_of("en_short"), model=MODEL, extra_headers=given)
    assert body._request_id == "note-7"
    answer = client.models.with_raw_response.list()
    assert re.fullmatch("[0-9a-f]{16}", answer.headers["x-request-id"])


def test_an_answer_that_is_read_bit_by_bit(client: OpenAI) -> None:
    with client.audio.transcriptions.with_streaming_response.create(
        file=audio_of("en_short"), model=MODEL, response_format="text"
    ) as answer:
        assert answer.status_code == 200
        assert b"".join(answer.iter_bytes()).decode().strip() == spoken("en_short")


def test_async_clients_at_once(server: Server) -> None:
    async def ask(client: AsyncOpenAI, name: str) -> str:
        answer = await client.audio.transcriptions.with_raw_response.create(
            file=audio_of(name), model=MODEL, response_format="verbose_json"
        )
        return strictly(TranscriptionVerbose, answer.text).text

    async def scenario(names: list[str]) -> list[str]:
        async with async_client_of(server) as client:
            assert "demo" in [model.id async for model in client.models.list()]
            translation = client.audio.translations.create(file=audio_of("es_short"), model=MODEL)
            *texts, translated = await asyncio.gather(
                *(ask(client, name) for name in names), translation
            )
            return [*texts, translated.text]

    names = ["en_short", "es_short"] * 3
    *texts, translated = asyncio.run(scenario(names))
    assert texts == [spoken(name) for name in names]
    assert word_error_rate(spoken("es_short", "translation"), translated) <= 0.1
