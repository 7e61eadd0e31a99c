"""The wire contract of POST /asr and POST /detect-language, line by line."""

from __future__ import annotations

import http.client
import io
import json
import re
import signal
import time
import wave
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from email.message import Message
from email.policy import HTTP
from itertools import pairwise
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx
import pytest
import srt
import webvtt

from app import __version__
from app.api.asr.parameters import Dialect, parse_asr_request, parse_detect_request
from app.api.asr.router import content_disposition
from app.api.errors import error_response
from app.api.middleware.headers import SECURITY
from app.api.parameters import merge_parameters
from app.domain.errors import STOPPING, Overloaded, ShuttingDown
from app.domain.options import SpeakerBounds, Task
from app.engine.work import Work
from app.models.catalog import OPENAI_NAMES
from app.models.recognizers.whisper_engine import ALIASES
from app.service.admission import Admission
from app.service.ticket import Ticket
from tests.support.paths import ROOT
from tests.support.server import Server, running_server
from tests.support.truth import audio_of, truth_of, word_error_rate, words_of
from tests.support.waiting import PATIENCE_S, eventually

ENGLISH, SPANISH, CONVERSATION = audio_of("en_short"), audio_of("es_short"), audio_of("en_two_b")
SEGMENT = {"start", "end", "text"}
FIGURES = {
    "id", "seek", "tokens", "temperature", "avg_logprob", "compression_ratio", "no_speech_prob",
}  # fmt: skip
SECOND_OF_SILENCE = bytes(2 * 16_000)  # raw PCM
WIDTH, COUNT = 30, 2
OTHER_SETTINGS = {
    "DEFAULT_DIALECT": "webservice",
    "SUBTITLE_MAX_LINE_WIDTH": WIDTH,
    "SUBTITLE_MAX_LINE_COUNT": COUNT,
    "MAX_QUEUE_SIZE": 1,
}


@pytest.fixture(scope="module")
def other_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The webservice dialect by default, narrow subtitles, one request at a time."""
    with running_server(tmp_path_factory.mktemp("other"), **OTHER_SETTINGS) as running:
        yield running


@pytest.fixture(scope="module")
def conversation(server: Server) -> dict[str, Any]:
    """Two speakers, in the WhisperX dialect with its defaults."""
    return json_of(server.post(CONVERSATION))


def spoken(name: str, key: str = "text") -> str:
    return " ".join(sentence[key] for sentence in truth_of(name)["sentences"])


def refuse_constant(name: str) -> None:
    raise AssertionError(f"{name} in JSON")


def json_of(response: httpx.Response) -> dict[str, Any]:
    """The body of a success in JSON, with what every one of them has."""
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    body: dict[str, Any] = json.loads(response.content, parse_constant=refuse_constant)
    required = {"text", "language", "segments", "word_segments", "duration", "model"}
    optional = {"speakers", "warnings", "speaker_embeddings"}
    assert required <= body.keys() <= required | optional
    return body


def text_of(response: httpx.Response, kind: str = "plain") -> str:
    """The body of a success in a text format."""
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == f"text/{kind}; charset=utf-8"
    return response.content.decode("utf-8")


def dialect_of(response: httpx.Response) -> str:
    """Which dialect an answer in its default format, or in JSON, is written in."""
    if response.headers["content-type"].startswith("text/plain"):
        assert text_of(response).splitlines() == [
            "Can you check the report?",
            "The building is late.",
        ]
        return "webservice"
    return "webservice" if isinstance(json_of(response)["text"], str) else "whisperx"


def refusal(server: Server, response: httpx.Response, status: int) -> str:
    """The one sentence of an error, which gives nothing away."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert body.keys() == {"detail"}
    detail = body["detail"]
    assert isinstance(detail, str)
    assert len(detail) > 5
    assert "\n" not in detail
    for secret in (str(server.folder), str(ROOT), "Traceback", "site-packages", ".py", "Error("):
        assert secret not in detail
    return detail


# -- which dialect -------------------------------------------------------------------------------

WEBSERVICE_SIGNS = [{"output": "json"}, {"encode": "true"}, {"vad_filter": "false"}]
WHISPERX_SIGNS = [{"output_format": "json"}, {"enable_diarization": "false"}]
BOTH_SIGNS = [
    {"output_format": "json", "encode": "1"},
    {"output": "json", "output_format": "json", "enable_diarization": "true"},
]
SIGNS = [
    *((sign, "webservice") for sign in (*WEBSERVICE_SIGNS, *BOTH_SIGNS)),
    *((sign, "whisperx") for sign in (*WHISPERX_SIGNS, {}, {"language": "en", "diarize": "0"})),
]


@pytest.mark.parametrize(("given", "dialect"), SIGNS)
def test_the_query_tells_the_dialect(server: Server, given: dict[str, str], dialect: str) -> None:
    assert dialect_of(server.post(ENGLISH, **given)) == dialect


@pytest.mark.parametrize(("given", "dialect"), [pair for pair in SIGNS if pair[0]])
def test_form_fields_tell_the_dialect(server: Server, given: dict[str, str], dialect: str) -> None:
    assert dialect_of(server.post(ENGLISH, fields=given)) == dialect


