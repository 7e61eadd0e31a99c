"""The settings of the service, and the only reader of the environment.

Each component has a group of settings in a file of its own; `Settings` joins them. A field accepts
the variable names of both families of services that this one replaces. An empty variable counts as
unset.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dotenv import load_dotenv
from pydantic import AliasChoices, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from app.config.access import AccessSettings
from app.config.answers import AnswerSettings
from app.config.aws import AwsSettings
from app.config.decoding import AudioDecodingSettings
from app.config.devices import DeviceSettings
from app.config.diarization import DiarizationSettings
from app.config.egress import EgressSettings
from app.config.enqueue import EnqueueSettings
from app.config.fields import SettingsGroup
from app.config.fleet import FleetSettings
from app.config.jobs import JobSettings
from app.config.limits import LimitSettings
from app.config.live import LiveSettings
from app.config.logs import LogSettings
from app.config.models import ModelSettings
from app.config.rate_limits import RateLimitSettings
from app.config.s3 import S3Settings
from app.config.server import ServerSettings
from app.config.sqs import SqsSettings
from app.config.storage import StorageSettings
from app.config.transcription import TranscriptionSettings
from app.config.uploads import UploadSettings
from app.config.waiting import WaitingSettings
from app.config.webhooks import WebhookSettings
from app.domain.errors import ConfigurationError

DEMO_DIR = Path(__file__).parent.parent / "demo"


class Settings(
    ModelSettings,
    DeviceSettings,
    TranscriptionSettings,
    DiarizationSettings,
    AnswerSettings,
    LimitSettings,
    UploadSettings,
    WaitingSettings,
    AudioDecodingSettings,
    StorageSettings,
    EgressSettings,
    JobSettings,
    WebhookSettings,
    EnqueueSettings,
    S3Settings,
    AwsSettings,
    SqsSettings,
    LiveSettings,
    AccessSettings,
    RateLimitSettings,
    ServerSettings,
    FleetSettings,
    LogSettings,
    BaseSettings,
):
    """All groups, read once at start. If both names of a field are set, the first one wins."""

    model_config = SettingsConfigDict(
        env_ignore_empty=True,
        extra="ignore",
        populate_by_name=True,
        frozen=True,
        allow_inf_nan=False,
    )


GROUPS: tuple[type[SettingsGroup], ...] = tuple(
    base for base in Settings.__bases__ if issubclass(base, SettingsGroup)
)


def load_settings(overrides: Mapping[str, object] | None = None) -> Settings:
    """The settings of the environment and `.env`; `overrides` win over both.

    Raises:
        ConfigurationError: an invalid value, with the variable's name and what is allowed.
    """
    # Into the environment, so that `.env` may also hold variables of the libraries.
    load_dotenv(Path(".env"), override=False)
    try:
        return Settings(**dict(overrides or {}))  # type: ignore[arg-type]
    except ValidationError as error:
        raise ConfigurationError(_explain(error)) from None
    except SettingsError as error:  # invalid JSON
        field = str(error).split('"')[1] if '"' in str(error) else "settings"
        raise ConfigurationError(f"{_either_name(field)}: not valid JSON.") from None


def _explain(error: ValidationError) -> str:
    lines = []
    for problem in error.errors():
        name = _either_name(str(problem["loc"][0])) if problem["loc"] else "settings"
        lines.append(f"{name}: {problem['msg']} (it is {problem['input']!r})")
    return "; ".join(lines)


def _either_name(field: str) -> str:
    return " or ".join(variable_names(field))


def variable_names(field: str) -> tuple[str, ...]:
    """The environment variables of a field, given by its own name or by one of theirs."""
    for name, info in Settings.model_fields.items():
        alias = info.validation_alias
        names = alias.choices if isinstance(alias, AliasChoices) else [alias]
        if field == name or field in names:
            return tuple(str(choice) for choice in names)
    return (field,)
