"""The service as its command line starts it, but that its models remember what they answered.

Many tests send the same recordings and look at different properties of the answers. A model's
answer follows from its item alone, so each is computed once in a run of the tests, by whichever
server comes first; the rest of the service works as ever. Not for tests of how work is done: its
batches, its order, how long it takes, how it ends.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

REMEMBERED = "REMEMBERED"  # names the folder of the answers
# Settings that say which models there are, as a model's key does, or that are a server's own
OF_KEYS = {
    "asr_model", "preload_model", "allowed_models", "align_models", "word_aligner",
    "diarization_model", "cache_dir",
}  # fmt: skip


def remembering(
    run: Callable[[Sequence[Any]], list[Any]], identity: str, folder: Path
) -> Callable[[Sequence[Any]], list[Any]]:
    """A model's `run` that computes only what no file in `folder` has."""

    def remembering_run(items: Sequence[Any]) -> list[Any]:
        files = [folder / _digest(identity, item) for item in items]
        missing = [i for i, file in enumerate(files) if not file.exists()]
        if missing:
            outcomes = run([items[i] for i in missing])
            for i, outcome in zip(missing, outcomes, strict=True):
                _write(files[i], outcome)
        return [pickle.loads(file.read_bytes()) for file in files]

    return remembering_run


def _digest(identity: str, item: Any) -> str:
    return hashlib.sha256(identity.encode() + pickle.dumps(item)).hexdigest()


def _write(file: Path, outcome: Any) -> None:
    """At once: another server may look for it."""
    part = file.with_suffix(f".{os.getpid()}")
    part.write_bytes(pickle.dumps(outcome))
    part.replace(file)


def main() -> int:
    from app.cli import main as serve
    from app.config.devices import DeviceSettings
    from app.config.diarization import DiarizationSettings
    from app.config.environment import prepare_environment
    from app.config.models import ModelSettings
    from app.config.settings import load_settings
    from app.config.transcription import TranscriptionSettings

    settings = load_settings()
    prepare_environment(settings)
    from app.models.builders import ModelBuilders

    groups = (ModelSettings, DeviceSettings, TranscriptionSettings, DiarizationSettings)
    names = {name for group in groups for name in group.model_fields} - OF_KEYS
    same = settings.model_dump_json(include=names)
    folder = Path(os.environ[REMEMBERED])
    build = ModelBuilders.build

    def build_remembering(self: ModelBuilders, key: Any, source: str) -> Any:
        model: Any = build(self, key, source)
        model.run = remembering(model.run, f"{key} {source} {same}", folder)
        return model

    ModelBuilders.build = build_remembering  # type: ignore[method-assign]
    return serve()


if __name__ == "__main__":
    sys.exit(main())