@pytest.mark.parametrize(
    ("given", "dialect"),
    [
        ({}, "webservice"),
        ({"language": "en"}, "webservice"),
        *((s, "whisperx") for s in WHISPERX_SIGNS),
    ],
)
def test_default_dialect_is_that_of_requests_that_show_none(
    other_server: Server, given: dict[str, str], dialect: str
) -> None:
    assert dialect_of(other_server.post(ENGLISH, **given)) == dialect
    assert dialect_of(other_server.post(ENGLISH, fields=given)) == dialect


# -- defaults ------------------------------------------------------------------------------------


def test_defaults_of_the_webservice_dialect(server: Server) -> None:
    body = json_of(server.post(ENGLISH, output="json"))
    assert body["text"] == spoken("en_short")
    assert "speakers" not in body
    assert all(item.keys() == {*SEGMENT, *FIGURES} for item in body["segments"])
    assert body["word_segments"] == []


def test_defaults_of_the_whisperx_dialect(conversation: dict[str, Any]) -> None:
    assert conversation["text"] == conversation["segments"]
    assert [s["speaker"] for s in conversation["speakers"]] == ["SPEAKER_00", "SPEAKER_01"]
    assert all(item["words"] and item["speaker"] for item in conversation["segments"])
    assert conversation["word_segments"] == words_of(conversation)
    assert conversation["language"] == "en"
    assert conversation["model"] == "demo"
    assert conversation["duration"] == pytest.approx(truth_of("en_two_b")["duration"], abs=0.01)
    assert "speaker_embeddings" not in conversation
    assert "warnings" not in conversation


def test_segments_and_words_of_the_webservice_dialect(server: Server) -> None:
    """As Whisper's own JSON has them: words joined rebuild the text, figures tell of the chunk."""
    given = {"output": "json", "diarize": True, "word_timestamps": True}
    body = json_of(server.post(CONVERSATION, **given))
    assert [item["id"] for item in body["segments"]] == [*range(len(body["segments"]))]
    for item in body["segments"]:
        assert item.keys() == {*SEGMENT, *FIGURES, "speaker", "words"}
        assert "".join(word["word"] for word in item["words"]) == item["text"]
        assert item["seek"] <= item["start"] * 100 + 1
        assert -2 < item["avg_logprob"] < 0 <= item["temperature"]
        assert 0 <= item["no_speech_prob"] <= 1 < item["compression_ratio"] + 1
        assert item["tokens"]
        for word in item["words"]:
            assert word.keys() == {"word", "start", "end", "probability", "score", "speaker"}
            assert word["word"].startswith(" ")
            assert 0 < word["probability"] <= 1
    words = [word for item in body["segments"] for word in item["words"]]
    assert words == body["word_segments"]
    assert len({word["probability"] for word in words}) > 5
    tokens = [token for item in body["segments"] for token in item["tokens"]]
    given = {"response_format": "verbose_json", "model": "whisper-1"}
    answer = httpx.post(
        f"{server.url}/v1/audio/transcriptions",
        data=given,
        files={"file": CONVERSATION.read_bytes()},
        timeout=60,
    )
    assert tokens == [token for item in answer.json()["segments"] for token in item["tokens"]]


def test_each_switch_of_the_webservice_dialect(server: Server) -> None:
    body = json_of(server.post(ENGLISH, output="json", diarize="yes", word_timestamps="1"))
    assert isinstance(body["text"], str)
    assert [s["speaker"] for s in body["speakers"]] == ["SPEAKER_00"]
    assert len(body["word_segments"]) == len(truth_of("en_short")["words"])


@pytest.mark.parametrize("switch", ["diarize", "enable_diarization"])
def test_each_switch_of_the_whisperx_dialect(server: Server, switch: str) -> None:
    given = {switch: "false", "word_timestamps": "no", "output_format": "json"}
    body = json_of(server.post(ENGLISH, **given))
    assert body["text"] == body["segments"]
    assert all(item.keys() == {"start", "end", "text"} for item in body["segments"])
    assert "speakers" not in body
    assert body["word_segments"] == []


@pytest.mark.parametrize("output", ["output", "output_format"])
@pytest.mark.parametrize("name", ["txt", "text", "TXT"])
def test_txt_and_text_are_the_same(server: Server, output: str, name: str) -> None:
    response = server.post(ENGLISH, **{output: name})
    assert word_error_rate(spoken("en_short"), re.sub(r"\[\w+\]:", "", text_of(response))) == 0
    assert response.headers["content-disposition"].endswith('.txt"')


# -- parameters ----------------------------------------------------------------------------------


def parse(query: dict[str, str], fields: dict[str, str] | None = None) -> Any:
    form = {name: [value] for name, value in (fields or {}).items()}
    return parse_asr_request(merge_parameters(form, query), Dialect.WHISPERX)


def test_the_query_wins_over_form_fields(server: Server) -> None:
    fields = {"output_format": "srt", "language": "es", "task": "nonsense"}
    response = server.post(
        ENGLISH, fields=fields, output_format="json", language="en", task="transcribe"
    )
    assert json_of(response)["language"] == "en"


def test_form_fields_count_where_the_query_says_nothing(server: Server) -> None:
    fields = {"output_format": "srt", "enable_diarization": "false", "language": "english"}
    cues = list(srt.parse(text_of(server.post(ENGLISH, fields=fields, language=""))))
    assert [cue.content for cue in cues] == ["Can you check the report?", "The building is late."]


