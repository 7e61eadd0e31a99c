"""The formats, alone and through HTTP, held against whisperx's writers and independent readers."""

from __future__ import annotations

import io
import json
import random
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import srt
import webvtt
from hypothesis import given, settings
from hypothesis import strategies as st
from whisperx import utils as whisperx_utils

from app.api.asr.parameters import OUTPUTS
from app.domain.transcript import Segment, Transcript, Word
from app.formats import asr as formats
from app.formats import subtitles
from app.formats.asr import JsonShape
from app.formats.lines import display_width
from app.formats.subtitles import SubtitleStyle
from app.formats.text import to_tsv
from tests.support.json_bodies import refuse_constant

PLAIN = SubtitleStyle()
LIST = JsonShape(webservice=False, with_words=True, with_embeddings=True)
STRING = JsonShape(webservice=True, with_words=True)
NAN, INFINITY = float("nan"), float("inf")


def segment(
    start_s: float, words: Sequence[str], speaker: str | None = None, space: str = " "
) -> Segment:
    """Words of half a second each."""
    timed = tuple(
        Word(text, start_s + i * 0.5, start_s + i * 0.5 + 0.4, 0.9, speaker)
        for i, text in enumerate(words)
    )
    return Segment(start_s, start_s + len(words) * 0.5, space + space.join(words), timed, speaker)


def transcript(*segments: Segment, language: str = "en", **values: Any) -> Transcript:
    return Transcript(language, 60.0, "demo", segments, **values)


def random_transcript(seed: int, speakers: bool) -> Transcript:
    """Segments of words some of which have no times, as alignment leaves them."""
    draw = random.Random(seed)
    segments = []
    now_s = draw.uniform(0, 4000)
    for _ in range(draw.randint(1, 12)):
        now_s += draw.choice([0.0, 0.2, 1.0, 8.0])
        start_s = now_s
        speaker = draw.choice(["SPEAKER_00", "SPEAKER_01"]) if speakers else None
        words = []
        for _ in range(draw.randint(1, 15)):
            end_s = now_s + draw.uniform(0.05, 0.6)
            text = "".join(draw.choices("abcdefgé", k=draw.randint(1, 9)))
            timed = draw.random() < 0.85
            words.append(
                Word(text, now_s, end_s, draw.random(), speaker)
                if timed
                else Word(text, speaker=speaker)
            )
            now_s = end_s + draw.choice([0.0, 0.1])
        text = "".join(f" {word.text}" for word in words)
        segments.append(Segment(start_s, now_s, text, tuple(words), speaker))
    return transcript(*segments)


# -- equal to whisperx's own writers -------------------------------------------------------------


def as_whisperx(written: Transcript) -> dict[str, Any]:
    """The dictionary that whisperx's writers take."""

    def of_word(word: Word) -> dict[str, Any]:
        times = {} if word.start_s is None else {"start": word.start_s, "end": word.end_s}
        return {"word": word.text, **times}

    def of_segment(item: Segment) -> dict[str, Any]:
        body: dict[str, Any] = {"start": item.start_s, "end": item.end_s, "text": item.text}
        if item.speaker is not None:
            body["speaker"] = item.speaker
        if item.words is not None:
            body["words"] = [of_word(word) for word in item.words]
        return body

    return {
        "segments": [of_segment(item) for item in written.segments],
        "language": written.language,
    }


def by_whisperx(written: Transcript, extension: str, style: SubtitleStyle = PLAIN) -> str:
    options = {
        "max_line_width": style.max_line_width,
        "max_line_count": style.max_line_count,
        "highlight_words": style.highlight_words,
    }
    file = io.StringIO()
    writer: Any = whisperx_utils.get_writer(extension, "")
    writer.write_result(as_whisperx(written), file, options)
    return file.getvalue()


def by_us(written: Transcript, extension: str, style: SubtitleStyle = PLAIN) -> str:
    output = {"txt": "text"}.get(extension, extension)
    return formats.write(written, OUTPUTS[output], LIST, style)


@pytest.mark.parametrize("speakers", [False, True])
@pytest.mark.parametrize("extension", ["txt", "srt", "vtt", "tsv"])
def test_the_layout_is_whisperx_writers(extension: str, speakers: bool) -> None:
    for seed in range(40):
        written = random_transcript(seed, speakers)
        assert by_us(written, extension) == by_whisperx(written, extension)


