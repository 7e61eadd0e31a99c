"""Freed memory is used again, and can be given back. Each in a process of its own."""

from __future__ import annotations

import subprocess
import sys

from tests.support.paths import ROOT

BLOCK_BYTES = 200 << 20  # an attention matrix of large-v3
PAGE_BYTES = 4096

PROGRAM = f"""
import ctypes, resource, threading
from pathlib import Path
from app.models.host_memory import keep_freed_memory, return_freed_memory

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]

def use():
    block = libc.malloc({BLOCK_BYTES})
    ctypes.memset(block, 1, {BLOCK_BYTES})
    libc.free(block)

def faults_of(work):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident_pages():
    return int(Path("/proc/self/statm").read_text().split()[1])
"""


def printed(program: str) -> list[int]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM + program],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [int(number) for number in done.stdout.split()]


def test_the_second_batch_finds_the_memory_of_the_first() -> None:
    first, second = printed("keep_freed_memory(); print(faults_of(use), faults_of(use))")
    assert second < first / 5  # where pages are huge, there are a hundred at first


def test_memory_goes_back_when_models_are_dropped() -> None:
    used, left = printed(
        "keep_freed_memory(); use(); print(resident_pages());"
        "return_freed_memory(); print(resident_pages())"
    )
    assert used - left > BLOCK_BYTES / PAGE_BYTES / 2
