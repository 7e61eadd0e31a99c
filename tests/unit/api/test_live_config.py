"""The messages of live streams: whatever a client writes, the parsers answer or refuse."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.api.live import realtime_config, stream_config
from app.api.live.connection import as_json
from app.api.live.values import MAX_VALUES, is_whole, parsed
from app.audio.stream import HIGHEST_RATE, LOWEST_RATE, StreamDecoder
from app.domain.errors import UnknownModel, UnsupportedOption
from app.live.endpointing import Endpointer


class Catalog:
    default_model = "demo"

    def resolve(self, name: str) -> str:
        if name != "demo":
            raise UnknownModel("model: it is not offered here.")
        return name


MODEST = settings(max_examples=50, deadline=None)
SERVICE: Any = SimpleNamespace(catalog=Catalog())
TEXT = st.one_of(
    st.text(max_size=9),
    st.just("\ud800"),
    st.sampled_from(["demo", "en", "int16", "audio/pcmu", "high"]),
)
NUMBERS = st.one_of(
    st.floats(), st.integers(), st.just(10**400), st.sampled_from([8000, 0.5, 300, 44_100])
)
PLAIN = st.one_of(st.none(), st.booleans(), NUMBERS, TEXT)
VALUES = st.one_of(
    PLAIN, st.lists(PLAIN, max_size=2), st.dictionaries(TEXT, PLAIN, max_size=2),
    st.just([[[{"a": [None]}]]]),
)  # fmt: skip
STREAM = st.dictionaries(
    st.one_of(st.sampled_from([*stream_config.CHANGES, "overlap"]), TEXT), VALUES
)
NAMES = [
    "type", "rate", "model", "language", "prompt", "keywords", "threshold", "prefix_padding_ms",
    "silence_duration_ms", "eagerness",
]  # fmt: skip
INNER = st.one_of(VALUES, st.dictionaries(st.sampled_from(NAMES), VALUES))
KINDS = {"type": st.sampled_from(["audio/pcm", "audio/pcma", "server_vad", "semantic_vad"])}
TYPED = st.fixed_dictionaries(KINDS, optional=dict.fromkeys(NAMES[1:], VALUES))
SOUND = st.dictionaries(
    st.sampled_from([
        "format", "transcription", "turn_detection", "input_audio_format",
        "input_audio_transcription",
    ]),
    INNER | TYPED,
)  # fmt: skip


@MODEST
@given(STREAM)
def test_any_config_of_a_stream(message: dict[str, Any]) -> None:
    before = stream_config.default_config(SERVICE)
    config, wrong, ignored = stream_config.changed(SERVICE, before, message)
    assert_is_usable(config.options)
    assert json.loads(as_json({**config.shown(), "notes": [*wrong, *ignored]}))
    assert 0.5 <= config.chunk_s <= 60
    assert 0 <= config.resume_from_s <= 1e6


@MODEST
@given(SOUND | VALUES, st.booleans())
def test_any_session_of_realtime(sound: Any, nested: bool) -> None:
    before = realtime_config.default_config(SERVICE)
    session = {"audio": {"input": sound}} if nested else {"audio": sound}
    for update, wanted in (
        (realtime_config.updated, session),
        (realtime_config.beta_updated, sound if isinstance(sound, dict) else {}),
    ):
        try:
            config = update(SERVICE, before, wanted)
        except (UnsupportedOption, UnknownModel):
            continue
        assert_is_usable(config.options)
        shown = [config.format, config.transcription(), config.turn_detection]
        assert json.loads(as_json({"shown": shown}))


def assert_is_usable(options: Any) -> None:
    assert options.model == "demo"
    assert LOWEST_RATE <= options.rate <= HIGHEST_RATE
    StreamDecoder(options.encoding, options.rate)
    assert is_whole(options.prompt)
    assert is_whole(options.hotwords)
    if options.endpoints is not None:
        Endpointer(options.endpoints)
        assert 0 <= options.endpoints.threshold <= 1


@MODEST
@given(VALUES)
def test_any_answer_is_json_that_can_be_sent(value: Any) -> None:
    finite = json.loads(json.dumps(value), parse_constant=str)
    sent = as_json({"value": finite}).encode()
    assert json.loads(sent) == {"value": finite}


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"a":' * 100_000, "9" * 5000])
def test_what_is_no_message(text: str) -> None:
    with pytest.raises((ValueError, UnsupportedOption)):
        parsed(text)


def test_a_message_of_too_many_values() -> None:
    assert len(parsed("[" + "0," * 100 + "0]")) == 101
    with pytest.raises(UnsupportedOption):
        parsed("[" + "0," * MAX_VALUES + "0]")
