"""The results of /stream: which words a chunk's result has, and when it comes."""

from __future__ import annotations

from app.api.live.results import Results
from app.domain.transcript import SpokenWord, Transcript
from app.live.events import Final, Looked, Partial, SpeechEnded, SpeechStarted
from tests.support.spoken import spoken

NOTHING = Transcript("en", 1.0, "m", ())


def words(text: str, start_s: float) -> tuple[SpokenWord, ...]:
    return tuple(spoken(text, 0.2, start_s))


def test_a_result_waits_for_the_transcript_of_what_was_said_before() -> None:
    """Else its end would lie after words that come later."""
    results = Results(2.0, 0.0, "en")
    results.receive(2.0)
    told = [
        SpeechStarted(1, 0.0), Partial(1, words("one", 0.0), (), 0.9, "en", None),
        SpeechEnded(1, 1.0), SpeechStarted(2, 1.2),
        Partial(2, words("three", 1.3), (), 2.0, "en", None), Looked(2.0),
    ]  # fmt: skip
    assert [result for event in told for result in results.hear(event)] == []
    [] = results.hear(Final(1, 0.0, 1.0, NOTHING, words("two", 0.5), None))
    [result] = results.hear(Partial(2, words("four", 1.7), (), 2.0, "en", None))
    assert result["text"] == "one two three four"
    [segment] = result["segments"]
    assert (segment["start"], segment["end"]) == (0.0, 1.9)


def test_the_time_of_processing_begins_anew_after_a_reset() -> None:
    results = Results(1.0, 0.0, "en")
    results.receive(1.0)
    results.restart()
    assert not results.due
    assert results.take()["processing_time"] == 0.0
