"""The C library's memory: freed blocks are kept for the next batch.

A pass of Whisper's encoder allocates and frees matrices of attention: 36 MB each for the demo
model, 180 MB for large-v3. By itself, the C library takes such blocks from the kernel and gives
them back at once. Each batch then pays for hundreds of thousands of page faults: a third of an
encoder's time.
"""

from __future__ import annotations

import ctypes

# Source: malloc.h of the GNU C library
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8

LARGEST_KEPT_BYTES = 1 << 30
MOST_KEPT_BYTES = 256 << 20  # at the end of the heap; a larger rest goes back to the kernel


def keep_freed_memory() -> None:
    """Let the process use freed blocks again. Call this before there are threads.

    There is one heap for all of them, as those of threads hold blocks of up to 64 MB only.
    """
    if mallopt := _function("mallopt"):
        mallopt(M_ARENA_MAX, 1)
        mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT_BYTES)
        mallopt(M_TRIM_THRESHOLD, MOST_KEPT_BYTES)


def return_freed_memory() -> None:
    """Give freed blocks back to the kernel."""
    if malloc_trim := _function("malloc_trim"):
        malloc_trim(0)


def _function(name: str) -> ctypes._NamedFuncPointer | None:
    """Of the C library. Others than GNU's do not have them."""
    return getattr(ctypes.CDLL(None), name, None)
