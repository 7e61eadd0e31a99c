"""LiveSession with ears that do as a test says: order, failures, and ends at any moment."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from app.audio.stream import Encoding
from app.domain.errors import ClientGone, ModelUnavailable, ServiceError, UnsupportedOption
from app.domain.transcript import (
    DecodingStats,
    Hypothesis,
    Samples,
    Segment,
    SpokenWord,
    Transcript,
    Word,
)
from app.engine.work import Work
from app.live import events, finals, partials
from app.live.certain import CertainWords
from app.live.ears import Spoken
from app.live.options import LiveOptions
from app.live.session import LiveSession, Needs
from tests.support.waiting import eventually

OPTIONS = LiveOptions("m", Encoding.S16)
QUIET, LOUD = np.zeros(16_000, "<i2").tobytes(), np.full(16_000, 20_000, "<i2").tobytes()
STATS = DecodingStats(-0.1, 0.0, 1.0, 0.0)


class LevelTrack:
    def add(self, samples: Samples) -> Any:
        return np.abs(samples.reshape(-1, 512)).max(1)


class Ears:
    """Answers when the test says so."""

    def __init__(self) -> None:
        self.quick: list[tuple[int, Spoken, Future[Hypothesis]]] = []
        self.thorough: list[tuple[int, Spoken, Future[Transcript]]] = []
        self.works: list[Work] = []

    def expect(self, work: Work) -> None:
        self.expected = work

    def listen(self, samples: Samples, spoken: Spoken, work: Work) -> Future[Hypothesis]:
        self.quick.append((len(samples), spoken, work.track(Future())))
        return self.quick[-1][2]

    def is_credible(self, hypothesis: Hypothesis) -> bool:
        return "noise" not in hypothesis.text

    def transcribe(self, samples: Samples, spoken: Spoken, work: Work) -> Future[Transcript]:
        self.works.append(work)
        self.thorough.append((len(samples), spoken, work.track(Future())))
        return self.thorough[-1][2]


def hypothesis(text: str) -> Hypothesis:
    words = tuple(
        SpokenWord(f" {w}", i * 0.1, i * 0.1 + 0.1, 0.9) for i, w in enumerate(text.split())
    )
    return Hypothesis("en", text, (), (), STATS, words=words)


def transcript(text: str) -> Transcript:
    words = tuple(Word(w, i * 0.1, i * 0.1 + 0.1, 0.9) for i, w in enumerate(text.split()))
    return Transcript("en", 1.0, "m", (Segment(0.0, 1.0, f" {text}", words),))


class Lecture:
    """Hears speech without a pause, and the least of it at `dip_s`: a word every half second. The
    samples are their own times.
    """

    def __init__(self, dip_s: float, seconds: float) -> None:
        self.dip_s, self.seconds, self.now_s = dip_s, seconds, 0.0
        self.words = [f"w{i}" for i in range(int(2 * seconds))]

    def sound(self) -> bytes:
        return (np.arange(int(16_000 * self.seconds)) / 1_600_000).astype("<f4").tobytes()

    def add(self, samples: Samples) -> Any:
        times = self.now_s + np.arange(len(samples) // 512) * 0.032
        self.now_s += 0.032 * len(times)
        return np.where(abs(times - self.dip_s) < 0.1, 0.4, 0.95)

    def expect(self, work: Work) -> None:
        pass

    def is_credible(self, hypothesis: Hypothesis) -> bool:
        return True

    def _heard(self, samples: Samples) -> list[SpokenWord]:
        begin_s, end_s = float(samples[0]) * 100, float(samples[-1]) * 100
        return [
            SpokenWord(f" {word}", i / 2 - begin_s, i / 2 + 0.45 - begin_s, 0.9)
            for i, word in enumerate(self.words)
            if begin_s - 0.05 <= i / 2 and i / 2 + 0.45 <= end_s + 0.01
        ]

    def listen(self, samples: Samples, spoken: Spoken, work: Work) -> Future[Hypothesis]:
        words = tuple(self._heard(samples))
        text = "".join(word.text for word in words)
        return done(Hypothesis("en", text, (), (), STATS, words=words))

    def transcribe(self, samples: Samples, spoken: Spoken, work: Work) -> Future[Transcript]:
        heard, seconds = self._heard(samples), len(samples) / 16_000
        words = tuple(Word(word.text.strip(), word.start_s, word.end_s, 0.9) for word in heard)
        text = "".join(word.text for word in heard)
        return done(Transcript("en", seconds, "m", (Segment(0.0, seconds, text, words),)))


def done(result: Any) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(result)
    return future


@pytest.mark.parametrize("dip_s", [22.5, 23.0, 25.0, 26.5])
def test_each_word_is_told_once_where_speech_without_a_pause_is_cut(dip_s: float) -> None:
    lecture, told = Lecture(dip_s, 40.0), []
    needs = Needs(lambda: lecture, lambda: Work("w", 60))
    session = LiveSession(needs, LiveOptions("m", Encoding.F32), told.append)
    thread = threading.Thread(target=session.run, args=(lecture,), daemon=True)
    thread.start()
    sound = lecture.sound()
    for at in range(0, len(sound), 6400):
        seen = threading.Event()
        session.hear(sound[at : at + 6400])
        session.call(seen.set)
        assert seen.wait(30)
    session.finish()
    thread.join(30)
    certain = CertainWords()
    words = [word.text.strip() for event in told for word in certain.hear(event)]
    assert len([event for event in told if isinstance(event, events.Final)]) == 2
    assert words == lecture.words


class Talk:
    """A session in its thread, with a clock that the test moves."""

    def __init__(self, options: LiveOptions = OPTIONS) -> None:
        self.ears, self.told, self.now = Ears(), [], 0.0
        self.delays: list[tuple[str, list[float]]] = []
        needs = Needs(
            LevelTrack,
            lambda: Work("w", 60),
            lambda event, delays: self.delays.append((type(event).__name__, delays)),
            lambda: self.now,
        )
        self.session = LiveSession(needs, options, self._tell)
        self._told = threading.Condition()
        self._thread = threading.Thread(target=self.session.run, args=(self.ears,), daemon=True)
        self._thread.start()

    def _tell(self, event: events.LiveEvent) -> None:
        with self._told:
            self.told.append(event)
            self._told.notify_all()

    def wait(self, kind: type, number: int = 1) -> Any:
        """The event of this kind with this number, once it is told."""
        with self._told:
            assert self._told.wait_for(lambda: len(self.of(kind)) >= number, 30), self.told
        return self.of(kind)[number - 1]

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.told if isinstance(event, kind)]

    def done(self) -> list[str]:
        """The kinds of all events, once the session is over."""
        self._thread.join(30)
        assert not self._thread.is_alive()
        return [type(event).__name__ for event in self.told]

    def say(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.session.hear(piece)

    def settle(self) -> None:
        """Until all that was sent is looked at."""
        seen = threading.Event()
        self.session.call(seen.set)
        assert seen.wait(30)

    def utterances(self, number: int) -> None:
        self.say(*[LOUD, QUIET] * number)
        eventually(lambda: len(self.ears.thorough) == number)


@pytest.fixture
def talk() -> Iterator[Talk]:
    talk = Talk()
    yield talk
    talk.session.abort()


def test_nothing_heard_nothing_told(talk: Talk) -> None:
    talk.session.finish()
    assert talk.done() == ["Ended"]
    assert talk.told[0].error is None


def test_clients_learn_what_sound_is_not_needed_any_more(talk: Talk) -> None:
    for _ in range(4):
        talk.say(QUIET)
    until_s = [talk.wait(events.Silence, number).until_s for number in (1, 2)]
    assert until_s == sorted(until_s)
    talk.say(LOUD)
    assert until_s[-1] <= talk.wait(events.SpeechStarted).at_s
    talk.session.abort()
    assert talk.done()[-1] == "Ended"


def test_partials_then_a_final_with_the_rest(talk: Talk) -> None:
    talk.say(LOUD)
    eventually(lambda: len(talk.ears.quick) == 1)
    talk.ears.quick[0][2].set_result(hypothesis("one two"))
    assert talk.wait(events.Partial).committed == ()
    talk.say(LOUD)
    eventually(lambda: len(talk.ears.quick) == 2)
    talk.ears.quick[1][2].set_result(hypothesis("one two three"))
    assert [w.text for w in talk.wait(events.Partial, 2).committed] == [" one", " two"]
    talk.session.finish()
    eventually(lambda: len(talk.ears.thorough) == 1)
    talk.ears.thorough[0][2].set_result(transcript("One two three four."))
    final = talk.wait(events.Final)
    assert [w.text for w in final.rest] == [" three", " four."]
    assert (final.start_s, final.end_s) == (0.0, 2.0)
    assert talk.done()[-1] == "Ended"


PAUSE = QUIET[: len(QUIET) // 4]


def committed(event: events.Partial) -> list[str]:
    return [word.text for word in event.committed]


def test_words_before_a_pause_are_certain_at_once(talk: Talk) -> None:
    talk.say(LOUD, PAUSE)
    for number, text in enumerate(("one", "one two")):
        eventually(lambda number=number: len(talk.ears.quick) > number)
        talk.ears.quick[number][2].set_result(hypothesis(text))
    assert committed(talk.wait(events.Partial, 2)) == [" one", " two"]
    talk.settle()
    assert len(talk.ears.quick) == 2  # there is nothing new but silence
    talk.say(LOUD)
    eventually(lambda: len(talk.ears.quick) == 3)


def test_words_asked_for_in_the_pause_are_told_after_the_end_of_the_utterance(talk: Talk) -> None:
    talk.say(LOUD, PAUSE)
    eventually(lambda: len(talk.ears.quick) == 1)
    talk.ears.quick[0][2].set_result(hypothesis("one"))
    eventually(lambda: len(talk.ears.quick) == 2)
    talk.say(QUIET)
    eventually(lambda: len(talk.ears.thorough) == 1)
    talk.ears.quick[1][2].set_result(hypothesis("one two"))
    assert committed(talk.wait(events.Partial, 2)) == [" one", " two"]
    talk.ears.thorough[0][2].set_result(transcript("One two three."))
    assert [w.text for w in talk.wait(events.Final).rest] == [" three."]


@pytest.mark.parametrize("outcome", ["final", "failed", "dropped", "cut off"])
def test_no_words_are_told_after_the_outcome_of_an_utterance(talk: Talk, outcome: str) -> None:
    talk.say(LOUD, PAUSE)
    eventually(lambda: len(talk.ears.quick) == 1)
    if outcome == "dropped":
        talk.session.clear()
        talk.wait(events.Dropped)
    else:
        talk.session.commit()
        eventually(lambda: len(talk.ears.thorough) == 1)
    if outcome == "final":
        talk.ears.thorough[0][2].set_result(transcript("One."))
        talk.wait(events.Final)
    elif outcome == "failed":
        talk.ears.thorough[0][2].set_exception(UnsupportedOption("no"))
        talk.wait(events.Failed)
    elif outcome == "cut off":
        talk.session.reset()
        talk.wait(events.Reset)
    if not talk.ears.quick[0][2].cancelled():
        talk.ears.quick[0][2].set_result(hypothesis("one two"))
    talk.settle()
    talk.settle()
    assert talk.of(events.Partial) == []


def test_finals_come_in_order_whichever_is_ready_first(talk: Talk) -> None:
    talk.utterances(2)
    talk.ears.thorough[1][2].set_result(transcript("second"))
    talk.settle()
    assert talk.of(events.Final) == []
    talk.ears.thorough[0][2].set_result(transcript("first"))
    assert talk.wait(events.Final, 2).utterance == 2
    assert [final.utterance for final in talk.of(events.Final)] == [1, 2]


def context_s(talk: Talk) -> list[list[float]]:
    """Seconds of the utterances before each one that was to be transcribed."""
    return [[len(u) / 16_000 for u in of.left_context] for _, of, _ in talk.ears.thorough]


def say_in_turn(talk: Talk, number: int) -> None:
    """Utterances whose transcripts come before the next one ends."""
    for _ in range(number):
        talk.say(LOUD, QUIET)
        told = len(talk.ears.thorough)
        eventually(lambda told=told: len(talk.ears.thorough) > told)
        talk.ears.thorough[-1][2].set_result(transcript("said"))
        talk.wait(events.Final, len(talk.ears.thorough))


def test_an_utterance_is_transcribed_with_the_sound_before_it(talk: Talk) -> None:
    say_in_turn(talk, 2)
    talk.say(QUIET, QUIET)  # too long a pause
    talk.say(LOUD, QUIET)
    eventually(lambda: len(talk.ears.thorough) == 3)
    assert context_s(talk) == [[], [pytest.approx(1.25, abs=0.1), 0.3], []]


def test_it_is_tried_again_with_the_same_sound_before_it(talk: Talk) -> None:
    say_in_turn(talk, 1)
    talk.say(LOUD, QUIET)
    eventually(lambda: len(talk.ears.thorough) == 2)
    talk.ears.thorough[1][2].set_exception(ModelUnavailable("gone"))
    eventually(lambda: len(talk.ears.thorough) == 3)
    assert context_s(talk)[2] == context_s(talk)[1] != []


@pytest.mark.parametrize("options", [replace(OPTIONS, use_context=False), OPTIONS])
def test_no_sound_of_before_where_it_is_not_wanted_or_too_late(options: LiveOptions) -> None:
    talk = Talk(options)
    talk.utterances(1)
    if not options.use_context:
        talk.ears.thorough[0][2].set_result(transcript("one"))
        talk.wait(events.Final)  # else the second is late, and has no time to lose
    talk.say(LOUD, QUIET)
    eventually(lambda: len(talk.ears.thorough) == 2)
    assert context_s(talk) == [[], []]
    talk.session.abort()


def test_only_so_much_sound_before_an_utterance_is_kept(talk: Talk) -> None:
    say_in_turn(talk, 12)
    assert [len(before) for before in context_s(talk)][-3:] == [12, 12, 12]
    assert max(map(sum, context_s(talk))) < 12
    talk.say(*[LOUD] * 12)
    say_in_turn(talk, 2)
    assert context_s(talk)[-1] == []


def test_nothing_of_before_is_heard_after_a_reset(talk: Talk) -> None:
    say_in_turn(talk, 1)
    talk.session.reset()
    talk.say(LOUD, QUIET)
    eventually(lambda: len(talk.ears.thorough) == 2)
    assert context_s(talk) == [[], []]


def test_a_failed_transcript_is_tried_again_and_told(talk: Talk) -> None:
    talk.utterances(1)
    talk.ears.thorough[0][2].set_exception(ModelUnavailable("gone"))
    assert talk.wait(events.Troubled).error.message == "gone"
    eventually(lambda: len(talk.ears.thorough) == 2)
    talk.ears.thorough[1][2].set_result(transcript("there"))
    assert talk.wait(events.Final).utterance == 1


@pytest.mark.parametrize(
    ("errors", "told"),
    [
        ([UnsupportedOption("no")], UnsupportedOption),
        ([ModelUnavailable("gone")] * finals.TRIES, ModelUnavailable),
        ([KeyError("a bug")] * finals.TRIES, ServiceError),
    ],
)
def test_the_stream_goes_on_after_a_failure(
    talk: Talk, errors: list[Exception], told: type[ServiceError]
) -> None:
    talk.utterances(1)
    for number, error in enumerate(errors):
        eventually(lambda number=number: len(talk.ears.thorough) == number + 1)
        talk.ears.thorough[-1][2].set_exception(error)
    assert isinstance(talk.wait(events.Failed).error, told)
    before = len(talk.ears.thorough)
    talk.say(LOUD, QUIET)
    eventually(lambda: len(talk.ears.thorough) == before + 1)
    talk.ears.thorough[-1][2].set_result(transcript("more"))
    assert talk.wait(events.Final).utterance == 2


def test_partials_that_fail_or_are_noise_are_not_text(talk: Talk) -> None:
    talk.say(LOUD)
    eventually(lambda: len(talk.ears.quick) == 1)
    talk.ears.quick[0][2].set_exception(ModelUnavailable("gone"))
    talk.wait(events.Troubled)
    talk.say(LOUD)
    eventually(lambda: len(talk.ears.quick) == 2)
    talk.ears.quick[1][2].set_result(hypothesis("noise"))
    assert talk.wait(events.Partial).tentative == ()


@pytest.mark.parametrize(("takes_s", "hurry"), [(0.2, False), (0.9, True)])
def test_transcripts_are_in_a_hurry_while_the_models_are_busy(
    talk: Talk, takes_s: float, hurry: bool
) -> None:
    talk.say(LOUD)
    eventually(lambda: len(talk.ears.quick) == 1)
    talk.now = takes_s
    talk.ears.quick[0][2].set_result(hypothesis("one two"))
    talk.wait(events.Partial)
    talk.say(QUIET)
    eventually(lambda: len(talk.ears.thorough) == 1)
    assert talk.ears.thorough[0][1].hurry is hurry


def test_a_transcript_behind_another_one_is_in_a_hurry(talk: Talk) -> None:
    talk.utterances(2)
    assert [spoken.hurry for _, spoken, _ in talk.ears.thorough] == [False, True]


def test_a_session_is_busy_while_a_client_waits_for_it(talk: Talk) -> None:
    """Else a client that waits for its transcripts is taken for one that is idle."""
    talk.say(QUIET)
    talk.settle()
    assert not talk.session.busy
    talk.utterances(1)
    assert talk.session.busy
    talk.ears.thorough[0][2].set_result(transcript("one"))
    talk.wait(events.Final)
    assert not talk.session.busy
    talk.say(LOUD)
    talk.session.finish()
    eventually(lambda: len(talk.ears.thorough) == 2)
    assert talk.session.busy


def test_a_client_that_waits_for_the_model_is_not_idle() -> None:
    session = LiveSession(Needs(LevelTrack, lambda: Work("w", 60)), OPTIONS, lambda event: None)
    assert not session.busy
    session.hear(LOUD)
    assert session.busy


def test_late_transcripts_are_complained_about_and_hopeless_ones_end_the_stream(
    talk: Talk,
) -> None:
    talk.utterances(1)
    talk.now = finals.LAGGING_S + 1
    assert talk.wait(events.Lagging).behind_s == pytest.approx(finals.LAGGING_S + 1)
    assert talk.session._partials.step_s == partials.LONGEST_STEP_S
    talk.now = finals.LOST_S + 2 * finals.LOST_PER_S
    assert talk.wait(events.Ended).error.code == "overloaded"
    assert talk.ears.thorough[0][2].cancelled()


def test_much_sound_without_a_transcript_holds_the_client(talk: Talk) -> None:
    talk.say(*[LOUD] * 24, QUIET)
    eventually(lambda: len(talk.ears.thorough) == 1)
    assert talk.session.backlog_s == 0
    talk.say(*[*[LOUD] * 24, QUIET] * 2)
    eventually(lambda: len(talk.ears.thorough) == 3)
    talk.settle()
    assert talk.session.backlog_s > 5
    for _, _, future in talk.ears.thorough:
        future.set_result(transcript("a"))
    eventually(lambda: talk.session.backlog_s == 0)


def test_cleared_sound_has_no_transcript_and_later_sound_has(talk: Talk) -> None:
    talk.say(LOUD)
    talk.session.clear()
    assert talk.wait(events.Dropped).utterance == 1
    talk.say(QUIET, LOUD, QUIET)
    eventually(lambda: len(talk.ears.thorough) == 1)
    talk.ears.thorough[0][2].set_result(transcript("later"))
    assert talk.wait(events.Final).start_s == pytest.approx(1.7, abs=0.15)


def test_reset_drops_what_is_under_way_and_the_context(talk: Talk) -> None:
    talk.utterances(1)
    talk.ears.thorough[0][2].set_result(transcript("before"))
    talk.wait(events.Final)
    talk.say(LOUD, QUIET, LOUD)
    eventually(lambda: len(talk.ears.thorough) == 2)
    talk.session.reset()
    talk.wait(events.Reset)
    assert {event.utterance for event in talk.of(events.Dropped)} == {2, 3}
    assert talk.ears.thorough[1][2].cancelled()
    talk.session.finish()
    assert talk.done()[-1] == "Ended"


def test_context_is_text_of_the_same_language() -> None:
    english = LiveOptions("m", Encoding.S16, language="en")
    for options, context in ((english, " before"), (OPTIONS, "")):
        talk = Talk(options)
        talk.utterances(1)
        talk.ears.thorough[0][2].set_result(transcript("before"))
        talk.wait(events.Final)
        talk.say(LOUD, QUIET)
        eventually(lambda talk=talk: len(talk.ears.thorough) == 2)
        assert talk.ears.thorough[1][1].context == context
        talk.session.abort()


def test_commit_ends_an_utterance_without_endpoints() -> None:
    talk = Talk(LiveOptions("m", Encoding.S16, endpoints=None))
    talk.session.commit()
    talk.say(LOUD, LOUD)
    talk.session.commit()
    eventually(lambda: len(talk.ears.thorough) == 1)
    assert talk.ears.thorough[0][0] == 32_000
    talk.session.abort()


def test_another_encoding_in_the_middle(talk: Talk) -> None:
    talk.say(LOUD)
    talk.session.reconfigure(LiveOptions("m", Encoding.F32, 8_000))
    talk.settle()
    talk.say(np.full(8_000, 0.7, "<f4").tobytes())
    talk.session.finish()
    eventually(lambda: len(talk.ears.thorough) == 2)
    assert talk.ears.thorough[0][0] == 16_000
    assert talk.ears.thorough[1][0] == pytest.approx(16_000, abs=600)
    assert talk.of(events.SpeechStarted)[1].at_s == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("moment", ["before sound", "partial", "final"])
def test_abort_at_any_moment(talk: Talk, moment: str) -> None:
    sounds: dict[str, Callable[[], None]] = {
        "before sound": lambda: None,
        "partial": lambda: talk.say(LOUD),
        "final": lambda: talk.utterances(1),
    }
    sounds[moment]()
    talk.settle()
    talk.session.abort(ClientGone())
    assert talk.done()[-1] == "Ended"
    assert all(f.cancelled() for _, _, f in [*talk.ears.quick, *talk.ears.thorough])


def test_much_at_once_is_heard_twice_so_that_words_are_certain(talk: Talk) -> None:
    talk.say(LOUD)
    eventually(lambda: len(talk.ears.quick) == 1)
    talk.say(LOUD * 4)
    talk.session.look_now()
    assert talk.wait(events.Looked).at_s == 5.0
    for number, text in enumerate(("one", "one two", "one two")):
        eventually(lambda number=number: len(talk.ears.quick) > number)
        talk.ears.quick[number][2].set_result(hypothesis(text))
    assert [p.heard_s for p in (talk.wait(events.Partial, n) for n in (1, 2, 3))] == [1, 4.5, 5]


def test_the_delay_of_words_is_measured_from_their_arrival(talk: Talk) -> None:
    talk.say(LOUD, QUIET)
    eventually(lambda: len(talk.ears.thorough) == 1)
    talk.now = 3.0
    talk.ears.thorough[0][2].set_result(transcript("one two"))
    talk.wait(events.Final)
    talk.settle()
    assert ("Final", [3.0, 3.0]) in talk.delays
