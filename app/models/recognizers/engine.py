"""What a recognizer engine says of itself: its models' names, their files, and how to build one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from app.models.protocols import Recognizer

if TYPE_CHECKING:
    from app.models.hub_files import HubFiles


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """How the operator wants recognizers to run. `device` as torch names it: "cpu" or "cuda:0"."""

    device: str
    compute_type: str
    cpu_threads: int
    batch_size: int


class RecognizerEngine(Protocol):
    """One engine, without its libraries: only the methods that say so may import them.

    A built `Recognizer` says which languages and options it supports, and its thresholds.
    """

    @property
    def name(self) -> str: ...

    @property
    def aliases(self) -> Mapping[str, str]:
        """Other names of its models -> their names."""

    @property
    def uses_torch(self) -> bool:
        """Whether PyTorch builds its models: then nothing else may be built at the same time."""

    def model_names(self) -> tuple[str, ...]:
        """The models that it knows by name. May import its libraries."""

    def knows_repository(self, repository: str) -> bool:
        """Whether a repository of a hub (owner/name) holds one of its models, by its name."""

    def why_not_a_model(self, folder: Path) -> str | None:
        """What a folder lacks to be one of its models, as "it has no ..."; None if nothing."""

    def fetch(self, source: str, files: HubFiles, refresh: bool) -> str:
        """The folder of a model, downloaded if necessary. `source`: one of its names, a repository
        or a folder. `refresh`: look for a newer version. May import its libraries.

        Raises:
            HubError: it is not in the cache and cannot be downloaded.
        """

    def build(self, folder: str, options: BuildOptions) -> Recognizer:
        """Load a model. Imports its libraries; in the model's thread."""
