"""Whisper as an engine: model names and files, without its libraries."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from app.models.protocols import Recognizer
from app.models.recognizers.engine import BuildOptions

if TYPE_CHECKING:
    from app.models.hub_files import HubFiles


ALIASES = MappingProxyType(
    {
        "whisper-1": "large-v3",
        "whisper-large-v3": "large-v3",
        "whisper-large-v3-turbo": "large-v3-turbo",
        "whisper-large-v2": "large-v2",
        "large": "large-v3",
        "turbo": "large-v3-turbo",
    }
)

WEIGHTS_FILE = "model.bin"
FILES = ("config.json", "preprocessor_config.json", "tokenizer.json", "vocabulary.*")
WEIGHTS = ((WEIGHTS_FILE,),)
TOKENIZERS = {True: "openai/whisper-tiny", False: "openai/whisper-tiny.en"}  # by multilingual
MULTILINGUAL_VOCABULARY = 51865  # tokens at least. Source: is_multilingual in CTranslate2


class WhisperEngine:
    """Implements `RecognizerEngine` with faster-whisper's models in CTranslate2 format."""

    name = "whisper"
    aliases: Mapping[str, str] = ALIASES
    uses_torch = False

    def model_names(self) -> tuple[str, ...]:
        from faster_whisper.utils import available_models  # without PyTorch

        return tuple(available_models())

    def knows_repository(self, repository: str) -> bool:
        return "whisper" in repository.lower()

    def why_not_a_model(self, folder: Path) -> str | None:
        if (folder / WEIGHTS_FILE).is_file():
            return None
        return f"it has no {WEIGHTS_FILE}, which a model in CTranslate2 format has"

    def fetch(self, source: str, files: HubFiles, refresh: bool) -> str:
        from faster_whisper.utils import _MODELS as REPOSITORIES

        folder = source
        if not Path(source).is_dir():
            repository = REPOSITORIES.get(source, source)
            folder = files.fetch_folder(repository, FILES, WEIGHTS, refresh)
        if not Path(folder, "tokenizer.json").is_file():
            # then faster-whisper takes OpenAI's, from the libraries' own cache
            tokenizer = TOKENIZERS[_is_multilingual(Path(folder))]
            files.fetch_shared(tokenizer, "tokenizer.json", refresh)
        return folder

    def build(self, folder: str, options: BuildOptions) -> Recognizer:
        from app.models.recognizers.whisper import WhisperRecognizer

        return WhisperRecognizer(
            folder,
            options.device,
            options.compute_type,
            options.cpu_threads,
            options.batch_size,
        )


def _is_multilingual(folder: Path) -> bool:
    """By the size of a Whisper model's vocabulary."""
    if (listed := folder / "vocabulary.json").is_file():
        return len(json.loads(listed.read_text(encoding="utf-8"))) >= MULTILINGUAL_VOCABULARY
    lines = folder / "vocabulary.txt"
    return not lines.is_file() or lines.read_bytes().count(b"\n") >= MULTILINGUAL_VOCABULARY
