"""A service under mixed load for as long as you like: what it answers, and what it keeps.

`python -m tests.support.soak --minutes 30` (`make soak`). Callers send clips, conversations,
damaged files and nonsense, hang up and cancel, in rounds; between two rounds the service is at rest
and is looked at. At rest there may be no queue entry, no temporary file and no mapped audio, and as
many processes, threads and open files as a few callers need, however long it ran. Resident memory
is that of the server and its children, read at rest, once freed blocks have gone back to the
kernel, after the warm-up; its growth is the slope through these points (Theil-Sen: the median of
the slopes of all pairs) times the time.
"""

from __future__ import annotations

import argparse
import random
import signal
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import httpx
import psutil

from tests.support.corpus import mutants
from tests.support.server import Server, running_server
from tests.support.truth import audio_of

COMMAND = ("-m", "tests.support.trimming_server")
CALLERS = 6
WARM_UP = 1 / 3  # of the rounds
MB = 1 << 20
CLIPS = ("en_short", "es_short")
CONVERSATIONS = ("en_two", "es_two_b", "en_three", "en_two_b")
OUTPUTS = ("json", "txt", "srt", "vtt", "tsv", "md")
BOUNDARY = "soak"
TIMEOUT_S = 300
PATIENCE_S = 60  # until the last request has left, of those that hung up too

# What a service may keep beside what it has at its first rest: threads of callers, and of those
# that hung up; files that libraries open on first use.
MAX_MORE_THREADS = 4 * CALLERS
MAX_MORE_FILES = 24
MAX_MORE_PROCESSES = 2  # a worker that is being replaced


@dataclass(frozen=True, slots=True)
class Rest:
    """The service between two rounds."""

    at_s: float
    server_mb: float
    children_mb: float  # the decoding processes grow until they are replaced
    threads: int
    files: int
    processes: int
    temp_files: int
    mapped: int
    queued: int

    @property
    def resident_mb(self) -> float:
        return self.server_mb + self.children_mb


@dataclass
class Report:
    """`answers`: status by kind of request; `odd`: answers that nobody should get."""

    answers: dict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    latencies_s: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    odd: list[str] = field(default_factory=list)
    rests: list[Rest] = field(default_factory=list)
    peak_mb: float = 0.0

    @property
    def warm(self) -> list[Rest]:
        return self.rests[int(len(self.rests) * WARM_UP) :]

    @property
    def slope_mb_per_hour(self) -> float:
        pairs = combinations(self.warm, 2)
        return 3600 * statistics.median(
            (b.resident_mb - a.resident_mb) / (b.at_s - a.at_s) for a, b in pairs
        )

    @property
    def growth_mb(self) -> float:
        """Over the time after the warm-up."""
        return self.slope_mb_per_hour * (self.warm[-1].at_s - self.warm[0].at_s) / 3600

    def faults(self, max_growth_mb: float) -> list[str]:
        """What is wrong, a sentence each."""
        found = list(self.odd)
        first, last = self.rests[0], self.rests[-1]
        for name, allowed in (
            ("threads", MAX_MORE_THREADS),
            ("files", MAX_MORE_FILES),
            ("processes", MAX_MORE_PROCESSES),
            ("temp_files", 0),
            ("mapped", 0),
            ("queued", 0),
        ):
            most = max(getattr(rest, name) for rest in self.rests)
            if most > getattr(first, name) + allowed or (not allowed and most):
                found.append(f"{name}: {getattr(first, name)} at first, {most} at most")
        if self.growth_mb > max_growth_mb:
            found.append(f"memory grows: {self.growth_mb:.0f} MB in {last.at_s:.0f} s")
        return found


