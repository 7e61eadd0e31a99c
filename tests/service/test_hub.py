"""A service whose hub is away, and comes back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.hasty_server import INTERVAL_S
from tests.support.hub import Hub as FakeHub
from tests.support.hub import fill
from tests.support.paths import DEMO, ROOT
from tests.support.ports import free_port
from tests.support.server import Server, running_server
from tests.support.truth import audio_of, words_of
from tests.support.waiting import eventually

PROGRAM = (str(ROOT / "tests" / "support" / "hasty_server.py"),)
HUB_TIMEOUT_S = 12.0  # what nobody but the first may wait for


@pytest.fixture(scope="module")
def away(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, FakeHub]]:
    """A service whose Spanish aligner, second recognizer and diarizer are on a hub; English and its
    models are here.
    """
    folder = tmp_path_factory.mktemp("away")
    hub = fill(FakeHub(free_port()), folder / "hub")
    settings = {
        "HF_HUB_OFFLINE": "0",
        "HF_ENDPOINT": hub.url,
        "HUB_TIMEOUT_SECONDS": HUB_TIMEOUT_S,
        "ALLOWED_MODELS": "demo,owner/whisper",
        "ALIGN_MODELS": f'{{"es": "owner/align", "en": "{DEMO / "align"}"}}',
        "DIARIZATION_MODEL": "owner/diarization",
        "PRELOAD_MODEL": "demo",
    }
    with running_server(folder / "service", program=PROGRAM, **settings) as server:
        yield server, hub


def spanish(server: Server, **query: Any) -> tuple[httpx.Response, float]:
    return timed(server, "es_short", language="es", diarize="false", **query)


def timed(server: Server, name: str, **query: Any) -> tuple[httpx.Response, float]:
    started = time.monotonic()
    response = server.post(audio_of(name), output="json", **query)
    return response, time.monotonic() - started


def errors_of(server: Server) -> list[str]:
    return [line for line in server.log().splitlines() if " [error" in line or "Traceback" in line]


def test_a_start_without_a_hub(away: tuple[Server, FakeHub]) -> None:
    """The preloaded model is here; what is missing beside it is named."""
    server, _ = away
    assert server.get("/ready").status_code == 200
    eventually(lambda: len(server.get("/health").json()["degraded"]) == 1)
    [line] = server.get("/health").json()["degraded"]
    assert line.startswith("The diarizer diarization is missing: the model hub cannot be reached.")


def test_a_request_without_its_aligner_holds_up_nobody(away: tuple[Server, FakeHub]) -> None:
    """While the hub hangs: the request itself, a stranger's beside it, and those after it."""
    server, hub = away
    _, usual_s = timed(server, "en_short", language="en", diarize="false")
    before = len(errors_of(server))
    hub.mode = "hang"
    with hub, ThreadPoolExecutor(1) as pool:
        first = pool.submit(spanish, server)
        eventually(lambda: bool(hub.requests))
        stranger, stranger_s = timed(server, "en_short", language="en", diarize="false")
        assert stranger.status_code == 200
        assert not first.done(), "the stranger was to come in between"
        assert stranger_s < usual_s + HUB_TIMEOUT_S
        response, seconds = first.result(120)
        assert response.status_code == 200
        assert response.json()["segments"]
        assert response.json()["warnings"]
        assert seconds < 2 * HUB_TIMEOUT_S + usual_s, "it was waited for twice"
        for _ in range(3):
            response, seconds = spanish(server)
            assert response.json()["warnings"]
            assert seconds < usual_s + HUB_TIMEOUT_S

        def degraded() -> list[str]:
            found: list[str] = server.get("/health").json()["degraded"]
            return [line for line in found if line.startswith("The aligner es is missing: ")]

        eventually(degraded)
    print(f"usual {usual_s:.2f} s, stranger {stranger_s:.2f} s, after it {seconds:.2f} s")
    errors = errors_of(server)[before:]
    assert len([line for line in errors if "loading the aligner es failed" in line]) == len(errors)
    assert 1 <= len(errors) <= 2  # the second where an interval ran out in between


@pytest.mark.parametrize(("status", "said"), [(401, "HF_TOKEN"), (403, "licence")])
def test_a_gated_recognizer(away: tuple[Server, FakeHub], status: int, said: str) -> None:
    server, hub = away
    hub.mode = status
    time.sleep(INTERVAL_S * 2)  # whatever another test left must be over
    with hub:
        response, seconds = timed(server, "en_short", model="owner/whisper", diarize="false")
        assert response.status_code == 503
        assert said in response.json()["detail"]
        assert "/" not in response.json()["detail"]
        assert int(response.headers["Retry-After"]) >= INTERVAL_S
        assert seconds < 3 * HUB_TIMEOUT_S
        assert timed(server, "en_short", diarize="false")[0].status_code == 200


def test_it_recovers_by_itself(away: tuple[Server, FakeHub]) -> None:
    """Once the hub works again, all are had, and nothing is degraded any more."""
    server, hub = away
    hub.mode = "serve"
    with hub:

        def complete() -> bool:
            aligned, _ = spanish(server)
            diarized, _ = timed(
                server, "en_short", language="en", model="owner/whisper", diarize="true"
            )
            return (
                diarized.status_code == 200
                and "warnings" not in aligned.json()
                and "warnings" not in diarized.json()
            )

        eventually(complete, patience_s=180)
        eventually(lambda: server.get("/health").json()["degraded"] == [])
    # and goes without the hub
    response, _ = spanish(server)
    assert "warnings" not in response.json()
    assert all(word["start"] < word["end"] for word in words_of(response.json()))


def test_preloading_what_no_hub_gives_fails_fast_and_goes_on_trying(tmp_path: Path) -> None:
    hub = fill(FakeHub(free_port()), tmp_path / "hub")
    failed = "loading the recognizer owner/whisper failed"
    log = tmp_path / "service" / "log"
    settings = {
        "HF_HUB_OFFLINE": "0",
        "HF_ENDPOINT": hub.url,
        "ALLOWED_MODELS": "owner/whisper",
        "ASR_MODEL": "owner/whisper",
        "PRELOAD_MODEL": "owner/whisper",
        "ALIGN_MODELS": f'{{"en": "{DEMO / "align"}"}}',
        "DIARIZATION_MODEL": "demo",
    }

    def open_later() -> None:
        eventually(lambda: log.is_file() and failed in log.read_text(), patience_s=250)
        hub.__enter__()

    with ThreadPoolExecutor(1) as pool:
        opening = pool.submit(open_later)  # the start waits for the hub
        with running_server(tmp_path / "service", program=PROGRAM, **settings) as server:
            opening.result()
            assert timed(server, "en_short", diarize="false")[0].status_code == 200
            assert 1 <= len(errors_of(server)) <= 2
            eventually(lambda: server.get("/health").json()["degraded"] == [])
    hub.__exit__(None, None, None)
