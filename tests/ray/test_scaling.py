"""As many transcribers as the audio needs: those who ask notice nothing but a wait."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from tests.support.fleet import replicas, running_fleet
from tests.support.server import Server
from tests.support.truth import audio_of, said_in, word_error_rate
from tests.support.waiting import eventually

SHORT, LONG = audio_of("en_short"), audio_of("en_two_b")
SCALING = {
    "FLEET_FRONTS": 1,
    "FLEET_MIN_TRANSCRIBERS": 0,
    "FLEET_MAX_TRANSCRIBERS": 2,
    "FLEET_TARGET_AUDIO_SECONDS": 60,
    "FLEET_SCALE_DOWN_SECONDS": 5,
}
BURST = 40  # more audio than one transcriber may have waiting until another one has started
PATIENCE_S = 900.0  # each step takes at most two minutes on a machine that does nothing else
STEADY_S = 45.0  # far more than fewer must be enough before one is ended


def number(fleet: Server) -> int:
    return len(replicas(fleet, "Transcriber"))


def post(fleet: Server, audio: Path) -> httpx.Response:
    return fleet.post(audio, output="json", timeout_s=PATIENCE_S)


def check(audio: Path, answer: httpx.Response) -> None:
    assert answer.status_code == 200, answer.text
    assert word_error_rate(said_in(audio.stem), answer.json()["text"]) <= 0.05


def test_transcribers_come_and_go_with_the_audio(tmp_path: Path) -> None:
    with running_fleet(tmp_path / "fleet", **SCALING) as fleet:
        assert number(fleet) == 0
        check(SHORT, post(fleet, SHORT))
        assert number(fleet) == 1
        eventually(lambda: number(fleet) == 0, PATIENCE_S)  # nobody uses them
        with ThreadPoolExecutor(BURST) as pool:
            asked = [pool.submit(post, fleet, LONG) for _ in range(BURST)]
            eventually(lambda: number(fleet) == 2, PATIENCE_S)
            for future in asked:
                check(LONG, future.result())
        assert fewest_under_steady_load(fleet) == 2
        eventually(lambda: number(fleet) < 2, PATIENCE_S)
        check(SHORT, post(fleet, SHORT))


def fewest_under_steady_load(fleet: Server) -> int:
    """Transcribers while both have something to do all the time, but hardly any audio waits."""
    over = threading.Event()

    def call() -> None:
        while not over.is_set():
            check(LONG, post(fleet, LONG))

    with ThreadPoolExecutor(2) as pool:
        callers = [pool.submit(call) for _ in range(2)]
        fewest = number(fleet)
        until = time.monotonic() + STEADY_S
        while time.monotonic() < until:
            fewest = min(fewest, number(fleet))
            time.sleep(1)
        over.set()
        for caller in callers:
            caller.result()
    return fewest
