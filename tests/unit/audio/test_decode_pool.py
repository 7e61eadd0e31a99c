"""The decoding processes: one that crashes, hangs or hoards costs one file; none is left over."""

from __future__ import annotations

import os
import pickle
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from app.audio import decoder
from app.audio.decode import NOT_MEDIA, DecodedFile
from app.audio.decode_job import DecodeJob
from app.audio.decode_pool import DecodeLimits, DecodePool
from app.audio.decoder import DecoderDied, read_answer
from app.audio.turns import Task, Turns
from app.domain.errors import (
    DeadlineExceeded,
    ModelUnavailable,
    Overloaded,
    ShuttingDown,
    UndecodableAudio,
    UploadTooLarge,
)
from app.domain.warnings import TranscriptWarning
from app.storage import confinement
from tests.support.decoders import decoders
from tests.support.media import FORMATS, encode, speech
from tests.support.scripted import kill_thread
from tests.support.waiting import eventually

SPEECH = speech("en_short")
SPEECH_S = len(SPEECH) / 16_000
HOUR_S = 3600.0


def _crash() -> DecodedFile:
    signal.raise_signal(signal.SIGSEGV)
    raise AssertionError


def _be_killed(signal_number: int) -> DecodedFile:
    signal.raise_signal(signal.Signals(signal_number))
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
    job = replaced(pool, clip, function)
    with pytest.raises(Exception) as caught:  # noqa: PT011 - looked at by the caller
        job.audio(wait)
    return caught.value


def replaced(pool: DecodePool, clip: Path, function: Callable[..., Any], *args: Any) -> DecodeJob:
    """A job whose process does this instead of decoding; a second try decodes."""
    job = pool.submit(clip, HOUR_S)
    job.future.cancel()
    job._tasks[:] = [pool._add(Task(function, args))]
    return job


def test_warm_up_starts_all_workers(pool: DecodePool, clip: Path) -> None:
    play(pool, clip)
    assert len(decoders()) == 2


def process_of(pool: DecodePool) -> psutil.Process:
    """Of a pool of one."""
    decoder = pool._slots[0]._decoder
    assert decoder is not None
    return psutil.Process(decoder.pid)


def test_a_warm_pool_is_quick(pool: DecodePool, clip: Path) -> None:
    play(pool, clip)
    warm = {worker.pid for worker in decoders()}
    started = time.process_time()
    for _ in range(10):
        play(pool, clip)
    assert {worker.pid for worker in decoders()} == warm, "a file does not wait for a start"
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
    sleeping = pool._add(Task(_sleep, ()))
    eventually(lambda: sleeping.started)
    sleeping.future.cancel()
    with pytest.raises(CancelledError):
        sleeping.future.result(0)
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
        for worker in decoders():
            worker.kill()
        play(pool, clip)  # whether or not the pool knows it by now
        time.sleep(0.3)
        play(pool, clip)


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGTERM])
def test_killed_while_at_work(pool: DecodePool, clip: Path, signal_number: int) -> None:
    """By the kernel or by an operator: that says nothing about the file, which gets another try."""
    job = replaced(pool, clip, _be_killed, signal_number)
    assert job.audio(wait).duration_s == pytest.approx(SPEECH_S, abs=0.01)


def test_killed_again(pool: DecodePool, clip: Path) -> None:
    job = replaced(pool, clip, _be_killed, signal.SIGKILL)
    job._schedule = lambda: pool._add(Task(_be_killed, (signal.SIGKILL,)))
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
            process_of(pool).kill()
            process_of(pool).wait()
        free = os.open(os.devnull, os.O_RDONLY)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free + 1, limits[1]))
        try:
            with pytest.raises(ModelUnavailable, match="No process"):
                pool.submit(clip, HOUR_S).audio(wait)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert list(tmp_path.iterdir()) == []
        play(pool, clip)
    finally:
        pool.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_dead_thread_of_the_pool_is_noticed(tmp_path: Path, clip: Path) -> None:
    """Whoever waits for it is told, and the next file is decoded."""
    pool = DecodePool(tmp_path, 1, DecodeLimits(600, 1024))
    try:
        play(pool, clip)
        sleeping = pool._add(Task(_sleep, ()))
        eventually(lambda: sleeping.started)
        thread = pool._slots[0].thread
        assert thread is not None
        kill_thread(thread)
        process_of(pool).kill()  # wakes the thread
        thread.join(10)
        assert not thread.is_alive()
        with pytest.raises(DecoderDied):
            sleeping.future.result(10)
        pool.check()
        play(pool, clip)
    finally:
        pool.close()


