"""The reference of the live benchmark: the same weights, one lock and no batches, as elsewhere.

`python -m benchmarks.one_lock --port 9100` serves /stream to the benchmark's player. Each stream
has a thread. Once a second of new sound is there, it takes the lock, has faster-whisper transcribe
what is not settled yet, and tells the words that two transcripts in a row agree on.

Source: LocalAgreement-2 with the defaults of whisper_streaming (Macháček et al. 2023): steps of 1 s
(more if it is late: all sound that has come), beam 5, words with times, trimmed at the end of a
segment beyond 15 s, the last 200 letters before that as the prompt. One thing is better here: the
words of a stream that ends are heard once more.
"""

from __future__ import annotations

import argparse
import json
import os
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import numpy as np
from faster_whisper import WhisperModel
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve

from app.domain.transcript import SAMPLE_RATE, Samples

STEP_S = 1.0
TRIM_S = 15.0
PROMPT_CHARS = 200
BEAM = 5
OVERLAP_S = 0.1  # of new words with committed ones
NEAR_S = 1.0  # words so near to the last committed one may repeat it
MOST_REPEATED = 5


@dataclass(frozen=True, slots=True)
class Heard:
    text: str
    start_s: float
    end_s: float

    @property
    def key(self) -> str:
        return "".join(filter(str.isalnum, self.text.casefold()))


@dataclass
class Agreement:
    """The words of a stream, with its times."""

    committed: list[Heard] = field(default_factory=list)
    last: list[Heard] = field(default_factory=list)

    @property
    def committed_s(self) -> float:
        return self.committed[-1].end_s if self.committed else 0.0

    def hear(self, words: list[Heard]) -> list[Heard]:
        """The words that this transcript and the one before share, after the committed ones."""
        new = self._without_repeated([w for w in words if w.start_s > self.committed_s - OVERLAP_S])
        same = 0
        while same < min(len(new), len(self.last)) and new[same].key == self.last[same].key:
            same += 1
        self.committed += new[:same]
        self.last = new[same:]
        return new[:same]

    def _without_repeated(self, new: list[Heard]) -> list[Heard]:
        if not new or abs(new[0].start_s - self.committed_s) > NEAR_S:
            return new
        for size in range(1, min(MOST_REPEATED, len(new), len(self.committed)) + 1):
            if [w.key for w in self.committed[-size:]] == [w.key for w in new[:size]]:
                return new[size:]
        return new


class Listener:
    """One stream: what of its sound is not settled, and its words."""

    def __init__(self, model: WhisperModel, lock: threading.Lock) -> None:
        self._model = model
        self._lock = lock
        self._sound = np.zeros(0, np.float32)
        self._begin_s = 0.0
        self.agreement = Agreement()

    def add(self, samples: Samples) -> None:
        self._sound = np.concatenate([self._sound, samples])

    def listen(self) -> list[Heard]:
        """The words that became certain."""
        before = [w.text for w in self.agreement.committed if w.end_s <= self._begin_s]
        with self._lock:
            segments, _ = self._model.transcribe(
                self._sound,
                language="en",
                beam_size=BEAM,
                word_timestamps=True,
                initial_prompt="".join(before)[-PROMPT_CHARS:] or None,
            )
            found = list(segments)
        words = [
            Heard(word.word, self._begin_s + word.start, self._begin_s + word.end)
            for segment in found
            for word in segment.words or ()
        ]
        committed = self.agreement.hear(words)
        self._trim([self._begin_s + segment.end for segment in found])
        return committed

    def _trim(self, ends: list[float]) -> None:
        if len(self._sound) <= TRIM_S * SAMPLE_RATE:
            return
        settled = [end_s for end_s in ends[:-1] if end_s <= self.agreement.committed_s]
        until_s = settled[-1] if settled else self.agreement.committed_s
        cut = max(0, round((until_s - self._begin_s) * SAMPLE_RATE))
        self._sound, self._begin_s = self._sound[cut:], self._begin_s + cut / SAMPLE_RATE


def _json(words: list[Heard]) -> list[dict[str, Any]]:
    return [{"word": w.text.strip(), "start": w.start_s, "end": w.end_s} for w in words]


def converse(socket: ServerConnection, model: WhisperModel, lock: threading.Lock) -> None:
    """Serve one stream until its client ends it."""
    listener, new, ended = Listener(model, lock), 0, False

    def tell(committed: list[Heard], tentative: list[Heard]) -> None:
        told = {"committed": _json(committed), "tentative": _json(tentative)}
        socket.send(json.dumps({"event": "partial", "utterance": 1, **told}))

    socket.recv()  # the configuration
    while not ended:
        wait_s: float | None = None if new < STEP_S * SAMPLE_RATE else 0
        try:
            message = socket.recv(wait_s)
        except TimeoutError:  # all that has come is here
            tell(listener.listen(), listener.agreement.last)
            new = 0
            continue
        if isinstance(message, str):
            ended = json.loads(message).get("command") == "end"
        else:
            samples = np.frombuffer(message, "<f4")
            new += len(samples)
            listener.add(samples)
    last = [*listener.listen(), *listener.agreement.last]
    tell(last, [])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    model = WhisperModel(
        os.environ["ASR_MODEL"],
        device=os.environ.get("DEVICE") or "auto",
        compute_type=os.environ.get("COMPUTE_TYPE") or "int8",
        cpu_threads=int(os.environ.get("CPU_THREADS") or 0) or len(os.sched_getaffinity(0)),
    )
    lock = threading.Lock()
    list(model.transcribe(np.zeros(SAMPLE_RATE, np.float32), language="en")[0])  # warms up

    def ready(socket: ServerConnection, request: Request) -> Response | None:
        return socket.respond(HTTPStatus.OK, "ready") if request.path == "/ready" else None

    def serve_one(socket: ServerConnection) -> None:
        with suppress(ConnectionClosed):
            converse(socket, model, lock)

    with serve(serve_one, "127.0.0.1", port, process_request=ready, max_queue=None) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
