"""Equal uploads share one computation; and spaces come before a JSON answer that takes long."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import httpx
import pytest

from tests.support.events import read_events
from tests.support.held_server import HOLD, held
from tests.support.keys import ALICE, BOB, bearer
from tests.support.paths import ROOT
from tests.support.server import Server, running_server
from tests.support.truth import audio_of, truth_of, word_error_rate
from tests.support.waiting import eventually

SCRIPT = ROOT / "tests" / "support" / "held_server.py"
LINGER_S = 60


@pytest.fixture(scope="module")
def joining(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings: dict[str, Any] = {
        "JOIN_EQUAL_UPLOADS": "true",
        "JOIN_LINGER_SECONDS": LINGER_S,
        "KEEPALIVE_BYTES": 0.3,
        "API_KEYS": f"alice:{ALICE}, bob:{BOB}",
        "RATE_LIMIT_AUDIO_MINUTES_PER_HOUR": 60,
        "LOG_FORMAT": "json",
    }
    folder = tmp_path_factory.mktemp("joining")
    with running_server(folder, script=SCRIPT, **settings) as server:
        yield server


def ask(
    server: Server,
    name: str | bytes = "en_short",
    key: str = ALICE,
    request_id: str = "",
    timeout_s: float = 300,
    hotwords: str = HOLD,
    **query: Any,
) -> httpx.Response:
    content = name if isinstance(name, bytes) else audio_of(name).read_bytes()
    return httpx.post(
        f"{server.url}/asr",
        params={"hotwords": hotwords, **query},
        files={"audio_file": ("audio.flac", content)},
        headers={**bearer(key), **({"X-Request-ID": request_id} if request_id else {})},
        timeout=timeout_s,
    )


def queue(server: Server) -> dict[str, dict[str, Any]]:
    answer = httpx.get(f"{server.url}/queue", headers=bearer(ALICE))
    return {entry["id"]: entry for entry in answer.json()["requests"]}


def cancel(server: Server, request_id: str, key: str = ALICE) -> int:
    url = f"{server.url}/queue/{request_id}"
    return httpx.delete(url, headers=bearer(key)).status_code


def audio_left(response: httpx.Response) -> int:
    return int(response.headers["RateLimit-Remaining"])


def joined(response: httpx.Response) -> bool:
    return response.headers.get("X-ASR-Joined") == "true"


def assert_text(text: str, name: str = "en_short") -> None:
    said = " ".join(sentence["text"] for sentence in truth_of(name)["sentences"])
    assert word_error_rate(said, text) == 0


async def hang_up(server: Server, request_id: str, **query: Any) -> None:
    """As a client does whose time is over, once its recording is decoded."""
    async with httpx.AsyncClient(timeout=300) as client:
        asking = asyncio.create_task(
            client.post(
                f"{server.url}/asr",
                params={"hotwords": HOLD, "output": "txt", **query},
                files={"audio_file": ("audio.flac", audio_of("en_short").read_bytes())},
                headers={**bearer(ALICE), "X-Request-ID": request_id},
            )
        )
        await asyncio.to_thread(eventually, lambda: decoded(server, request_id))
        asking.cancel()
        with suppress(asyncio.CancelledError):
            await asking
    eventually(lambda: noted(server, request_id))


def decoded(server: Server, request_id: str) -> bool:
    return bool(queue(server).get(request_id, {}).get("audio_seconds"))


def noted(server: Server, request_id: str) -> dict[str, Any] | None:
    """The log line of a request that has ended."""
    lines = [json.loads(line) for line in server.log().splitlines() if '"seconds"' in line]
    return next((line for line in lines if line.get("request_id") == request_id), None)


@contextmanager
def spaced(server: Server, request_id: str) -> Iterator[tuple[httpx.Response, Iterator[bytes]]]:
    """An answer, and its body byte by byte."""
    with (
        httpx.Client(timeout=300) as client,
        client.stream(
            "POST",
            f"{server.url}/asr",
            params={"hotwords": HOLD, "initial_prompt": request_id},
            files={"audio_file": ("audio.flac", audio_of("en_short").read_bytes())},
            headers={**bearer(ALICE), "X-Request-ID": request_id},
        ) as response,
    ):
        yield response, response.iter_raw(1)


def test_equal_uploads_are_one_computation(joining: Server) -> None:
    """Each in its own format, at the same time or later; who is cancelled does not stop it."""
    with ThreadPoolExecutor(3) as pool, held(joining.folder):
        answers: list[Future[httpx.Response]] = []
        for request_id, query in (
            ("first", {"output_format": "txt"}),
            ("second", {"output_format": "json"}),
            ("third", {"stream": "true"}),
        ):
            answers.append(pool.submit(ask, joining, request_id=request_id, **query))
            eventually(partial(decoded, joining, request_id))
        assert cancel(joining, "first", BOB) == 403
        assert cancel(joining, "first") == 204
        assert answers[0].result(60).status_code == 410
        assert set(queue(joining)) == {"second", "third"}
        (joining.folder / "open").touch()
        second, third = (answer.result(60) for answer in answers[1:])
        (joining.folder / "open").unlink()
        later = ask(joining, output_format="srt")  # nothing is computed: the gate is closed
    assert not joined(answers[0].result())
    for answer in (second, third, later):
        assert answer.status_code == 200
        assert joined(answer), answer.request.url
        assert audio_left(answer) == audio_left(second)
    assert_text(text_of(second.json()))
    told = list(read_events(third, 0.0))
    assert told[-1].name == "result"
    assert told[-1].data == second.json()
    segments = [event.data for event in told if event.name == "segment"]
    assert segments == second.json()["segments"]
    assert any(event.name == "text" for event in told)
    assert "-->" in later.text
    for request_id, has_joined in (("first", None), ("second", True), ("third", True)):
        line = noted(joining, request_id)
        assert line is not None
        assert line.get("joined") is has_joined
    metrics = httpx.get(f"{joining.url}/metrics", headers=bearer(ALICE)).text
    assert 'whisperx_asr_joined_total{endpoint="/asr"} 3.0' in metrics
    [audio_s] = re.findall(r"whisperx_asr_audio_seconds_total{.*} (.*)", metrics)
    assert float(audio_s) == pytest.approx(truth_of("en_short")["duration"], abs=0.1), "once"


def test_joining_can_be_turned_off(server: Server) -> None:
    assert not any(joined(server.post(audio_of("en_short"))) for _ in range(2))


def text_of(body: dict[str, Any]) -> str:
    return "".join(segment["text"] for segment in body["segments"])


def test_only_what_is_equal_joins(joining: Server) -> None:
    first = ask(joining, hotwords="", output="txt")
    assert not joined(first)
    assert joined(ask(joining, hotwords="", output="txt"))
    assert not joined(ask(joining, hotwords="", output="txt", key=BOB))
    assert not joined(ask(joining, hotwords="", output="txt", initial_prompt="Hello."))
    changed = audio_of("en_short").read_bytes() + b"\0"
    assert not joined(ask(joining, changed, hotwords="", output="txt"))
    for _ in range(2):
        broken = ask(joining, b"no media", output="txt")
        assert broken.status_code == 400
        assert not joined(broken)


def test_a_client_that_times_out_finds_its_transcript(joining: Server) -> None:
    with ThreadPoolExecutor(1) as pool, held(joining.folder):
        asyncio.run(hang_up(joining, "timed-out", initial_prompt="Again."))
        assert "timed-out" in queue(joining), "it goes on"
        retry = pool.submit(ask, joining, request_id="retry", initial_prompt="Again.", output="txt")
        eventually(lambda: set(queue(joining)) == {"retry"})
        (joining.folder / "open").touch()
        answer = retry.result(60)
    assert joined(answer)
    assert_text(answer.text)


def test_what_goes_on_for_nobody_can_be_cancelled(joining: Server) -> None:
    with held(joining.folder):
        asyncio.run(hang_up(joining, "given-up", initial_prompt="Never mind."))
        assert cancel(joining, "given-up", BOB) == 403
        assert cancel(joining, "given-up") == 204
    eventually(lambda: queue(joining) == {})
    assert joining.temp_files() == []
    answer = ask(joining, initial_prompt="Never mind.", output="txt")
    assert not joined(answer)
    assert_text(answer.text)


# -- KEEPALIVE_BYTES -----------------------------------------------------------------------------


def test_spaces_come_before_an_answer_that_takes_long(joining: Server) -> None:
    with held(joining.folder), spaced(joining, "slow") as (response, chunks):
        assert response.status_code == 200
        assert response.headers["Content-Type"] == "application/json"
        assert "content-length" not in response.headers
        assert "audio.flac.json" in response.headers["Content-Disposition"]
        assert [next(chunks) for _ in range(3)] == [b" "] * 3
        (joining.folder / "open").touch()
        body = b"".join(chunks)
    assert_text(text_of(json.loads(b"   " + body)))
    eventually(lambda: joining.temp_files() == [])


def test_an_error_after_the_first_space_is_in_the_body(joining: Server) -> None:
    with held(joining.folder), spaced(joining, "slow-and-cancelled") as (_, chunks):
        assert next(chunks) == b" "
        assert cancel(joining, "slow-and-cancelled") == 204
        (joining.folder / "open").touch()
        body = json.loads(b"".join(chunks))
    assert body == {"detail": "The request was cancelled.", "status": 410}
    at_once = ask(joining, b"no media")
    assert at_once.status_code == 400, "before the first space, each error has its own status"


def test_a_client_that_hangs_up_between_spaces_leaves_nothing(joining: Server) -> None:
    with held(joining.folder):
        with spaced(joining, "gone") as (_, chunks):
            assert next(chunks) == b" "
        eventually(lambda: noted(joining, "gone"))
        assert cancel(joining, "gone") == 204  # it lingers, as it might be tried again
    eventually(lambda: queue(joining) == {})
    eventually(lambda: joining.temp_files() == [])
    assert_text(ask(joining, hotwords="", output="txt").text)
