"""The recognizer engines. To add one, write its module and add a line to ENGINES.

This module imports no model library; see `RecognizerEngine`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from app.models.recognizers.engine import RecognizerEngine
from app.models.recognizers.whisper_engine import WhisperEngine

# The first one takes repositories and folders that no other engine claims.
ENGINES: tuple[RecognizerEngine, ...] = (WhisperEngine(),)


class Recognizers:
    """Finds the engine of a model."""

    def __init__(self, engines: Sequence[RecognizerEngine] = ENGINES) -> None:
        self._engines = tuple(engines)

    def model_names(self) -> tuple[str, ...]:
        """All models known by name. Imports the engines' libraries."""
        return tuple(name for engine in self._engines for name in engine.model_names())

    @property
    def aliases(self) -> Mapping[str, str]:
        return {alias: name for engine in self._engines for alias, name in engine.aliases.items()}

    def engine_of(self, source: str) -> RecognizerEngine:
        """The engine of a model's source: a known name, a folder or a repository."""
        return next((e for e in self._engines if _owns(e, source)), self._engines[0])

    def why_not_a_model(self, folder: Path) -> str:
        """What the folder lacks to be a model of any engine; empty if it is one."""
        reasons = [engine.why_not_a_model(folder) for engine in self._engines]
        return "" if None in reasons else "; ".join(filter(None, reasons))


def _owns(engine: RecognizerEngine, source: str) -> bool:
    if Path(source).is_dir():
        return engine.why_not_a_model(Path(source)) is None
    return engine.knows_repository(source) if "/" in source else source in engine.model_names()
