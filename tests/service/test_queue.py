"""The queue seen from outside, ids, and admission by seconds of audio."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.support.server import Server
from tests.support.truth import audio_of
from tests.support.waiting import PATIENCE_S, eventually


def wait_for(server: Server, condition: Any, timeout_s: float = PATIENCE_S) -> list[dict[str, Any]]:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        entries: list[dict[str, Any]] = server.get("/queue").json()["requests"]
        if condition(entries):
            return entries
        time.sleep(0.02)
    raise AssertionError(f"never so: {entries}")


def test_nothing_of_a_cancelled_request_stays_in_memory(piecemeal_server: Server) -> None:
    """Its recording, a file that is mapped, least of all."""
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(post_with_id, piecemeal_server, "in-memory")
        wait_for(piecemeal_server, lambda es: es and es[0]["progress"] > 0.4)
        assert piecemeal_server.mapped_audio() != []
        assert httpx.delete(f"{piecemeal_server.url}/queue/in-memory").status_code == 204
        assert answer.result().status_code == 410
    eventually(lambda: piecemeal_server.mapped_audio() == [])
    assert piecemeal_server.post(audio_of("en_short")).status_code == 200
    eventually(lambda: piecemeal_server.mapped_audio() == [])


def post_with_id(server: Server, request_id: str, name: str = "en_two") -> httpx.Response:
    return httpx.post(
        server.url + "/asr",
        files={"audio_file": ("meeting.flac", audio_of(name).read_bytes())},
        headers={"X-Request-ID": request_id},
        timeout=600,
    )


def test_a_running_request_is_listed_and_can_be_cancelled(piecemeal_server: Server) -> None:
    eventually(lambda: piecemeal_server.get("/queue").json() == {"requests": []})
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(post_with_id, piecemeal_server, "long-meeting")
        [entry] = wait_for(piecemeal_server, lambda es: es and es[0]["audio_seconds"])
        assert entry["id"] == "long-meeting"
        assert entry["kind"] == "transcription"
        assert entry["model"] == "demo"
        assert entry["audio_seconds"] == pytest.approx(66.5, abs=1)
        assert "meeting.flac" not in str(entry)
        [entry] = wait_for(piecemeal_server, lambda es: es and es[0]["progress"] > 0.2)
        assert entry["state"] == "running"
        assert 0 < entry["seconds_left"] < 300
        assert httpx.delete(f"{piecemeal_server.url}/queue/long-meeting").status_code == 204
        response = answer.result(120)
    assert response.status_code == 410
    assert "cancelled" in response.json()["detail"]
    wait_for(piecemeal_server, lambda es: es == [])
    assert httpx.delete(f"{piecemeal_server.url}/queue/long-meeting").status_code == 404
    assert piecemeal_server.post(audio_of("en_short")).status_code == 200


def test_two_requests_of_one_id_are_both_served(server: Server) -> None:
    with ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(post_with_id, server, "twin", "en_short") for _ in range(2)]
        assert [a.result(120).status_code for a in answers] == [200, 200]


@pytest.mark.parametrize("path", ["/health", "/docs", "/nowhere", "/queue"])
def test_every_answer_carries_an_id(server: Server, path: str) -> None:
    given = httpx.get(server.url + path, headers={"X-Request-ID": "abc.DEF-1_2"})
    assert given.headers["X-Request-ID"] == "abc.DEF-1_2"
    for harmful in ("", "a b", "x" * 200, 'a"b', "<script>"):
        made = httpx.get(server.url + path, headers={"X-Request-ID": harmful})
        assert made.headers["X-Request-ID"] != harmful
        assert len(made.headers["X-Request-ID"]) == 16
    refused = server.post(b"no media")
    assert refused.status_code == 400
    assert refused.headers["X-Request-ID"]
