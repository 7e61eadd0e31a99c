"""Many callers at once get what they get alone."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest

from tests.support.server import Server
from tests.support.truth import audio_of, truth_of, words_of
from tests.support.waiting import eventually

FRAME_S = 0.0205  # one alignment frame, and the rounding of both times

REQUESTS: list[tuple[str, dict[str, Any]]] = [
    ("en_short", {}),
    ("es_short", {}),
    ("en_two_b", {"num_speakers": 2}),
    ("es_mono", {}),
    ("en_mono", {"diarize": "false", "language": "en"}),
    ("es_short", {"diarize": "false", "language": "es", "hotwords": "micrófono presupuesto"}),
    ("es_short", {"task": "translate"}),
    ("en_short", {"initial_prompt": "A meeting about the budget and the contract."}),
]


def outline(body: dict[str, Any]) -> list[tuple[str, str | None]]:
    if not words_of(body):
        return [(s["text"], s.get("speaker")) for s in body["segments"]]
    return [(w["word"], w.get("speaker")) for w in words_of(body)]


def times(body: dict[str, Any]) -> np.ndarray:
    timed = words_of(body) or body["segments"]
    return np.array([(w["start"], w["end"]) for w in timed])


def test_sixteen_mixed_requests_at_once_give_what_they_give_alone(
    computing_server: Server, server: Server
) -> None:
    alone = [server.post(audio_of(name), **query).json() for name, query in REQUESTS]
    everyone = [*range(len(REQUESTS))] * 2
    with ThreadPoolExecutor(len(everyone)) as pool:
        together = list(
            pool.map(
                lambda i: computing_server.post(audio_of(REQUESTS[i][0]), **REQUESTS[i][1]),
                everyone,
            )
        )
    for i, response in zip(everyone, together, strict=True):
        assert response.status_code == 200
        body = response.json()
        assert body["language"] == alone[i]["language"]
        assert outline(body) == outline(alone[i])
        assert np.abs(times(body) - times(alone[i])).max() <= FRAME_S


def test_no_language_or_hotword_leaks_into_another_request(computing_server: Server) -> None:
    """English and Spanish, with and without hints, share batches; each hears its own."""
    wanted = [("en_short", "en"), ("es_short", "es"), ("en_mono", "en"), ("es_mono", "es")] * 4

    def ask(number: int) -> dict[str, Any]:
        name, language = wanted[number]
        query: dict[str, Any] = {"diarize": "false"}
        if number % 2:
            query["language"] = language
        if number % 3 == 0:
            query["hotwords"] = "presupuesto micrófono" if language == "en" else "budget server"
        answer: dict[str, Any] = computing_server.post(audio_of(name), **query).json()
        return answer

    with ThreadPoolExecutor(len(wanted)) as pool:
        bodies = list(pool.map(ask, range(len(wanted))))
    for (name, language), body in zip(wanted, bodies, strict=True):
        assert body["language"] == language
        spoken = [w["word"].lower() for w in truth_of(name)["words"]]
        heard = [w["word"].lower().strip(".,?!¿¡") for w in words_of(body)]
        assert heard == spoken


@pytest.mark.serial
def test_the_event_loop_is_never_blocked(computing_server: Server) -> None:
    """/health answers while a long file is transcribed. The median is held to the bar; single
    answers may be late on a machine whose cores are all busy with models, and all are later where
    something else runs there. A chunk that was decoded on the loop would take seconds.
    """
    done = threading.Event()
    delays: list[float] = []

    def watch() -> None:
        with httpx.Client() as client:
            client.get(computing_server.url + "/health")
            while not done.is_set():
                started = time.perf_counter()
                assert client.get(computing_server.url + "/health").status_code == 200
                delays.append(time.perf_counter() - started)
                time.sleep(0.02)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        assert computing_server.post(audio_of("en_two")).status_code == 200
    finally:
        done.set()
        watcher.join()
    assert len(delays) > 20
    assert np.median(delays) < 0.2


def test_a_clip_overtakes_a_long_file(piecemeal_server: Server) -> None:
    """Recognized, aligned and diarized while the long file, which came first, still runs."""

    def running() -> dict[str, float]:
        entries = piecemeal_server.get("/queue").json()["requests"]
        return {entry["id"]: entry["progress"] for entry in entries}

    long_id = "long-file"
    with ThreadPoolExecutor(1) as pool:
        long = pool.submit(
            httpx.post,
            piecemeal_server.url + "/asr",
            headers={"X-Request-ID": long_id},
            files={"audio_file": ("long.flac", audio_of("en_long").read_bytes())},
            timeout=600,
        )
        while running().get(long_id, 0) == 0:  # its speech is found, its chunks are queued
            assert not long.done()
            time.sleep(0.05)
        clip = piecemeal_server.post(audio_of("en_short"))
        assert long_id in running()
        assert clip.status_code == 200
        assert httpx.delete(f"{piecemeal_server.url}/queue/{long_id}").status_code == 204
        assert long.result().status_code == 410


def test_a_client_that_hangs_up_frees_its_place(piecemeal_server: Server) -> None:
    with pytest.raises(httpx.TimeoutException):
        httpx.post(
            piecemeal_server.url + "/asr",
            files={"audio_file": ("long.flac", audio_of("en_long").read_bytes())},
            timeout=httpx.Timeout(30, read=0.7),
        )
    eventually(lambda: piecemeal_server.get("/health").json()["requests"] == 0)
    eventually(lambda: piecemeal_server.temp_files() == [])
    assert piecemeal_server.post(audio_of("en_short")).status_code == 200
