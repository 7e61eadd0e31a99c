"""Models that cannot be loaded, run out of memory or break: the request concerned fails with a
clear answer, its neighbours and the next one do not, and nothing needs a restart.
"""

from __future__ import annotations

import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest

from tests.support.faulty_server import MARKS, UNFORESEEN
from tests.support.malice import as_archive, mirror, swap
from tests.support.media import speech
from tests.support.paths import DEMO, ROOT
from tests.support.server import Server, running_server
from tests.support.truth import audio_of, words_of
from tests.support.waiting import eventually

SPARE_BYTES = 64 << 20  # a batch of diarization takes more
SCRIPT = ROOT / "tests" / "support" / "faulty_server.py"
WHISPERX = Path(psutil.__file__).parent.parent / "whisperx"  # found without importing it


@dataclass(frozen=True)
class Models:
    """A service whose model files can be broken and mended while it runs; idle ones are unloaded
    at once. Stages are strict, so that alignment and diarization have errors to show.
    """

    server: Server
    files: dict[str, Path]
    marker: Path  # made by a trapped checkpoint that is executed

    @contextmanager
    def broken(self, kind: str, content: bytes | None) -> Iterator[None]:
        self.wait_until_unloaded()
        path = self.files[kind]
        good = path.readlink()
        swap(path, content)
        try:
            yield
        finally:
            swap(path, None)
            path.symlink_to(good)

    def wait_until_unloaded(self) -> None:
        def unloaded() -> bool:
            log = self.server.log()
            counts = Counter(re.findall(r"\b(loaded|unloaded) the", log))
            return counts["loaded"] == counts["unloaded"]

        eventually(unloaded)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Models]:
    folder = tmp_path_factory.mktemp("models")
    libraries = folder / "libraries"
    mirror(WHISPERX, libraries / "whisperx")  # for the speech detection model that it carries
    whisper = mirror(DEMO / "whisper", folder / "our-whisper")
    align = mirror(DEMO / "align", folder / "align")
    diarization = mirror(DEMO / "diarization", folder / "diarization")
    settings = {
        "ASR_MODEL": whisper,
        "PRELOAD_MODEL": "",
        "ALLOWED_MODELS": f"{whisper}, demo",
        "ALIGN_MODELS": f'{{"en": "{align}"}}',
        "DIARIZATION_MODEL": diarization,
        "MODEL_IDLE_TIMEOUT": "0.05",
        "STRICT_STAGES": "true",
        "PYTHONPATH": f"{libraries}:{ROOT}",
        # an old recipe for whisperx under newer versions of PyTorch: must not matter here
        "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1",
    }
    files = {
        "recognizer": whisper / "model.bin",
        "vad": libraries / "whisperx" / "assets" / "pytorch_model.bin",
        "aligner": align / "model.safetensors",
        "diarizer": diarization / "embedding" / "pytorch_model.bin",
        "pipeline": diarization / "config.yaml",
    }
    with running_server(folder / "service", program=[str(SCRIPT)], **settings) as server:
        yield Models(server, files, folder / "sprung")
        assert server.process.poll() is None
        eventually(lambda: server.temp_files() == [])
        eventually(lambda: server.get("/queue").json() == {"requests": []})


def ask(models: Models, **query: Any) -> httpx.Response:
    query = {"language": "en", "output": "json", "diarize": "true", **query}
    return models.server.post(audio_of("en_short"), timeout_s=120, **query)


def refused(response: httpx.Response, status: int = 503) -> str:
    assert response.status_code == status, response.text
    detail: str = response.json()["detail"]
    assert "/" not in detail
    if status == 503:
        assert int(response.headers["Retry-After"]) > 0
    return detail


def served(response: httpx.Response) -> None:
    assert response.status_code == 200, response.text
    assert response.json()["segments"]
    assert "warnings" not in response.json()


def served_again(models: Models) -> None:
    """After a model was mended. One that took long to fail is only tried again after a rest."""
    response = ask(models)
    if response.status_code == 503:
        time.sleep(int(response.headers["Retry-After"]))
        response = ask(models)
    served(response)


# -- loading -------------------------------------------------------------------------------------

# What each model does without: a request that must go on while that model is broken.
UNCONCERNED: dict[str, dict[str, str] | None] = {
    "recognizer": {"model": "demo"},
    "vad": None,
    "aligner": {"language": "es", "model": "demo"},
    "diarizer": {"diarize": "false"},
    "pipeline": {"diarize": "false"},
}
DAMAGE: dict[str, Callable[[Models, str], bytes | None]] = {
    "missing": lambda models, kind: None,
    "truncated": lambda models, kind: models.files[kind].read_bytes()[:5000],
    "trapped": lambda models, kind: as_archive(models.marker),
}


@pytest.mark.parametrize(
    ("kind", "damage"),
    [
        ("recognizer", "truncated"),
        ("vad", "trapped"),
        ("aligner", "trapped"),
        ("diarizer", "trapped"),
        ("pipeline", "missing"),
    ],
)
def test_a_model_that_cannot_be_loaded(models: Models, kind: str, damage: str) -> None:
    """The same service serves again as soon as the file is whole again."""
    content = DAMAGE[damage](models, kind)
    with models.broken(kind, content):
        detail = refused(ask(models))
        assert "Traceback" not in detail
        unconcerned = UNCONCERNED[kind]
        if unconcerned is not None:
            served(ask(models, **unconcerned))
    assert not models.marker.exists(), "the checkpoint was executed"
    served_again(models)


