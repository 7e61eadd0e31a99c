"""Log lines to a pipe that perhaps nobody reads."""

from __future__ import annotations

import io
import logging
import os
import stat
import threading
from collections import deque
from collections.abc import Callable
from typing import TextIO

log = logging.getLogger(__name__)

MAX_WAITING = 1 << 20  # characters
CLOSE_S = 2.0  # for the last lines


def stream_handler(stream: TextIO) -> logging.Handler:
    """Writes lines to the stream. Whoever logs never waits for a reader of the stream."""
    if stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        return logging.StreamHandler(stream)  # a file has no reader
    return _Handler(_UnblockedStream(stream))


class _UnblockedStream(io.TextIOBase):
    """A thread of its own writes. While that is blocked, lines wait; those for which there is no
    room are dropped and counted.
    """

    describe_loss: Callable[[int], str]  # a line about so many that were dropped

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._changed = threading.Condition()  # with a lock that one thread may take twice
        self._waiting: deque[str] = deque()
        self._num_waiting = 0  # characters, those that are being written included
        self._num_dropped = 0  # lines
        threading.Thread(target=self._write_on, name="log", daemon=True).start()

    def write(self, text: str) -> int:
        with self._changed:
            if self._num_waiting + len(text) > MAX_WAITING:
                self._num_dropped += 1
            else:
                self._num_waiting += len(text)
                self._waiting.append(text)
                self._changed.notify_all()
        return len(text)

    def drain(self, timeout_s: float) -> None:
        """Wait until everything is written."""
        with self._changed:
            self._changed.wait_for(lambda: self._num_waiting == 0, timeout_s)

    def _write_on(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                lines = list(self._waiting)
                self._waiting.clear()
            self._write_out("".join(lines))
            with self._changed:  # told after all lines that came before them
                num_dropped = 0 if self._waiting else self._num_dropped
                self._num_dropped -= num_dropped
            if num_dropped:
                self._write_out(self.describe_loss(num_dropped))
            with self._changed:
                self._num_waiting -= sum(map(len, lines))
                self._changed.notify_all()

    def _write_out(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # its reader is gone, or it is closed
            return


class _Handler(logging.StreamHandler[_UnblockedStream]):
    def __init__(self, stream: _UnblockedStream) -> None:
        super().__init__(stream)
        stream.describe_loss = self._describe_loss

    def _describe_loss(self, num_lines: int) -> str:
        """A line for the stream. Takes no lock: that is held while `close` waits for the stream."""
        text = f"{num_lines} log lines were dropped: nobody read them in time"
        record = log.makeRecord(log.name, logging.WARNING, "", 0, text, (), None)
        return self.format(record) + self.terminator

    def close(self) -> None:
        self.stream.drain(CLOSE_S)
        super().close()
