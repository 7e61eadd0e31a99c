"""Damaged files over HTTP: an answer that is documented, and a service that goes on.

FUZZ_SCALE=20 takes twenty times as many (`make fuzz`).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import psutil
import pytest

from tests.support.corpus import Mutant, mutants
from tests.support.server import COMMAND, LIMITS, Server, running_server
from tests.support.truth import audio_of
from tests.support.waiting import eventually

SCALE = int(os.environ.get("FUZZ_SCALE", "1"))
SEED = int(os.environ.get("FUZZ_SEED", "1"))
NUM_POSTED = 60 * SCALE
TIMEOUT_S = 20.0  # of one file of half a second, on a machine that does other things too
MAX_SERVER_GROWTH_MB = 128  # models' scratch memory comes and goes
CALLERS = 4
MB = 1 << 20
VARIANTS: tuple[tuple[str, dict[str, str]], ...] = (
    ("/asr", {"output": "json", "language": "en"}),
    ("/asr", {"output": "srt", "language": "es", "diarize": "true"}),
    ("/detect-language", {}),
    ("/asr", {"output_format": "json", "enable_diarization": "true"}),
    ("/asr", {"output": "tsv", "encode": "false", "language": "en"}),  # raw: any byte is sound
)


@pytest.fixture(scope="module")
def limited_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Its memory is its own: a forked one shares pages until it writes to them."""
    with running_server(tmp_path_factory.mktemp("limited"), COMMAND, **LIMITS) as running:
        yield running


def test_damaged_files_over_http(limited_server: Server) -> None:
    """Only the three answers that a client may deserve; the memory of the service stays."""
    chosen = list(islice(mutants(10 * NUM_POSTED, SEED + 1), 0, None, 10))
    third = len(chosen) // 3
    answers = post_all(limited_server, chosen[:third])
    warm_mb = memory_mb(limited_server)
    answers += post_all(limited_server, chosen[third:])
    odd = [(name, status, text) for name, status, text in answers if status not in (200, 400, 413)]
    assert odd == []
    statuses = Counter(status for _, status, _ in answers)
    grown_mb = memory_mb(limited_server) - warm_mb
    print(f"{dict(statuses)}, memory {warm_mb:.0f} MB and {grown_mb:+.0f} MB")
    assert min(statuses[200], statuses[400]) > len(chosen) / 10
    assert grown_mb < MAX_SERVER_GROWTH_MB
    eventually(lambda: limited_server.get("/health").json()["requests"] == 0)
    eventually(lambda: limited_server.temp_files() == [])
    log = limited_server.log()
    assert "Traceback (most recent call last):\n  File" not in log.replace(DROPPED, "")
    assert limited_server.post(audio_of("en_short")).status_code == 200


# What PyAV prints where a damaged file has it seek before the file's beginning.
DROPPED = "PyAV library exception being dropped:\nTraceback (most recent call last):\n"


def post_all(server: Server, files: list[Mutant]) -> list[tuple[str, int, str]]:
    def post(numbered: tuple[int, Mutant]) -> tuple[str, int, str]:
        number, mutant = numbered
        endpoint, query = VARIANTS[number % len(VARIANTS)]
        response = server.post(mutant.content, endpoint, timeout_s=3 * TIMEOUT_S, **query)
        return f"{mutant.name} {endpoint} {query}", response.status_code, response.text[:300]

    with ThreadPoolExecutor(CALLERS) as callers:
        return list(callers.map(post, enumerate(files)))


def memory_mb(server: Server) -> float:
    """Of the server, at rest, and of its children: what they share with nobody."""
    eventually(lambda: server.get("/health").json()["requests"] == 0)
    process = psutil.Process(server.process.pid)
    total = 0
    for member in (process, *process.children(recursive=True)):
        try:
            total += member.memory_full_info().uss
        except psutil.NoSuchProcess:
            continue
    return total / MB
