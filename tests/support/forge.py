"""A process that has imported the libraries of the service, and forks servers: an import takes most
of a start, so each server of the tests would cost some ten seconds of a CPU, and costs one or two.

All processes of a run of the tests share it. Requests come as JSON objects, one a line, through
connections to its socket; its answers say which process began, and how each ended. When a
connection ends, so do its servers; with the last one, the forge.
"""

from __future__ import annotations

import gc
import inspect
import json
import os
import queue
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
import warnings
from contextlib import suppress
from fcntl import LOCK_EX, flock
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from tests.support.paths import ROOT
from tests.support.remembering import REMEMBERED, remember_models

LIBRARIES = (
    "app.main",
    "app.models.alignment.aligner",
    "app.models.builders",
    "app.models.fetcher",
    "app.models.loader",
    "app.models.pyannote.diarizer",
    "app.models.pyannote.vad",
    "app.models.recognizers.whisper",
    "app.service.build",
    "app.serving.server",
    # what the libraries import when they are first used
    "einops._torch_specific",
    "pyannote.audio.models.segmentation.PyanNet",
    "pyannote.audio.models.segmentation.SSeRiouSS",
    "pydantic.v1",
    "torch.utils.serialization.config",
    "transformers.models.data2vec",
    "transformers.models.hubert",
    "uvicorn.lifespan.on",
    "uvicorn.loops.auto",
    "uvloop",
)


# -- in the process of the tests -----------------------------------------------------------------


class Forked:
    """A server that was forked, as `subprocess.Popen` has one."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._ended = threading.Event()

    def end(self, returncode: int) -> None:
        self.returncode = returncode
        self._ended.set()

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if not self._ended.wait(timeout):
            raise subprocess.TimeoutExpired(f"server {self.pid}", timeout or 0)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, sig: int) -> None:
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, sig)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Forge:
    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        """`folder`: of its socket. Whoever comes first starts it."""
        address = folder / "forge"
        with (folder / "forge.lock").open("w") as lock:
            flock(lock, LOCK_EX)
            self._socket = socket.socket(socket.AF_UNIX)
            try:
                self._socket.connect(str(address))
            except OSError:  # none yet, or it has ended with its last connection
                address.unlink(missing_ok=True)
                _start(environment, address)
                self._socket.connect(str(address))
        self._begun: queue.Queue[Forked] = queue.Queue()
        self._lock = threading.Lock()
        threading.Thread(target=self._listen, name="forge", daemon=True).start()

    def start(
        self,
        arguments: list[str],
        folder: Path,
        environment: dict[str, str],
        script: str = "",
        errors: str = "log",
    ) -> Forked:
        """`whisperx-asr` with these arguments, or `script`; `folder`: where it runs and has its
        log; `errors`: the file there for its standard error.
        """
        request = {
            "arguments": arguments,
            "folder": str(folder),
            "environment": environment,
            "script": script,
            "errors": errors,
        }
        with self._lock:
            self._socket.sendall(json.dumps(request).encode() + b"\n")
            return self._begun.get(timeout=300)

    def _listen(self) -> None:
        servers: dict[int, Forked] = {}
        for line in self._socket.makefile():
            told = json.loads(line)
            if "begun" in told:
                servers[told["begun"]] = begun = Forked(told["begun"])
                self._begun.put(begun)
            else:
                servers.pop(told["ended"]).end(told["returncode"])

    def close(self) -> None:
        """With its servers."""
        self._socket.shutdown(socket.SHUT_WR)


def _start(environment: dict[str, str], address: Path) -> None:
    """Returns once it listens."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.forge", str(address)],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    while not address.exists():
        assert process.poll() is None, "the forge did not start"
        time.sleep(0.05)


# -- in the process that forks -------------------------------------------------------------------


def main() -> None:
    from app.config.environment import prepare_environment
    from app.config.settings import load_settings

    prepare_environment(load_settings())
    gc.disable()
    with warnings.catch_warnings(action="ignore"):
        for library in LIBRARIES:
            import_module(library)
    inspect.stack()  # looks at all modules once; Lightning asks for it with each model
    gc.collect()
    gc.freeze()  # else each server looks through all of it, and copies what it marks
    gc.enable()
    os.dup2(2, 1)  # what libraries print
    with socket.socket(socket.AF_UNIX) as listener:
        _listen(listener, Path(sys.argv[1]))
        Smithy(listener).work()


def _listen(listener: socket.socket, address: Path) -> None:
    """The address is there when all is ready."""
    listener.bind(str(address.with_suffix(".new")))
    listener.listen()
    address.with_suffix(".new").rename(address)


class Smithy:
    """Forks for each connection, until the last one is closed."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._pending: dict[socket.socket, bytes] = {}
        self._owners: dict[int, socket.socket] = {}  # by process
        self._reading, self._waking = os.pipe()
        os.set_blocking(self._waking, False)
        signal.set_wakeup_fd(self._waking)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._selector = selectors.DefaultSelector()
        for source in (listener, self._reading):
            self._selector.register(source, selectors.EVENT_READ)

    def work(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj == self._reading:
                    os.read(self._reading, 4096)
                    self._reap()
                elif key.fileobj is self._listener:
                    connection, _ = self._listener.accept()
                    self._pending[connection] = b""
                    self._selector.register(connection, selectors.EVENT_READ)
                elif isinstance(key.fileobj, socket.socket) and not self._serve(key.fileobj):
                    self._leave(key.fileobj)
                    if not self._pending:
                        return

    def _serve(self, connection: socket.socket) -> bool:
        """False once it is closed."""
        try:
            received = connection.recv(1 << 20)
        except ConnectionError:
            received = b""
        *requests, self._pending[connection] = (self._pending[connection] + received).split(b"\n")
        for request in requests:
            pid = os.fork()
            if pid == 0:
                self._forget()
                _become_server(json.loads(request))
            self._owners[pid] = connection
            self._tell(connection, begun=pid)
        return bool(received)

    def _forget(self) -> None:
        """In a server: what is the forge's."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored if the tests run under nohup
        self._selector.close()
        for connection in (self._listener, *self._pending):
            connection.close()
        os.close(self._reading)
        os.close(self._waking)

    def _leave(self, connection: socket.socket) -> None:
        for pid in [pid for pid, owner in self._owners.items() if owner is connection]:
            os.kill(pid, signal.SIGKILL)
        self._selector.unregister(connection)
        del self._pending[connection]
        connection.close()

    def _reap(self) -> None:
        for pid, owner in list(self._owners.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                del self._owners[pid]
                self._tell(owner, ended=pid, returncode=os.waitstatus_to_exitcode(status))

    def _tell(self, connection: socket.socket, **told: int) -> None:
        with suppress(OSError):  # it is closed
            connection.sendall(json.dumps(told).encode() + b"\n")


def _become_server(request: dict[str, Any]) -> NoReturn:
    code: Any = None
    try:
        os.chdir(request["folder"])
        log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        errors = os.open(request["errors"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for file, number in ((nothing, 0), (log, 1), (errors, 2)):
            os.dup2(file, number)
        for file in (log, errors, nothing):
            os.close(file)
        os.environ.clear()
        os.environ.update(request["environment"])
        if folder := os.environ.get(REMEMBERED):
            remember_models(Path(folder))
        sys.argv = ["whisperx-asr", *request["arguments"]]
        if request["script"]:
            runpy.run_path(request["script"], run_name="__main__")
        else:
            runpy.run_module("app.cli", run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code or 0
    finally:
        if code is None:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    main()