@pytest.mark.parametrize("extension", ["srt", "vtt"])
def test_highlighted_words_are_as_in_whisperx(extension: str) -> None:
    style = SubtitleStyle(highlight_words=True)
    for seed in range(40):
        written = random_transcript(seed, speakers=seed % 2 == 0)
        theirs = by_whisperx(written, extension, style)
        assert by_us(written, extension, style) == theirs
        assert ("<u>" in theirs) == any(w.start_s for s in written.segments for w in s.words or ())


@pytest.mark.parametrize("extension", ["txt", "srt", "vtt", "tsv"])
def test_segments_without_words_are_as_in_whisperx(extension: str) -> None:
    for seed in range(10):
        timed = random_transcript(seed, speakers=True)
        written = transcript(*(replace(item, words=None) for item in timed.segments))
        assert by_us(written, extension) == by_whisperx(written, extension)


@pytest.mark.parametrize("extension", ["txt", "srt", "vtt", "tsv"])
def test_japanese_is_written_without_spaces(extension: str) -> None:
    written = transcript(
        segment(1.0, list("こんにちは。"), space=""),
        segment(5.0, list("東京です。"), "SPEAKER_00", space=""),
        language="ja",
    )
    body = by_us(written, extension)
    assert body == by_whisperx(written, extension)
    assert "こんにちは。" in body
    assert "東京です。" in body
    assert formats.to_json(written, STRING)["text"] == "こんにちは。東京です。"


def test_highlighted_japanese_is_written_without_spaces_too() -> None:
    written = transcript(segment(1.0, list("東京"), space=""), language="ja")
    body = subtitles.to_srt(written, SubtitleStyle(highlight_words=True))
    assert "<u>東</u>京\n" in body
    assert "東<u>京</u>\n" in body


# -- times ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "in_srt", "in_vtt"),
    [
        (0.0, "00:00:00,000", "00:00.000"),
        (2.3, "00:00:02,300", "00:02.300"),
        (0.0004, "00:00:00,000", "00:00.000"),
        (59.9996, "00:01:00,000", "01:00.000"),
        (3599.9994, "00:59:59,999", "59:59.999"),
        (3600.0, "01:00:00,000", "01:00:00.000"),
        (7384.056, "02:03:04,056", "02:03:04.056"),
        (360_000.5, "100:00:00,500", "100:00:00.500"),
    ],
)
def test_times_as_subtitles_write_them(seconds: float, in_srt: str, in_vtt: str) -> None:
    written = transcript(Segment(seconds, seconds + 1, " Hello."))
    assert subtitles.to_srt(written, PLAIN).startswith(f"1\n{in_srt} --> ")
    assert subtitles.to_vtt(written, PLAIN).startswith(f"WEBVTT\n\n{in_vtt} --> ")
    assert to_tsv(written).splitlines()[1].startswith(f"{round(seconds * 1000)}\t")


def test_json_and_subtitles_round_alike() -> None:
    for half_ms in range(1, 4001, 2):
        seconds = half_ms / 2000
        written = transcript(Segment(seconds, 9.0, " Hello."))
        start_s = formats.to_json(written, LIST)["segments"][0]["start"]
        cue = next(iter(srt.parse(subtitles.to_srt(written, PLAIN))))
        assert cue.start.total_seconds() == start_s
        assert round(start_s, 3) == start_s


def test_a_segment_that_lasts_no_time_is_still_shown() -> None:
    written = transcript(Segment(5.0, 5.0, " Yes."), segment(7.0, []))
    (cue,) = srt.parse(subtitles.to_srt(written, PLAIN))
    assert cue.content == "Yes."
    assert cue.end > cue.start
    (caption,) = webvtt.from_string(subtitles.to_vtt(written, PLAIN)).captions
    assert caption.end > caption.start


