from __future__ import annotations

import pytest
from whisperx.utils import LANGUAGES as WHISPERX_LANGUAGES
from whisperx.utils import TO_LANGUAGE_CODE

from app.domain.errors import UnsupportedOption
from app.domain.languages import LANGUAGES, language_name, parse_language


def test_the_languages_are_whispers() -> None:
    assert LANGUAGES == WHISPERX_LANGUAGES


@pytest.mark.parametrize("code", LANGUAGES)
def test_code_and_english_name_in_any_case(code: str) -> None:
    name = language_name(code)
    assert name == WHISPERX_LANGUAGES[code]
    for written in (code, code.upper(), name, name.upper(), name.title(), f"  {name} "):
        assert parse_language(written) == code


def test_every_other_name_that_whisper_knows() -> None:
    for name, code in TO_LANGUAGE_CODE.items():
        assert parse_language(name) == code
    assert parse_language("Castilian") == "es"
    assert parse_language("mandarin") == "zh"


@pytest.mark.parametrize("written", ["", " ", "auto", "AUTO", "Auto "])
def test_nothing_and_auto_mean_detect(written: str) -> None:
    assert parse_language(written) is None


@pytest.mark.parametrize("written", ["klingon", "xx", "e n", "en;", "english\n\n-", "../en", "1"])
def test_anything_else_is_refused_by_name(written: str) -> None:
    with pytest.raises(UnsupportedOption) as caught:
        parse_language(written)
    assert caught.value.message.startswith("language: ")
    assert '"en"' in caught.value.message
    assert "\n" not in caught.value.message


def test_a_long_word_is_not_repeated_whole() -> None:
    with pytest.raises(UnsupportedOption) as caught:
        parse_language("x" * 10_000)
    assert len(caught.value.message) < 300


def test_a_code_without_a_name_is_its_own_name() -> None:
    assert language_name("qqq") == "qqq"
