"""What the processes of this service share that see hostile data."""

from __future__ import annotations

import os
import resource
import select
import socket
from multiprocessing.connection import Connection


def end_with_parent(connection: Connection | socket.socket) -> None:
    """End this process when its parent is killed, so that none is left behind.

    Not PR_SET_PDEATHSIG: that fires when the *thread* that started this process ends.
    """
    hung_up = select.poll()
    hung_up.register(connection, 0)  # only that the other side is closed
    hung_up.poll()
    os._exit(1)


def limit(which: int, most: int, for_good: bool = False) -> None:
    """Lower a limit, as far as the hard one, which an operator may have set, is not lower."""
    hard = resource.getrlimit(which)[1]
    soft = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(which, (soft, soft if for_good else hard))