class Callers:
    """One turn of a caller is one request, of a kind drawn by lot."""

    def __init__(self, server: Server, report: Report, seed: int) -> None:
        self._server = server
        self._report = report
        self._lock = threading.Lock()
        self._random = random.Random(seed)
        self._damaged = [m.content for m in mutants(300, seed) if len(m.content) < 200_000]
        self._kinds: list[tuple[int, Callable[[random.Random], tuple[int, set[int]]]]] = [
            (8, self.clip),
            (3, self.conversation),
            (3, self.translation),
            (4, self.damaged),
            (2, self.detection),
            (2, self.nonsense),
            (3, self.openai),
            (3, self.streamed),
            (2, self.hang_up),
            (2, self.cancelled),
            (4, self.looking_on),
        ]

    def turn(self, seed: int) -> None:
        lot = random.Random(seed)
        weights = [weight for weight, _ in self._kinds]
        [(_, kind)] = lot.choices(self._kinds, weights)
        name = kind.__name__.replace("_", " ")
        started = time.monotonic()
        try:
            status, expected = kind(lot)
        except (httpx.HTTPError, OSError) as error:
            status, expected = 0, set()
            name_of_error = f"{name}: {error!r}"
        else:
            name_of_error = f"{name}: {status}, not one of {sorted(expected)}"
        with self._lock:
            self._report.answers[name][status] += 1
            self._report.latencies_s[name].append(time.monotonic() - started)
            if status not in expected:
                self._report.odd.append(name_of_error)

    # -- kinds of requests: (status, what it may be) -----------------------------------------------

    def clip(self, lot: random.Random) -> tuple[int, set[int]]:
        diarize = lot.choice(("true", "false"))
        query = {"output": lot.choice(OUTPUTS), "diarize": diarize, "word_timestamps": "true"}
        return self._post(audio_of(lot.choice(CLIPS)).read_bytes(), **query), {200}

    def conversation(self, lot: random.Random) -> tuple[int, set[int]]:
        query = {"output_format": lot.choice(OUTPUTS), "return_speaker_embeddings": "true"}
        return self._post(audio_of(lot.choice(CONVERSATIONS)).read_bytes(), **query), {200}

    def translation(self, lot: random.Random) -> tuple[int, set[int]]:
        query = {"task": "translate", "initial_prompt": "A meeting.", "diarize": "false"}
        return self._post(audio_of("es_short").read_bytes(), **query), {200}

    def damaged(self, lot: random.Random) -> tuple[int, set[int]]:
        query = {"output": "json", "diarize": "false"}
        return self._post(lot.choice(self._damaged), **query), {200, 400, 413}

    def openai(self, lot: random.Random) -> tuple[int, set[int]]:
        form = {
            "model": lot.choice(("demo", "whisper-1")),
            "response_format": lot.choice(("json", "text", "srt", "verbose_json", "diarized_json")),
        }
        if form["response_format"] == "json":
            form["include[]"] = "logprobs"
        content = audio_of(lot.choice(CLIPS + CONVERSATIONS)).read_bytes()
        status = self._post(content, "/v1/audio/transcriptions", field="file", form=form)
        return status, {200}

    def streamed(self, lot: random.Random) -> tuple[int, set[int]]:
        """To its end, or as far as its first event."""
        endpoint, name = lot.choice((("/asr", "audio_file"), ("/v1/audio/transcriptions", "file")))
        content = audio_of(lot.choice(CONVERSATIONS)).read_bytes()
        with httpx.stream(
            "POST",
            self._server.url + endpoint,
            data={"stream": "true"},
            files={name: ("soak.flac", content)},
            timeout=TIMEOUT_S,
        ) as response:
            lines = response.iter_lines()
            if lot.random() < 0.5:
                next(lines)
            elif not {"event: result", "event: transcript.text.done"} & set(lines):
                return 0, {200}
            return response.status_code, {200}

    def detection(self, lot: random.Random) -> tuple[int, set[int]]:
        content = audio_of(lot.choice(CLIPS)).read_bytes()
        return self._post(content, endpoint="/detect-language"), {200}

    def nonsense(self, lot: random.Random) -> tuple[int, set[int]]:
        wrong = lot.choice(({"output": "docx"}, {"model": "none"}, {"num_speakers": "0"}))
        return self._post(b"no sound" * lot.randrange(1, 20_000), **wrong), {422}

    def hang_up(self, lot: random.Random) -> tuple[int, set[int]]:
        """In the middle of the upload, or while the answer is being made."""
        content = audio_of(lot.choice(CONVERSATIONS)).read_bytes()
        body = (
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="audio_file"; '
            f'filename="a.flac"\r\n\r\n'
        ).encode() + content + f"\r\n--{BOUNDARY}--\r\n".encode()  # fmt: skip
        head = (
            f"POST /asr HTTP/1.1\r\nHost: soak\r\nContent-Length: {len(body)}\r\n"
            f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n"
        ).encode()
        sent = len(body) if lot.random() < 0.5 else lot.randrange(len(body))
        port = int(self._server.url.rsplit(":", 1)[1])
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            connection.sendall(head + body[:sent])
            time.sleep(lot.random() * 0.3)
        return 499, {499}

    def cancelled(self, lot: random.Random) -> tuple[int, set[int]]:
        name = f"soak-{lot.getrandbits(48):x}"
        content = audio_of(lot.choice(CONVERSATIONS)).read_bytes()
        with ThreadPoolExecutor(1) as waiting:
            answer = waiting.submit(self._post, content, headers={"X-Request-ID": name})
            time.sleep(lot.random() * 0.5)
            gone = httpx.delete(f"{self._server.url}/queue/{name}", timeout=60)
            if gone.status_code not in (204, 404):
                return gone.status_code, {204, 404}
            return answer.result(), {200} if gone.status_code == 404 else {200, 410}

    def looking_on(self, lot: random.Random) -> tuple[int, set[int]]:
        path = lot.choice(("/health", "/ready", "/queue", "/v1/models", "/docs", "/openapi.json"))
        return self._server.get(path).status_code, {200}

    def _post(
        self,
        content: bytes,
        endpoint: str = "/asr",
        headers: dict[str, str] | None = None,
        field: str = "audio_file",
        form: dict[str, str] | None = None,
        **query: str,
    ) -> int:
        response = httpx.post(
            self._server.url + endpoint,
            params=query,
            data=form,
            files={field: ("soak.flac", content)},
            headers=headers,
            timeout=TIMEOUT_S,
        )
        return response.status_code

    # -- rounds ------------------------------------------------------------------------------------

    def round(self, seconds: float) -> None:
        """All callers work for so long; over when the last has its answer."""
        until = time.monotonic() + seconds

        def work(seed: int) -> None:
            lot = random.Random(seed)
            while time.monotonic() < until:
                self.turn(lot.getrandbits(32))

        with ThreadPoolExecutor(CALLERS) as callers:
            list(callers.map(work, [self._random.getrandbits(32) for _ in range(CALLERS)]))


