"""The settings as a page of the documentation: docs/settings.md."""

from __future__ import annotations

from app.config.describe import SettingText, describe
from app.config.fields import SettingsGroup
from app.config.settings import GROUPS

HEAD = """\
<!-- Written by `whisperx-asr settings --markdown > docs/settings.md`. Do not edit. -->

# Settings

The service reads its settings from environment variables and from a file `.env` in the working
directory; the environment wins. An empty value means the default. Where a setting has two names,
use either; if both are set, the first one wins. An invalid value ends the start with one line that
names the variable.

[`.env.example`](../.env.example) is the same list as a file to copy.
"""
COLUMNS = "| Variable | Default | Values | What it does |\n|---|---|---|---|\n"


def write_markdown() -> str:
    """The text of docs/settings.md: a table for each group."""
    return "".join([HEAD, *(_section(group) for group in GROUPS)])


def _section(group: type[SettingsGroup]) -> str:
    rows = "".join(_row(item) for item in describe(group))
    return f"\n## {group.title}\n\n{group.__doc__}\n\n{COLUMNS}{rows}"


def _row(item: SettingText) -> str:
    names = " or ".join(f"`{name}`" for name in (item.name, *item.other_names))
    default = f"`{item.default}`" if item.default else ""
    cells = (names, default, item.values, item.description)
    return "".join(f"| {cell.replace('|', chr(92) + '|')} " for cell in cells) + "|\n"
