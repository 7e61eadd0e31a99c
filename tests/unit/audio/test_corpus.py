"""Thousands of damaged files: each is audio or a clear refusal, in bounded time, and costs nothing.

FUZZ_SCALE=10 takes ten times as many (`make fuzz`).
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import psutil

from app.audio.decode_pool import DecodeLimits, DecodePool
from app.domain.errors import ServiceError, UndecodableAudio, UploadTooLarge
from tests.support.corpus import Mutant, mutants, originals
from tests.support.server import Server
from tests.support.truth import audio_of
from tests.support.waiting import eventually

SCALE = int(os.environ.get("FUZZ_SCALE", "1"))
SEED = int(os.environ.get("FUZZ_SEED", "1"))
NUM_FILES = 2_100 * SCALE
NUM_POSTED = 210 * SCALE
TIMEOUT_S = 20.0  # of one file of half a second, on a machine that does other things too
MAX_DURATION_S = 60.0
MAX_WORKER_MB = 250
MAX_SERVER_GROWTH_MB = 128  # models' scratch memory comes and goes
MAX_GROWTH_MB = 48
CALLERS = 4
MB = 1 << 20


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a file. `fault`: of the process that decoded it, where it was none of ours."""

    name: str
    kind: str
    fault: str
    took_s: float


def decode_all(pool: DecodePool, folder: Path, files: Iterable[Mutant]) -> Iterator[Outcome]:
    """A few at a time, as requests come, so that no more than these are in memory."""

    def play(numbered: tuple[int, Mutant]) -> Outcome:
        number, mutant = numbered
        path = folder / str(number)
        path.write_bytes(mutant.content)
        started = time.monotonic()
        job = pool.submit(path, MAX_DURATION_S)
        try:
            audio = job.audio(lambda future: future.result(3 * TIMEOUT_S))
            assert 0 < audio.duration_s <= MAX_DURATION_S
            kind = "audio"
        except ServiceError as error:
            kind = type(error).__name__
        finally:
            path.unlink()
        error = job.future.exception()
        fault = "" if error is None or isinstance(error, ServiceError) else repr(error)
        return Outcome(mutant.name, kind, fault, time.monotonic() - started)

    numbered = enumerate(files)
    with ThreadPoolExecutor(CALLERS) as callers:
        while block := list(islice(numbered, 50)):
            yield from callers.map(play, block)


def test_the_corpus_is_the_same_every_time() -> None:
    first, again = (list(mutants(100, SEED)) for _ in range(2))
    assert first == again
    assert len({mutant.content for mutant in mutants(NUM_FILES, SEED)}) >= min(2_000, NUM_FILES)
    assert all(mutant.content not in originals().values() for mutant in first)


def test_thousands_of_damaged_files(tmp_path: Path) -> None:
    """Through the processes that the service decodes with: no crash, no time-out, no growth."""
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    originals()
    before_mb = psutil.Process().memory_info().rss / MB
    others = set(children())
    pool = DecodePool(tmp_path / "out", 2, DecodeLimits(TIMEOUT_S, 1024))
    outcomes, largest_mb = [], 0.0
    try:
        for outcome in decode_all(pool, tmp_path / "in", mutants(NUM_FILES, SEED)):
            outcomes.append(outcome)
            if len(outcomes) % 50 == 0:
                workers = set(children()) - others
                largest_mb = max(largest_mb, *(rss_mb(worker) for worker in workers), 0)
        assert list((tmp_path / "out").iterdir()) == []
        [good] = decode_all(pool, tmp_path / "in", [Mutant("good", originals()["flac"])])
        assert good.kind == "audio"
    finally:
        pool.close()
    kinds = Counter(outcome.kind for outcome in outcomes)
    slowest_s = max(outcome.took_s for outcome in outcomes)
    print(f"{dict(kinds)}, slowest {slowest_s:.2f} s, largest process {largest_mb:.0f} MB")
    assert [o for o in outcomes if o.fault] == []
    assert kinds.keys() == {"audio", UndecodableAudio.__name__, UploadTooLarge.__name__}
    assert min(kinds["audio"], kinds[UndecodableAudio.__name__]) > NUM_FILES / 5
    assert slowest_s < 2 * TIMEOUT_S
    assert 0 < largest_mb < MAX_WORKER_MB
    assert psutil.Process().memory_info().rss / MB - before_mb < MAX_GROWTH_MB


def children() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def rss_mb(process: psutil.Process) -> float:
    """0 where it is gone, or still a copy of this process that is about to become another."""
    try:
        if process.cmdline() == psutil.Process().cmdline():
            return 0.0
        return float(process.memory_info().rss / MB)
    except psutil.NoSuchProcess:
        return 0.0


# -- the same over HTTP --------------------------------------------------------------------------

VARIANTS: tuple[tuple[str, dict[str, str]], ...] = (
    ("/asr", {"output": "json", "language": "en"}),
    ("/asr", {"output": "srt", "language": "es", "diarize": "true"}),
    ("/detect-language", {}),
    ("/asr", {"output_format": "json", "enable_diarization": "true"}),
    ("/asr", {"output": "tsv", "encode": "false", "language": "en"}),  # raw: any byte is sound
)


def test_damaged_files_over_http(limited_server: Server) -> None:
    """Only the three answers that a client may deserve; the memory of the service stays."""
    chosen = list(islice(mutants(10 * NUM_POSTED, SEED + 1), 0, None, 10))
    third = len(chosen) // 3
    answers = post_all(limited_server, chosen[:third])
    warm_mb = memory_mb(limited_server)
    answers += post_all(limited_server, chosen[third:])
    odd = [(name, status, text) for name, status, text in answers if status not in (200, 400, 413)]
    assert odd == []
    statuses = Counter(status for _, status, _ in answers)
    grown_mb = memory_mb(limited_server) - warm_mb
    print(f"{dict(statuses)}, memory {warm_mb:.0f} MB and {grown_mb:+.0f} MB")
    assert min(statuses[200], statuses[400]) > len(chosen) / 10
    assert grown_mb < MAX_SERVER_GROWTH_MB
    eventually(lambda: limited_server.get("/health").json()["requests"] == 0)
    assert limited_server.temp_files() == []
    log = limited_server.log()
    assert "Traceback (most recent call last):\n  File" not in log.replace(DROPPED, "")
    assert limited_server.post(audio_of("en_short")).status_code == 200


# What PyAV prints where a damaged file has it seek before the file's beginning.
DROPPED = "PyAV library exception being dropped:\nTraceback (most recent call last):\n"


def post_all(server: Server, files: list[Mutant]) -> list[tuple[str, int, str]]:
    def post(numbered: tuple[int, Mutant]) -> tuple[str, int, str]:
        number, mutant = numbered
        endpoint, query = VARIANTS[number % len(VARIANTS)]
        response = server.post(mutant.content, endpoint, timeout_s=3 * TIMEOUT_S, **query)
        return f"{mutant.name} {endpoint} {query}", response.status_code, response.text[:300]

    with ThreadPoolExecutor(CALLERS) as callers:
        return list(callers.map(post, enumerate(files)))


def memory_mb(server: Server) -> float:
    """Of the server, at rest, and of its children: what they share with nobody."""
    eventually(lambda: server.get("/health").json()["requests"] == 0)
    process = psutil.Process(server.process.pid)
    total = 0
    for member in (process, *process.children(recursive=True)):
        try:
            total += member.memory_full_info().uss
        except psutil.NoSuchProcess:
            continue
    return total / MB
