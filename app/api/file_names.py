"""The name under which an answer is saved."""

from __future__ import annotations

from urllib.parse import quote


def content_disposition(file_name: str, extension: str) -> str:
    """A header that no file name can break. Source: RFC 6266, RFC 5987."""
    base = file_name.replace("\\", "/").rsplit("/", 1)[-1]
    shown = "".join(c for c in base if c.isprintable()).strip(" .")[-150:]
    name = f"{shown or 'audio'}.{extension}"
    plain = "".join(c if c.isascii() and c not in '"%;' else "_" for c in name)
    if plain == name:
        return f'attachment; filename="{plain}"'
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