def test_a_process_that_takes_no_file_is_replaced(
    tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = DecodePool(tmp_path, 1, DecodeLimits(600, 1024))
    try:
        play(pool, clip)
        process_of(pool).suspend()
        monkeypatch.setattr(decoder, "START_S", 8.0)
        play(pool, clip)
    finally:
        pool.close()
    assert list(tmp_path.iterdir()) == []


# -- clients -------------------------------------------------------------------------------------


def test_hang_ups_cost_no_stranger_a_file(pool: DecodePool, clip: Path) -> None:
    """At the moment at which a file is done, its process already has the next one: to end it for
    the first would take the second's. (One in 3,500 hang-ups did.)
    """
    for i in range(60):
        first = pool._add(Task(os.getpid, (), "a"))
        stranger = pool._add(Task(os.getpid, (), "b"))
        if i % 2:
            eventually(first.future.done)
        first.future.cancel()
        assert stranger.future.result(20)
    play(pool, clip)
    assert all(slot.task is None for slot in pool._slots)


def test_a_process_is_only_ended_for_the_task_that_it_has(pool: DecodePool) -> None:
    """The same by hand: the first task's cancellation comes once the second one runs."""
    first = pool._add(Task(os.getpid, ()))
    assert first.future.result(20)
    second = pool._add(Task(time.sleep, (1.0,)))
    eventually(lambda: second.started)
    cancelled: Future[int] = Future()
    cancelled.cancel()
    pool._ended(first, cancelled)
    assert second.future.result(20) is None


def test_a_stranger_is_served_beside_those_who_hold_the_pool(tmp_path: Path, clip: Path) -> None:
    pool = DecodePool(tmp_path, 1, DecodeLimits(600, 1024))
    try:
        holding = [pool._add(Task(_sleep, (), "greedy", small=True)) for _ in range(5)]
        eventually(lambda: holding[0].started)
        audio = pool.submit(clip, HOUR_S, client="stranger").audio(wait)
        assert audio.duration_s == pytest.approx(SPEECH_S, abs=0.01)
        assert [task.started for task in holding[1:]] == [None] * 4
    finally:
        pool.close()


def test_turns() -> None:
    """Who has nothing running goes first, then who has used least of late."""
    now = 0.0
    turns = Turns(lambda: now)
    tasks = [Task(os.getpid, (), client) for client in ("a", "a", "a", "b", "c")]
    for task in tasks:
        turns.add(task)
    assert turns.take() is tasks[0]
    assert turns.take(newcomers=True) is None, "nobody's file is small"
    assert [turns.take(), turns.take()] == tasks[3:]
    for task, cpu_s in ((tasks[0], 1.0), (tasks[3], 30.0), (tasks[4], 2.0)):
        task.cpu_s = cpu_s
        turns.done(task)
    tasks = [Task(os.getpid, (), client) for client in ("b", "c", "d")]
    for task in tasks:
        turns.add(task)
    assert [task.client for task in iter(turns.take, None)] == ["d", "a", "c", "b", "a"]
    now = 3600.0
    turns.done(tasks[2])
    assert list(turns._spent) == []


# -- what a decoding process may do ----------------------------------------------------------------


def _probe(parent: int, outside: str) -> list[str]:
    """What a file that has taken over its process could do."""
    found = [name for name in os.environ if "SECRET" in name or "TOKEN" in name]
    attempts: dict[str, Callable[[], Any]] = {
        "socket": socket.socket,
        "program": lambda: os.posix_spawn("/bin/true", ["true"], {}),
        "signal": lambda: os.kill(parent, 0),
        "its memory": lambda: os.open(f"/proc/{parent}/mem", os.O_RDONLY),
        "its environment": lambda: Path(f"/proc/{parent}/environ").read_bytes(),
        "write": lambda: Path(outside).write_bytes(b""),
    }
    for name, attempt in attempts.items():
        with suppress(OSError):
            attempt()
            found.append(name)
    return found


def test_a_decoding_process_has_nothing_of_the_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_SECRET", "x")
    (tmp_path / "in").mkdir()
    pool = DecodePool(tmp_path / "in" / "own", 1, DecodeLimits(60, 1024))
    try:
        possible = set(pool._schedule(_probe, os.getpid(), str(tmp_path / "out")).result(60))
        fences = pool._schedule(confinement.confine, tmp_path).result(60)
    finally:
        pool.close()
    expected = set()
    if "seccomp" not in fences:
        expected |= {"socket", "program", "signal"}
    if "landlock" not in fences:
        expected |= {"its memory", "its environment", "write"}
    assert possible <= expected


class _Evil:
    def __reduce__(self) -> Any:
        return os.mkdir, ("taken-over",)


@pytest.mark.parametrize("answer", [_Evil(), os.getpid, ValueError, b"\x80garbage"])
def test_only_answers_are_read(answer: Any) -> None:
    data = answer if isinstance(answer, bytes) else pickle.dumps(answer)
    with pytest.raises(pickle.UnpicklingError):
        read_answer(data)


def test_a_folder_that_was_swept(pool: DecodePool, clip: Path) -> None:
    """Neither a 500, nor a process that stays away from the new folder."""
    with pytest.raises(Overloaded, match="try again"):
        pool.submit(clip.with_name("gone"), HOUR_S).audio(wait)
    shutil.rmtree(pool._folder)
    with pytest.raises(Overloaded, match="try again"):
        pool.submit(clip, HOUR_S)
    pool._folder.mkdir()
    play(pool, clip)


def test_answers_are_read() -> None:
    for answer in (
        DecodedFile(5, (TranscriptWarning.BREAKS_OFF,), 2, 1),
        UploadTooLarge("too long", 3),
        FileNotFoundError(2, "gone"),
        True,
    ):
        read = read_answer(pickle.dumps(answer))
        assert (type(read), str(read)) == (type(answer), str(answer))


@pytest.mark.parametrize("holder", [TranscriptWarning, DecodedFile, TranscriptWarning.BREAKS_OFF])
def test_answers_get_warnings_and_no_other_attribute(holder: Any) -> None:
    """Python before 3.11.4 writes a member of an enumeration so."""

    class Written:
        def __reduce__(self) -> Any:
            return getattr, (holder, "BREAKS_OFF")

    if holder is TranscriptWarning:
        assert read_answer(pickle.dumps(Written())) is TranscriptWarning.BREAKS_OFF
    else:
        with pytest.raises(pickle.UnpicklingError):
            read_answer(pickle.dumps(Written()))


def test_processes_are_replaced_before_leaks_add_up(tmp_path: Path, clip: Path) -> None:
    pool = DecodePool(tmp_path, 1, DecodeLimits(30, 1024))
    try:
        used = {pool._schedule(os.getpid).result(30) for _ in range(60)}
    finally:
        pool.close()
    assert len(used) == 2


def test_closing_ends_all_processes_and_all_waiting(tmp_path: Path, clip: Path) -> None:
    before = set(decoders())
    pool = DecodePool(tmp_path, 1, DecodeLimits(600, 1024))
    jobs = [pool._schedule(_sleep) for _ in range(3)]
    assert jobs[0].exception is not None
    pool.close()
    for job in jobs:
        with pytest.raises(CancelledError):
            job.result(5)
    assert set(decoders()) <= before
    with pytest.raises(ShuttingDown):
        pool.submit(clip, HOUR_S)
    pool.close()
    assert list(tmp_path.iterdir()) == []


SERVICE = """
import time
from pathlib import Path
from app.audio import decoder
from app.audio.decode_pool import DecodeLimits, DecodePool
from app.audio.decoder import DecoderDied, read_answer
from app.audio.turns import Task, Turns
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
