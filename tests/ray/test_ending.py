"""SIGTERM: what runs ends first, and nothing else begins."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from app.serving import ray_ending
from app.serving.ray_ending import Signals, Stopped, drain
from tests.support.media import speech
from tests.support.server import Server
from tests.support.streams import event, stream
from tests.support.truth import audio_of, truth_of, word_error_rate
from tests.support.waiting import eventually

RECOVERY_S = 600.0  # what runs ends within seconds on a machine that does nothing else


@pytest.mark.ends_the_fleet
def test_a_request_and_a_stream_end_before_the_service(fleet: Server) -> None:
    sound = speech("en_mono")
    with ThreadPoolExecutor(1) as pool, stream(fleet, language="en", events=True) as client:
        client.say(sound)
        asked = pool.submit(fleet.post, audio_of("en_long"), output="json")
        eventually(lambda: len(queue(fleet.url)) == 2 or asked.done(), RECOVERY_S)
        assert not asked.done()
        client.wait(event("speech_started"), patience_s=RECOVERY_S)
        fleet.process.send_signal(signal.SIGTERM)
        assert client.closed(RECOVERY_S) == 1012  # as without Ray: come back
        answer = asked.result()
    assert fleet.process.wait(RECOVERY_S) == 0
    # what was on its way to the front is said again by a client that goes on from here
    finals = client.all(event("final"))
    heard = [word["word"] for final in finals for word in final["words"]]
    said = [word for word in truth_of("en_mono")["words"] if word["end"] <= finals[-1]["end"]]
    assert word_error_rate([word["word"] for word in said], heard) <= 0.1
    assert answer.status_code == 200, answer.text
    wanted = [word["word"] for word in truth_of("en_long")["words"]]
    assert word_error_rate(wanted, answer.json()["text"]) <= 0.05


def queue(url: str) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = httpx.get(url + "/queue", timeout=60).json()["requests"]
    return entries


def test_a_signal_ends_the_start_too_and_a_second_one_the_waiting() -> None:
    before = {sig: signal.getsignal(sig) for sig in (signal.SIGTERM, signal.SIGINT)}
    try:
        starting, running = Signals(), Signals()
        starting.handle()
        with pytest.raises(Stopped):
            os.kill(os.getpid(), signal.SIGTERM)
        running.handle()
        running.started()
        os.kill(os.getpid(), signal.SIGTERM)
        assert running.stopping.wait(60)
        assert not running.hurried.is_set()
        os.kill(os.getpid(), signal.SIGINT)
        assert running.hurried.wait(60)
    finally:
        for sig, handler in before.items():
            signal.signal(sig, handler)


class Fronts:
    """Answer so, one time after the other; the last answers ever again."""

    def __init__(self, *answers: list[int]) -> None:
        self.answers = list(answers)

    def broadcast(self, method: str) -> SimpleNamespace:
        assert method == "drain"
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return SimpleNamespace(results=lambda **_: found)


def test_draining_ends_once_nothing_runs_or_nobody_answers(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("POLL_S", "ANSWER_S"):
        monkeypatch.setattr(ray_ending, name, 0.01)
    fronts = Fronts([1, 2], [0, 1], [0, 0])
    drain(fronts, 60.0, threading.Event())
    assert fronts.answers == [[0, 0]]
    assert not caplog.records
    monkeypatch.setattr(ray_ending, "SILENCE_S", 0.05)
    drain(Fronts([]), 60.0, threading.Event())
    drain(Fronts([1]), 0.05, threading.Event())
    assert [record.getMessage() for record in caplog.records] == [
        "requests are still running, and are cut off"
    ] * 2
    hurried = threading.Event()
    hurried.set()
    drain(Fronts([1]), 60.0, hurried)
