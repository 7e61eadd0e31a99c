"""A process that has imported the libraries of the service, and forks servers: an import takes most
of a start, so each server of the tests would cost some ten seconds of a CPU, and costs one or two.

Requests come as JSON objects, one a line, to its input; its output says which process began, and
how each ended. When its input ends, so do its servers.
"""

from __future__ import annotations

import gc
import json
import os
import queue
import runpy
import selectors
import signal
import subprocess
import sys
import threading
import traceback
import warnings
from collections.abc import Iterable
from contextlib import suppress
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
    def __init__(self, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.forge"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
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
        assert self._process.stdin is not None
        with self._lock:
            print(json.dumps(request), file=self._process.stdin, flush=True)
            return self._begun.get(timeout=300)

    def _listen(self) -> None:
        assert self._process.stdout is not None
        servers: dict[int, Forked] = {}
        for line in self._process.stdout:
            told = json.loads(line)
            if "begun" in told:
                servers[told["begun"]] = begun = Forked(told["begun"])
                self._begun.put(begun)
            else:
                servers.pop(told["ended"]).end(told["returncode"])

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


# -- in the process that forks -------------------------------------------------------------------


def main() -> None:
    from app.config.environment import prepare_environment
    from app.config.settings import load_settings

    prepare_environment(load_settings())
    with warnings.catch_warnings(action="ignore"):
        for library in LIBRARIES:
            import_module(library)
    gc.collect()
    gc.freeze()  # else each server looks through all of it, and copies what it marks
    # what libraries print goes elsewhere: this is for answers only
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    reading, waking = os.pipe()
    os.set_blocking(waking, False)
    signal.set_wakeup_fd(waking)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    alive: set[int] = set()
    with selectors.DefaultSelector() as selector:
        ours = (reading, waking, answers.fileno(), selector.fileno())
        selector.register(0, selectors.EVENT_READ)
        selector.register(reading, selectors.EVENT_READ)
        pending = b""
        while True:
            ready = {key.fd for key, _ in selector.select()}
            if reading in ready:
                os.read(reading, 4096)
                _reap(alive, answers)
            if 0 in ready:
                received = os.read(0, 1 << 20)
                if not received:
                    break
                *requests, pending = (pending + received).split(b"\n")
                for request in requests:
                    pid = os.fork()
                    if pid == 0:
                        _become_server(json.loads(request), ours)
                    alive.add(pid)
                    print(json.dumps({"begun": pid}), file=answers, flush=True)
    for pid in alive:
        os.kill(pid, signal.SIGKILL)


def _reap(alive: set[int], answers: Any) -> None:
    for pid in list(alive):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            alive.discard(pid)
            told = {"ended": pid, "returncode": os.waitstatus_to_exitcode(status)}
            print(json.dumps(told), file=answers, flush=True)


def _become_server(request: dict[str, Any], not_for_it: Iterable[int]) -> NoReturn:
    code: Any = None
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.chdir(request["folder"])
        log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        errors = os.open(request["errors"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for file, number in ((nothing, 0), (log, 1), (errors, 2)):
            os.dup2(file, number)
        for file in (log, errors, nothing, *not_for_it):
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