def test_words_without_times_keep_their_place() -> None:
    words = (Word("Room"), Word("101", 1.0, 1.4, 0.5), Word("please"))
    written = transcript(Segment(0.5, 2.0, " Room 101 please", words))
    body = formats.to_json(written, LIST)
    assert body["word_segments"] == [
        {"word": "Room"},
        {"word": "101", "start": 1.0, "end": 1.4, "score": 0.5},
        {"word": "please"},
    ]
    (cue,) = srt.parse(subtitles.to_srt(written, PLAIN))
    assert (cue.content, cue.start.total_seconds()) == ("Room 101 please", 1.0)
    untimed = transcript(Segment(0.5, 2.0, " Room", (Word("Room"),)))
    (cue,) = srt.parse(subtitles.to_srt(untimed, SubtitleStyle(highlight_words=True)))
    assert (cue.start.total_seconds(), cue.end.total_seconds()) == (0.5, 2.0)


# -- JSON ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [NAN, INFINITY, -INFINITY])
def test_no_number_that_json_lacks_can_get_there(bad: float) -> None:
    words = (Word("a", 1.0, 2.0, bad), Word("b", bad, bad, 0.5), Word("c", bad, 3.0, bad))
    written = transcript(
        Segment(bad, 2.0, " a b c", words, "SPEAKER_00"),
        Segment(1.0, bad, " d", None, "SPEAKER_01"),
        speakers_known=True,
        speaker_embeddings={"SPEAKER_00": (0.5, bad), "SPEAKER_01": (1.0, 2.0)},
    )
    for output in ("json", "srt", "vtt", "tsv", "text", "md"):
        for style in (PLAIN, SubtitleStyle(20, 2), SubtitleStyle(highlight_words=True)):
            assert formats.write(written, OUTPUTS[output], LIST, style)
    body = json.loads(
        formats.write(written, OUTPUTS["json"], LIST, PLAIN), parse_constant=refuse_constant
    )
    assert "score" not in body["word_segments"][0]
    assert body["speaker_embeddings"] == {"SPEAKER_01": [1.0, 2.0]}


def test_no_negative_time() -> None:
    written = transcript(Segment(-0.02, 1.0, " Hello.", (Word("Hello.", -0.02, 1.0, 0.5),)))
    assert formats.to_json(written, LIST)["segments"][0]["start"] == 0
    assert subtitles.to_srt(written, PLAIN).startswith("1\n00:00:00,000 --> 00:00:01,000\n")


def test_the_two_shapes_of_text() -> None:
    written = transcript(segment(0.0, ["Hello", "there."]), segment(3.0, ["Bye."]))
    strings, lists = formats.to_json(written, STRING), formats.to_json(written, LIST)
    assert strings["text"] == "Hello there. Bye."
    assert lists["text"] == lists["segments"]
    assert "".join(item["text"] for item in lists["segments"]) == " Hello there. Bye."
    for item, same in zip(strings["segments"], lists["segments"], strict=True):
        assert "".join(word["word"] for word in item["words"]) == item["text"] == same["text"]
        assert [word["word"].strip() for word in item["words"]] == [
            word["word"] for word in same["words"]
        ]
        assert (item["start"], item["end"]) == (same["start"], same["end"])


def test_without_words_nothing_else_changes() -> None:
    written = random_transcript(1, speakers=True)
    whole = formats.to_json(written, LIST)
    bare = formats.to_json(written, replace(LIST, with_words=False))
    assert bare["word_segments"] == []
    assert len(whole["word_segments"]) > 5
    for item in whole["segments"]:
        del item["words"]
    assert bare["segments"] == whole["segments"]


def test_speakers_are_summed_up() -> None:
    written = transcript(
        segment(0.0, ["a", "b"], "SPEAKER_01"),
        segment(2.0, ["c"], "SPEAKER_00"),
        segment(3.0, ["d", "e", "f"], "SPEAKER_01"),
        segment(6.0, ["g"]),
        speakers_known=True,
    )
    assert formats.to_json(written, LIST)["speakers"] == [
        {"speaker": "SPEAKER_00", "total_duration": 0.5, "segment_count": 1},
        {"speaker": "SPEAKER_01", "total_duration": 2.5, "segment_count": 2},
    ]
    assert formats.to_json(transcript(speakers_known=True), LIST)["speakers"] == []
    assert "speakers" not in formats.to_json(transcript(), LIST)


# -- text that could break a format --------------------------------------------------------------


