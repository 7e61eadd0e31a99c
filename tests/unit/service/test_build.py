"""A service that cannot be built says why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app.config.settings import load_settings
from app.domain.errors import ConfigurationError
from app.formats.subtitles import SubtitleStyle
from app.service.build import build_joining, build_service, subtitle_style
from tests.support.truth import audio_of


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"asr_model": "/no/model"}, "ASR_MODEL or PRELOAD_MODEL: /no/model is not there"),
        ({"asr_model": str(audio_of("en_long").parent)}, "model.bin"),
        ({"allowed_models": "demo,./none"}, r"ALLOWED_MODELS: \./none is not there"),
        ({"align_models": {"cy": "/no/aligner"}}, "ALIGN_MODELS: /no/aligner is not there"),
        ({"diarization_model": "/no/pipeline"}, "DIARIZATION_MODEL: /no/pipeline is not there"),
        ({"temp_min_free_mb": 1 << 40}, "TEMP_MIN_FREE_MB=1099511627776, but the disk of"),
    ],
)
def test_models_and_disks_that_are_not_there(
    tmp_path: Path, settings: dict[str, Any], expected: str
) -> None:
    folders = {"cache_dir": tmp_path / "cache", "temp_dir": tmp_path / "tmp"}
    with pytest.raises(ConfigurationError, match=expected):
        build_service(load_settings({"asr_model": "demo", **folders, **settings}))
    assert [p for p in tmp_path.glob("tmp/*") if p.is_dir()] == []


def test_how_long_work_goes_on_for_a_second_try() -> None:
    assert build_joining(load_settings()).limits.linger_s == 30
    assert build_joining(load_settings({"join_linger_s": 7})).limits.linger_s == 7


def test_the_look_of_subtitles() -> None:
    assert subtitle_style(load_settings()) == SubtitleStyle()
    chosen = load_settings({"subtitle_style": "readable", "subtitle_max_line_width": 37})
    assert subtitle_style(chosen) == SubtitleStyle(37, readable=True)
