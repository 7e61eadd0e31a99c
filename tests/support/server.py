"""Known truth, and a server with the demo models to hold against it."""

from __future__ import annotations

import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import httpx
import jiwer
import numpy as np

from app.cli import free_port
from app.engine.batching import Batcher
from app.engine.model import ModelKey

DATA = Path(__file__).parent / "data"
ROOT = Path(__file__).parent.parent
DEMO = ROOT / "app" / "demo"
START_TIMEOUT_S = 120

# A client's environment must not change what the tests see.
CLEAN = (
    "ASR_", "HF_", "DIARIZ", "MODEL", "DEVICE", "MAX_", "SUBTITLE_", "PRELOAD", "DEFAULT_",
    "API_KEYS", "OPS_", "RATE_LIMIT_", "CORS_", "TRUSTED_", "FORWARDED_",
    "LOG_", "OTEL_",
    "TORCH_FORCE_", "WORD_ALIGNER", "ALIGN_",
)  # fmt: skip


@dataclass(frozen=True)
class Server:
    """A running service. `post` sends a file to /asr."""

    url: str
    process: subprocess.Popen[bytes]
    folder: Path

    def post(
        self,
        file: Path | bytes,
        endpoint: str = "/asr",
        name: str = "audio.flac",
        fields: dict[str, str] | None = None,
        timeout_s: float = 600,
        **query: Any,
    ) -> httpx.Response:
        """`query` as query parameters, `fields` as form fields."""
        content = file.read_bytes() if isinstance(file, Path) else file
        return httpx.post(
            self.url + endpoint,
            params={key: str(value) for key, value in query.items()},
            data=fields,
            files={"audio_file": (name, content)},
            timeout=timeout_s,
            verify=False,  # spares the loading of certificates for each call
        )

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, timeout=30, verify=False)

    def temp_files(self) -> list[Path]:
        """Uploads and decoded audio that lie about."""
        return [p for p in (self.folder / "tmp").rglob("*") if p.is_file() and p.name != "lock"]

    def mapped_audio(self) -> list[str]:
        """Decoded audio that the process has mapped; its files are unlinked at once."""
        maps = Path(f"/proc/{self.process.pid}/maps").read_text()
        return [line for line in maps.splitlines() if ".f32" in line]

    def log(self) -> str:
        return (self.folder / "log").read_text()


def server_environment(folder: Path, **settings: Any) -> dict[str, str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(CLEAN)}
    return {
        **clean,
        "ASR_MODEL": "demo",
        "PRELOAD_MODEL": "demo",
        "HF_HUB_OFFLINE": "1",
        "CACHE_DIR": str(folder / "cache"),
        "TEMP_DIR": str(folder / "tmp"),
        "SHUTDOWN_DRAIN_SECONDS": "0",
        **{key: str(value) for key, value in settings.items()},
    }


@contextmanager
def running_server(
    folder: Path,
    program: Sequence[str] = ("-m", "app.cli"),
    *,
    port: int | None = None,
    **settings: Any,
) -> Iterator[Server]:
    """The service as users start it, with the demo models and these settings."""
    port = port or free_port()
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, *program, "serve", "--host", "127.0.0.1"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--port", str(port)],
            cwd=folder,
            env=server_environment(folder, **settings),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    server = Server(f"http://127.0.0.1:{port}", process, folder)
    try:
        wait_until_ready(server)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def ended_start(
    folder: Path, timeout_s: float = 60, **settings: Any
) -> subprocess.CompletedProcess[str]:
    """What a start says that ends by itself."""
    return subprocess.run(
        [sys.executable, "-m", "app.cli", "serve"],
        env=server_environment(folder, **settings),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def wait_until_ready(server: Server) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            break
        try:
            if httpx.get(server.url + "/ready", timeout=5, verify=False).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"the service did not start:\n{server.log()[-3000:]}")


def kill_thread(thread: threading.Thread) -> None:
    """Have a thread end with SystemExit at its next step, as some libraries do."""
    assert thread.ident is not None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit)
    )


def eventually(condition: Callable[[], bool], patience_s: float = 20) -> None:
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, "never so"
        time.sleep(0.02)


# -- truth ---------------------------------------------------------------------------------------


def audio_of(name: str) -> Path:
    return DATA / f"{name}.flac"


def truth_of(name: str) -> dict[str, Any]:
    """language, duration, speakers, sentences, turns and words of a conversation."""
    truth: dict[str, Any] = json.loads((DATA / f"{name}.json").read_text())
    return truth


def normalize(text: str) -> list[str]:
    """The words of a text, without case and punctuation."""
    return re.findall(r"[\w'’]+", text.lower())


def words_of(body: dict[str, Any]) -> list[dict[str, Any]]:
    return [word for segment in body["segments"] for word in segment.get("words", [])]


def word_error_rate(reference: Iterable[str] | str, hypothesis: Iterable[str] | str) -> float:
    def text(words: Iterable[str] | str) -> str:
        return " ".join(normalize(words if isinstance(words, str) else " ".join(words)))

    return float(jiwer.wer(text(reference), text(hypothesis)))


def matched_words(
    reference: Sequence[dict[str, Any]], hypothesis: Sequence[dict[str, Any]]
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Pairs of the same word in truth and transcript."""
    expected = " ".join(normalize(w["word"])[0] for w in reference)
    spoken = [w for w in hypothesis if normalize(w["word"])]
    found = " ".join("".join(normalize(w["word"])) for w in spoken)
    pairs = []
    for step in jiwer.process_words(expected, found).alignments[0]:
        if step.type == "equal":
            pairs += zip(
                reference[step.ref_start_idx : step.ref_end_idx],
                spoken[step.hyp_start_idx : step.hyp_end_idx],
                strict=True,
            )
    return pairs


def median_start_error_s(
    reference: Sequence[dict[str, Any]], hypothesis: Sequence[dict[str, Any]]
) -> float:
    errors = [abs(t["start"] - h["start"]) for t, h in matched_words(reference, hypothesis)]
    return float(np.median(errors))


def speaker_accuracy(
    reference: Sequence[dict[str, Any]], hypothesis: Sequence[dict[str, Any]]
) -> float:
    """The share of words with the right speaker, labels matched as well as possible."""
    pairs = [(t["speaker"], h.get("speaker")) for t, h in matched_words(reference, hypothesis)]
    names = sorted({t for t, _ in pairs})
    labels = sorted({h for _, h in pairs if h is not None})
    labels += [f"nobody {i}" for i in range(len(names) - len(labels))]
    best = max(
        sum(dict(zip(chosen, names, strict=True)).get(h) == t for t, h in pairs)
        for chosen in permutations(labels, len(names))
    )
    return best / len(pairs)


class ScriptedStore:
    """Lends a scripted model for recognition and alignment, and real speech detection."""

    def __init__(self, real: Any, scripted: Batcher[Any]) -> None:
        self._real = real
        self._scripted = scripted

    def lease(self, key: ModelKey, wait: Any = None) -> Any:
        return self._real.lease(key) if key.kind == "vad" else nullcontext(self._scripted)
