"""Models that remember what they answered.

Many tests send the same recordings and look at different properties of the answers, or at the way
to them. A model's answer follows from its item alone, so each is computed once in a run of the
tests, by whichever server comes first; the rest of the service works as ever. Not for tests of how
models work: their batches, their order, how long they take, how they end.
"""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tests.support.paths import ROOT

REMEMBERED = "REMEMBERED"  # the variable that names the folder of the answers
# Settings that change what a model answers to the same item, besides those in its key
OF_ANSWERS = {
    "device", "device_index", "compute_type", "align_device", "diarize_device",
    "diarization_threshold", "diarization_min_duration_off", "diarization_params",
}  # fmt: skip

Run = Callable[[Sequence[Any]], list[Any]]


def remembering(
    run: Run, identity: str, folder: Path, heard: Callable[[Any], Any] = lambda item: item
) -> Run:
    """A model's `run` that computes only what no file in `folder` has. `heard`: the part of an item
    that its answer follows from.
    """

    def remembering_run(items: Sequence[Any]) -> list[Any]:
        files = [folder / _digest(identity, heard(item)) for item in items]
        missing = [i for i, file in enumerate(files) if not file.exists()]
        if missing:
            outcomes = run([items[i] for i in missing])
            for i, outcome in zip(missing, outcomes, strict=True):
                _write(files[i], outcome)
        return [pickle.loads(file.read_bytes()) for file in files]

    return remembering_run


def _digest(identity: str, heard: Any) -> str:
    return hashlib.sha256(identity.encode() + pickle.dumps(heard)).hexdigest()


def _write(file: Path, outcome: Any) -> None:
    """At once: another server may look for it."""
    part = file.with_suffix(f".{os.getpid()}")
    part.write_bytes(pickle.dumps(outcome))
    part.replace(file)


def windows_of(model: Any) -> Callable[[Any], Any]:
    """Of an item that is a few windows of a recording: these windows, not the whole recording."""
    window, step = model._window_samples, model._step_samples

    def heard(block: Any) -> Any:
        begin = block.first_window * step
        end = begin + window + (block.num_windows - 1) * step
        return block.samples[begin:end].tobytes(), block.num_windows

    return heard


def wrap_models(wrap: Callable[[Any, Any, str, Any], Run]) -> Callable[[], None]:
    """From now on in this process, each model that is built works by what `wrap` gives for the
    model, its key, its source, and the settings. The last to wrap is the first to be called.
    What this gives ends it.
    """
    from app.models.builders import ModelBuilders

    build = ModelBuilders.build

    def build_wrapped(self: ModelBuilders, key: Any, source: str) -> Any:
        model: Any = build(self, key, source)
        model.run = wrap(model, key, source, self._settings)
        return model

    def end() -> None:
        ModelBuilders.build = build  # type: ignore[method-assign]

    ModelBuilders.build = build_wrapped  # type: ignore[method-assign]
    return end


def remember_models(folder: Path) -> Callable[[], None]:
    """From now on in this process, until what this gives is called."""

    def wrap(model: Any, key: Any, source: str, settings: Any) -> Run:
        return remembering_model(model, key.kind, source, key.language, settings, folder)

    return wrap_models(wrap)


def remembering_model(
    model: Any, kind: str, source: str, language: str, settings: Any, folder: Path
) -> Run:
    """The `run` of a model that was built from `source` with these settings."""
    from app.models.pyannote.windows import WindowModel

    chosen = settings.model_dump_json(include=OF_ANSWERS)
    identity = f"{_code()} {kind} {source} {language} {chosen}"
    more = (windows_of(model),) if isinstance(model, WindowModel) else ()
    return remembering(model.run, identity, folder, *more)


@cache
def _code() -> str:
    """What computes the answers: whoever keeps the folder between runs gets no stale ones."""
    digest = hashlib.sha256()
    for file in sorted((ROOT / "app" / "models").rglob("*.py")):
        digest.update(file.read_bytes())
    digest.update((ROOT / "requirements-dev.lock").read_bytes())
    return digest.hexdigest()