def test_an_empty_transcript_is_valid_in_every_format() -> None:
    empty = transcript()
    assert by_us(empty, "txt") == ""
    assert by_us(empty, "tsv") == "start\tend\ttext\n"
    assert list(srt.parse(by_us(empty, "srt"))) == []
    assert webvtt.from_string(by_us(empty, "vtt")).captions == []
    body = json.loads(by_us(empty, "json"))
    assert (body["text"], body["segments"], body["word_segments"]) == ([], [], [])


@pytest.mark.parametrize("arrow", ["-->", "--->", "---->", "-->-->"])
@pytest.mark.parametrize("aligned", [True, False])
def test_an_arrow_in_the_text_is_no_time_line(arrow: str, aligned: bool) -> None:
    item = segment(1.0, ["a", arrow, "b"])
    written = transcript(item if aligned else replace(item, words=None), segment(9.0, ["c"]))
    for extension, mark in (("srt", ","), ("vtt", ".")):
        body = by_us(written, extension)
        assert body.count("-->") == 2
        assert len(re.findall(rf"^[\d:]+{re.escape(mark)}\d+ --> ", body, re.M)) == 2
    cues = list(srt.parse(by_us(written, "srt")))
    assert [cue.content for cue in cues] == [f"a {re.sub('-+>', '->', arrow)} b", "c"]


@pytest.mark.parametrize("separator", ["\n", "\r\n", "\t", "\n\n", "\u2028", "\x85", "\x0b"])
@pytest.mark.parametrize("aligned", [True, False])
def test_breaks_in_the_text_break_no_line(separator: str, aligned: bool) -> None:
    text = f"a{separator}b"
    item = Segment(1.0, 2.0, f" {text}", (Word(text, 1.0, 2.0, 0.5),) if aligned else None)
    written = transcript(item, segment(3.0, ["c"]))
    assert by_us(written, "txt") == "a b\nc\n"
    assert by_us(written, "tsv").splitlines() == [
        "start\tend\ttext",
        "1000\t2000\ta b",
        "3000\t3500\tc",
    ]
    assert [cue.content for cue in srt.parse(by_us(written, "srt"))] == ["a b", "c"]
    captions = webvtt.from_string(by_us(written, "vtt")).captions
    assert [caption.text for caption in captions] == ["a b", "c"]


def test_a_space_that_holds_words_together_stays() -> None:
    written = transcript(Segment(1.0, 2.0, " Vraiment\u00a0?"))
    assert by_us(written, "txt") == "Vraiment\u00a0?\n"


@pytest.mark.parametrize("aligned", [True, False])
def test_vtt_shows_what_looks_like_a_tag(aligned: bool) -> None:
    item = segment(1.0, ["R&D", "<b>is", "a<b"])
    written = transcript(item if aligned else replace(item, words=None))
    assert by_us(written, "vtt").splitlines()[3] == "R&amp;D &lt;b>is a&lt;b"
    assert by_us(written, "srt").splitlines()[2] == "R&D <b>is a<b"
    assert formats.to_json(written, STRING)["text"] == "R&D <b>is a<b"
    if aligned:
        highlighted = by_us(written, "vtt", SubtitleStyle(highlight_words=True))
        assert "<u>R&amp;D</u> &lt;b>is a&lt;b" in highlighted


# -- line width and count ------------------------------------------------------------------------


def captions_of(written: Transcript, style: SubtitleStyle) -> list[list[str]]:
    return [cue.text.split("\n") for cue in subtitles.subtitle_cues(written, style)]


@pytest.mark.parametrize("count", [None, 1, 2, 3])
@pytest.mark.parametrize("width", [15, 20, 42])
@pytest.mark.parametrize("speakers", [False, True])
def test_no_line_is_wider_than_allowed(width: int, count: int | None, speakers: bool) -> None:
    style = SubtitleStyle(width, count)
    for seed in range(30):
        written = random_transcript(seed, speakers)
        for lines in captions_of(written, style):
            assert count is None or len(lines) <= count
            for line in lines:
                words = re.sub(r"^\[\w+\]: ", "", line).split()
                assert len(line) <= width or len(words) == 1


@pytest.mark.parametrize("style", [SubtitleStyle(20), SubtitleStyle(20, 2), SubtitleStyle(None, 1)])
def test_broken_lines_lose_no_word(style: SubtitleStyle) -> None:
    for seed in range(20):
        written = random_transcript(seed, speakers=True)
        shown = [re.sub(r"^\[\w+\]: ", "", " ".join(c)) for c in captions_of(written, style)]
        spoken = [word.text for item in written.segments for word in item.words or ()]
        assert " ".join(shown).split() == spoken