TRUE = ["true", "True", "TRUE", "1", "yes", "YES", "Yes", " true "]
FALSE = ["false", "False", "FALSE", "0", "no", "NO", "No", "fAlSe"]
FLAGS = {
    "encode": "encode",
    "word_timestamps": "word_timestamps",
    "diarize": "diarize",
    "enable_diarization": "diarize",
    "return_speaker_embeddings": "speaker_embeddings",
}


@pytest.mark.parametrize(("name", "field"), FLAGS.items())
def test_booleans_in_every_spelling(name: str, field: str) -> None:
    for value in TRUE:
        assert getattr(parse({name: value}), field) is True
        assert getattr(parse({}, {name: value}), field) is True
    for value in FALSE:
        assert getattr(parse({name: value}), field) is False
        assert getattr(parse({}, {name: value}), field) is False


def test_booleans_through_http(server: Server) -> None:
    body = json_of(server.post(ENGLISH, output="json", diarize="YES", word_timestamps=True))
    assert len(body["speakers"]) == 1
    assert body["word_segments"]
    body = json_of(server.post(ENGLISH, output="json", diarize="No", word_timestamps="0"))
    assert "speakers" not in body


def test_empty_values_mean_absent(server: Server) -> None:
    empty = ("output", "encode", "vad_filter", "language", "task", "model", "num_speakers")
    empty += ("min_speakers", "max_speakers", "initial_prompt", "hotwords", "word_timestamps")
    assert dialect_of(server.post(ENGLISH, **dict.fromkeys(empty, ""))) == "whisperx"
    assert dialect_of(server.post(ENGLISH, fields=dict.fromkeys(empty, " "))) == "whisperx"


def test_unknown_parameters_are_ignored(server: Server) -> None:
    """But not without a word."""
    fields = {"video_file": "/films/Ä.mkv", "x" * 99: "1"}
    query = {"output": "json", "b\r\nX-Evil: 1": "1", "beam": "x", "max_line_width": 40}
    response = server.post(ENGLISH, fields=fields, **query)
    assert json_of(response)["text"] == spoken("en_short")
    named = f"b??X-Evil??1, beam, max_line_width, video_file, {'x' * 40}"
    assert response.headers["x-asr-ignored"] == named
    assert "x-asr-ignored" not in server.post(ENGLISH, output="json", vad_filter=True).headers


@pytest.mark.parametrize("language", ["es", "ES", "Spanish", "spanish", "auto", "AUTO", "", None])
def test_languages_by_code_by_name_and_by_ear(server: Server, language: str | None) -> None:
    given = {} if language is None else {"language": language}
    body = json_of(server.post(SPANISH, output="json", **given))
    assert body["language"] == "es"
    assert word_error_rate(spoken("es_short"), body["text"]) == 0


def test_prompt_and_hotwords_are_taken(server: Server) -> None:
    given = {"initial_prompt": "The budget meeting.", "hotwords": "building, report"}
    assert json_of(server.post(ENGLISH, output="json", **given))["text"] == spoken("en_short")
    wanted = parse({"initial_prompt": " A. ", "task": "Translate", "max_speakers": "3"})
    assert (wanted.initial_prompt, wanted.task) == ("A.", Task.TRANSLATE)
    assert wanted.speakers == SpeakerBounds(max_speakers=3)


@pytest.mark.parametrize("alias", ["demo", " demo ", "whisper-1"])
def test_a_model_by_name(server: Server, alias: str) -> None:
    assert json_of(server.post(ENGLISH, output="json", model=alias))["model"] == "demo"


@pytest.mark.parametrize("alias", ["whisper-large-v3", "large", "turbo", "large-v3"])
def test_a_model_that_cannot_be_loaded(server: Server, alias: str) -> None:
    started = time.monotonic()
    response = server.post(ENGLISH, model=alias)
    refusal(server, response, 503)
    assert int(response.headers["retry-after"]) >= 1
    assert time.monotonic() - started < PATIENCE_S
    assert json_of(server.post(ENGLISH, output="json"))["text"] == spoken("en_short")


@pytest.mark.parametrize(
    "model", ["nonsense", "/etc/passwd", "../../demo/model", "openai/whisper", "x" * 999]
)
def test_an_unknown_model(server: Server, model: str) -> None:
    for response in (
        server.post(ENGLISH, model=model),
        server.post(ENGLISH, fields={"model": model}),
    ):
        detail = refusal(server, response, 422)
        assert detail.startswith("model: ")
        assert "large-v3" in detail
        assert "demo" in detail
        assert len(detail) < 1000


def test_num_speakers_beats_the_bounds(server: Server) -> None:
    body = json_of(server.post(CONVERSATION, num_speakers=1, min_speakers=3, max_speakers=2))
    assert [s["speaker"] for s in body["speakers"]] == ["SPEAKER_00"]
    assert parse({"num_speakers": "2", "min_speakers": "9"}).speakers == SpeakerBounds(2)


def test_max_speakers(server: Server) -> None:
    body = json_of(server.post(CONVERSATION, fields={"max_speakers": "1"}))
    assert [s["speaker"] for s in body["speakers"]] == ["SPEAKER_00"]


