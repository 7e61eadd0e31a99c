"""Maps the language tags of media containers to one code for each language.

Matroska and MP4 use ISO 639-2, which has two forms for some languages; newer files use BCP 47.
"""

from __future__ import annotations

from app.domain.errors import UnsupportedOption
from app.domain.languages import parse_language


def same_language(tag: str) -> str:
    """One code for `fr`, `fre`, `fra`, `fr-CA` and `French`; an unknown tag in lower case."""
    try:
        return parse_language(tag) or tag.strip().lower()
    except UnsupportedOption:
        return tag.strip().lower()