def look(server: Server, started: float) -> Rest:
    """Once the last request has left; one that hung up needs a moment to do so."""
    deadline = time.monotonic() + PATIENCE_S
    while (queued := _num_queued(server)) or server.temp_files() or server.mapped_audio():
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    server.process.send_signal(signal.SIGUSR2)
    server.get("/health")  # the handler of the signal ran before the answer
    process = psutil.Process(server.process.pid)
    children = process.children(recursive=True)
    return Rest(
        at_s=time.monotonic() - started,
        server_mb=_resident_bytes(process) / MB,
        children_mb=sum(_resident_bytes(child) for child in children) / MB,
        threads=process.num_threads(),
        files=process.num_fds(),
        processes=1 + len(children),
        temp_files=len(server.temp_files()),
        mapped=len(server.mapped_audio()),
        queued=queued,
    )


def _num_queued(server: Server) -> int:
    return len(server.get("/queue").json()["requests"])


def _resident_bytes(process: psutil.Process) -> int:
    try:
        resident: int = process.memory_info().rss
    except psutil.NoSuchProcess:
        return 0
    return resident


def run_soak(server: Server, seconds: float, rounds: int, seed: int = 1) -> Report:
    report = Report()
    callers = Callers(server, report, seed)
    started = time.monotonic()
    stop = threading.Event()
    sampler = threading.Thread(target=_sample_peak, args=(server, report, stop))
    sampler.start()
    try:
        for number in range(rounds):
            left_s = started + seconds - time.monotonic()
            callers.round(max(0.1, left_s / (rounds - number)))
            report.rests.append(look(server, started))
            print(_line(report.rests[-1]), flush=True)
    finally:
        stop.set()
        sampler.join()
    return report


def _sample_peak(server: Server, report: Report, stop: threading.Event) -> None:
    process = psutil.Process(server.process.pid)
    while not stop.wait(0.5) and process.is_running():
        family = [process, *process.children(recursive=True)]
        report.peak_mb = max(report.peak_mb, sum(_resident_bytes(m) for m in family) / MB)


# -- the summary ---------------------------------------------------------------------------------


def _line(rest: Rest) -> str:
    return (
        f"{rest.at_s:6.0f} s  {rest.server_mb:6.0f} + {rest.children_mb:3.0f} MB  "
        f"{rest.threads:3} threads  {rest.files:3} files  {rest.processes:2} processes  "
        f"{rest.temp_files} temporary files  {rest.mapped} mapped  {rest.queued} queued"
    )


def summary(report: Report) -> Iterator[str]:
    yield f"{'request':14} {'number':>7} {'median':>8} {'p95':>8}  statuses"
    for name, answers in sorted(report.answers.items()):
        latencies = sorted(report.latencies_s[name])
        p95 = latencies[min(len(latencies) - 1, int(0.95 * len(latencies)))]
        statuses = ", ".join(f"{status}: {n}" for status, n in sorted(answers.items()))
        median = statistics.median(latencies)
        yield f"{name:14} {len(latencies):7} {median:6.2f} s {p95:6.2f} s  {statuses}"
    first, last = report.warm[0], report.warm[-1]
    yield f"{'all':14} {sum(sum(answers.values()) for answers in report.answers.values()):7}"
    yield (
        f"resident memory at rest, server and children: {first.resident_mb:.0f} MB after "
        f"{first.at_s:.0f} s, {last.resident_mb:.0f} MB after {last.at_s:.0f} s, slope "
        f"{report.slope_mb_per_hour:+.0f} MB/h ({report.growth_mb:+.0f} MB); peak under load "
        f"{report.peak_mb:.0f} MB"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Mixed load on a service with the demo models.")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--max-growth-mb", type=float, default=100)
    options = parser.parse_args(arguments)
    seconds = 60 * options.minutes
    with tempfile.TemporaryDirectory(prefix="soak-") as folder, running_server(
        Path(folder), COMMAND, MAX_DURATION_SECONDS=120
    ) as server:  # fmt: skip
        report = run_soak(server, seconds, rounds=max(6, round(seconds / 20)), seed=options.seed)
    print(*summary(report), sep="\n")
    faults = report.faults(options.max_growth_mb)
    print(*(f"FAULT {fault}" for fault in faults), sep="\n")
    print("failed" if faults else "passed")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