COUNTS = ["0", "-1", "101", "1000000000", "9" * 5000, "2.5", "two", "1e2", "٣", "0x2"]
BOUNDS = ("num_speakers", "min_speakers", "max_speakers")
REFUSED = [
    *(({name: count}, name, "from 1 to 100") for name in BOUNDS for count in COUNTS),
    ({"min_speakers": "3", "max_speakers": "2"}, "min_speakers", "max_speakers"),
    ({"output": "docx"}, "output", "txt, text, vtt, srt, tsv, markdown, md, json"),
    ({"output_format": "docx"}, "output_format", "txt, text, vtt, srt, tsv, markdown, md, json"),
    ({"output": "json", "output_format": "pdf"}, "output_format", "json"),
    ({"task": "foo"}, "task", "transcribe, translate"),
    ({"language": "klingon"}, "language", '"en"'),
    *(({"beam_size": value}, "beam_size", "from 1 to 10") for value in ("0", "11", "1.5", "x")),
    *(({"temperature": value}, "temperature", "from 0 to 1") for value in ("-1", "1.1", "nan")),
    *(({name: v}, name, "0.01 to 0.99") for name in ("vad_onset", "vad_offset") for v in "01x"),
    ({"vad_onset": "0.3", "vad_offset": "0.4"}, "vad_offset", "vad_onset"),
    ({"condition_on_previous_text": "true"}, "condition_on_previous_text", "initial_prompt"),
    *(({name: "maybe"}, name, "true, false") for name in (*FLAGS, "vad_filter", "highlight_words")),
    ({"max_line_width": "0"}, "max_line_width", "from 1 to 1000"),
    ({"max_line_count": "x", "output": "srt"}, "max_line_count", "from 1 to 100"),
    ({"subtitle_style": "fine"}, "subtitle_style", "plain, readable"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "name", "allowed"), REFUSED)
def test_a_value_that_is_not_allowed(
    server: Server, given: dict[str, str], name: str, allowed: str
) -> None:
    for response in (server.post(ENGLISH, **given), server.post(ENGLISH, fields=given)):
        detail = refusal(server, response, 422)
        assert detail.startswith(f"{name}: ")
        assert allowed in detail.removeprefix(f"{name}: ")
        assert len(detail) < 700


def test_what_a_request_asks_of_decoding(server: Server) -> None:
    given = {"beam_size": 1, "temperature": 0.2, "condition_on_previous_text": "false"}
    body = json_of(server.post(ENGLISH, output="json", language="en-US", **given))
    assert body["text"] == spoken("en_short")
    assert body["language"] == "en"


def test_silence_that_is_passed_on(server: Server) -> None:
    """A detector that hardly hears anything takes most of the speech for silence."""
    deaf = {"vad_onset": 0.99, "vad_offset": 0.98, "language": "en", "output": "json"}
    some, most = (
        word_error_rate(
            spoken("en_two_b"), json_of(server.post(CONVERSATION, **deaf, **more))["text"]
        )
        for more in ({}, {"vad_filter": "false"})
    )
    assert most < some / 2


def test_the_file_is_required(server: Server) -> None:
    url = f"{server.url}/asr"
    for response in (
        httpx.post(url),
        httpx.post(url, data={"language": "en"}),
        httpx.post(url, json={"audio_file": "x"}),
        httpx.post(url, files={"file": b"x"}),
    ):
        assert refusal(server, response, 422).startswith("audio_file: ")


def test_what_is_no_media_is_refused(server: Server) -> None:
    refusal(server, server.post(b"", name="empty.mp3"), 400)
    refusal(server, server.post(b"just a text " * 1000, name="text.mp3"), 400)


# -- responses -----------------------------------------------------------------------------------


@pytest.mark.parametrize("output", ["json", "txt", "srt", "vtt", "tsv", "md"])
def test_headers_of_a_success(server: Server, output: str) -> None:
    response = server.post(ENGLISH, name="meeting.mp3", output=output)
    assert response.status_code == 200
    json_type = response.headers["content-type"] == "application/json"
    assert json_type == (output == "json")
    assert response.headers["asr-engine"] == "whisperx"
    disposition = response.headers["content-disposition"]
    assert disposition == f'attachment; filename="meeting.mp3.{output}"'
    assert "x-asr-warning" not in response.headers
    if output != "json":
        body = text_of(response, "markdown" if output == "md" else "plain")
        assert not body.startswith('"')
        assert "\\n" not in body
        assert "\ufeff" not in body


NAMES = {
    "plain.wav": "plain.wav",
    "with space.wav": "with space.wav",
    "речь 你好 🎙.mp3": "речь 你好 🎙.mp3",
    "café.mp3": "café.mp3",
    'a\\"; filename=\\"evil.exe': 'a"; filename="evil.exe',
    "a;b=c%22.mp3": "a;b=c%22.mp3",
    "a%0d%0aX-Evil: 1.mp3": "a%0d%0aX-Evil: 1.mp3",
    "../../etc/passwd": "passwd",
    "C:\\dir\\evil.mp3": "evil.mp3",
    "\u202egnp.mp3": "gnp.mp3",
    "": "audio",
    "..": "audio",
    "x" * 5000 + ".mp3": "x" * 146 + ".mp3",
}


def parsed_disposition(header: str) -> Message:
    message = Message(policy=HTTP)
    message["Content-Disposition"] = header
    return message


