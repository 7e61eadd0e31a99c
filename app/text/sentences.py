"""Splits text into sentences, in every language of Whisper. Pure.

ICU applies Unicode's rules. This module adds what they lack: abbreviations, ordinals, initials,
speech quoted inside a sentence, and a few end marks. A sentence that is too long for a subtitle is
divided at the end of a clause.

Source: https://www.unicode.org/reports/tr29/#Sentence_Boundaries
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from itertools import chain

from icu4py.breakers import SentenceBreaker

from app.domain.languages import LANGUAGES_WITHOUT_SPACES
from app.text.sentence_words import (
    BEFORE_ANYTHING,
    BEFORE_NUMBERS,
    ENGLISH_STARTERS,
    EVERYWHERE,
    GERMAN_DETERMINERS,
    GERMAN_MONTHS,
    GERMAN_STARTERS,
    KIN,
    abbreviations,
)

LONG_SENTENCE = 240  # characters: about 15 s of speech
LONG_WITHOUT_SPACES = {"zh": 80, "ja": 80, "yue": 80}  # the same, where a character is a syllable
CLAUSE_MARKS = ",;:，、；：،؛၊"
MAX_TOKEN = 32  # characters looked at before a full stop

CLOSERS = "\"'”’»›」』）)]】》〉"
END_MARKS = ".!?…。！？।؟۔"
# Ends that Unicode's rules miss: before a dash (the speaker changes), before a number, and between
# two quotations; the marks of Khmer and Tibetan, the colon typed on Armenian keyboards, and the
# polite words that end Thai sentences, which have no marks.
OTHER_ENDS = (
    rf"[.!?…][{re.escape(CLOSERS)}]*(?=\s+[—–-])"
    r"|(?<=[^\W\d_]{2})\.(?=\s+\d)"
    r"|[。！？!?][」』”）](?=[「『“（])"
)
OTHER_ENDS_OF = {
    "km": "[។៕]",
    "bo": "[།༎]+",
    "hy": r":(?=\s)",
    "th": r"(?:ครับ|ค่ะ|คะ)(?=\s)",
}
FRENCH_CLOSER = re.compile(r"\s*»")
WORD = re.compile(r"[^\W_]")
TOKEN = re.compile(r"[^\s(\[{\"“„«»'’]*$")
NEXT = re.compile(r"([\s—–-]*)[\"'“”„«»‹›‘’¿¡(\[]*")
SINGLE = re.compile(r"[^\W\d_]\.")
ACRONYM = re.compile(r"(?:[A-Z]\.){2,}")
HYPHENATED_INITIALS = re.compile(r"[^\W\d_]\.-[^\W\d_]\.")
LETTER_AFTER_END = re.compile(rf"(?:^|[{END_MARKS}][{re.escape(CLOSERS)}]*\s)\W{{0,4}}(\w)")
ORDINAL = re.compile(r"(\S*)\s+\d{1,3}\.$")
HANGUL_OR_KANA = re.compile(r"[\uac00-\ud7a3\u3041-\u309f]")

VOWELS = frozenset("aeiouyæøœıаеиіоуыэюяєαεηιουω")
# "and so on", noon and midnight: pairs of letters that may end a sentence
FINAL_PAIRS = frozenset({"т.д", "т.п", "т.н", "p.m", "a.m", "μ.μ", "π.μ", "t.t", "m.m"})
UNITS_AFTER_NUMBERS = frozenset("mghltsгрмлжткч")


class SentenceSplitter:
    """Splits text of one language. Any code is accepted; an unknown one gets Unicode's rules."""

    def __init__(self, language: str) -> None:
        self._language = KIN.get(language, language)
        self._before_anything = abbreviations(BEFORE_ANYTHING, language) | set(EVERYWHERE.split())
        self._before_numbers = abbreviations(BEFORE_NUMBERS, language)
        own_ends = OTHER_ENDS_OF.get(language)
        self._other_ends = re.compile(f"{OTHER_ENDS}|{own_ends}" if own_ends else OTHER_ENDS)
        self._long = LONG_WITHOUT_SPACES.get(language, LONG_SENTENCE)
        self._spaces_end_clauses = (
            language in LANGUAGES_WITHOUT_SPACES and language not in LONG_WITHOUT_SPACES
        )

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Character spans that cover the text without gaps. A span includes the space before it."""
        if not text:
            return []
        ends = self._sentence_ends(_with_capitals(text))
        spans = zip([0, *ends], [*ends, len(text)], strict=True)
        return [part for span in spans for part in self._clauses(text, *span)]

    def _sentence_ends(self, text: str) -> list[int]:
        """All ends but the last. Text without a letter or digit is not a sentence of its own."""
        ends: list[int] = []
        word = WORD.search(text)
        for end in self._candidates(text):
            if self._language == "fr" and (closing := FRENCH_CLOSER.match(text, end)):
                end = closing.end()
            if word is None or word.start() >= end or self._goes_on(text, end):
                continue
            ends.append(end)
            word = WORD.search(text, end)
        return ends if word else ends[:-1]

    def _candidates(self, text: str) -> Iterator[int]:
        """Where a sentence may end, in order: after the end mark and closing quotes or brackets."""
        ends = set()
        at = 0
        for piece in SentenceBreaker(text, self._language):  # its spans count UTF-16 units
            ends.add(at + len(piece.rstrip()))
            at += len(piece)
        ends.update(match.end() for match in self._other_ends.finditer(text))
        yield from sorted(ends)

    def _goes_on(self, text: str, end: int) -> bool:
        """Whether the sentence continues, although Unicode's rules end it here."""
        after = NEXT.match(text, end)
        follows = text[after.end() : after.end() + MAX_TOKEN] if after else ""
        if text[end - 1] == "၊":  # Burmese comma
            return True
        if text[end - 1] in CLOSERS:
            if self._language in ("ja", "ko") and HANGUL_OR_KANA.match(text, end):
                return True  # a particle: the quotation is part of a sentence
            return follows[:1].islower()
        if after and after[1].strip() and follows[:1].islower():
            return True  # a dash, then "he said"
        if text[end - 1] != ".":
            return False
        return self._is_abbreviation(text, end, follows) or self._is_ordinal(text, end, follows)

    def _is_abbreviation(self, text: str, end: int, follows: str) -> bool:
        start = max(0, end - MAX_TOKEN)
        token_match = TOKEN.search(text, start, end)
        token = token_match[0] if token_match else ""
        name = token[:-1]
        if {name, name.lower()} & self._before_anything or HYPHENATED_INITIALS.fullmatch(token):
            return True
        if follows[:1].isdigit() and self._stands_before_numbers(name):
            return True
        before = text[start : end - len(token)]
        if SINGLE.fullmatch(token) and before[-1:] not in ("'", "’"):
            return self._is_initial(name, (before.split() or [""])[-1], follows)
        if self._language == "en" and ACRONYM.fullmatch(token):
            return _first_word(follows) not in ("", *ENGLISH_STARTERS.split())
        return False

    def _stands_before_numbers(self, name: str) -> bool:
        if {name, name.lower()} & self._before_numbers:
            return True
        if name.lower() != name.upper() and not _has_vowel(name):
            return True  # "str", "blz", "kpt" are not words
        suffixes = (entry[1:] for entry in self._before_numbers if entry.startswith("-"))
        return any(name.lower().endswith(suffix) for suffix in suffixes)

    def _is_initial(self, letter: str, previous: str, follows: str) -> bool:
        """Whether a letter and full stop shorten a name ("J. K. Rowling") or a word ("z. B.")."""
        if SINGLE.fullmatch(previous):
            return f"{previous[0]}.{letter}".lower() not in FINAL_PAIRS
        if letter.islower():
            after_number = previous[-1:].isdigit() and letter in UNITS_AFTER_NUMBERS
            return not _has_vowel(letter) and not after_number
        if letter.isupper():
            starts_chain = SINGLE.match(follows) is not None
            return (
                starts_chain or not previous or previous[0].isupper() or previous[-1] in END_MARKS
            )
        # scripts without case; a Hangul syllable is a word
        return not HANGUL_OR_KANA.match(letter)

    def _is_ordinal(self, text: str, end: int, follows: str) -> bool:
        """Whether a number is a German ordinal. A capital after it proves nothing, because German
        capitalizes nouns; the word before it decides.
        """
        match = ORDINAL.search(text, max(0, end - MAX_TOKEN), end)
        if self._language != "de" or match is None:
            return False
        word = _first_word(follows)
        if word in GERMAN_MONTHS.split():
            return True
        counts = match[1].lower() in GERMAN_DETERMINERS.split()
        return counts and word not in ("", *GERMAN_STARTERS.split())

    def _clauses(self, text: str, begin: int, end: int) -> Iterator[tuple[int, int]]:
        """A sentence, or its clauses if it is too long for one line of a transcript."""
        while end - begin > self._long:
            last = end - self._long // 6  # leaves more than a single word
            wanted = range(min(begin + self._long, last), begin + self._long // 3, -1)
            beyond = range(begin + self._long, last)
            cuts = (at for at in chain(wanted, beyond) if self._ends_clause(text, at))
            if (cut := next(cuts, None)) is None:
                break
            yield begin, cut
            begin = cut
        yield begin, end

    def _ends_clause(self, text: str, at: int) -> bool:
        if self._spaces_end_clauses:
            return text[at].isspace() and not text[at - 1].isspace()
        mark, following = text[at - 1], text[at]
        return mark in CLAUSE_MARKS and (mark not in ",;:" or following.isspace())


def _has_vowel(word: str) -> bool:
    return not VOWELS.isdisjoint(unicodedata.normalize("NFD", word.lower()))


def _first_word(text: str) -> str:
    match = re.match(r"\w*", text)
    return match[0] if match else ""


def _with_capitals(text: str) -> str:
    """The text at the same length. If it is all lowercase, each end mark is followed by a capital,
    because the rules read a small letter as a sign that the sentence continues."""
    if text != text.lower() or text == text.upper():
        return text

    def capital(match: re.Match[str]) -> str:
        letter = match[1].upper()
        return match[0][:-1] + (letter if len(letter) == 1 else match[1])

    return LETTER_AFTER_END.sub(capital, text)
