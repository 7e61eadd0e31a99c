"""ModelFetcher: has the files of a model in the cache before anybody builds it.

What is in the cache is used as it is, without asking any hub; `refresh` asks.
"""

from __future__ import annotations

import inspect
import json
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import requests
import torchaudio
import yaml
from faster_whisper.utils import _MODELS as WHISPER_REPOSITORIES
from huggingface_hub import HfApi, hf_hub_download, try_to_load_from_cache
from pyannote.audio.pipelines.speaker_diarization import SpeakerDiarization
from pyannote.audio.utils.hf_hub import AssetFileName
from whisperx.alignment import DEFAULT_ALIGN_MODELS_HF, DEFAULT_ALIGN_MODELS_TORCH

from app.engine.model import ModelKey
from app.models.hub import PIECE_BYTES, Hub, HubError
from app.models.pyannote.checkpoints import check_pipeline

# What loads a model reads of its repository. Weights come last: where they are, all is.
WHISPER_FILES = ("config.json", "preprocessor_config.json", "tokenizer.json", "vocabulary.*")
WHISPER_WEIGHTS = (("model.bin",),)
WAV2VEC2_FILES = ("*.json", "*.txt")
WAV2VEC2_WEIGHTS = (  # the first kind that there is
    ("model.safetensors",),
    ("model-*.safetensors", "model.safetensors.index.json"),
    ("pytorch_model.bin",),
    ("pytorch_model-*.bin", "pytorch_model.bin.index.json"),
)
PLDA_FILES = ("xvec_transform.npz", "plda.npz")
NO_WEIGHTS = "the model's repository has no weights of a kind that can be loaded."

TOKENIZERS = {True: "openai/whisper-tiny", False: "openai/whisper-tiny.en"}  # by multilingual
MULTILINGUAL_VOCABULARY = 51865  # tokens at least. Source: is_multilingual in CTranslate2


@dataclass(frozen=True, slots=True)
class HubFile:
    repository: str
    name: str
    revision: str | None = None