@pytest.mark.parametrize(("name", "expected"), NAMES.items())
def test_no_file_name_can_inject_anything(
    server: Server, through_ray: bool, name: str, expected: str
) -> None:
    body = b"\r\n".join([
        b"--frontier",
        b'Content-Disposition: form-data; name="audio_file"; filename="%s"' % name.encode(),
        b"",
        ENGLISH.read_bytes(),
        b"--frontier--",
        b"",
    ])  # fmt: skip
    response = httpx.post(
        f"{server.url}/asr?output=srt",
        content=body,
        headers={"Content-Type": "multipart/form-data; boundary=frontier"},
        timeout=60,
    )
    text_of(response)
    allowed = {"date", "asr-engine", "content-disposition", "content-length", "content-type"}
    security = {name.lower() for name in SECURITY} | {"content-security-policy"}
    if through_ray:
        allowed.add("server")  # of its proxy
    assert set(response.headers) == allowed | {"x-request-id"} | security
    header = response.headers["content-disposition"]
    message = parsed_disposition(header)
    assert message.get_filename() in (f"{expected}.srt", content_names(header)[0])
    assert content_names(header)[-1] == f"{expected}.srt"


def content_names(header: str) -> list[str]:
    """The plain name, and the encoded one where there is one; the header has nothing else."""
    pattern = r"""attachment; filename="([^"\\%;]+)"(?:; filename\*=UTF-8''([\w.~%-]+))?"""
    found = re.fullmatch(pattern, header, re.ASCII)
    assert found, header
    assert header.isascii()
    return [found[1]] + ([httpx.QueryParams(f"n={found[2]}")["n"]] if found[2] else [])


@pytest.mark.parametrize(
    "name", ["a\r\nSet-Cookie: x=1", "a\x00b", "a\x7fb", "\ud800", "a\u2028b", "\t"]
)
def test_control_characters_never_reach_the_header(name: str) -> None:
    header = content_disposition(name, "srt")
    assert header.isprintable()
    assert content_names(header)[-1].endswith(".srt")


def test_joined_segments_rebuild_the_transcript(conversation: dict[str, Any]) -> None:
    assert all(item["text"].startswith(" ") for item in conversation["segments"])
    whole = "".join(item["text"] for item in conversation["segments"])
    assert whole == f" {spoken('en_two_b')}"
    for item in conversation["segments"]:
        assert " ".join(word["word"] for word in item["words"]) == item["text"].strip()


def test_times_are_in_order_and_inside_one_another(conversation: dict[str, Any]) -> None:
    last_s = 0.0
    for item in conversation["segments"]:
        assert last_s <= item["start"] < item["end"] <= conversation["duration"]
        last_s = item["end"]
        word_s = item["start"]
        for word in item["words"]:
            assert word_s <= word["start"] < word["end"] <= item["end"]
            word_s = word["end"]


def numbers_in(body: Any) -> Iterator[float]:
    if isinstance(body, float):
        yield body
    elif isinstance(body, dict):
        for value in body.values():
            yield from numbers_in(value)
    elif isinstance(body, list):
        for value in body:
            yield from numbers_in(value)


def test_numbers_are_rounded_to_three_decimals(conversation: dict[str, Any]) -> None:
    numbers = list(numbers_in(conversation))
    assert len(numbers) > 300
    assert all(round(number, 3) == number for number in numbers)


def test_without_words_nothing_gets_coarser(server: Server, conversation: dict[str, Any]) -> None:
    bare = json_of(server.post(CONVERSATION, word_timestamps="false"))
    assert bare["word_segments"] == []
    assert bare["speakers"] == conversation["speakers"]
    expected = [{k: v for k, v in s.items() if k != "words"} for s in conversation["segments"]]
    assert bare["segments"] == expected


def test_the_summary_of_speakers(conversation: dict[str, Any]) -> None:
    for entry in conversation["speakers"]:
        own = [s for s in conversation["segments"] if s["speaker"] == entry["speaker"]]
        assert entry.keys() == {"speaker", "total_duration", "segment_count"}
        assert entry["segment_count"] == len(own)
        seconds = sum(s["end"] - s["start"] for s in own)
        assert entry["total_duration"] == pytest.approx(seconds, abs=0.02)


def test_no_segment_mixes_speakers(conversation: dict[str, Any]) -> None:
    for item in conversation["segments"]:
        assert {word["speaker"] for word in item["words"]} == {item["speaker"]}


def test_segments_are_sentences(conversation: dict[str, Any]) -> None:
    sentences = [sentence["text"] for sentence in truth_of("en_two_b")["sentences"]]
    assert [item["text"].strip() for item in conversation["segments"]] == sentences


def test_voice_vectors_only_when_asked_for(server: Server) -> None:
    given = {"output": "json", "diarize": "true", "return_speaker_embeddings": "true"}
    body = json_of(server.post(ENGLISH, **given))
    assert body["speaker_embeddings"].keys() == {"SPEAKER_00"}
    assert all(isinstance(x, float) for x in body["speaker_embeddings"]["SPEAKER_00"])
    assert len(body["speaker_embeddings"]["SPEAKER_00"]) > 10
    assert "speaker_embeddings" not in json_of(server.post(ENGLISH, **{**given, "diarize": "no"}))


