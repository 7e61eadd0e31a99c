"""Subtitles for people to read: every limit, on speech of any pace and script."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from app.domain.transcript import Segment, Transcript, Word
from app.formats.cues import Cue
from app.formats.lines import display_width
from app.formats.subtitles import READABLE, SubtitleStyle, subtitle_cues

TEXTS = {
    "en": (
        "Yes. I think so. The report that you sent me on Friday is not what the customer had asked "
        "for, and that is why we have to talk about the schedule of the next three weeks. No. Why?"
    ),
    "de": "Ja. Der Bericht, den Sie mir am Freitag geschickt haben, ist nicht das, was der Kunde "
    "wollte. Nein.",
    "zh": "他说我来了，然后他走了，没有人知道他去了哪里，也没有人问他为什么走得这么快。好。",
    "ja": "はい。そして東京へ帰ったので、とても疲れていますが、明日も仕事です。",
    "ko": "네. 그는 오월 오일에 서울에서 부산까지 기차를 타고 갔습니다. 날씨가 아주 좋았습니다.",
}
TIGHT = 0.011  # s, of rounding


def spoken(
    language: str, columns_per_s: float, pause_s: float, speakers: bool = False, times: int = 3
) -> Transcript:
    """Sentences said at an even pace, each letter of a Chinese one a word; some words untimed."""
    draw, now_s, segments = random.Random(1), 1.0, []
    sentences = [
        s for s in TEXTS[language].replace("。", "。|").replace(". ", ".|").split("|") if s
    ]
    for number, sentence in enumerate(sentences * times):
        spaced = language not in ("zh", "ja")
        pieces = sentence.split() if spaced else [*sentence]
        speaker = f"SPEAKER_{number % 2:02d}" if speakers else None
        begun_s, words = now_s, []
        for piece in pieces:
            lasts_s = display_width(piece) / columns_per_s
            timed = Word(piece, now_s, now_s + lasts_s, 0.9, speaker)
            words.append(timed if draw.random() < 0.9 else Word(piece, speaker=speaker))
            now_s += lasts_s + 1 / columns_per_s
        text = (" " if spaced else "") + sentence
        segments.append(Segment(begun_s, now_s, text, tuple(words), speaker))
        now_s += pause_s
    return Transcript(language, now_s + 3, "demo", tuple(segments))


def cues_of(written: Transcript, style: SubtitleStyle = READABLE) -> list[Cue]:
    return list(subtitle_cues(written, style))


@pytest.mark.parametrize("speakers", [False, True])
@pytest.mark.parametrize("pace", [6, 12, 30])
@pytest.mark.parametrize("language", TEXTS)
def test_every_limit_holds(language: str, pace: float, speakers: bool) -> None:
    written = spoken(language, pace, 0.6, speakers)
    cues = cues_of(written)
    shown = " ".join(cue.text.replace("[SPEAKER_00]: ", "").replace("[SPEAKER_01]: ", "")
                     for cue in cues)  # fmt: skip
    said = "".join(segment.text for segment in written.segments)
    assert "".join(shown.split()) == "".join(said.split())
    widest = 42 if language in ("en", "de") else 32
    for cue in cues:
        lines = cue.text.split("\n")
        assert len(lines) <= 2
        assert all(display_width(line) <= widest for line in lines)
        assert cue.end_s - cue.start_s < 9
    for cue, following in pairwise([*cues, Cue(written.duration_s, written.duration_s, "")]):
        assert cue.start_s < cue.end_s <= following.start_s + 1e-9
        room_s = following.start_s - cue.start_s
        needed_s = sum(map(display_width, cue.text.split("]: ")[-1].split("\n"))) / 17
        assert cue.end_s - cue.start_s >= min(0.8, room_s) - TIGHT
        assert cue.end_s - cue.start_s >= min(needed_s, room_s) - TIGHT


def test_nothing_is_too_short_or_too_fast_where_there_is_room() -> None:
    for language in TEXTS:
        for cue in cues_of(spoken(language, 14, 1.0)):
            lasts_s = cue.end_s - cue.start_s
            assert lasts_s >= 0.8 - TIGHT
            assert sum(map(display_width, cue.text.split("\n"))) / lasts_s <= 17.5


def test_lines_and_subtitles_end_with_phrases() -> None:
    texts = [cue.text for cue in cues_of(spoken("en", 13, 0.6, times=1))]
    assert texts == [
        "Yes.",
        "I think so.",
        "The report that you sent me on Friday\nis not what the customer had asked for,",
        "and that is why we have to talk about\nthe schedule of the next three weeks.",
        "No.",
        "Why?",
    ]


def test_quick_sentences_share_a_subtitle() -> None:
    assert cues_of(spoken("en", 25, 0.05, times=1))[0].text == "Yes. I think so."


def test_a_long_pause_ends_a_subtitle_and_speakers_share_none() -> None:
    words = (Word("one", 1.0, 1.2), Word("two", 1.3, 1.5), Word("three", 9.0, 9.4))
    written = Transcript("en", 20.0, "demo", (Segment(1.0, 9.4, " one two three", words),))
    first, second = cues_of(written)
    assert (first.text, first.start_s, first.end_s) == ("one two", 1.0, 1.8)
    assert (second.text, second.start_s, second.end_s) == ("three", 9.0, 9.8)


def test_limits_of_a_request_count_more() -> None:
    for cue in cues_of(spoken("en", 14, 0.6), SubtitleStyle(20, 3, readable=True)):
        lines = cue.text.split("\n")
        assert len(lines) <= 3
        assert all(len(line) <= 20 for line in lines)


def test_highlighted_words_stay_in_their_subtitle() -> None:
    written = spoken("en", 14, 0.6, times=1)
    plain = [cue.text for cue in cues_of(written)]
    cues = cues_of(written, SubtitleStyle(highlight_words=True, readable=True))
    bare = [cue.text.replace("<u>", "").replace("</u>", "") for cue in cues]
    assert list(dict.fromkeys(bare)) == plain
    for cue, following in pairwise(cues):
        assert cue.end_s <= following.start_s + 1e-9


def test_segments_without_words_share_their_time() -> None:
    text = " " + TEXTS["en"]
    written = Transcript("en", 40.0, "demo", (Segment(0.0, 30.0, text),))
    cues = cues_of(written)
    assert " ".join(cue.text for cue in cues).split() == text.split()
    assert len(cues) > 2
    assert (cues[0].start_s, cues[-1].end_s) == pytest.approx((0.0, 30.0))


def test_nothing_to_say() -> None:
    assert cues_of(Transcript("en", 9.0, "demo")) == []
    assert cues_of(Transcript("en", 9.0, "demo", (Segment(0.0, 1.0, " ", ()),))) == []


def test_who_speaks_at_the_same_time_takes_nothing_from_another() -> None:
    """As of channels that are recognized by themselves."""
    text = (
        "I am really not sure that it would be the right thing for us to do now "
        "because of the money that we would need for it"
    )
    begins = [i * 10 / 25 for i in range(len(text.split()))]
    words = tuple(
        Word(word, at, at + 0.3, speaker="A") for word, at in zip(text.split(), begins, strict=True)
    )
    end_s = words[-1].end_s or 0.0
    long = Segment(0.0, end_s, f" {text}", words, "A")
    short = Segment(1.0, 1.5, " Right.", (Word("Right.", 1.0, 1.5, speaker="B"),), "B")
    cues = cues_of(Transcript("en", 12.0, "demo", (long, short)))
    assert [cue.start_s for cue in cues] == sorted(cue.start_s for cue in cues)
    assert all(cue.end_s - cue.start_s >= 0.8 - TIGHT for cue in cues)
    own = [cue for cue in cues if "[A]" in cue.text]
    assert own[-1].end_s >= end_s
    for cue, following in pairwise(own):
        assert cue.end_s <= following.start_s
