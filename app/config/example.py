"""The settings as a file to copy: .env.example."""

from __future__ import annotations

from app.config.describe import SettingText, describe
from app.config.settings import GROUPS

HEAD = """\
# Copy to .env and change what you need. An empty value means the default. The environment wins
# over this file. Where a setting has two names, use either.
"""


def write_example() -> str:
    """The text of .env.example: every variable with its default and what it does."""
    sections = (
        "".join([f"\n# -- {group.title} --\n", *(_entry(item) for item in describe(group))])
        for group in GROUPS
    )
    return "".join([HEAD, *sections])


def _entry(item: SettingText) -> str:
    also = f"; also {', '.join(item.other_names)}" if item.other_names else ""
    return f"\n# {item.description}\n# ({item.values}{also})\n#{item.name}={item.default}\n"
