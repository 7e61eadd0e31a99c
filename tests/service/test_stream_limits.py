"""/stream behind keys and limits, with models that break, and when the service ends."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import InvalidStatus

from tests.support.keys import ALICE, BOB, NAMELESS, PAGE, bearer
from tests.support.media import speech
from tests.support.paths import ROOT
from tests.support.server import Server, running_server
from tests.support.streams import event, in_real_time, status, stream
from tests.support.truth import normalize, truth_of, word_error_rate
from tests.support.waiting import eventually

SHORT, MONO = speech("en_short"), speech("en_mono")
SECOND = np.zeros(16_000, np.float32)
SAID = ["can", "you", "check", "the", "report", "the", "building", "is", "late"]
SUBPROTOCOL = "openai-insecure-api-key."
SESSION_S = 25


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("limits")
    keys = folder / "keys"  # the script reads the environment before the service does
    keys.write_text(f"alice:{ALICE}\nbob:{BOB}\ncarol:{NAMELESS}\n")
    with running_server(
        folder,
        script=ROOT / "tests" / "support" / "faulty_server.py",
        API_KEYS_FILE=keys,
        OPS_REQUIRE_KEY="false",
        CORS_ORIGINS=PAGE,
        ROOT_PATH="/x",
        LIVE_MAX_STREAMS=3,
        LIVE_MAX_STREAMS_PER_CLIENT=2,
        LIVE_IDLE_TIMEOUT_SECONDS=4,
        LIVE_MAX_SESSION_SECONDS=SESSION_S,
        RATE_LIMIT_AUDIO_MINUTES_PER_HOUR=1,
    ) as running:
        yield running


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Without limits: a machine may take its time."""
    script = ROOT / "tests" / "support" / "faulty_server.py"
    with running_server(tmp_path_factory.mktemp("faulty"), script=script, JOBS="false") as running:
        yield running


def refusal(server: Server, path: str = "/stream", **handshake: object) -> tuple[int, str]:
    """Status and body of a handshake that is refused."""
    with pytest.raises(InvalidStatus) as caught, stream(server, path, **handshake):
        pass
    response = caught.value.response
    return response.status_code, (response.body or b"").decode()


@pytest.mark.parametrize("path", ["/stream", "/stream/", "/x/stream", "/x/stream/"])
def test_keys_at_all_addresses(server: Server, path: str) -> None:
    assert refusal(server, path)[0] == 401
    assert refusal(server, path, headers=bearer("wrong"))[0] == 401
    with stream(server, path, headers=bearer(ALICE)) as client:
        client.wait(status("connected"))
        client.end()


def test_a_key_in_the_subprotocol(server: Server) -> None:
    assert refusal(server, subprotocols=[SUBPROTOCOL + "wrong"])[0] == 401
    with stream(server, subprotocols=["realtime", SUBPROTOCOL + BOB]) as client:
        client.wait(status("connected"))
        client.end()


def test_pages_of_other_origins(server: Server) -> None:
    keyed = bearer(ALICE)
    code, body = refusal(server, headers={**keyed, "Origin": "https://evil.example"})
    assert code == 403
    assert "CORS_ORIGINS" in body
    for origin in (PAGE, server.url):
        with stream(server, headers={**keyed, "Origin": origin}) as client:
            client.wait(status("connected"))
            client.end()


def test_too_many_streams(server: Server) -> None:
    mine, others = {"headers": bearer(ALICE)}, {"headers": bearer(BOB)}
    with stream(server, **mine), stream(server, **mine):
        code, body = refusal(server, **mine)
        assert code == 503
        assert "You have too many" in body
        with stream(server, **others):
            code, body = refusal(server, **others)
            assert code == 503
            assert "Too many live streams" in body
    eventually(lambda: not _streams(server))
    with stream(server, **mine) as client:
        client.wait(status("connected"))


