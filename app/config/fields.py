"""What all groups of settings share: their base class and the types of their fields."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict
from pydantic_settings import NoDecode

from app.domain.errors import UnsupportedOption
from app.domain.languages import parse_language

A_DAY_S = 86_400
A_YEAR_S = 365 * A_DAY_S  # the longest time-out: timers and locks overflow on much larger values


class SettingsGroup(BaseModel):
    """The settings of one component. The first line of a group's docstring introduces its table."""

    model_config = ConfigDict(
        frozen=True, populate_by_name=True, validate_default=True, allow_inf_nan=False
    )

    title: ClassVar[str]


def _split(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _lower(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


def _absolute(value: Path) -> Path:
    return value.expanduser().absolute()


def whisper_language(value: str | None) -> str | None:
    """The code of a language in any standard. Raises ValueError."""
    try:
        return parse_language(value or "")
    except UnsupportedOption as error:
        raise ValueError(error.message.removeprefix("language: ")) from None


def _by_language(models: dict[str, str]) -> dict[str, str]:
    return {whisper_language(language) or language: model for language, model in models.items()}


ByLanguage = Annotated[dict[str, str], AfterValidator(_by_language)]
CommaSeparated = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
Lower = BeforeValidator(_lower)  # choices are read in any case
