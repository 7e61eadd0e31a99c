"""Whether a recognizer can do what a request asks for."""

from __future__ import annotations

from typing import Protocol

from app.domain.errors import UnsupportedOption
from app.domain.languages import language_name
from app.domain.options import Task, TranscribeOptions
from app.models.protocols import Abilities


class Able(Protocol):
    """A recognizer, or what is known of one."""

    @property
    def languages(self) -> frozenset[str]: ...

    @property
    def abilities(self) -> Abilities: ...


def check_support(recognizer: Able, options: TranscribeOptions) -> None:
    """Raises UnsupportedOption for a language or an option that the recognizer does not know."""
    model = options.model
    for name, languages in (("language", (options.language,)), ("languages", options.languages)):
        for code in languages:
            if code and code not in recognizer.languages:
                raise UnsupportedOption(
                    f"{name}: the model {model} does not know {language_name(code)}."
                )
    can = recognizer.abilities
    for wanted, able, name, what in (
        (options.task is Task.TRANSLATE, can.translation, "task", "translation"),
        (options.initial_prompt, can.prompt, "initial_prompt", "prompts"),
        (options.hotwords, can.hotwords, "hotwords", "hotwords"),
        (options.temperature, can.temperatures, "temperature", "temperatures above 0"),
        (options.beam_size, can.beams, "beam_size", "beam search"),
        (options.with_token_probs, can.token_probs, "include", "log probabilities of tokens"),
    ):
        if wanted and not able:
            raise UnsupportedOption(f"{name}: the model {model} does not support {what}.")
