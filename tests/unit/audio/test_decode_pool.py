"""The decoding processes: one that crashes, hangs or hoards costs one file; none is left over."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest

from app.audio import decode_pool
from app.audio.decode import NOT_MEDIA, DecodedFile
from app.audio.decode_pool import DecodeLimits, DecodePool
from app.domain.errors import DeadlineExceeded, ModelUnavailable, ShuttingDown, UndecodableAudio
from tests.support.media import FORMATS, encode, speech
from tests.support.scripted import kill_thread
from tests.support.waiting import eventually

SPEECH = speech("en_short")
SPEECH_S = len(SPEECH) / 16_000
HOUR_S = 3600.0


def _crash() -> DecodedFile:
    os.kill(os.getpid(), signal.SIGSEGV)
    raise AssertionError


def _be_killed(signal_number: int) -> DecodedFile:
    os.kill(os.getpid(), signal_number)
    time.sleep(600)
    raise AssertionError


def _take_memory() -> DecodedFile:
    hoard = np.empty(1 << 34, np.uint8)
    raise AssertionError(len(hoard))


def _sleep() -> DecodedFile:
    time.sleep(600)
    raise AssertionError


def _limits() -> tuple[int, ...]:
    return (*resource.getrlimit(resource.RLIMIT_AS), resource.getrlimit(resource.RLIMIT_CORE)[1])


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DecodePool]:
    pool = DecodePool(tmp_path_factory.mktemp("pool"), 2, DecodeLimits(2.0, 1024))
    pool.warm_up()
    yield pool
    folder = pool._folder
    pool.close()
    assert list(folder.glob("*.f32")) == []


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.mp3"
    path.write_bytes(encode(FORMATS["mp3"], (0, SPEECH)))
    return path


def wait(future: Future[DecodedFile]) -> DecodedFile:
    return future.result(timeout=30)


def play(pool: DecodePool, clip: Path) -> None:
    audio = pool.submit(clip, HOUR_S).audio(wait)
    assert audio.duration_s == pytest.approx(SPEECH_S, abs=0.01)


def fail(pool: DecodePool, clip: Path, function: Callable[[], DecodedFile]) -> BaseException:
    """The error of a job whose process does this instead of decoding."""
    job = pool.submit(clip, HOUR_S)
    job.future.cancel()
    job.future = pool._schedule(function)
    with pytest.raises(Exception) as caught:  # noqa: PT011 - looked at by the caller
        job.audio(wait)
    return caught.value


def test_warm_up_starts_all_workers(pool: DecodePool, clip: Path) -> None:
    play(pool, clip)
    assert len(_workers()) == 2


def _workers() -> list[psutil.Process]:
    children = psutil.Process().children()
    return [c for c in children if "spawn_main" in " ".join(c.cmdline())]


def test_a_warm_pool_is_quick(pool: DecodePool, clip: Path) -> None:
    play(pool, clip)
    warm = {worker.pid for worker in _workers()}
    started = time.process_time()
    for _ in range(10):
        play(pool, clip)
    assert {worker.pid for worker in _workers()} == warm, "a file does not wait for a start"
    assert (time.process_time() - started) / 10 < 0.2


@pytest.mark.parametrize("times", range(3))
def test_a_crash_fails_one_file(pool: DecodePool, clip: Path, times: int) -> None:
    error = fail(pool, clip, _crash)
    assert isinstance(error, UndecodableAudio)
    assert error.message == NOT_MEDIA
    play(pool, clip)


def test_too_much_memory_fails_one_file(pool: DecodePool, clip: Path) -> None:
    assert isinstance(fail(pool, clip, _take_memory), UndecodableAudio)
    play(pool, clip)
    assert pool._schedule(_limits).result(30) == (1024 << 20, 1024 << 20, 0)


def test_too_much_time_fails_one_file(pool: DecodePool, clip: Path) -> None:
    started = time.monotonic()
    assert isinstance(fail(pool, clip, _sleep), DeadlineExceeded)
    assert time.monotonic() - started < 60
    play(pool, clip)


def test_a_cancelled_file_stops_its_process(pool: DecodePool, clip: Path) -> None:
    job = pool.submit(clip, HOUR_S)
    job.future.cancel()
    sleeping = pool._schedule(_sleep)
    eventually(sleeping.running)
    sleeping.cancel()
    with pytest.raises(CancelledError):
        job.audio(wait)
    play(pool, clip)


def test_files_cancelled_at_any_moment_leave_nothing(pool: DecodePool, clip: Path) -> None:
    """The process may open its target after the request has gone, and must not make it anew."""
    for pause_ms in (0, 1, 2, 5, 10, 20):
        job = pool.submit(clip, HOUR_S)
        time.sleep(pause_ms / 1000)
        if job.future.cancel():
            with pytest.raises(CancelledError):
                job.audio(wait)
        else:
            job.audio(wait)
    play(pool, clip)
    assert list(pool._folder.iterdir()) == []


def test_killed_while_idle(pool: DecodePool, clip: Path) -> None:
    """The kernel kills what it likes when memory is short."""
    for _ in range(2):
        play(pool, clip)
        for worker in _workers():
            worker.kill()
        play(pool, clip)  # whether or not the pool knows it by now
        time.sleep(0.3)
        play(pool, clip)


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGTERM])
def test_killed_while_at_work(pool: DecodePool, clip: Path, signal_number: int) -> None:
    """By the kernel or by an operator: that says nothing about the file, which gets another try."""
    job = pool.submit(clip, HOUR_S)
    job.future.cancel()
    job.future = pool._schedule(_be_killed, signal_number)
    assert job.audio(wait).duration_s == pytest.approx(SPEECH_S, abs=0.01)


def test_killed_again(pool: DecodePool, clip: Path) -> None:
    job = pool.submit(clip, HOUR_S)
    job.future.cancel()
    job._schedule = partial(pool._schedule, _be_killed, signal.SIGKILL)
    job.future = job._schedule()
    with pytest.raises(ModelUnavailable, match="try again"):
        job.audio(wait)
    assert list(pool._folder.iterdir()) == []
    play(pool, clip)


@pytest.mark.parametrize("started", [False, True])
def test_no_process_can_be_started(tmp_path: Path, clip: Path, started: bool) -> None:
    """Out of file descriptors but for one, so that there are no pipes to be had."""
    pool = DecodePool(tmp_path, 1, DecodeLimits(60, 1024))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        if started:
            play(pool, clip)
            [worker] = pool._pool._pool_manager.worker_manager.workers.values()
            psutil.Process(worker.pid).kill()
            eventually(lambda: not pool._pool.active)
        free = os.open(os.devnull, os.O_RDONLY)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free + 1, limits[1]))
        try:
            with pytest.raises(ModelUnavailable, match="No process"):
                pool.submit(clip, HOUR_S)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert list(tmp_path.iterdir()) == []
        play(pool, clip)
    finally:
        pool.close()


def test_processes_that_do_not_last(
    pool: DecodePool, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dead(*_: object) -> Future[DecodedFile]:
        future: Future[DecodedFile] = Future()
        future.set_exception(BrokenProcessPool())
        return future

    monkeypatch.setattr(pool, "_schedule", dead)
    with pytest.raises(ModelUnavailable, match="try again"):
        pool.submit(clip, HOUR_S).audio(wait)
    assert list(pool._folder.iterdir()) == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("index", range(3))
def test_a_dead_thread_of_the_pool_is_noticed(tmp_path: Path, clip: Path, index: int) -> None:
    """Whoever waits is told, and the next file is decoded."""
    pool = DecodePool(tmp_path, 1, DecodeLimits(600, 1024))
    try:
        play(pool, clip)
        waiting = pool._schedule(_sleep)
        thread = list(pool._pool._loops)[index]
        kill_thread(thread)
        pool._schedule(os.getpid)  # wakes the one that sleeps until there is work
        thread.join(10)
        assert not thread.is_alive()
        pool.check()
        with pytest.raises(BrokenProcessPool):
            waiting.result(0)
        play(pool, clip)
    finally:
        pool.close()


def test_files_that_wait_for_a_free_process_are_noticed(
    tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that dies with the pool's lock in its hands leaves the others asleep for ever."""
    pool = DecodePool(tmp_path, 1, DecodeLimits(600, 1024))
    try:
        play(pool, clip)
        [worker] = pool._pool._pool_manager.worker_manager.workers.values()
        psutil.Process(worker.pid).suspend()  # it takes no work any more
        job = pool.submit(clip, HOUR_S)
        pool.check()
        assert not job.future.done()  # it may still be about to start
        monkeypatch.setattr(decode_pool, "STUCK_AFTER_S", 0.0)
        pool.check()
        with pytest.raises(BrokenProcessPool):
            job.future.result(0)
        assert job.audio(wait).duration_s == pytest.approx(SPEECH_S, abs=0.01)
        play(pool, clip)
    finally:
        pool.close()
    assert list(tmp_path.iterdir()) == []


