from __future__ import annotations

import pytest
from langcodes import Language
from whisperx.utils import LANGUAGES as WHISPERX_LANGUAGES
from whisperx.utils import TO_LANGUAGE_CODE

from app.audio.language_tags import same_language
from app.domain.errors import UnsupportedOption
from app.domain.languages import LANGUAGES, is_unset, language_name, parse_language


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


@pytest.mark.parametrize(
    "written", ["", " ", "auto", "AUTO", "Auto ", "null", "undefined", "None", "multi"]
)
def test_nothing_and_auto_mean_detect(written: str) -> None:
    assert parse_language(written) is None
    assert is_unset(written) is (written.strip().lower() not in ("auto", "multi"))


TAGS = {
    "en": "en-US en_us EN-gb eng en-IND en-US-x-twain en_US.UTF-8 en-aaaaaaaa",
    "pt": "pt_BR por pt-PT",
    "zh": "zh-Hant zh-Hans-CN zh_TW cmn zh-cmn chi zho zh-min-nan",
    "yue": "zh-yue yue-HK",
    "de": "ger deu de-AT-1996 de_DE@euro",
    "fr": "fre fra fr-CA",
    "he": "iw heb iw-IL",
    "jw": "jv jav jw-ID",
    "no": "nb nob nb-NO no-bok",
    "nn": "nn-NO nno",
    "tl": "fil fil-PH tgl",
    "id": "in ind",
    "yi": "ji yid",
    "ro": "mo rum ron",
    "sr": "scc srp sr-Latn sh cnr",
    "ar": "arb ara ar-arz ar-EG",
    "fa": "pes prs per",
    "es": "es-419 spa",
    "el": "gre ell",
    "nl": "dut nl-BE",
    "sw": "swh",
    "ms": "zsm msa may",
    "haw": "haw-US",
}


@pytest.mark.parametrize(
    ("code", "tag"), [(c, tag) for c, all_ in TAGS.items() for tag in all_.split()]
)
def test_the_codes_and_tags_of_other_standards(code: str, tag: str) -> None:
    assert parse_language(tag) == parse_language(tag.upper()) == code
    assert same_language(tag) == code


def test_a_library_that_keeps_what_it_parses_is_not_filled_by_clients() -> None:
    kept = len(Language._PARSE_CACHE) + len(Language._INSTANCES)
    for i in range(200):
        assert parse_language(f"en-x-{i}") == "en"
        with pytest.raises(UnsupportedOption):
            parse_language(f"q{i}-{i}")
    assert len(Language._PARSE_CACHE) + len(Language._INSTANCES) <= kept + 8


@pytest.mark.parametrize(
    "written",
    [
        "klingon",
        "xx",
        "e n",
        "en;",
        "english\n\n-",
        "../en",
        "1",
        "tlh",
        "eo",
        "en-",
        "-en",
        "en--us",
        "en-aaaaaaaaa",
        "a",
        "ën",
        "en\u212a",
        "x-private",
        "nan",
        "n\x00o",
    ],
)
def test_anything_else_is_refused_by_name(written: str) -> None:
    with pytest.raises(UnsupportedOption) as caught:
        parse_language(written)
    assert caught.value.message.startswith("language: ")
    assert '"en"' in caught.value.message
    assert "af, am, ar," in caught.value.message
    assert "\n" not in caught.value.message


def test_a_long_word_is_not_repeated_whole() -> None:
    with pytest.raises(UnsupportedOption) as caught:
        parse_language("x" * 10_000)
    assert len(caught.value.message) < 700


def test_a_code_without_a_name_is_its_own_name() -> None:
    assert language_name("qqq") == "qqq"
