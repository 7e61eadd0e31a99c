"""The models that the service offers: names and aliases -> what to load. Loads nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from app.domain.errors import ConfigurationError, UnknownModel
from app.engine.model import ModelKey, ModelKind
from app.models.names import short_names

DEMO = "demo"
DEMO_LANGUAGES = ("en", "es")
COMMUNITY_PIPELINE = "pyannote/speaker-diarization-community-1"

# OpenAI's names for its models. Here they mean the default model, unless the operator sets another.
OPENAI_NAMES = (
    "whisper-1",
    "gpt-transcribe",
    "gpt-4o-transcribe",
    "gpt-4o-mini-transcribe",
    "gpt-4o-transcribe-diarize",
    "gpt-realtime-whisper",
    "gpt-live-transcribe",
)


@dataclass(frozen=True, slots=True)
class KnownModels:
    """What the libraries know. `aliases`: other names of `recognizers`."""

    recognizers: tuple[str, ...]
    aliases: Mapping[str, str] = field(default_factory=dict)
    align_languages: frozenset[str] = frozenset()


class Catalog:
    """The models that this service offers; nothing else is ever loaded."""

    def __init__(
        self,
        known: KnownModels,
        demo_dir: Path,
        default_model: str,
        allowed: tuple[str, ...] = (),
        align_models: Mapping[str, str] | None = None,
        diarization_model: str = "",
    ) -> None:
        """`align_models`: by language.

        Raises:
            ConfigurationError: a name that is not a model, or a default model that is not allowed.
        """
        self._demo_dir = demo_dir
        self._align_models = dict(align_models or {})
        self._align_languages = known.align_languages
        self._diarization_model = diarization_model
        self._sources: dict[str, str] = {}
        self._short_names = dict(known.aliases)
        for given in allowed or (*known.recognizers, DEMO, default_model):
            name = _loadable(given, known)
            source = known.aliases.get(name, name)
            if source not in (*known.recognizers, DEMO) and "/" not in source:
                raise ConfigurationError(
                    f"{_shown(name)} is not a model: ASR_MODEL and ALLOWED_MODELS take {DEMO}, "
                    f"{', '.join(known.recognizers)}, "
                    "a local path or a hub repository (owner/name)."
                )
            if name.startswith(("/", "./", "../")):
                # clients see the name of a local folder, not its path
                self._short_names[name] = Path(name).name
            canonical = self._short_names.get(name, name)
            self._sources[canonical] = str(demo_dir / "whisper") if name == DEMO else source
        self._repositories = self._repository_names(known)
        try:
            self.default_model = self.resolve(default_model)
        except UnknownModel as error:
            raise ConfigurationError(f"ASR_MODEL or PRELOAD_MODEL: {error}") from None
        self.add_openai_names({})

    def add_openai_names(self, models: Mapping[str, str]) -> None:
        """`models`: what OpenAI's names stand for, if not for the default model.

        Raises:
            ConfigurationError: a model that is not offered.
        """
        try:
            meant = {name: self.resolve(model) for name, model in models.items()}
        except UnknownModel as error:
            raise ConfigurationError(f"OPENAI_MODELS or OPENAI_WHISPER1_MODEL: {error}") from None
        for name in (*OPENAI_NAMES, *meant):
            if name not in self._sources:
                self._short_names[name] = meant.get(name, self.default_model)

    @property
    def names(self) -> list[str]:
        """The canonical names of all models."""
        return sorted(self._sources)

    @property
    def aliases(self) -> dict[str, str]:
        """Other names of the models -> canonical names."""
        return {
            alias: name
            for alias, name in self._short_names.items()
            if name in self._sources and alias not in self._sources and "/" not in alias
        }

    def resolve(self, name: str) -> str:
        """The canonical name of a model that is offered, whatever clients call it.

        Raises:
            UnknownModel: it is not offered here.
        """
        for called in (name.strip(), *short_names(name)):
            canonical = self._short_names.get(called, called)
            canonical = self._repositories.get(canonical, canonical)
            if canonical in self._sources:
                return canonical
        raise UnknownModel(
            f"model: {_shown(name)} is not offered here; it must be one of {', '.join(self.names)}."
        )

    def _repository_names(self, known: KnownModels) -> dict[str, str]:
        """Names that the libraries know -> the repositories on offer that hold the same models."""
        repositories = {}
        for name in filter(lambda name: "/" in name, self._sources):
            for short in short_names(name):
                known_name = known.aliases.get(short, short)
                if known_name in known.recognizers and known_name not in self._sources:
                    repositories[known_name] = name
        return repositories

    def recognizer(self, model: str) -> ModelKey:
        return ModelKey(ModelKind.RECOGNIZER, model, self._sources[model])

    def vad(self) -> ModelKey:
        return ModelKey(ModelKind.VAD, "pyannote", "bundled")

    def aligner(self, model: str, language: str) -> ModelKey | None:
        """None if there is no aligner for the language."""
        if language in self._align_models:
            return ModelKey(ModelKind.ALIGNER, language, self._align_models[language], language)
        if model == DEMO:
            if language not in DEMO_LANGUAGES:
                return None
            return ModelKey(
                ModelKind.ALIGNER, f"demo-{language}", str(self._demo_dir / "align"), language
            )
        if language in self._align_languages:
            return ModelKey(ModelKind.ALIGNER, language, "", language)
        return None

    def diarizer(self, model: str) -> ModelKey:
        source = self._diarization_model
        if not source:
            source = str(self._demo_dir / "diarization") if model == DEMO else COMMUNITY_PIPELINE
        elif source == DEMO:
            source = str(self._demo_dir / "diarization")
        return ModelKey(ModelKind.DIARIZER, source, source)


def _loadable(name: str, known: KnownModels) -> str:
    """The library's name for a model that an operator calls as clients do. OpenAI's repositories
    hold the models in another format, so their names stand for the library's, too.
    """
    if name in known.recognizers or ("/" in name and not name.lower().startswith("openai/")):
        return name
    names = (known.aliases.get(short, short) for short in (name, *short_names(name)))
    return next((short for short in names if short in known.recognizers), name)


def _shown(name: str) -> str:
    """A client's text, safe to repeat."""
    return repr(name[:60])
