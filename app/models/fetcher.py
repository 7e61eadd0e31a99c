"""ModelFetcher: brings the files of a model into the cache before it is built.

Cached files are used without asking a hub; `refresh` asks for newer ones.
"""

from __future__ import annotations

import inspect
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests
import torchaudio
import yaml
from pyannote.audio.pipelines.speaker_diarization import SpeakerDiarization
from pyannote.audio.utils.hf_hub import AssetFileName
from whisperx.alignment import DEFAULT_ALIGN_MODELS_HF, DEFAULT_ALIGN_MODELS_TORCH

from app.engine.model import ModelKey, ModelKind
from app.models.hub import PIECE_BYTES, Hub
from app.models.hub_files import HubFile, HubFiles
from app.models.pyannote.checkpoints import check_pipeline
from app.models.recognizers.registry import Recognizers

# The files that loading a model reads. Weights are downloaded last: if they are there, all are.
WAV2VEC2_FILES = ("*.json", "*.txt")
WAV2VEC2_WEIGHTS = (  # the first set that the repository has
    ("model.safetensors",),
    ("model-*.safetensors", "model.safetensors.index.json"),
    ("pytorch_model.bin",),
    ("pytorch_model-*.bin", "pytorch_model.bin.index.json"),
)
PLDA_FILES = ("xvec_transform.npz", "plda.npz")


class ModelFetcher:
    def __init__(
        self,
        hub: Hub,
        cache_dir: Path,
        token: str | None,
        torchaudio_url: str,
        recognizers: Recognizers | None = None,
    ) -> None:
        """`torchaudio_url`: the folder with torchaudio's models, or a mirror of it."""
        self._hub = hub
        self._cache_dir = cache_dir
        self._token = token
        self._torchaudio_url = torchaudio_url.rstrip("/")
        self._files = HubFiles(hub, cache_dir, token)
        self._recognizers = recognizers or Recognizers()

    def fetch(self, key: ModelKey, refresh: bool = False) -> str:
        """What the model is loaded from: for a recognizer a folder; for an aligner a folder or the
        name of one of torchaudio's; for a diarizer a folder or a repository in the cache.

        Raises:
            HubError: it is not in the cache and cannot be fetched.
            ModelUnavailable: it is not a model of its kind.
        """
        if key.kind is ModelKind.RECOGNIZER:
            engine = self._recognizers.engine_of(key.source)
            return engine.fetch(key.source, self._files, refresh)
        if key.kind is ModelKind.ALIGNER:
            return self._fetch_aligner(key.language, key.source, refresh)
        if key.kind is ModelKind.DIARIZER:
            self._fetch_diarizer(key.source, refresh)
        return key.source

    # -- aligners --------------------------------------------------------------------------------

    def _fetch_aligner(self, language: str, source: str, refresh: bool) -> str:
        source = source or DEFAULT_ALIGN_MODELS_TORCH.get(language, "")
        source = source or DEFAULT_ALIGN_MODELS_HF[language]
        if source in torchaudio.pipelines.__all__:
            self._fetch_bundle(source)
        elif not Path(source).is_dir():
            return self._files.fetch_folder(source, WAV2VEC2_FILES, WAV2VEC2_WEIGHTS, refresh)
        return source

    def _fetch_bundle(self, name: str) -> None:
        """Fetch one of torchaudio's models to where its loader looks. They never change."""
        path: str = getattr(torchaudio.pipelines, name)._path
        target = self._cache_dir / Path(path).name
        if target.exists():
            return
        self._cache_dir.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(f".{secrets.token_hex(4)}.partial")

        def download() -> None:
            try:
                with (
                    self._hub.session() as session,
                    session.get(f"{self._torchaudio_url}/{path}", stream=True) as response,
                    partial.open("wb") as file,
                ):
                    expected = int(response.headers.get("Content-Length") or 0)
                    for piece in response.iter_content(PIECE_BYTES):
                        file.write(piece)
                if expected and partial.stat().st_size != expected:
                    raise requests.ConnectionError("fewer bytes than announced")
                partial.replace(target)
            finally:
                partial.unlink(missing_ok=True)

        self._hub.fetch(download)

    # -- diarizers -------------------------------------------------------------------------------

    def _fetch_diarizer(self, source: str, refresh: bool) -> None:
        """Fetch the pipeline's description, and the models that it names or uses by default."""
        # as pyannote.audio does: other tokens are keys of its makers' own service
        token = self._token if (self._token or "").startswith("hf_") else None
        if Path(source).exists():
            path = Path(source, AssetFileName.Pipeline.value)
            path = path if Path(source).is_dir() else Path(source)
        else:
            config_file = HubFile(source, AssetFileName.Pipeline.value)
            [path] = self._files.fetch_files([config_file], refresh, token)
        check_pipeline(source, token, self._cache_dir)
        files = list(_pipeline_files(source, yaml.safe_load(path.read_text())))
        self._files.fetch_files(files, refresh, token)


def _pipeline_files(source: str, config: dict[str, Any]) -> Iterator[HubFile]:
    """The files that a diarization pipeline reads from hubs."""
    given = dict(config["pipeline"].get("params") or {})
    if Path(source).is_dir() and not Path(source, "segmentation").exists():
        given["segmentation"] = source  # the one inside whisperx: see `PyannoteDiarizer`
    defaults = inspect.signature(SpeakerDiarization.__init__).parameters
    for part in ("segmentation", "embedding", "plda"):
        model = given.get(part, defaults[part].default)
        names = PLDA_FILES if part == "plda" else (AssetFileName.Model.value,)
        if isinstance(model, str):
            model = {"checkpoint": model}
        repository, folder = str(model["checkpoint"]), model.get("subfolder") or ""
        revision = model.get("revision")
        if repository.startswith("$model/"):
            folder, _, version = repository.removeprefix("$model/").partition("@")
            repository, revision = source, version or None
        if Path(repository).exists():
            continue
        for name in names:
            yield HubFile(repository, f"{folder}/{name}" if folder else name, revision)
