"""What documents say about each setting: names, default, allowed values, one sentence."""

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from app.config.fields import SettingsGroup
from app.config.settings import variable_names

UNITS = {  # by the end of a field's name; the first that fits
    "_bytes_per_s": "bytes per second",
    "_s": "seconds",
    "_mb": "MB",
    "_requests_per_minute": "requests per minute",
    "_audio_minutes_per_hour": "minutes per hour",
    "_min_duration_off": "seconds",
}
KINDS = {str: "text", SecretStr: "secret", Path: "path", tuple: "comma-separated", dict: "JSON"}
BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}  # as pydantic names them
# Defaults that depend on the machine, as they are on most.
SHOWN_DEFAULTS = {"temp_dir": "/tmp/whisperx-asr"}


@dataclass(frozen=True, slots=True)
class SettingText:
    """One setting in words. `default` and `values` are as they are written in the environment."""

    name: str
    other_names: tuple[str, ...]
    default: str
    values: str
    description: str


def describe(group: type[SettingsGroup]) -> Iterator[SettingText]:
    """The settings of a group, in their order."""
    for field, info in group.model_fields.items():
        name, *others = variable_names(field)
        yield SettingText(
            name, tuple(others), _default(field, info), _values(field, info), info.description or ""
        )


def _default(field: str, info: FieldInfo) -> str:
    default = info.get_default(call_default_factory=True)
    if isinstance(default, SecretStr) or default is None or default == {}:
        return ""
    if isinstance(default, tuple):
        return ",".join(default)
    shown = str(default).lower() if isinstance(default, bool) else str(default)
    return SHOWN_DEFAULTS.get(field, shown)


def _values(field: str, info: FieldInfo) -> str:
    kind = _without_none(info.annotation)
    if kind is bool:
        return "true or false"
    if get_origin(kind) is Literal:
        return _one_of(get_args(kind))
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return _one_of(tuple(kind))
    if kind in (int, float):
        unit = next((unit for end, unit in UNITS.items() if field.endswith(end)), "")
        return ", ".join(part for part in (unit, _range(info.metadata)) if part)
    return KINDS[get_origin(kind) or kind]


def _without_none(annotation: Any) -> Any:
    if get_origin(annotation) in (Union, types.UnionType):
        [kind] = (kind for kind in get_args(annotation) if kind is not type(None))
        return kind
    return annotation


def _one_of(choices: tuple[str, ...]) -> str:
    *most, last = (choice for choice in choices if choice)
    return f"{', '.join(most)} or {last}"


def _range(limits: list[Any]) -> str:
    """The limits of a number in words, e.g. `1 to 512` or `above 0, at most 60`."""
    found = {name: getattr(item, name) for item in limits for name in BOUNDS if hasattr(item, name)}
    if found.keys() == {"ge", "le"}:
        return f"{found['ge']} to {found['le']}"
    return ", ".join(f"{BOUNDS[name]} {value}" for name, value in found.items())
