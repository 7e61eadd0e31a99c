"""A new configuration replaces all replicas, one after the other; nobody who asks notices."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil

from tests.support.fleet import replica_names
from tests.support.media import speech
from tests.support.server import Server
from tests.support.streams import stream
from tests.support.truth import audio_of, said_in, truth_of, word_error_rate
from tests.support.waiting import eventually

SHORT, LONG = audio_of("en_short"), audio_of("en_two_b")
CALLERS = 4
UPDATE_S = 600.0  # a minute on a machine that does nothing else


def test_an_update_loses_no_request_and_no_stream(fleet: Server) -> None:
    before, updated = replica_names(fleet), threading.Event()
    assert len(before) == 4

    def call(caller: int) -> list[tuple[Path, httpx.Response]]:
        """One request after the other, every fourth a long one."""
        answers = []
        while not updated.is_set():
            audio = LONG if (caller + len(answers)) % 4 == 0 else SHORT
            answers.append((audio, fleet.post(audio, output="json", timeout_s=UPDATE_S)))
        return answers

    sound = speech("en_mono")
    with ThreadPoolExecutor(CALLERS + 1) as pool, stream(fleet, language="en") as client:
        client.say(sound[: len(sound) // 2])
        callers = [pool.submit(call, i) for i in range(CALLERS)]
        try:
            updating = pool.submit(update, fleet, FLEET_TARGET_AUDIO_SECONDS="500")
            # The front that has the stream may be the first to go: then no other one comes before.
            eventually(lambda: replica_names(fleet) - before, UPDATE_S)
            client.say(sound[len(sound) // 2 :])
            assert client.end(UPDATE_S)[-1] == {"status": "ended"}
            updating.result()
            eventually(
                lambda: len(replica_names(fleet)) == 4 and not replica_names(fleet) & before,
                UPDATE_S,
            )
        finally:
            updated.set()
        answers = [answer for caller in callers for answer in caller.result()]
    assert len(answers) >= 2 * CALLERS
    for audio, answer in answers:
        assert answer.status_code == 200, answer.text
        assert word_error_rate(said_in(audio.stem), answer.json()["text"]) <= 0.05
    words = (word["word"] for word in truth_of("en_mono")["words"])
    assert word_error_rate(words, client.text()) <= 0.05


def update(fleet: Server, **settings: str) -> None:
    """As an operator does it, by Ray's own command and the environment of the nodes. Returns once
    all replicas are new.
    """
    command = [str(Path(sys.executable).with_name("serve")), "run", "--non-blocking"]
    place = ["--address", "auto", "--name", "whisperx-asr", "--route-prefix", "/"]
    arguments = [f"{name}={value}" for name, value in settings.items()]
    done = subprocess.run(
        [*command, *place, "app.serving.ray:application", *arguments],
        cwd=fleet.folder,
        env=psutil.Process(fleet.process.pid).environ(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=UPDATE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
