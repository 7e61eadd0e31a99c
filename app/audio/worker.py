"""What runs in a decoding process: confines itself, then answers one call after the other."""

from __future__ import annotations

import logging
import resource
import signal
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import av
import numpy as np  # noqa: F401 - before the limits
from structlog.contextvars import bound_contextvars

from app.audio.decode import DecodedFile, DecodeRequest, decode
from app.audio.playable import Playable, make_playable
from app.domain.errors import ServiceError, StageFailed
from app.storage.child import end_with_parent, limit
from app.storage.confinement import confine

log = logging.getLogger(__name__)

FAILED = "Decoding failed."


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the service, which ends us
    connection: Connection = Connection(int(sys.argv[1]))
    try:
        _serve(connection)
    except (EOFError, OSError):  # the service is gone
        return


def _serve(connection: Connection) -> None:
    memory_mb, folder, prepare = connection.recv()
    prepare()
    av.logging.set_level(None)
    limit(resource.RLIMIT_AS, memory_mb << 20, for_good=True)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    confine(folder)
    threading.Thread(target=end_with_parent, args=(connection,), daemon=True).start()
    while True:
        function, arguments = connection.recv()
        connection.send(True)
        connection.send(_answer(function, arguments))


def _answer(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """What the function returns, or its error: of a kind that the service accepts."""
    try:
        return function(*arguments)
    except ServiceError as error:
        return error.with_traceback(None)
    except MemoryError:
        return MemoryError()
    except OSError as error:
        return OSError(error.errno, error.strerror)
    # The boundary of the process: its service must get an answer.
    except Exception:
        log.exception(FAILED)
        return StageFailed(FAILED)


def decode_for(context: dict[str, Any], request: DecodeRequest) -> DecodedFile:
    """Decode with the request's log `context`."""
    with bound_contextvars(**context):
        return decode(request, limit_cpu=_limit_cpu)


def make_playable_for(context: dict[str, Any], request: DecodeRequest) -> Playable:
    """As `make_playable`, with the request's log `context`."""
    with bound_contextvars(**context):
        return make_playable(request, limit_cpu=_limit_cpu)


def _limit_cpu(seconds: float) -> None:
    """The kernel ends this process once it has used this much, even inside of FFmpeg."""
    limit(resource.RLIMIT_CPU, int(seconds) + 2)
