"""How soon the first words of a long file arrive. The reference sends all words at the end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from benchmarks.audio import tile
from benchmarks.results import Figure, show
from benchmarks.servers import REQUEST_TIMEOUT_S, Server, running
from benchmarks.setup import OUT, Plan

DELTA = "event: transcript.text.delta"
DONE = "event: transcript.text.done"


def run_streaming(plan: Plan) -> Iterator[Figure]:
    """Figures for OpenAI's endpoint. The reference has none and answers when everything is done."""
    path = tile(plan.long_minutes, OUT / "audio")
    short = tile(0.5, OUT / "audio")
    with running("ours") as server:
        _stream(server, short, speakers=True)
        ours = {speakers: _stream(server, path, speakers) for speakers in (False, True)}
    with running("reference") as server:
        server.post(short, diarize=True)
        reference = {speakers: server.post(path, speakers) for speakers in (False, True)}
    for speakers, (first_s, whole_s) in ours.items():
        name = f"{plan.long_minutes:g} min{' with speakers' if speakers else ''}"
        figures = (
            Figure(f"first words of {name}", first_s, reference[speakers]),
            Figure(f"all of {name}", whole_s, reference[speakers]),
            Figure(f"first words over all, {name}", first_s / whole_s, 1.0, unit="×"),
        )
        for figure in figures:
            show(figure)
            yield figure


def _stream(server: Server, path: Path, speakers: bool) -> tuple[float, float]:
    """Seconds until the first words and until the end."""
    first_s = None
    started = time.perf_counter()
    with (
        path.open("rb") as file,
        httpx.stream(
            "POST",
            server.url + "/v1/audio/transcriptions",
            data={"stream": "true", "response_format": "diarized_json" if speakers else "json"},
            files={"file": ("audio", file)},
            timeout=REQUEST_TIMEOUT_S,
        ) as response,
    ):
        for line in response.iter_lines():
            if line == DELTA and first_s is None:
                first_s = time.perf_counter() - started
            elif line == DONE and first_s is not None:
                return first_s, time.perf_counter() - started
    raise RuntimeError(f"the stream broke off with {response.status_code}")
