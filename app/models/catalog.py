"""Which models there are: names and aliases -> what to load. Loads nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from app.domain.errors import ConfigurationError, UnknownModel
from app.engine.model import ModelKey

DEMO = "demo"
DEMO_LANGUAGES = ("en", "es")
COMMUNITY_PIPELINE = "pyannote/speaker-diarization-community-1"

ALIASES = {
    "whisper-1": "large-v3",
    "whisper-large-v3": "large-v3",
    "whisper-large-v3-turbo": "large-v3-turbo",
    "whisper-large-v2": "large-v2",
    "large": "large-v3",
    "turbo": "large-v3-turbo",
}


# What OpenAI calls its own models; here they are the default model unless the operator says else.
OPENAI_NAMES = (
    "whisper-1",
    "gpt-transcribe",
    "gpt-4o-transcribe",
    "gpt-4o-mini-transcribe",
    "gpt-4o-transcribe-diarize",
)


class Catalog:
    """The models that this service offers; nothing else is ever loaded."""

    def __init__(
        self,
        known: tuple[str, ...],
        demo_dir: Path,
        default_model: str,
        allowed: tuple[str, ...] = (),
        align_models: Mapping[str, str] | None = None,
        align_languages: frozenset[str] = frozenset(),
        diarization_model: str = "",
    ) -> None:
        """`known`: names of faster-whisper; `align_languages`: those whisperx has aligners for.

        Raises:
            ConfigurationError: a name that is none, or a default model that is not allowed.
        """
        self._demo_dir = demo_dir
        self._align_models = dict(align_models or {})
        self._align_languages = align_languages
        self._diarization_model = diarization_model
        self._sources: dict[str, str] = {}
        self._short_names = dict(ALIASES)
        for name in allowed or (*known, DEMO, default_model):
            source = ALIASES.get(name, name)
            if source not in (*known, DEMO) and "/" not in source:
                raise ConfigurationError(
                    f"{_shown(name)} is no model: ASR_MODEL and ALLOWED_MODELS take {DEMO}, "
                    f"{', '.join(known)}, a local path or a hub repository (owner/name)."
                )
            if name.startswith(("/", "./", "../")):
                # a local folder is known by its own name, so that clients see no path
                self._short_names[name] = Path(name).name
            canonical = self._short_names.get(name, name)
            self._sources[canonical] = str(demo_dir / "whisper") if name == DEMO else source
        try:
            self.default_model = self.resolve(default_model)
        except UnknownModel as error:
            raise ConfigurationError(f"ASR_MODEL or PRELOAD_MODEL: {error}") from None
        self.add_openai_names({})

    def add_openai_names(self, models: Mapping[str, str]) -> None:
        """`models`: which ones OpenAI's names stand for, where not for the default.

        Raises:
            ConfigurationError: one that is not offered.
        """
        try:
            meant = {name: self.resolve(model) for name, model in models.items()}
        except UnknownModel as error:
            raise ConfigurationError(f"OPENAI_MODELS: {error}") from None
        for name in (*OPENAI_NAMES, *meant):
            if name not in self._sources:
                self._short_names[name] = meant.get(name, self.default_model)

    @property
    def names(self) -> list[str]:
        """Every model by its canonical name."""
        return sorted(self._sources)

    @property
    def aliases(self) -> dict[str, str]:
        """The other names that models here answer to."""
        return {
            alias: name
            for alias, name in self._short_names.items()
            if name in self._sources and alias not in self._sources and "/" not in alias
        }

    def resolve(self, name: str) -> str:
        """The canonical name.

        Raises:
            UnknownModel: not offered here.
        """
        canonical = self._short_names.get(name.strip(), name.strip())
        if canonical not in self._sources:
            raise UnknownModel(
                f"model: {_shown(name)} is not offered here; it must be one of "
                f"{', '.join(self.names)}."
            )
        return canonical

    def recognizer(self, model: str) -> ModelKey:
        return ModelKey("recognizer", model, self._sources[model])

    def vad(self) -> ModelKey:
        return ModelKey("vad", "pyannote", "bundled")

    def aligner(self, model: str, language: str) -> ModelKey | None:
        """None where there is no aligner for the language."""
        if language in self._align_models:
            return ModelKey("aligner", language, self._align_models[language], language)
        if model == DEMO:
            if language not in DEMO_LANGUAGES:
                return None
            return ModelKey("aligner", f"demo-{language}", str(self._demo_dir / "align"), language)
        if language in self._align_languages:
            return ModelKey("aligner", language, "", language)
        return None

    def diarizer(self, model: str) -> ModelKey:
        source = self._diarization_model
        if not source:
            source = str(self._demo_dir / "diarization") if model == DEMO else COMMUNITY_PIPELINE
        elif source == DEMO:
            source = str(self._demo_dir / "diarization")
        return ModelKey("diarizer", source, source)


def _shown(name: str) -> str:
    """A client's word, safe to repeat."""
    return repr(name[:60])