def test_processes_are_replaced_before_leaks_add_up(tmp_path: Path, clip: Path) -> None:
    pool = DecodePool(tmp_path, 1, DecodeLimits(30, 1024))
    try:
        used = {pool._schedule(os.getpid).result(30) for _ in range(60)}
    finally:
        pool.close()
    assert len(used) == 2


def test_closing_ends_all_processes_and_all_waiting(tmp_path: Path, clip: Path) -> None:
    before = set(_workers())
    pool = DecodePool(tmp_path, 1, DecodeLimits(600, 1024))
    jobs = [pool._schedule(_sleep) for _ in range(3)]
    assert jobs[0].exception is not None
    pool.close()
    for job in jobs:
        with pytest.raises(CancelledError):
            job.result(5)
    assert set(_workers()) <= before
    with pytest.raises(ShuttingDown):
        pool.submit(clip, HOUR_S)
    pool.close()
    assert list(tmp_path.iterdir()) == []


SERVICE = """
import time
from pathlib import Path
from app.audio.decode_pool import DecodeLimits, DecodePool
if __name__ == "__main__":
    pool = DecodePool(Path("."), 2, DecodeLimits(600, 1024))
    for _ in range(2):
        pool._schedule(time.sleep, 600)
    pool._schedule(time.sleep, 600)
    print("started", flush=True)
    time.sleep(600)
"""


def test_no_process_survives_a_service_that_is_killed() -> None:
    service = psutil.Popen([sys.executable, "-c", SERVICE], stdout=subprocess.PIPE)
    try:
        assert service.stdout.readline() == b"started\n"
        workers: list[psutil.Process] = []
        deadline = time.monotonic() + 30
        while len(workers) < 2 and time.monotonic() < deadline:
            # a process that has its watchdog runs two threads at least
            workers = [c for c in service.children() if c.num_threads() > 1]
        assert len(workers) == 2
    finally:
        service.kill()
        service.wait()
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert alive == []