# -- line width and count where no words are known ------------------------------------------------

TEXTS = {
    "en": " The report that you sent me on Friday is not what the customer had asked for.",
    "fr": " « Où vas-tu ? » demanda-t-elle. « À la maison, bien sûr ! » Il partit sans un mot.",
    "ko": "그는 5월 5일에 서울에서 부산까지 기차를 타고 갔습니다. 날씨가 아주 좋았습니다.",
    "zh": "他说：“我来了。”然后他走了，没有人知道他去了哪里，也没有人问他为什么走得这么快。",
    "yue": "佢話：「我嚟喇。」之後走咗，冇人知佢去咗邊度，亦都冇人問佢點解走得咁快。",
    "ja": "彼は「はい。」と言った。そして東京へ帰ったので、とても疲れていますが、明日も仕事です。",
    "th": "สวัสดีครับ วันนี้เราจะพูดเรื่องอาหารไทยและประวัติศาสตร์ของประเทศไทยกันนะครับ",
    "km": "ខ្ញុំសុខសប្បាយជាទេ អរគុណច្រើនណាស់ដែលបានមកលេងផ្ទះរបស់ខ្ញុំនៅថ្ងៃនេះ។",
    "my": "ကျွန်တော် နေကောင်းပါတယ် ကျေးဇူးတင်ပါတယ် မနက်ဖြန် ပြန်လာပါမယ်။",
    "hi": "मैं कल दिल्ली जा रहा हूँ, क्योंकि मुझे वहाँ अपने भाई से मिलना है। धन्यवाद।",
    "ar": "ذهبت إلى السوق أمس واشتريت الكثير من الفواكه والخضروات، ثم عدت إلى البيت.",
}


def without_words(language: str, *texts: str, speaker: str | None = None) -> Transcript:
    segments = (
        Segment(10.0 * i, 10.0 * i + 8.0, text, None, speaker) for i, text in enumerate(texts)
    )
    return transcript(*segments, language=language)


@pytest.mark.parametrize("speaker", [None, "SPEAKER_00"])
@pytest.mark.parametrize("count", [None, 1, 2])
@pytest.mark.parametrize("width", [16, 42])
@pytest.mark.parametrize("language", TEXTS)
def test_lines_hold_without_words_in_every_script(
    language: str, width: int, count: int | None, speaker: str | None
) -> None:
    written = without_words(language, TEXTS[language], speaker=speaker)
    cues = list(subtitles.subtitle_cues(written, SubtitleStyle(width, count)))
    lines = [line for cue in cues for line in cue.text.split("\n")]
    prefix = len("[SPEAKER_00]: ") if speaker else 0
    if width > prefix + 10:
        assert all(display_width(line) <= width for line in lines)
    assert all(len(cue.text.split("\n")) <= (count or 99) for cue in cues)
    shown = "".join(line.removeprefix("[SPEAKER_00]: ") for line in lines)
    assert shown.replace(" ", "") == TEXTS[language].replace(" ", "")
    assert len(lines) >= display_width(TEXTS[language]) // width
    assert (cues[0].start_s, cues[-1].end_s) == (0.0, 8.0)
    for cue, following in pairwise(cues):
        assert cue.start_s < cue.end_s == pytest.approx(following.start_s)


def test_no_line_begins_with_a_mark_that_ends() -> None:
    for language in ("zh", "yue", "ja"):
        written = without_words(language, TEXTS[language] * 3)
        for width in range(8, 40):
            for lines in captions_of(written, SubtitleStyle(width, 2)):
                assert not any(line[0] in "。，、」”！？" for line in lines)


def test_lines_are_broken_between_words_where_none_is_spaced() -> None:
    assert captions_of(
        without_words("ja", "東京へ帰ったので、とても疲れた"), SubtitleStyle(20, 2)
    ) == [["東京へ帰ったので、", "とても疲れた"]]
    assert captions_of(without_words("th", "สวัสดีครับวันนี้อากาศดี"), SubtitleStyle(12, 2)) == [
        ["สวัสดีครับ", "วันนี้อากาศ"],
        ["ดี"],
    ]
    assert captions_of(without_words("ko", "어떻게 지내세요?"), SubtitleStyle(10, 2)) == [
        ["어떻게", "지내세요?"]
    ]


