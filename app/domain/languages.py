"""Whisper's languages: its codes, their English names, and the tags of other standards for them."""

from __future__ import annotations

import re

from langcodes import standardize_tag

from app.domain.errors import UnsupportedOption

LANGUAGES = {
    "en": "english",
    "zh": "chinese",
    "de": "german",
    "es": "spanish",
    "ru": "russian",
    "ko": "korean",
    "fr": "french",
    "ja": "japanese",
    "pt": "portuguese",
    "tr": "turkish",
    "pl": "polish",
    "ca": "catalan",
    "nl": "dutch",
    "ar": "arabic",
    "sv": "swedish",
    "it": "italian",
    "id": "indonesian",
    "hi": "hindi",
    "fi": "finnish",
    "vi": "vietnamese",
    "he": "hebrew",
    "uk": "ukrainian",
    "el": "greek",
    "ms": "malay",
    "cs": "czech",
    "ro": "romanian",
    "da": "danish",
    "hu": "hungarian",
    "ta": "tamil",
    "no": "norwegian",
    "th": "thai",
    "ur": "urdu",
    "hr": "croatian",
    "bg": "bulgarian",
    "lt": "lithuanian",
    "la": "latin",
    "mi": "maori",
    "ml": "malayalam",
    "cy": "welsh",
    "sk": "slovak",
    "te": "telugu",
    "fa": "persian",
    "lv": "latvian",
    "bn": "bengali",
    "sr": "serbian",
    "az": "azerbaijani",
    "sl": "slovenian",
    "kn": "kannada",
    "et": "estonian",
    "mk": "macedonian",
    "br": "breton",
    "eu": "basque",
    "is": "icelandic",
    "hy": "armenian",
    "ne": "nepali",
    "mn": "mongolian",
    "bs": "bosnian",
    "kk": "kazakh",
    "sq": "albanian",
    "sw": "swahili",
    "gl": "galician",
    "mr": "marathi",
    "pa": "punjabi",
    "si": "sinhala",
    "km": "khmer",
    "sn": "shona",
    "yo": "yoruba",
    "so": "somali",
    "af": "afrikaans",
    "oc": "occitan",
    "ka": "georgian",
    "be": "belarusian",
    "tg": "tajik",
    "sd": "sindhi",
    "gu": "gujarati",
    "am": "amharic",
    "yi": "yiddish",
    "lo": "lao",
    "uz": "uzbek",
    "fo": "faroese",
    "ht": "haitian creole",
    "ps": "pashto",
    "tk": "turkmen",
    "nn": "nynorsk",
    "mt": "maltese",
    "sa": "sanskrit",
    "lb": "luxembourgish",
    "my": "myanmar",
    "bo": "tibetan",
    "tl": "tagalog",
    "mg": "malagasy",
    "as": "assamese",
    "tt": "tatar",
    "haw": "hawaiian",
    "ln": "lingala",
    "ha": "hausa",
    "ba": "bashkir",
    "jw": "javanese",
    "su": "sundanese",
    "yue": "cantonese",
}

OTHER_NAMES = {
    "burmese": "my",
    "valencian": "ca",
    "flemish": "nl",
    "haitian": "ht",
    "letzeburgesch": "lb",
    "pushto": "ps",
    "panjabi": "pa",
    "moldavian": "ro",
    "moldovan": "ro",
    "sinhalese": "si",
    "castilian": "es",
    "mandarin": "zh",
}

# written without spaces between words
LANGUAGES_WITHOUT_SPACES = frozenset({"zh", "yue", "ja", "th", "lo", "my", "km", "bo"})

_CODES = {**{name: code for code, name in LANGUAGES.items()}, **OTHER_NAMES}

# Whisper's codes by their standard ones: "jv" -> "jw", "fil" -> "tl". Bokmål is its Norwegian.
_STANDARD = {standardize_tag(code, macro=True): code for code in LANGUAGES} | {"nb": "no"}
# RFC 5646: a language of 2 or 3 letters, perhaps a more exact one of 3, then script, region, ...
_TAG = re.compile(r"([a-z]{2,3})(?:-([a-z]{3})(?![a-z0-9]))?(?:-[a-z0-9]{1,8})*")
_MAX_TAG_LENGTH = 40

MULTILINGUAL = "multi"  # each part of the recording in its own language
AUTO = "auto"
UNSET = ("", "null", "none", "undefined")  # what clients send that have no language to send


def is_multilingual(value: str) -> bool:
    return value.strip().lower() == MULTILINGUAL


def is_unset(value: str) -> bool:
    """Whether a client leaves the language open without asking for detection."""
    return value.strip().lower() in UNSET


def parse_language(value: str) -> str | None:
    """Whisper's code for a code of any standard, a tag such as "pt-BR" or an English name, in any
    case; None where none is named, and for "auto" and "multi".

    Raises:
        UnsupportedOption: Whisper does not have this language.
    """
    wanted = value.strip().lower()
    if wanted in (*UNSET, AUTO, MULTILINGUAL):
        return None
    code = wanted if wanted in LANGUAGES else _CODES.get(wanted) or _code_of_tag(wanted)
    if code is None:
        raise UnsupportedOption(
            f"language: {value[:40]!r} is not known; it must be {AUTO}, {MULTILINGUAL}, an English "
            'name such as "english", or the code or tag ("en", "eng", "en-US") of one of '
            f"{', '.join(sorted(LANGUAGES))}."
        )
    return code


def _code_of_tag(tag: str) -> str | None:
    """`tag`: BCP 47, ISO 639 or POSIX ("en_US.UTF-8"), in lower case."""
    if len(tag) > _MAX_TAG_LENGTH:
        return None
    found = _TAG.fullmatch(re.split("[.@]", tag)[0].replace("_", "-"))
    if found is None:
        return None
    primary, exact = found[1], found[2]
    # "zh-yue"; not "en-ind", whose second part is a country's
    if exact == "yue" or (exact and _macrolanguage(exact) == _macrolanguage(primary)):
        return _STANDARD.get(_macrolanguage(exact)) or _STANDARD.get(_macrolanguage(primary))
    return _STANDARD.get(_macrolanguage(primary))


def _macrolanguage(language: str) -> str:
    # only the language goes to the library, which keeps all that it has ever parsed
    return standardize_tag(language, macro=True).split("-")[0]


def language_name(code: str) -> str:
    """The English name, or the code itself if there is none."""
    return LANGUAGES.get(code, code)
