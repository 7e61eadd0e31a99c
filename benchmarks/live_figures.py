"""What the streams of the live benchmark were told, compared with what was said. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import jiwer

from benchmarks.live_spoken import Spoken
from benchmarks.results import percentile
from benchmarks.scoring import Errors, add_up, count_errors

BEHIND_S = 5.0  # a side that is so late with a word in twenty, or with the end, is falling behind
NORMAL = 1000  # close

Told = list[tuple[str, float]]  # words and when they came


@dataclass(frozen=True, slots=True)
class StreamTold:
    """`messages`: seconds since the first sample was spoken, and the message."""

    spoken: Spoken
    messages: Sequence[tuple[float, dict[str, Any]]]
    ended_well: bool

    def _events(self, name: str) -> list[tuple[float, dict[str, Any]]]:
        return [(at, m) for at, m in self.messages if m.get("event") == name]

    @property
    def has_finals(self) -> bool:
        return bool(self._events("final"))

    @property
    def committed(self) -> Told:
        """The words as they became certain: in partials, or with the final of their utterance."""
        return [
            (word["word"], at)
            for at, message in self.messages
            for word in (*message.get("committed", ()), *message.get("rest", ()))
        ]

    @property
    def final(self) -> Told:
        return [(text, at) for at, message in self._events("final") for text in _texts(message)]

    @property
    def text(self) -> str:
        """Its transcript: that of the finals, if this side has them."""
        told = self.final if self.has_finals else self.committed
        return " ".join(text for text, _ in told)

    def word_delays(self, told: Told) -> list[float]:
        """From the end of each word that was told right until it was told."""
        pairs = matched([word.text for word in self.spoken.words], [text for text, _ in told])
        return [told[j][1] - self.spoken.words[i].end_s for i, j in pairs]

    def end_delays(self) -> list[float]:
        """From the end of the last word of each utterance to its transcript."""
        delays = []
        for at, message in self._events("final"):
            inside = [
                word.end_s
                for word in self.spoken.words
                if message["start"] < word.end_s <= message["end"]
            ]
            delays += [at - inside[-1]] if inside else []
        return delays

    def flicker(self) -> tuple[int, int]:
        """(tentative words that were different in the next message, tentative words)."""
        changed = total = 0
        shown: list[str] = []
        for _, message in self.messages:
            if message.get("event") not in ("partial", "final"):
                continue
            certain = message.get("committed", message.get("rest", ()))
            now = [key(word["word"]) for word in (*certain, *message.get("tentative", ()))]
            total += len(shown)
            changed += sum(i >= len(now) or now[i] != word for i, word in enumerate(shown))
            shown = [key(word["word"]) for word in message.get("tentative", ())]
        return changed, total

    @property
    def late_s(self) -> float:
        """When its last word came, after the end of the sound."""
        last = max((at for _, at in (*self.committed, *self.final)), default=float("inf"))
        return last - self.spoken.duration_s


@dataclass(frozen=True, slots=True)
class Round:
    """So many streams at once. `cpu_s`: of the server's processes."""

    streams: Sequence[StreamTold]
    cpu_s: float

    @property
    def audio_s(self) -> float:
        return sum(stream.spoken.duration_s for stream in self.streams)

    @property
    def compute(self) -> float:
        """Seconds of a CPU for each second of audio."""
        return self.cpu_s / self.audio_s

    @property
    def committed_delays(self) -> list[float]:
        return self._all(lambda stream: stream.word_delays(stream.committed))

    @property
    def final_delays(self) -> list[float]:
        return self._all(lambda stream: stream.word_delays(stream.final))

    @property
    def end_delays(self) -> list[float]:
        return self._all(lambda stream: stream.end_delays())

    def _all(self, of: Callable[[StreamTold], Iterable[float]]) -> list[float]:
        return [delay for stream in self.streams for delay in of(stream)]

    @property
    def flicker(self) -> float:
        """The share of tentative words that changed."""
        counts = [stream.flicker() for stream in self.streams]
        return sum(changed for changed, _ in counts) / max(1, sum(total for _, total in counts))

    @property
    def errors(self) -> Errors:
        return add_up(count_errors(stream.spoken.text, stream.text) for stream in self.streams)

    @property
    def keeps_up(self) -> bool:
        delays = self.committed_delays
        return (
            all(stream.ended_well for stream in self.streams)
            and bool(delays)
            and percentile(delays, 0.95) <= BEHIND_S
            and max(stream.late_s for stream in self.streams) <= BEHIND_S
        )


def _texts(final: dict[str, Any]) -> list[str]:
    words = [word["word"] for word in final["words"]]
    return words or final["text"].split()


def key(word: str) -> str:
    return "".join(filter(str.isalnum, word.casefold()))


def matched(truth: Sequence[str], told: Sequence[str]) -> list[tuple[int, int]]:
    """(index in `truth`, index in `told`) of the words that are the same in both."""
    said, heard = ([(i, key(w)) for i, w in enumerate(words) if key(w)] for words in (truth, told))
    if not said or not heard:
        return []
    steps = jiwer.process_words(" ".join(w for _, w in said), " ".join(w for _, w in heard))
    return [
        (said[step.ref_start_idx + k][0], heard[step.hyp_start_idx + k][0])
        for step in steps.alignments[0]
        if step.type == "equal"
        for k in range(step.ref_end_idx - step.ref_start_idx)
    ]