def test_the_time_of_a_segment_is_shared_out_by_characters() -> None:
    written = without_words("en", " aaaa bbbb cccc dddd", " Next.")
    cues = list(subtitles.subtitle_cues(written, SubtitleStyle(9, 1)))
    assert [cue.text for cue in cues] == ["aaaa bbbb", "cccc dddd", "Next."]
    assert cues[0].start_s == 0.0
    assert cues[1].start_s == pytest.approx(8.0 * 10 / 19)
    assert (cues[1].end_s, cues[2].start_s, cues[2].end_s) == (8.0, 10.0, 18.0)


def test_a_space_that_holds_numbers_together_stays_in_broken_lines() -> None:
    written = without_words("fr", " Cela coûte 3\u00a0000\u00a0€ par an.")
    assert captions_of(written, SubtitleStyle(16, 2)) == [
        ["Cela coûte", "3\u00a0000\u00a0€ par an."]
    ]


def test_a_word_wider_than_a_line_is_shown_whole() -> None:
    word = "Donaudampfschifffahrtsgesellschaft"
    written = without_words("de", f" Die {word} ruft.")
    assert captions_of(written, SubtitleStyle(10, 1)) == [["Die"], [word], ["ruft."]]
    assert captions_of(written, SubtitleStyle(1, 2)) == [["Die", word], ["ruft."]]
    assert captions_of(without_words("xx", word), SubtitleStyle(10, 2)) == [[word]]
    assert captions_of(without_words("en", "   "), SubtitleStyle(10, 2)) == []
    assert captions_of(without_words("zh", "我们走"), SubtitleStyle(1, 1)) == [
        ["我"],
        ["们"],
        ["走"],
    ]


def test_without_a_width_a_segment_without_words_stays_as_it_is() -> None:
    written = without_words("en", TEXTS["en"])
    for style in (PLAIN, SubtitleStyle(highlight_words=True)):
        assert captions_of(written, style) == [[TEXTS["en"].strip()]]


def test_segments_without_words_share_no_subtitle_and_are_not_highlighted() -> None:
    written = without_words("en", " One.", " Two.", speaker="SPEAKER_00")
    for highlight in (False, True):
        assert captions_of(written, SubtitleStyle(42, 2, highlight)) == [
            ["[SPEAKER_00]: One."],
            ["[SPEAKER_00]: Two."],
        ]


@settings(max_examples=200, deadline=None)
@given(
    text=st.lists(
        st.one_of(st.sampled_from([" ", "。", "é", "-", "ที่", "한", "😀"]), st.text(max_size=9))
    ).map("".join),
    language=st.sampled_from(["en", "zh", "ja", "ko", "th", "fr", "xx"]),
    width=st.integers(1, 50),
    count=st.one_of(st.none(), st.integers(1, 3)),
)
def test_broken_lines_rebuild_any_text(
    text: str, language: str, width: int, count: int | None
) -> None:
    cues = list(subtitles.subtitle_cues(without_words(language, text), SubtitleStyle(width, count)))
    shown = "".join(cue.text for cue in cues)
    assert "".join(shown.split()) == "".join(text.split())
    for cue in cues:
        assert 0.0 <= cue.start_s < cue.end_s <= 8.0
        for line in cue.text.split("\n"):
            assert line == line.strip()
            assert display_width(line) <= width or len(line.split()) == 1


# -- words that are written without spaces --------------------------------------------------------


def letters(language: str, text: str) -> Transcript:
    """A word for each letter, as aligners give them where no spaces are written."""
    spoken = [
        part for part in re.split(r"\s|(?<=[^\sa-z])(?=\S)(?!\w*[\u0300-\u036f])", text) if part
    ]
    timed = tuple(Word(part, i * 0.1, i * 0.1 + 0.1, 0.9) for i, part in enumerate(spoken))
    return transcript(Segment(0.0, len(timed) * 0.1, text, timed), language=language)