@pytest.mark.parametrize("language", [None, "es"])
def test_translation(server: Server, language: str | None) -> None:
    given = {"language": language} if language else {}
    body = json_of(server.post(SPANISH, task="translate", **given))
    text = "".join(item["text"] for item in body["segments"])
    assert word_error_rate(spoken("es_short", "translation"), text) <= 0.1
    assert body["language"] == "es"
    (warning,) = body["warnings"]
    assert "approximate" in warning
    assert len(body["segments"]) == 2
    assert body["word_segments"] == [word for item in body["segments"] for word in item["words"]]
    for item, sentence in zip(body["segments"], truth_of("es_short")["sentences"], strict=True):
        assert item.keys() == {"start", "end", "text", "speaker", "words"}
        assert " ".join(word["word"] for word in item["words"]) == item["text"].strip()
        assert item["start"] == pytest.approx(sentence["start"], abs=0.4)
        assert item["end"] == pytest.approx(sentence["end"], abs=0.4)


def test_a_language_without_an_aligner(server: Server) -> None:
    response = server.post(ENGLISH, output="json", language="fr", word_timestamps=True)
    body = json_of(response)
    assert body["language"] == "fr"
    (warning,) = body["warnings"]
    assert "approximate" in warning
    assert "alignment model" in warning
    truth = truth_of("en_short")["words"]
    for word, spoken_word in zip(body["word_segments"], truth, strict=True):
        assert word["start"] == pytest.approx(spoken_word["start"], abs=0.6)
    assert response.headers["x-asr-warning"] == warning
    assert warning.isascii()
    sentences = truth_of("en_short")["sentences"]
    for item, sentence in zip(body["segments"], sentences, strict=True):
        assert item["text"].strip() == sentence["text"]
        assert item["start"] == pytest.approx(sentence["start"], abs=0.4)
        assert item["end"] == pytest.approx(sentence["end"], abs=0.4)
    subtitles = server.post(ENGLISH, output="srt", language="fr")
    assert subtitles.headers["x-asr-warning"] == warning
    assert len(list(srt.parse(text_of(subtitles)))) == 2


# -- no speech -----------------------------------------------------------------------------------


def silent_wav() -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(SECOND_OF_SILENCE * 2)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("output", "expected"),
    [("txt", ""), ("srt", ""), ("vtt", "WEBVTT\n\n"), ("tsv", "start\tend\ttext\n")],
)
def test_no_speech_is_an_empty_success(server: Server, output: str, expected: str) -> None:
    body = text_of(server.post(silent_wav(), output=output, diarize=True))
    assert body == expected
    if output == "vtt":
        assert webvtt.from_string(body).captions == []


@pytest.mark.parametrize("dialect", ["webservice", "whisperx"])
@pytest.mark.parametrize("task", ["transcribe", "translate"])
def test_no_speech_in_json(server: Server, dialect: str, task: str) -> None:
    webservice = dialect == "webservice"
    given = {"output" if webservice else "output_format": "json", "diarize": "true"}
    body = json_of(server.post(silent_wav(), task=task, return_speaker_embeddings=True, **given))
    assert body["text"] == ("" if webservice else [])
    assert (body["segments"], body["word_segments"], body["speakers"]) == ([], [], [])
    assert body["speaker_embeddings"] == {}
    assert body["duration"] == 2.0
    assert body["language"]
    assert "warnings" not in body


# -- subtitles of a narrow screen ----------------------------------------------------------------


@pytest.mark.parametrize("output", ["srt", "vtt"])
def test_no_narrow_cue_is_too_wide_or_merges_speakers(
    other_server: Server, conversation: dict[str, Any], output: str
) -> None:
    body = text_of(other_server.post(CONVERSATION, output=output, diarize=True))
    if output == "srt":
        texts = [cue.content for cue in srt.parse(body)]
    else:
        texts = [caption.text for caption in webvtt.from_string(body).captions]
    shown = []
    for text in texts:
        lines = text.split("\n")
        assert len(lines) <= COUNT
        assert all(len(line) <= WIDTH for line in lines)
        prefix, words = " ".join(lines).split("]: ", 1)
        shown += [(word, prefix.removeprefix("[")) for word in words.split()]
    assert shown == [(word["word"], word["speaker"]) for word in conversation["word_segments"]]
    assert any("\n" in text for text in texts)


def test_no_narrow_cue_of_a_translation_is_too_wide(other_server: Server) -> None:
    spanish = audio_of("es_two")
    asked = {"task": "translate", "word_timestamps": True}
    translated = json_of(other_server.post(spanish, output="json", **asked))
    assert any(len(item["text"].strip()) > WIDTH for item in translated["segments"])
    body = text_of(other_server.post(spanish, task="translate", output="srt"))
    cues = list(srt.parse(body))
    assert " ".join(cue.content for cue in cues).split() == translated["text"].split()
    begun_s = [word["start"] for word in translated["word_segments"]]
    ended_s = [word["end"] for word in translated["word_segments"]]
    for cue in cues:
        lines = cue.content.split("\n")
        assert len(lines) <= COUNT
        assert all(len(line) <= WIDTH for line in lines)
        assert min(abs(cue.start.total_seconds() - start_s) for start_s in begun_s) < 0.002
        assert min(abs(cue.end.total_seconds() - end_s) for end_s in ended_s) < 0.002
    for before, after in pairwise(cues):
        assert before.end <= after.start


