"""HubFiles: files of a hub's repositories in the cache.

Cached files are used without asking the hub; `refresh` asks for newer ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from huggingface_hub import HfApi, hf_hub_download, try_to_load_from_cache

from app.models.hub import Hub, HubError

NO_WEIGHTS = "the model's repository has no weights of a kind that can be loaded."


@dataclass(frozen=True, slots=True)
class HubFile:
    repository: str
    name: str
    revision: str | None = None


class HubFiles:
    def __init__(self, hub: Hub, cache_dir: Path, token: str | None) -> None:
        self._hub = hub
        self._cache_dir = cache_dir
        self._token = token

    def fetch_folder(
        self,
        repository: str,
        patterns: tuple[str, ...],
        weights: tuple[tuple[str, ...], ...],
        refresh: bool,
    ) -> str:
        """The folder of a repository's files in the cache.

        `patterns`: files that the libraries read; `weights`: alternative sets of files, of which
        the first that exists is taken.
        """
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
        config = self._find(HubFile(repository, "config.json"), self._cache_dir)
        if config is None:
            return None
        names = [path.name for path in config.parent.iterdir()]
        # an index of weights was downloaded last
        complete = any(any(fnmatch(n, kind[-1]) for n in names) for kind in weights)
        return config.parent if complete else None

    def fetch_shared(self, repository: str, name: str, refresh: bool) -> None:
        """Fetch a file into the libraries' own cache, from which they read it unasked."""
        self._fetch_files([HubFile(repository, name)], refresh, None, self._token)

    def fetch_files(self, files: Iterable[HubFile], refresh: bool, token: str | None) -> list[Path]:
        """The files in the cache."""
        return self._fetch_files(files, refresh, self._cache_dir, token)

    def _fetch_files(
        self, files: Iterable[HubFile], refresh: bool, cache_dir: Path | None, token: str | None
    ) -> list[Path]:
        """`cache_dir` None: the libraries' own cache."""
        wanted = list(files)
        cached = [None if refresh else self._find(file, cache_dir) for file in wanted]
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

    def _find(self, file: HubFile, cache_dir: Path | None) -> Path | None:
        path = try_to_load_from_cache(
            file.repository, file.name, cache_dir=cache_dir, revision=file.revision
        )
        return Path(path) if isinstance(path, str) else None

    def _partial_bytes(self, repositories: Iterable[str]) -> int:
        """The size of files that are being downloaded, by any process."""
        folders = [self._cache_dir / f"models--{r.replace('/', '--')}" for r in repositories]
        return sum(_size(file) for f in folders for file in f.glob("blobs/*.incomplete"))


def _matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether a file at the top of a repository matches."""
    return "/" not in name and any(fnmatch(name, pattern) for pattern in patterns)


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:  # the download has completed
        return 0
