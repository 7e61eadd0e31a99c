"""What Whisper's decoder is given before it begins: the tokens of a prompt and of hotwords."""

from __future__ import annotations

from typing import Any

MAX_TOKENS = 448  # of Whisper's decoder, prompt included
MAX_PROMPT_TOKENS = MAX_TOKENS // 2 - 1  # <|startofprev|> not counted; leaves half for the answer
MAX_TOKEN_CHARS = 128  # no token of a Whisper vocabulary is longer
CONTEXT_TOKENS = 64  # of the text before a chunk, or none: chunks share a batch only with equals
MAX_PROMPT_CHARS = MAX_PROMPT_TOKENS * MAX_TOKEN_CHARS  # what lies beyond never counts


def prompt_tokens(
    tokenizer: Any, prompt: str, hotwords: str, context: str = ""
) -> tuple[list[int], list[int]]:
    """The tokens of the prompt, with the end of the context behind it, and of the hotwords, that
    the decoder has room for. `tokenizer`: faster-whisper's.
    """
    before = _encode(tokenizer, context)[-CONTEXT_TOKENS:]
    if len(before) < CONTEXT_TOKENS:
        before = []
    fitting, words = fit_prompt(
        _encode(tokenizer, prompt), _encode(tokenizer, hotwords), MAX_PROMPT_TOKENS - len(before)
    )
    return [*fitting, *before], words


def _encode(tokenizer: Any, text: str) -> list[int]:
    """Tokens of plain text: a client's "<|startoftranscript|>" is not a special token."""
    text = text.strip()
    tokens: list[int] = tokenizer.encode(" " + text) if text else []
    return [token for token in tokens if token < tokenizer.eot]


def fit_prompt(prompt: list[int], hotwords: list[int], limit: int) -> tuple[list[int], list[int]]:
    """Cut both to `limit` tokens in total.

    Each may take half, and what the other leaves free. The end of a prompt matters most, and the
    beginning of a list of hotwords.
    """
    half = limit // 2
    num_hotwords = min(len(hotwords), max(half, limit - len(prompt)))
    num_prompt = min(len(prompt), limit - num_hotwords)
    return prompt[len(prompt) - num_prompt :], hotwords[:num_hotwords]
