"""Ports for the servers of the tests."""

from __future__ import annotations

import os
import socket
from contextlib import closing
from itertools import cycle

# Below the ports that the kernel gives to clients, so that no connection takes one in the meantime.
FIRST, BLOCK, NUM_BLOCKS = 12_000, 100, 200

_start = FIRST + os.getpid() % NUM_BLOCKS * BLOCK
_candidates = cycle(range(_start, _start + BLOCK))


def free_port() -> int:
    """A port of this machine's loopback that nobody listens on. Processes that run tests side by
    side have blocks of their own, and a port comes up again only after all others of its block.
    """
    for port in (next(_candidates) for _ in range(BLOCK)):
        with closing(socket.socket()) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise AssertionError("all ports are taken")