class ModelFetcher:
    def __init__(self, hub: Hub, cache_dir: Path, token: str | None, torchaudio_url: str) -> None:
        """`torchaudio_url`: of the folder with torchaudio's models, theirs or a mirror's."""
        self._hub = hub
        self._cache_dir = cache_dir
        self._token = token
        self._torchaudio_url = torchaudio_url.rstrip("/")

    def fetch(self, key: ModelKey, refresh: bool = False) -> str:
        """What the model is loaded from: a folder for a recognizer; a folder or the name of one of
        torchaudio's for an aligner; a folder or a repository that is in the cache for a diarizer.

        Raises:
            HubError: it is not in the cache and cannot be fetched.
            ModelUnavailable: it is no model of its kind.
        """
        if key.kind == "recognizer":
            return self._fetch_recognizer(key.source, refresh)
        if key.kind == "aligner":
            return self._fetch_aligner(key.language, key.source, refresh)
        if key.kind == "diarizer":
            self._fetch_diarizer(key.source, refresh)
        return key.source

    # -- recognizers -----------------------------------------------------------------------------

    def _fetch_recognizer(self, source: str, refresh: bool) -> str:
        folder = source
        if not Path(source).is_dir():
            repository = WHISPER_REPOSITORIES.get(source, source)
            folder = self._fetch_folder(repository, WHISPER_FILES, WHISPER_WEIGHTS, refresh)
        if not Path(folder, "tokenizer.json").is_file():
            # faster-whisper takes OpenAI's then, from the libraries' own cache
            tokenizer = HubFile(TOKENIZERS[_is_multilingual(Path(folder))], "tokenizer.json")
            self._fetch_files([tokenizer], refresh, None, self._token)
        return folder

    # -- aligners --------------------------------------------------------------------------------

    def _fetch_aligner(self, language: str, source: str, refresh: bool) -> str:
        source = source or DEFAULT_ALIGN_MODELS_TORCH.get(language, "")
        source = source or DEFAULT_ALIGN_MODELS_HF[language]
        if source in torchaudio.pipelines.__all__:
            self._fetch_bundle(source)
        elif not Path(source).is_dir():
            return self._fetch_folder(source, WAV2VEC2_FILES, WAV2VEC2_WEIGHTS, refresh)
        return source

    def _fetch_bundle(self, name: str) -> None:
        """One of torchaudio's models, to where its loader looks. They never change."""
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
        """The pipeline's description, and the models that it names or takes by default."""
        # pyannote.audio keeps other tokens from the hub, too: they are keys of its makers' service
        token = self._token if (self._token or "").startswith("hf_") else None
        if Path(source).exists():
            path = Path(source, AssetFileName.Pipeline.value)
            path = path if Path(source).is_dir() else Path(source)
        else:
            config_file = HubFile(source, AssetFileName.Pipeline.value)
            [path] = self._fetch_files([config_file], refresh, self._cache_dir, token)
        check_pipeline(source, token, self._cache_dir)
        files = list(_pipeline_files(source, yaml.safe_load(path.read_text())))
        self._fetch_files(files, refresh, self._cache_dir, token)

    # -- repositories ----------------------------------------------------------------------------

    def _fetch_folder(
        self,
        repository: str,
        patterns: tuple[str, ...],
        weights: tuple[tuple[str, ...], ...],
        refresh: bool,
    ) -> str:
        """The folder of a repository's files in the cache."""
        cached = self._cached_folder(repository, weights)
        if cached is not None and not refresh:
            return str(cached)
        api = HfApi(token=self._token)

        def download() -> Path:
            names = [file.rfilename for file in api.model_info(repository).siblings or ()]
            kinds = ([n for n in names if _matches(n, kind)] for kind in weights)
            chosen = next(filter(None, kinds), None)
            if chosen is None:
                raise HubError(NO_WEIGHTS)
            others = [n for n in names if _matches(n, patterns) and n not in chosen]
            files = [HubFile(repository, name) for name in (*others, *sorted(chosen))]
            paths = [self._download(file, self._cache_dir, self._token) for file in files]
            return paths[-1].parent

        return str(self._hub.fetch(download, lambda: self._partial_bytes([repository])))

    def _cached_folder(self, repository: str, weights: tuple[tuple[str, ...], ...]) -> Path | None:
        config = self._cached(HubFile(repository, "config.json"), self._cache_dir)
        if config is None:
            return None
        names = [path.name for path in config.parent.iterdir()]
        # where weights have an index, that came last
        complete = any(any(fnmatch(n, kind[-1]) for n in names) for kind in weights)
        return config.parent if complete else None

    def _fetch_files(
        self, files: Iterable[HubFile], refresh: bool, cache_dir: Path | None, token: str | None
    ) -> list[Path]:
        """The files in the cache; `cache_dir` None: the libraries' own."""
        wanted = list(files)
        cached = [None if refresh else self._cached(file, cache_dir) for file in wanted]
        missing = [file for file, path in zip(wanted, cached, strict=True) if path is None]

        def download() -> dict[HubFile, Path]:
            return {file: self._download(file, cache_dir, token) for file in missing}

        repositories = {file.repository for file in missing}
        fetched = {}
        if missing:
            fetched = self._hub.fetch(download, lambda: self._partial_bytes(repositories))
        return [path or fetched[file] for file, path in zip(wanted, cached, strict=True)]

    def _download(self, file: HubFile, cache_dir: Path | None, token: str | None) -> Path:
        return Path(
            hf_hub_download(
                file.repository, file.name, revision=file.revision, cache_dir=cache_dir, token=token
            )
        )

    def _cached(self, file: HubFile, cache_dir: Path | None) -> Path | None:
        path = try_to_load_from_cache(
            file.repository, file.name, cache_dir=cache_dir, revision=file.revision
        )
        return Path(path) if isinstance(path, str) else None

    def _partial_bytes(self, repositories: Iterable[str]) -> int:
        """Of files that are being downloaded, by whichever process."""
        folders = [self._cache_dir / f"models--{r.replace('/', '--')}" for r in repositories]
        return sum(_size(file) for f in folders for file in f.glob("blobs/*.incomplete"))


def _matches(name: str, patterns: Iterable[str]) -> bool:
    """Only at the top of the repository."""
    return "/" not in name and any(fnmatch(name, pattern) for pattern in patterns)


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:  # it is complete by now
        return 0


def _is_multilingual(folder: Path) -> bool:
    """By the size of a Whisper model's vocabulary."""
    if (listed := folder / "vocabulary.json").is_file():
        return len(json.loads(listed.read_text(encoding="utf-8"))) >= MULTILINGUAL_VOCABULARY
    lines = folder / "vocabulary.txt"
    return not lines.is_file() or lines.read_bytes().count(b"\n") >= MULTILINGUAL_VOCABULARY


def _pipeline_files(source: str, config: dict[str, Any]) -> Iterator[HubFile]:
    """What a diarization pipeline reads from hubs."""
    given = dict(config["pipeline"].get("params") or {})
    if Path(source).is_dir() and not Path(source, "segmentation").exists():
        given["segmentation"] = source  # the one that whisperx carries: see `PyannoteDiarizer`
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
