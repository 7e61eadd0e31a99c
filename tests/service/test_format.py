"""POST /format: a transcript that was corrected elsewhere, written by the service's own writers."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import httpx
import pytest
import srt

from app.api.asr.parameters import OUTPUTS
from app.api.format.router import MAX_UNDER_WAY
from tests.support.forms import connect
from tests.support.server import Server
from tests.support.truth import audio_of
from tests.support.waiting import eventually

NAME = "Gespräch <1>.flac"


@pytest.fixture(scope="module")
def task_id(server: Server) -> str:
    files = {"file": (NAME, audio_of("en_two_b").read_bytes())}
    fields = {"model": "demo", "metadata": '{"case": 7}'}
    response = httpx.post(f"{server.url}/transcribe", files=files, data=fields)
    task = str(response.json()["task_id"])
    eventually(lambda: server.get(f"/status/{task}").json()["status"] == "done", 300)
    return task


def written(server: Server, body: Any, **query: str) -> httpx.Response:
    given = {"content": body} if isinstance(body, bytes) else {"json": body}
    return httpx.post(f"{server.url}/format", params=query, timeout=60, **given)


def test_a_result_is_written_as_the_service_writes_it(server: Server, task_id: str) -> None:
    body = server.get(f"/result/{task_id}").json()
    for output in OUTPUTS:
        expected = server.get(f"/result/{task_id}?format={output}")
        answer = written(server, body, output=output)
        assert answer.status_code == 200, answer.text
        assert answer.content == expected.content
        assert answer.headers["content-type"] == expected.headers["content-type"]
        assert "Gespr%C3%A4ch" in answer.headers["content-disposition"]
    wide = server.get(f"/result/{task_id}?format=srt&max_line_width=30&max_line_count=2")
    assert written(server, body, output="srt", max_line_width="30", max_line_count="2").content == (
        wide.content
    )


def test_changed_words_and_names_are_in_the_answer(server: Server, task_id: str) -> None:
    body = server.get(f"/result/{task_id}").json()
    first = body["segments"][0]
    first.update(text="Bonjour <b>", speaker="Zoë & Co", start=0.25)
    first["words"] = [{"word": "Bonjour", "start": 0.25, "end": 1.5}, {"word": "<b>"}]
    answer = written(server, {"segments": body["segments"], "extra": [1]}, output="srt")
    cue = next(iter(srt.parse(answer.text)))
    assert cue.content == "[Zoë & Co]: Bonjour <b>"
    assert [cue.start.total_seconds(), cue.end.total_seconds()] == [0.25, 1.5]


def test_who_sends_slowly_keeps_nobody_waiting(server: Server) -> None:
    body = b'{"segments": [{"start": 0, "end": 1, "text": "Slow"}]}'
    head = f"POST /format?output=txt HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    with ExitStack() as open_ones:
        slow = [open_ones.enter_context(connect(server)) for _ in range(MAX_UNDER_WAY + 1)]
        for one in slow:
            one.sendall(head.encode() + body[:9])
        for _ in range(3):
            assert written(server, body, output="txt").text.strip() == "Slow"
        slow[-1].sendall(body[9:])
        assert slow[-1].recv(15) == b"HTTP/1.1 200 OK"


WORD = {"word": "a"}
SEGMENT = {"start": 0, "end": 1, "text": "a"}
REFUSED: dict[str, tuple[Any, dict[str, str], int, str]] = {
    "no JSON": (b"{", {}, 400, "JSON"),
    "half a character": (b'{"segments": [], "model": "\\ud800"}', {}, 400, "JSON"),
    "deep": (b'{"segments": [], "metadata": ' + b"[" * 100_000, {}, 400, "JSON"),
    "no object": ([], {}, 422, "object"),
    "no segments": ({}, {}, 422, "segments: required"),
    "no text": ({"segments": [{"start": 0, "end": 1}]}, {}, 422, "segments[0].text: required"),
    "no time": ({"segments": [{**SEGMENT, "end": -1}]}, {}, 422, "segments[0].end: "),
    "infinite": (b'{"segments": [{"start": 1e999, "end": 1, "text": ""}]}', {}, 422, "start"),
    "no word": ({"segments": [{**SEGMENT, "words": [{}]}]}, {}, 422, "segments[0].words[0].word"),
    "misplaced words": (
        {"segments": [{**SEGMENT, "words": [{"word": "b"}] * 1001}]}, {}, 422, "segments: ",
    ),
    "words without end": ({"segments": [{**SEGMENT, "words": [WORD] * 300_001}]}, {}, 422, "words"),
    "locale": ({"segments": [], "language": "en@lw=x"}, {}, 422, "language: "),
    "large metadata": ({"segments": [], "metadata": {"a": "b" * 20_000}}, {}, 422, "metadata: "),
    "format": ({"segments": []}, {"output": "docx"}, 422, "output: "),
    "size": (b" " * (17 << 20), {}, 413, "larger"),
    "highlighting a book": (
        {"segments": [{**SEGMENT, "text": "a " * 20_000, "words": [WORD] * 20_000}]},
        {"output": "srt", "highlight_words": "true"}, 422, "highlight_words: ",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("body", "query", "status", "said"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_refused(
    server: Server, body: Any, query: dict[str, str], status: int, said: str
) -> None:
    answer = written(server, body, **query)
    assert (answer.status_code, said in answer.json()["detail"]) == (status, True), answer.text
    assert len(answer.content) < 500
    assert written(server, {"segments": [SEGMENT]}, output="txt").text == "a\n"
