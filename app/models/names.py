"""The names that clients have for a model: by rule, so that new models need no table. Pure."""

from __future__ import annotations

import re

# Who publishes OpenAI's own weights, or conversions of them; of anybody else, a repository with
# the name of a model may hold something else.
PUBLISHERS = frozenset(
    {
        "deepdml",
        "distil-whisper",
        "dropbox-dash",
        "guillaumekln",
        "h2oai",
        "mobiuslabsgmbh",
        "openai",
        "systran",
    }
)
_FILLERS = frozenset({"ct2", "ctranslate2", "faster", "whisper"})  # of repositories' names
_DATED = re.compile(r"-20\d\d-\d\d-\d\d$")
_MAX_LENGTH = 100


def short_names(name: str) -> tuple[str, ...]:
    """What a model may be called here that a client calls `name`, the likeliest first.

    `Systran/faster-whisper-small` and `whisper-small`: `small`; `gpt-4o-transcribe-2025-03-20`:
    `gpt-4o-transcribe`; `openai/whisper-1`: `whisper-1`.
    """
    owner, slash, rest = name.strip().lower().rpartition("/")
    if len(name) > _MAX_LENGTH or (slash and owner not in PUBLISHERS):
        return ()
    undated = _DATED.sub("", rest)
    words = "-".join(word for word in undated.split("-") if word not in _FILLERS)
    return tuple(dict.fromkeys(filter(None, (rest, undated, words))))