def _streams(server: Server) -> str:
    text = server.get("/x/metrics").text
    [line] = [x for x in text.splitlines() if x.startswith("whisperx_asr_live_streams ")]
    return line.rpartition(" ")[2].removesuffix(".0").replace("0", "")


@pytest.mark.parametrize("sound", [SECOND[:0], SHORT], ids=["nothing", "some words"])
def test_a_client_that_falls_silent_is_told_what_it_said(server: Server, sound: Any) -> None:
    with stream(server, headers=bearer(ALICE), language="en") as idle:
        idle.say(sound)
        assert idle.closed() == 1008
        assert "Nothing was sent" in idle.wait(status("error"))["message"]
        assert normalize(idle.text()) == (SAID if len(sound) else [])


def test_live_sound_counts_for_the_rate_limit(server: Server) -> None:
    with stream(server, headers=bearer(NAMELESS)) as client:
        client.say(np.zeros(16_000 * 45, np.float32), 16_000)
        client.end()
    with stream(server, headers=bearer(NAMELESS), language="en") as client:
        client.say(np.concatenate([SHORT, np.zeros(16_000 * 40, np.float32)]), 16_000)
        assert client.closed() == 1013
        assert "minute" in client.wait(status("error"))["message"]
        assert normalize(client.text()) == SAID  # it was charged


def test_a_model_that_dies_is_loaded_again(faulty: Server) -> None:
    with stream(faulty, language="en", hotwords="exit", events=True) as client:
        client.say(np.concatenate([SHORT[: 16_000 * 2], SECOND]))
        client.wait(status("error"))
        client.command("config", config={"hotwords": ""})
        client.wait(lambda m: m.get("event") == "final" or "unloaded" in m.get("message", ""))
        client.say(np.concatenate([SHORT, SECOND]))
        client.end()
    assert normalize(client.all(event("final"))[-1]["text"]) == SAID
    assert client.code == 1000


def test_a_batch_that_breaks(faulty: Server) -> None:
    with stream(faulty, language="en", hotwords="broken") as client:
        client.say(np.concatenate([SHORT[: 16_000 * 2], SECOND]))
        assert "secret" not in client.wait(status("error"))["message"]
        client.command("config", config={"hotwords": ""})
        client.say(np.concatenate([SHORT, SECOND]))
        client.end()
    assert normalize(client.text())[-len(SAID) :] == SAID


def test_a_stop_loses_no_word(tmp_path: Path) -> None:
    """SIGTERM while somebody speaks: what was said is transcribed, and a client that comes back
    goes on from there.
    """
    half = round(16_000 * 5.2)  # in the middle of a sentence
    with running_server(tmp_path, LIVE_MAX_SESSION_SECONDS=SESSION_S) as server:
        with stream(server, language="en", events=True) as client:
            in_real_time(client, MONO[:half])
            server.process.send_signal(signal.SIGTERM)
            assert client.closed() == 1012
        before = client.all(event("final"))
        assert client.messages[-1] == {"status": "ended"}
        words = [word for final in before for word in final["words"]]
        # the last word may be cut
        at_s = words[-2]["end"]
        server.process.wait(60)
    with (
        running_server(tmp_path) as server,
        stream(server, language="en", events=True, resume_from_s=at_s) as client,
    ):
        client.say(MONO[round(at_s * 16_000) :])
        client.end()
    after = [word for final in client.all(event("final")) for word in final["words"]]
    assert after[0]["start"] >= at_s - 0.1
    told = [word["word"] for word in [*words[:-1], *after]]
    truth = [word["word"] for word in truth_of("en_mono")["words"]]
    assert word_error_rate(truth, told) <= 0.05


def test_the_longest_session(server: Server) -> None:
    """Runs last: it only waits."""
    with stream(server, headers=bearer(BOB)) as client:
        while client.code is None and client.socket.state.name == "OPEN":
            try:
                client.say(SECOND[:1_600])
            except Exception:  # noqa: BLE001 - it was closed meanwhile
                break
            client._thread.join(1)
        assert client.closed() == 1000