@pytest.mark.parametrize("prefix", ["", "/v1/audio/transcriptions"])
def test_each_request_may_lay_out_its_subtitles(server: Server, prefix: str) -> None:
    def cues(**given: Any) -> list[srt.Subtitle]:
        field, output = ("file", "response_format") if prefix else ("audio_file", "output")
        response = httpx.post(
            server.url + (prefix or "/asr"),
            data={output: "srt", "model": "demo", **given},
            files={field: CONVERSATION.read_bytes()},
            timeout=60,
        )
        assert "x-asr-ignored" not in response.headers
        return list(srt.parse(text_of(response)))

    sentences = [sentence["text"] for sentence in truth_of("en_two_b")["sentences"]]
    narrow = cues(max_line_width=18, max_line_count=1)
    assert " ".join(cue.content for cue in narrow) == " ".join(sentences)
    assert all(len(cue.content) <= 18 for cue in narrow)
    lined = cues(subtitle_style="readable", max_line_width=24)
    assert " ".join(cue.content for cue in lined).split() == " ".join(sentences).split()
    assert all(len(line) <= 24 for cue in lined for line in cue.content.split("\n"))
    assert all((cue.end - cue.start).total_seconds() >= 0.8 for cue in lined)
    assert any("<u>" in cue.content for cue in cues(highlight_words="true"))
    assert [cue.content for cue in cues(subtitle_style="plain")] == sentences


# -- /detect-language ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "code", "name"), [(ENGLISH, "en", "english"), (SPANISH, "es", "spanish")]
)
def test_detect_language(server: Server, file: Any, code: str, name: str) -> None:
    response = server.post(file, "/detect-language")
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert body.keys() == {"detected_language", "language_code", "confidence"}
    assert (body["detected_language"], body["language_code"]) == (name, code)
    assert isinstance(body["confidence"], float)
    assert 0.5 < body["confidence"] <= 1


def test_detect_language_of_silence(server: Server) -> None:
    body = server.post(SECOND_OF_SILENCE, "/detect-language", encode=False).json()
    assert body["detected_language"]
    assert 0 <= body["confidence"] <= 1


def test_detect_language_refuses_and_ignores(server: Server) -> None:
    for given, name in (({"encode": "maybe"}, "encode"), ({"model": "nonsense"}, "model")):
        response = server.post(ENGLISH, "/detect-language", **given)
        assert refusal(server, response, 422).startswith(f"{name}: ")
        response = server.post(ENGLISH, "/detect-language", fields=given)
        assert refusal(server, response, 422).startswith(f"{name}: ")
    response = server.post(ENGLISH, "/detect-language", output="docx", whatever=1)
    assert response.json()["language_code"] == "en"
    assert response.headers["x-asr-ignored"] == "output, whatever"
    assert parse_detect_request({"encode": "No", "model": "demo"}).encode is False


# -- everything around it ------------------------------------------------------------------------


def test_health(server: Server) -> None:
    response = server.get("/health")
    assert response.status_code == 200
    body = response.json()
    assert body["status"] == "healthy"
    assert body["device"] in ("cpu", "cuda")
    assert body["loaded_models"] == ["demo"]


def test_status_tells_bazarr_the_version(server: Server) -> None:
    assert server.get("/status").json() == {"version": server.get("/health").json()["version"]}


def test_ready(server: Server) -> None:
    assert server.get("/ready").json() == {"status": "ready"}


def test_models_as_openai_lists_them(server: Server) -> None:
    body = server.get("/v1/models").json()
    assert body["object"] == "list"
    names = [model["id"] for model in body["data"]]
    assert names[0] == "demo"
    assert len(names) == len(set(names))
    assert set(ALIASES) <= set(names)
    for model in body["data"]:
        assert model["object"] == "model"
        assert isinstance(model["created"], int)
        assert model["owned_by"]
        assert model["loaded"] == (model["id"] in ("demo", *OPENAI_NAMES))


def test_a_browser_finds_the_page_and_a_program_what_this_is(server: Server) -> None:
    for path in ("/", "/client"):
        page = httpx.get(server.url + path, headers={"Accept": "text/html,*/*;q=0.8"})
        assert page.headers["content-type"].startswith("text/html")
        links = re.findall(r'(?:href|src)="([^"]+)"', page.text)
        assert any(link.endswith("/js/main.js") for link in links)
        about = server.get(path).json()
        assert (about["version"], about["endpoints"]["transcribe"]) == (__version__, "/asr")
    for link in {link for link in links if link.startswith("web/")}:
        file = server.get(f"/{link}")
        assert (file.status_code, "immutable" in file.headers["cache-control"]) == (200, True), link
        version = link.split("/")[1]
    old = server.get(f"/{link.replace(version, '0' * len(version))}")  # a page of before an update
    assert (old.content, old.headers["cache-control"]) == (file.content, "no-cache")
    assert server.get(f"/web/{version}/js/none.js").status_code == 404


def test_the_documentation_comes_from_the_service_alone(server: Server) -> None:
    page = server.get("/docs").text
    links = re.findall(r"""(?:src|href|url)\s*[=:]\s*["']([^"']+)["']""", page)
    assert len(links) >= 4
    for link in links:
        absolute = urljoin(f"{server.url}/docs", link)
        assert urlsplit(absolute).netloc == urlsplit(server.url).netloc
        asset = httpx.get(absolute)
        assert asset.status_code == 200
        assert len(asset.content) > 100


def test_wrong_paths_and_methods(server: Server) -> None:
    assert refusal(server, server.get("/nothing-here"), 404)
    response = server.get("/asr")
    assert refusal(server, response, 405)
    assert response.headers["allow"] == "POST"
    assert refusal(server, httpx.post(f"{server.url}/health"), 405)


