"""The service with models that fail on demand, started as its command line is.

What real models do not do on command: run out of memory, or break on one recording. The weights,
the libraries and everything around them are the real ones; a request asks for its fault by what it
carries: hotwords for recognition, a first sample for what sees the recording, a name for both. The
model `unforeseen` breaks the handling of the request itself.
"""

from __future__ import annotations

import gc
import json
import signal
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

FAULTS: dict[str, Callable[[], BaseException]] = {
    "host": MemoryError,
    "ctranslate2": lambda: RuntimeError("CUDA failed with error out of memory"),
    "torch": lambda: RuntimeError(
        "[enforce fail at alloc_cpu.cpp:119] err == 0. DefaultCPUAllocator: can't allocate memory: "
        "you tried to allocate 4096000000 bytes. Error code 12 (Cannot allocate memory)"
    ),
    "broken": lambda: ValueError("/secret/path: matrix is singular"),
    "exit": SystemExit,  # some libraries do; it ends the model's thread
    "lost": lambda: RuntimeError("CUDA error: an illegal memory access was encountered"),
}
OF_STREAMS = ("Task", "LiveConnection", "LiveSession", "StreamConnection", "Sound")
COUNTED = "counted objects:"  # after SIGUSR2
UNFORESEEN = "unforeseen"
BROKEN_SOUND = b"\x00\x00\x60\x40"  # the float 3.5, louder than any sound: breaks a live session
READ_TIMEOUT_S = 3.0  # for clients of streams
MARKS = {name: 1000 + index for index, name in enumerate(FAULTS)}  # of a 16-bit first sample


def fault_of(item: Any) -> str | None:
    """The fault that an item of a model's batch asks for."""
    options = getattr(item, "options", None)
    if options is not None:
        return options.hotwords if options.hotwords in FAULTS else None
    first = round(float(item.samples[0]) * 32768)
    return next((name for name, mark in MARKS.items() if mark == first), None)


def failing(run: Callable[[Any, Sequence[Any]], Any]) -> Callable[[Any, Sequence[Any]], Any]:
    def failing_run(self: Any, items: Sequence[Any]) -> Any:
        for item in items:
            if fault := fault_of(item):
                raise FAULTS[fault]()
        return run(self, items)

    return failing_run


def resolving(resolve: Callable[[Any, str], str]) -> Callable[[Any, str], str]:
    def failing_resolve(self: Any, name: str) -> str:
        if name == UNFORESEEN:
            raise KeyError("/secret/path")
        return resolve(self, name)

    return failing_resolve


def hearing(hear: Callable[[Any, bytes], Any]) -> Callable[[Any, bytes], Any]:
    def failing_hear(self: Any, data: bytes) -> Any:
        if data.startswith(BROKEN_SOUND):
            raise ValueError("/secret/path")
        return hear(self, data)

    return failing_hear


def count_objects(*signal: Any) -> None:
    """Log how many objects live that belong to a stream."""
    gc.collect()
    counts = Counter(type(one).__name__ for one in gc.get_objects())
    held = json.dumps({name: counts[name] for name in OF_STREAMS})
    print(f"{COUNTED} {held}", flush=True)


def main() -> int:
    from app.cli import main as serve
    from app.config.environment import prepare_environment
    from app.config.settings import load_settings

    prepare_environment(load_settings())
    from app.live.sound import Sound
    from app.models import catalog
    from app.models.pyannote import diarizer
    from app.models.recognizers import whisper as recognizer
    from app.serving import streams

    signal.signal(signal.SIGUSR2, count_objects)
    streams.READ_TIMEOUT_S = READ_TIMEOUT_S
    Sound.hear = hearing(Sound.hear)  # type: ignore[method-assign]
    catalog.Catalog.resolve = resolving(catalog.Catalog.resolve)  # type: ignore[method-assign]
    for model in (diarizer.PyannoteDiarizer, recognizer.WhisperRecognizer):
        model.run = failing(model.run)  # type: ignore[attr-defined, assignment]
    return serve()


if __name__ == "__main__":
    sys.exit(main())