@pytest.mark.parametrize("style", [PLAIN, SubtitleStyle(24, 2), SubtitleStyle(16)])
@pytest.mark.parametrize("language", ["zh", "yue", "ja", "th", "lo", "km", "my", "bo"])
def test_letters_are_joined_as_the_text_is_written(language: str, style: SubtitleStyle) -> None:
    text = TEXTS.get(language, "ສະບາຍດີ ຂ້ອຍ") + " hello"
    captions = captions_of(letters(language, text), style)
    assert "".join("".join(lines) for lines in captions).replace(" ", "") == text.replace(" ", "")
    if style == PLAIN:
        assert captions == [[text]]
    else:
        assert all(display_width(line) <= 24 for lines in captions for line in lines)
        assert not any(line[0] in "。，、」”" for lines in captions for line in lines)


def test_a_translation_from_a_language_without_spaces_has_spaces() -> None:
    first, second = segment(0.0, ["Good", "morning."]), segment(1.0, ["We", "won’t", "go."])
    for texts in ((first.text, second.text), (first.text.strip(), second.text.strip())):
        segments = (replace(first, text=texts[0]), replace(second, text=texts[1]))
        written = transcript(*segments, language="zh")
        assert captions_of(written, SubtitleStyle(42, 2)) == [["Good morning. We won’t go."]]


def test_words_that_the_text_lacks_are_joined_by_language() -> None:
    words = (Word("東", 0.0, 0.5, 0.9), Word("京", 0.5, 1.0, 0.9))
    for language, shown in (("ja", "東京"), ("yue", "東京"), ("en", "東 京")):
        written = transcript(Segment(0.0, 1.0, "？", words), language=language)
        assert captions_of(written, PLAIN) == [[shown]]


def test_lines_are_filled_and_joined_across_segments() -> None:
    written = transcript(segment(0.0, ["one", "two"]), segment(1.0, ["three", "four", "five"]))
    assert captions_of(written, SubtitleStyle(13, 2)) == [["one two three", "four five"]]
    assert captions_of(written, SubtitleStyle(9, 1)) == [["one two"], ["three"], ["four five"]]
    # where only one of the two is given, a segment stays by itself
    assert captions_of(written, SubtitleStyle(13)) == [["one two"], ["three four", "five"]]
    assert captions_of(written, SubtitleStyle(None, 1)) == [["one two"], ["three four five"]]


def test_a_long_pause_ends_a_subtitle_where_segments_are_joined() -> None:
    written = transcript(segment(0.0, ["one"]), segment(9.0, ["two"]))
    assert captions_of(written, SubtitleStyle(40, 2)) == [["one"], ["two"]]


def test_no_cue_merges_two_speakers() -> None:
    for style in (PLAIN, SubtitleStyle(60, 3), SubtitleStyle(1000, 5), SubtitleStyle(60)):
        for seed in range(20):
            written = random_transcript(seed, speakers=True)
            expected = [
                (word.text, item.speaker) for item in written.segments for word in item.words or ()
            ]
            found = []
            for lines in captions_of(written, style):
                speaker, text = " ".join(lines).split("]: ", 1)
                found += [(word, speaker.removeprefix("[")) for word in text.split()]
            assert found == expected


def test_words_without_times_share_those_of_their_segment() -> None:
    text = " a long chunk that could not be aligned at all"
    words = tuple(map(Word, text.split()))
    transcript = Transcript("en", 30.0, "demo", (Segment(1.0, 27.0, text, words),))
    cues = list(
        subtitles.subtitle_cues(transcript, SubtitleStyle(max_line_width=12, max_line_count=1))
    )
    assert len(cues) > 3
    assert (cues[0].start_s, cues[-1].end_s) == (1.0, 27.0)
    for cue, following in pairwise(cues):
        assert cue.start_s < cue.end_s <= following.start_s
    style = SubtitleStyle(max_line_width=12, max_line_count=1, highlight_words=True)
    assert not any("<u>" in cue.text for cue in subtitles.subtitle_cues(transcript, style))


def test_names_of_speakers_are_text_of_webvtt() -> None:
    transcript = Transcript(
        "en", 2.0, "demo", (Segment(0.0, 1.0, " Hello.", None, "Bob <CFO> & co"),)
    )
    assert "[Bob &lt;CFO> &amp; co]: Hello." in subtitles.to_vtt(transcript, PLAIN).replace(
        "&gt;", ">"
    )