def test_a_slash_at_the_end_is_no_other_address(server: Server) -> None:
    response = server.post(ENGLISH, "/asr/", fields={"output": "json"})
    assert response.history == []
    assert json_of(response)["text"] == spoken("en_short")
    for path in ("/health/", "/v1/models/", "/v1/models/demo/", "/docs/"):
        assert server.get(path).status_code == 200
    assert refusal(server, server.get("/asr/"), 405)


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("//asr", "/asr"),
        ("/asr//", "/asr"),
        ("/v1/asr", "/asr"),
        ("/asr/asr", "/asr"),
        ("/api/detect-language", "/detect-language"),
        ("/v1/v1/audio/transcriptions", "/v1/audio/transcriptions"),
        ("/v1/audio/transcriptions/audio/transcriptions", "/v1/audio/transcriptions"),
        ("/audio/translations/", "/v1/audio/translations"),
        ("//v1//models", "/v1/models"),
        ("/models", "/v1/models"),
    ],
)
def test_a_wrong_address_is_told_the_right_one(server: Server, path: str, meant: str) -> None:
    response = httpx.post(f"{server.url}{path}", files={"file": b"x"})
    assert response.status_code == 404
    body = response.json()
    detail = body["error"]["message"] if meant.startswith("/v1") else body["detail"]
    assert detail.endswith(f"is not served here; use {meant}.")


@pytest.mark.parametrize("path", ["/", "/health", "/ready", "/v1/models"])
def test_head_is_get_without_a_body(server: Server, path: str) -> None:
    full, head = server.get(path), httpx.head(server.url + path)
    assert head.status_code == full.status_code
    assert head.headers.get("content-type") == full.headers.get("content-type")
    assert head.content == b""


@pytest.mark.parametrize(("path", "allow"), [("/asr", "POST"), ("/health", "GET"), ("/x", None)])
def test_options_says_what_is_allowed(server: Server, path: str, allow: str | None) -> None:
    response = httpx.options(server.url + path)
    refusal(server, response, 405 if allow else 404)
    assert response.headers.get("allow") == allow


# -- full, and shutting down (the last test stops its server) ------------------------------------


@contextmanager
def half_sent_upload(server: Server) -> Iterator[tuple[http.client.HTTPConnection, bytes]]:
    """A request that holds its place in the queue, and the rest of its body."""
    head = b'--frontier\r\nContent-Disposition: form-data; name="audio_file"; filename="a.flac"'
    body = head + b"\r\n\r\n" + ENGLISH.read_bytes() + b"\r\n--frontier--\r\n"
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=60)
    connection.putrequest("POST", "/asr?output=json")
    connection.putheader("Content-Type", "multipart/form-data; boundary=frontier")
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders()
    connection.send(body[:5000])
    eventually(lambda: server.get("/health").json()["requests"] == 1)
    try:
        yield connection, body[5000:]
    finally:
        connection.close()


def test_a_full_queue(other_server: Server) -> None:
    with half_sent_upload(other_server) as (first, rest):
        response = other_server.post(ENGLISH)
        assert "queue" in refusal(other_server, response, 503)
        assert int(response.headers["retry-after"]) >= 1
        # Bazarr reads the code first; without one, it believes for good that there is no language
        body = other_server.post(ENGLISH, "/detect-language/").json()
        assert "queue" in body["detail"]
        assert body["language_code"]
        assert "detected_language" not in body
        first.send(rest)
        answer = first.getresponse()
        assert answer.status == 200
        assert json.loads(answer.read())["text"] == spoken("en_short")
    assert other_server.post(ENGLISH).status_code == 200


def enter(admission: Admission) -> AbstractContextManager[Ticket]:
    return admission.enter("transcription", Work("request", 60))


def test_when_to_come_back_follows_how_long_requests_take() -> None:
    now_s = 0.0
    admission = Admission(2, clock=lambda: now_s)
    waits = []
    for seconds in (0.1, 0.1, 100.0, 100.0, 100.0):
        with enter(admission):
            with enter(admission), pytest.raises(Overloaded) as caught, enter(admission):
                pass
            waits.append(caught.value.retry_after_s or 0)
            now_s += seconds
    assert all(wait >= 1 for wait in waits)
    assert waits[-1] > 2 * min(waits)
    assert admission.num_requests == 0


def test_nobody_is_let_in_while_shutting_down() -> None:
    admission = Admission(2)
    admission.close()
    with pytest.raises(ShuttingDown) as caught, enter(admission):
        pass
    response = error_response(caught.value, {"type": "http", "path": "/asr"})
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) >= 1
    assert json.loads(bytes(response.body)) == {"detail": STOPPING}


def wait_until_closed(server: Server) -> None:
    """Until no new connection is taken."""

    def closed() -> bool:
        try:
            server.get("/health")
        except httpx.TransportError:
            return True
        return False

    eventually(closed)


def test_a_request_that_was_let_in_is_served_before_the_service_stops(other_server: Server) -> None:
    with half_sent_upload(other_server) as (first, rest):
        other_server.process.send_signal(signal.SIGTERM)
        wait_until_closed(other_server)
        first.send(rest)
        answer = first.getresponse()
        assert answer.status == 200
        assert json.loads(answer.read())["text"] == spoken("en_short")
    other_server.process.wait(60)
    assert other_server.temp_files() == []