def test_everybody_who_waits_for_a_broken_model_is_told(models: Models) -> None:
    with models.broken("recognizer", b"no model"), ThreadPoolExecutor(4) as callers:
        for response in callers.map(lambda _: ask(models), range(4)):
            refused(response)
    served_again(models)


# -- running -------------------------------------------------------------------------------------


def marked(fault: str) -> bytes:
    """Raw speech whose first sample asks the models that see it for a fault."""
    samples = (speech("en_short") * 32767).astype("<i2")
    samples[0] = MARKS[fault]
    return bytes(samples.tobytes())


def ask_marked(models: Models, fault: str, **query: Any) -> httpx.Response:
    query = {"encode": "false", "language": "en", "output": "json", "diarize": "true", **query}
    return models.server.post(marked(fault), timeout_s=120, **query)


def test_out_of_memory_in_diarization(models: Models) -> None:
    eventually(lambda: ask(models).status_code == 200)  # models that were slow to fail have a rest
    assert "diarization failed" in refused(ask_marked(models, "torch"))
    served(ask_marked(models, "torch", diarize="false"))
    served(ask(models))


def test_out_of_memory_in_recognition_fails_one_of_a_batch(models: Models) -> None:
    """Its neighbours in the same batch are decoded again without it."""
    faults = ["", "host", "", "ctranslate2", "", "broken", "", "torch"]
    served(ask(models))  # loaded, so that they meet in one batch
    with ThreadPoolExecutor(len(faults)) as callers:
        answers = list(callers.map(lambda f: ask(models, hotwords=f, diarize="false"), faults))
    for fault, response in zip(faults, answers, strict=True):
        if not fault:
            served(response)
        elif fault == "broken":
            assert "singular" not in refused(response, 500)
        else:
            assert "memory" in refused(response)
    served(ask(models))


def test_a_model_that_breaks_on_a_recording(models: Models) -> None:
    detail = refused(ask_marked(models, "broken"), 500)
    assert "singular" not in detail
    eventually(lambda: models.server.mapped_audio() == [])
    served(ask(models))


def test_what_nobody_foresaw(models: Models) -> None:
    """The answer tells nothing but where to look; log and metrics know that it is a fault."""

    def counted() -> float:
        text = models.server.get("/metrics").text
        found = re.search(r'^whisperx_asr_errors_total{kind="InternalError"} (.+)', text, re.M)
        assert found is not None
        return float(found[1])

    before = counted()
    detail = models.server.post(audio_of("en_short"), model=UNFORESEEN).json()["detail"]
    request_id = re.fullmatch(r".* \(its log says why under (\w+)\)\.", detail)
    assert request_id is not None

    def noted() -> bool:
        log = models.server.log().splitlines()
        lines = [x for x in log if request_id[1] in x and " request " in x]
        return any("status=500" in x and "error=InternalError" in x for x in lines)

    eventually(noted)  # it is written after the answer, and counted before that
    assert counted() == before + 1
    served(ask(models))


def test_a_machine_without_memory(models: Models) -> None:
    """The real thing: the process may take so much more address space and not a page beyond it."""
    served(ask(models))
    process = psutil.Process(models.server.process.pid)
    before = process.rlimit(psutil.RLIMIT_AS)
    long = np.tile((speech("en_two") * 32767).astype("<i2"), 4).tobytes()
    process.rlimit(psutil.RLIMIT_AS, (process.memory_info().vms + SPARE_BYTES, before[1]))
    try:
        query = {"encode": "false", "output": "json", "diarize": "true"}
        response = models.server.post(long, timeout_s=300, **query)
        assert response.status_code in (200, 500, 503), response.text
        print(response.status_code, response.text[:200])
        assert models.server.get("/health").status_code == 200
    finally:
        process.rlimit(psutil.RLIMIT_AS, before)
    assert models.server.process.poll() is None
    served(ask(models))


def test_nothing_was_lost_on_the_way(models: Models) -> None:
    """Words and speakers are what they are on a service that never saw a fault."""
    body = ask(models, word_timestamps="true").json()
    spoken = "".join(word["word"] for word in words_of(body))
    assert spoken.strip() == "Can you check the report? The building is late."
    shutil.rmtree(models.marker, ignore_errors=True)


# -- models that take more with them ---------------------------------------------------------------


def test_a_thread_dies_and_a_device_is_lost(tmp_path: Path) -> None:
    """The first is mended by the next request, the second by nothing but another process."""
    diarization = mirror(DEMO / "diarization", tmp_path / "secret" / "diarization")
    settings = {
        "DIARIZATION_MODEL": diarization,
        "STRICT_STAGES": "true",
        "SHUTDOWN_DRAIN_SECONDS": "6",
    }
    with running_server(tmp_path / "service", script=SCRIPT, computing=True, **settings) as server:
        models = Models(server, {}, tmp_path)
        served(ask(models))
        refused(ask_marked(models, "exit"))
        stopped = "The diarizer diarization stopped; the next request reloads it."
        eventually(lambda: server.get("/health").json()["degraded"] == [stopped])
        assert server.get("/health").status_code == 200
        served(ask(models))
        eventually(lambda: server.get("/health").json()["degraded"] == [])
        refused(ask(models, hotwords="exit", diarize="false"))
        served(ask(models))
        refused(ask(models, hotwords="lost", diarize="false"))
        eventually(lambda: server.get("/health").status_code == 503)
        health = server.get("/health").json()
        assert health["status"] == "unhealthy"
        assert health["degraded"] == ["The device is lost to this process."]
        eventually(lambda: server.get("/ready").status_code == 503)
        assert server.process.wait(60) == 1
