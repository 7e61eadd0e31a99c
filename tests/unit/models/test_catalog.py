"""Which models are offered, by which names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app.domain.errors import ConfigurationError, UnknownModel
from app.models.catalog import COMMUNITY_PIPELINE, Catalog, KnownModels
from app.models.recognizers.whisper_engine import ALIASES

KNOWN = ("tiny", "large-v3", "large", "large-v3-turbo", "turbo", "large-v2")
DEMO_DIR = Path("demo")


def catalog(**options: Any) -> Catalog:
    known = KnownModels(KNOWN, ALIASES, frozenset({"en", "de"}))
    return Catalog(known, DEMO_DIR, **{"default_model": "tiny", **options})


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("tiny", "tiny"),
        ("large", "large-v3"),
        ("turbo", "large-v3-turbo"),
        ("whisper-1", "tiny"),
        ("gpt-4o-transcribe-diarize", "tiny"),
        ("gpt-realtime-whisper", "tiny"),
        ("gpt-live-transcribe", "tiny"),
        ("whisper-large-v3", "large-v3"),
        ("whisper-tiny", "tiny"),
        (" Whisper-Large-V3-Turbo ", "large-v3-turbo"),
        ("Systran/faster-whisper-large-v2", "large-v2"),
        ("openai/whisper-large", "large-v3"),
        ("deepdml/faster-whisper-large-v3-turbo-ct2", "large-v3-turbo"),
        ("openai/whisper-1", "tiny"),
        ("gpt-4o-mini-transcribe-2025-12-15", "tiny"),
        ("openai/gpt-4o-transcribe-2025-03-20", "tiny"),
        ("demo", "demo"),
    ],
)
def test_names_and_aliases(name: str, canonical: str) -> None:
    assert catalog().resolve(name) == canonical
    assert catalog().recognizer(canonical).source == (
        str(DEMO_DIR / "whisper") if name == "demo" else canonical
    )


def test_openais_names_stand_for_what_the_operator_says() -> None:
    ours = catalog(default_model="demo", allowed=("demo", "tiny", "owner/name"))
    ours.add_openai_names({"gpt-4o-transcribe": "tiny", "gpt-next": "owner/name"})
    assert ours.resolve("gpt-4o-transcribe") == "tiny"
    assert ours.resolve("gpt-next") == "owner/name"
    assert ours.resolve("gpt-4o-mini-transcribe") == "demo"
    with pytest.raises(ConfigurationError, match="OPENAI_MODELS"):
        ours.add_openai_names({"whisper-1": "large-v3"})


@pytest.mark.parametrize(
    "name",
    [
        "huge",
        "../../etc",
        "owner/repository",
        "owner/whisper-tiny",
        "openai/whisper-huge",
        "openai/../whisper-tiny",
        "whisper-tiny-2025-12-15-german",
        "whisper-large-v3-french",
        "openai/" + "whisper-" * 10_000 + "tiny",
        "whisper",
        "/etc/passwd",
        "",
        "/any/demo",
        "../demo",
    ],
)
def test_nothing_else_is_ever_loaded(name: str) -> None:
    with pytest.raises(UnknownModel) as failure:
        catalog().resolve(name)
    assert "large-v3-turbo" in str(failure.value)


def test_allowed_models_are_the_whole_list() -> None:
    allowed = catalog(default_model="demo", allowed=("demo", "owner/name", "/models/ours", "turbo"))
    assert allowed.names == ["demo", "large-v3-turbo", "ours", "owner/name"]
    assert allowed.recognizer(allowed.resolve("ours")).source == "/models/ours"
    assert allowed.resolve("/models/ours") == "ours"
    assert allowed.recognizer("owner/name").source == "owner/name"
    assert "turbo" in allowed.aliases
    assert "whisper-large-v3" not in allowed.aliases
    assert allowed.aliases["whisper-1"] == "demo", "the default, not OpenAI's"
    with pytest.raises(UnknownModel):
        allowed.resolve("tiny")


def test_other_names_reach_no_more_than_what_is_allowed() -> None:
    turbo = "deepdml/faster-whisper-large-v3-turbo-ct2"
    ours = catalog(default_model="demo", allowed=("demo", turbo, "me/whisper-tiny", "large-v2"))
    for name in (turbo, "turbo", "whisper-large-v3-turbo", "openai/whisper-large-v3-turbo"):
        assert ours.resolve(name) == turbo
    assert ours.recognizer(turbo).source == turbo
    assert ours.resolve("Systran/faster-whisper-large-v2") == "large-v2"
    for name in ("Systran/faster-whisper-tiny", "whisper-tiny", "openai/whisper-large-v3"):
        with pytest.raises(UnknownModel):
            ours.resolve(name)


def test_the_operators_default_may_be_a_path_or_a_repository() -> None:
    assert catalog(default_model="owner/name").default_model == "owner/name"
    assert catalog(default_model="/models/ours").default_model == "ours"


@pytest.mark.parametrize(
    "options",
    [
        {"default_model": "hugo"},
        {"default_model": "tiny", "allowed": ("demo",)},
        {"default_model": "demo", "allowed": ("demo", "tyni")},
    ],
)
def test_names_that_are_none_end_the_start(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        catalog(**options)


def test_aligners() -> None:
    plain = catalog(align_models={"cy": "someone/welsh", "en": "/models/english"})
    welsh, english, german = (plain.aligner("tiny", code) for code in ("cy", "en", "de"))
    assert welsh is not None
    assert english is not None
    assert german is not None
    assert (welsh.source, english.source, german.source) == (
        "someone/welsh", "/models/english", "",
    )  # fmt: skip
    assert plain.aligner("tiny", "mi") is None
    demo = catalog().aligner("demo", "es")
    assert demo is not None
    assert demo.source == str(DEMO_DIR / "align")
    assert catalog().aligner("demo", "de") is None


def test_diarizers() -> None:
    assert catalog().diarizer("tiny").source == COMMUNITY_PIPELINE
    assert catalog().diarizer("demo").source == str(DEMO_DIR / "diarization")
    assert catalog(diarization_model="demo").diarizer("tiny").source == str(
        DEMO_DIR / "diarization"
    )
    assert catalog(diarization_model="/models/dia").diarizer("demo").source == "/models/dia"
