"""A second recognizer engine, added through the registry: one class and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from app.config.settings import load_settings
from app.domain.errors import ConfigurationError, UnsupportedOption
from app.domain.options import Task, TranscribeOptions
from app.domain.transcript import (
    SAMPLE_RATE,
    Audio,
    DecodingStats,
    Hypothesis,
    LanguageGuess,
)
from app.engine.model import ModelKind
from app.engine.work import Work
from app.models.protocols import (
    Abilities,
    DetectionItem,
    HypothesisThresholds,
    LanguageGuesses,
    RecognitionItem,
    Recognizer,
)
from app.models.recognizers.engine import BuildOptions
from app.models.recognizers.registry import ENGINES, Recognizers
from app.service.build import build_service, close_service
from app.service.service import Service
from tests.support.media import samples_of
from tests.support.truth import audio_of

SURE, DOUBTED = " Over and out.", " Mayday."


class Parrot:
    """Says the same whatever it hears, less surely at its first temperature."""

    batch_size = 2
    num_workers = 1
    memory_bytes = 1
    languages = frozenset({"en"})
    abilities = Abilities(temperatures=True)
    thresholds = HypothesisThresholds(
        temperatures=(0.0, 0.5),
        max_compression_ratio=9.0,
        min_avg_logprob=-0.1,  # Whisper's threshold would believe the first answer
        max_no_speech_prob=0.9,
        doubted_no_speech_prob=0.9,
        sure_avg_logprob=-0.1,
        sure_no_speech_prob=0.9,
        unsure_avg_logprob=-0.1,
    )
    brief_s = 0.0

    def __init__(self, options: BuildOptions) -> None:
        self.options = options
        self.tried: list[float] = []

    def batch_key(self, item: RecognitionItem | DetectionItem) -> object:
        return type(item)

    def audio_s(self, item: RecognitionItem | DetectionItem) -> float:
        return len(item.samples) / SAMPLE_RATE

    def run(
        self, items: Sequence[RecognitionItem | DetectionItem]
    ) -> list[Hypothesis | LanguageGuesses]:
        return [self._answer(item) for item in items]

    def _answer(self, item: RecognitionItem | DetectionItem) -> Hypothesis | LanguageGuesses:
        guesses = (LanguageGuess("en", 1.0),)
        if isinstance(item, DetectionItem):
            return guesses
        temperature = item.options.temperature
        self.tried.append(temperature)
        sure = temperature > 0
        stats = DecodingStats(-0.05 if sure else -0.5, 0.0, 1.0, temperature)
        text = SURE if sure else DOUBTED
        return Hypothesis("en", text, (1,), (len(text),), stats, guesses=guesses)

    def close(self) -> None:
        pass


class ParrotEngine:
    name = "parrot"
    aliases: Mapping[str, str] = MappingProxyType({"macaw": "parrot-1"})
    uses_torch = False

    def __init__(self) -> None:
        self.built: list[Parrot] = []
        self.folders: list[str] = []

    def model_names(self) -> tuple[str, ...]:
        return ("parrot-1",)

    def knows_repository(self, repository: str) -> bool:
        return repository.startswith("aviary/")

    def why_not_a_model(self, folder: Path) -> str | None:
        return None if (folder / "feathers").is_file() else "it has no feathers"

    def fetch(self, source: str, files: Any, refresh: bool) -> str:
        return f"nest of {source}"

    def build(self, folder: str, options: BuildOptions) -> Recognizer:
        self.folders.append(folder)
        self.built.append(Parrot(options))
        return self.built[-1]


@pytest.fixture(scope="module")
def engine() -> ParrotEngine:
    return ParrotEngine()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, engine: ParrotEngine) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("registry")
    settings = {
        "asr_model": "demo",
        "batch_size": 3,
        "cache_dir": folder,
        "temp_dir": folder / "tmp",
    }
    built = build_service(load_settings(settings), (*ENGINES, engine))
    yield built
    close_service(built)


def transcribe(service: Service, model: str, **asked: Any) -> Any:
    options = TranscribeOptions(service.catalog.resolve(model), **asked)
    audio = Audio(samples_of(audio_of("en_short")))
    return service.transcriber.transcribe(audio, options, Work("registry", 60))


@pytest.mark.parametrize("language", ["en", None])
def test_its_models_are_offered_and_answer(
    service: Service, engine: ParrotEngine, language: str | None
) -> None:
    assert "parrot-1" in service.catalog.names
    transcript = transcribe(service, "macaw", language=language)
    assert transcript.model == "parrot-1"
    assert transcript.language == "en"
    assert {segment.text for segment in transcript.segments} == {SURE}
    assert engine.folders == ["nest of parrot-1"], "loaded once"
    assert engine.built[0].options.batch_size == 3
    names = {key.name for key in service.models.loaded() if key.kind is ModelKind.RECOGNIZER}
    assert "parrot-1" in names


def test_its_own_thresholds_apply(service: Service, engine: ParrotEngine) -> None:
    transcribe(service, "parrot-1", language="en")
    tried = engine.built[0].tried
    tried.clear()
    transcribe(service, "parrot-1", language="en")
    assert set(tried) == {0.0, 0.5}, "Whisper's would believe the first answer"


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ({"task": Task.TRANSLATE}, "task"),
        ({"initial_prompt": "Polly"}, "initial_prompt"),
        ({"hotwords": "Polly"}, "hotwords"),
        ({"with_token_probs": True}, "include"),
        ({"language": "es"}, "language"),
    ],
)
def test_what_it_cannot_do_is_refused(service: Service, asked: dict[str, Any], name: str) -> None:
    with pytest.raises(UnsupportedOption, match=f"^{name}: the model parrot-1 does not"):
        transcribe(service, "parrot-1", **{"language": "en", **asked})
    assert transcribe(service, "parrot-1", language="en", temperature=0.5).segments


def test_whisper_is_as_before_beside_it(service: Service) -> None:
    transcript = transcribe(service, "demo", language="en", initial_prompt="Hello.")
    assert transcript.segments
    assert SURE not in {segment.text for segment in transcript.segments}


def test_each_source_has_one_engine(tmp_path: Path) -> None:
    parrot = ParrotEngine()
    recognizers = Recognizers((*ENGINES, parrot))
    (tmp_path / "feathers").touch()
    assert recognizers.engine_of(str(tmp_path)) is parrot
    assert recognizers.engine_of("aviary/anything") is parrot
    assert recognizers.engine_of("parrot-1") is parrot
    assert recognizers.engine_of("openai/whisper") is ENGINES[0]
    assert recognizers.engine_of("somebody/model") is ENGINES[0], "nobody else claims it"
    assert recognizers.why_not_a_model(tmp_path) == ""


def test_a_folder_of_no_engine_ends_the_start(tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    settings = {"asr_model": str(tmp_path / "nothing"), "cache_dir": tmp_path / "cache"}
    with pytest.raises(ConfigurationError, match=r"model\.bin.*; it has no feathers\.$"):
        build_service(load_settings(settings), (*ENGINES, ParrotEngine()))
