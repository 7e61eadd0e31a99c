"""Words + turns, by arithmetic alone."""

from __future__ import annotations

from app.domain.transcript import Diarization, Segment, Turn, Word
from app.pipeline.speakers import assign_speakers


def word(text: str, start: float, end: float) -> Word:
    return Word(text, start, end, 1.0)


def segment(*words: Word, text: str | None = None) -> Segment:
    joined = text if text is not None else "".join(f" {w.text}" for w in words)
    ends: list[int] = []
    for w in words:
        ends.append(joined.index(w.text, ends[-1] if ends else 0) + len(w.text))
    starts = [w.start_s for w in words if w.start_s is not None]
    last = [w.end_s for w in words if w.end_s is not None]
    return Segment(
        min(starts), max(last), joined, words, tokens=tuple(range(len(words))),
        token_ends=tuple(ends),
    )  # fmt: skip


def diarization(*turns: tuple[float, float, str], exclusive: bool = True) -> Diarization:
    made = tuple(Turn(*turn) for turn in turns)
    return Diarization(made, made if exclusive else ())


def test_segments_are_split_where_the_speaker_changes() -> None:
    line = segment(word("Yes,", 0, 1), word("sure.", 1, 2), word("No.", 2, 3))
    first, second = assign_speakers([line], diarization((0, 2, "A"), (2, 3, "B")), True)
    assert (first.text, first.speaker, first.start_s, first.end_s) == (" Yes, sure.", "A", 0, 2)
    assert (second.text, second.speaker, second.start_s, second.end_s) == (" No.", "B", 2, 3)
    assert first.text + second.text == line.text
    assert first.tokens + second.tokens == line.tokens
    assert second.token_ends == (4,)


def test_a_word_goes_to_whoever_speaks_most_of_it() -> None:
    line = segment(word("together", 0, 10))
    turns = diarization((0, 4, "A"), (2, 8, "B"), (8, 10, "A"), exclusive=False)
    [only] = assign_speakers([line], turns, False)
    assert only.speaker == "A"  # 4 + 2 against 6: the first of equals
    [only] = assign_speakers([line], diarization((0, 4, "A"), (4, 10, "B")), False)
    assert only.speaker == "B"


def test_exclusive_turns_decide_where_there_are_any() -> None:
    line = segment(word("mine", 1, 2))
    both = Diarization((Turn(0, 9, "A"),), (Turn(0, 1, "A"), Turn(1, 2, "B")))
    [only] = assign_speakers([line], both, True)
    assert only.speaker == "B"


def test_a_word_outside_every_turn() -> None:
    line = segment(word("lost", 5, 5.5))
    turns = diarization((0, 4, "A"), (7, 9, "B"))
    assert assign_speakers([line], turns, True)[0].speaker == "A"
    assert assign_speakers([line], turns, False)[0].speaker is None


def test_the_nearest_turn_may_be_an_early_long_one() -> None:
    line = segment(word("late", 10.1, 10.2))
    turns = diarization((0, 10, "A"), (1, 2, "B"), (20, 21, "C"), exclusive=False)
    assert assign_speakers([line], turns, True)[0].speaker == "A"


def test_a_word_of_nobody_does_not_split_a_segment() -> None:
    line = segment(word("one", 0, 1), word("two", 5, 6), word("three", 8, 9))
    turns = diarization((0, 1, "A"), (8, 9, "A"))
    [only] = assign_speakers([line], turns, False)
    assert only.speaker == "A"
    assert [w.speaker for w in only.words or ()] == ["A", None, "A"]


def test_words_without_times_follow_their_neighbours() -> None:
    line = segment(word("so", 0, 1), Word("25"), word("it", 2, 3))
    turns = diarization((0, 1, "A"), (2, 3, "B"))
    first, second = assign_speakers([line], turns, True)
    assert (first.text, second.text) == (" so 25", " it")
    line = segment(Word("25"), word("it", 2, 3))
    [only] = assign_speakers([line], turns, True)
    assert [w.speaker for w in only.words or ()] == ["B", "B"]


def test_without_words_the_dominant_speaker() -> None:
    translated = Segment(0, 10, " Good morning.")
    [only] = assign_speakers([translated], diarization((0, 4, "A"), (4, 10, "B")), True)
    assert only.speaker == "B"
    assert only.words is None


def test_nobody_found() -> None:
    line = segment(word("alone", 0, 1))
    [only] = assign_speakers([line], Diarization(), True)
    assert only.speaker is None


def test_repeated_words_and_languages_without_spaces_rebuild_the_text() -> None:
    line = segment(word("no", 0, 1), word("no", 1, 2), word("no", 2, 3), text=" no no no")
    parts = assign_speakers([line], diarization((0, 1, "A"), (1, 2, "B"), (2, 3, "A")), True)
    assert [p.text for p in parts] == [" no", " no", " no"]
    line = segment(word("東", 0, 1), word("京", 1, 2), text="東京")
    parts = assign_speakers([line], diarization((0, 1, "A"), (1, 2, "B")), True)
    assert [p.text for p in parts] == ["東", "京"]
