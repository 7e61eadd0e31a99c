"""Hundreds of damaged files: each is audio or a clear refusal, in bounded time, and costs nothing.

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
from tests.support.decoders import decoders

SCALE = int(os.environ.get("FUZZ_SCALE", "1"))
SEED = int(os.environ.get("FUZZ_SEED", "1"))
NUM_FILES = 700 * SCALE
TIMEOUT_S = 20.0  # of one file of half a second, on a machine that does other things too
MAX_DURATION_S = 60.0
MAX_WORKER_MB = 250
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
    assert len({mutant.content for mutant in mutants(NUM_FILES, SEED)}) >= min(650, NUM_FILES)
    assert all(mutant.content not in originals().values() for mutant in first)


def test_hundreds_of_damaged_files(tmp_path: Path) -> None:
    """Through the processes that the service decodes with: no crash, no time-out, no growth."""
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    originals()
    before_mb = psutil.Process().memory_info().rss / MB
    pool = DecodePool(tmp_path / "out", 2, DecodeLimits(TIMEOUT_S, 1024))
    outcomes, largest_mb = [], 0.0
    try:
        for outcome in decode_all(pool, tmp_path / "in", mutants(NUM_FILES, SEED)):
            outcomes.append(outcome)
            if len(outcomes) % 50 == 0:
                largest_mb = max(largest_mb, *map(rss_mb, decoders()), 0)
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


def rss_mb(process: psutil.Process) -> float:
    """0 where it is gone, or still a copy of this process that is about to become another."""
    try:
        if process.cmdline() == psutil.Process().cmdline():
            return 0.0
        return float(process.memory_info().rss / MB)
    except psutil.NoSuchProcess:
        return 0.0
