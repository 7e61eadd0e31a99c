"""The soak in short: `make soak` runs it for as long as you like."""

from __future__ import annotations

from pathlib import Path

from tests.support.server import running_server
from tests.support.soak import COMMAND, run_soak, summary
from tests.support.truth import audio_of

SECONDS, ROUNDS = 8.0, 4
MAX_GROWTH_MB = 60


def test_mixed_load_leaves_nothing_behind(tmp_path: Path) -> None:
    with running_server(tmp_path, COMMAND, MAX_DURATION_SECONDS=120) as server:
        report = run_soak(server, SECONDS, ROUNDS)
        print(*summary(report), sep="\n")
        assert report.faults(MAX_GROWTH_MB) == []
        assert len(report.answers) >= 5, "too few kinds of requests were sent"
        assert server.post(audio_of("en_short")).status_code == 200
